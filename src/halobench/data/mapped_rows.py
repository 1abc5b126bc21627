"""Rows of an array that is mapped into memory, read when they are asked for: a split of a source of any size."""

from __future__ import annotations

import os
import weakref
from typing import Any

import numpy as np

BLOCK = 2**24  # bytes that are read at a time where all rows are asked for


class Rows:
    """The rows `index` of an array, as an array that lies on disk: it has a shape, a type and a length.

    ``rows[a:b]`` and ``rows[[3, 1, 4]]`` read those rows into an array, ``rows[3]`` a single one; ``np.asarray(rows)``
    reads all of them. Nothing is kept: of a mapped array rows are read from its file, since pages of a map that were
    looked at count as memory of this process.

    Parameters
    ----------
    array : array (N, ...)
        Mapped into memory, if it is to take none.
    index : int array (n,)
    """

    def __init__(self, array: np.ndarray, index: np.ndarray):
        self.array, self.index = array, np.asarray(index)
        self._file: int | None = None
        self.dtype = array.dtype
        self.shape = (len(self.index), *array.shape[1:])
        self.ndim = array.ndim

    def __len__(self) -> int:
        return len(self.index)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * row_bytes(self.array)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Those rows, copied; an int, a slice, or an array of whole numbers or truth values, as for any array."""
        wanted = self.index[rows]
        found = self._read(np.atleast_1d(wanted))
        return found if np.ndim(wanted) else found[0]

    def _read(self, wanted: np.ndarray) -> np.ndarray:
        """Rows of the array, copied."""
        array = self.array
        if not isinstance(array, np.memmap) or array.filename is None or not array.flags.c_contiguous:
            return np.array(array[wanted])
        if self._file is None:
            self._file = os.open(array.filename, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
        out = np.empty((len(wanted), *array.shape[1:]), array.dtype)
        size, room = row_bytes(array), out.reshape(-1).view(np.uint8).data
        for place, row in enumerate(wanted.tolist()):
            start = array.offset + (row + len(array) * (row < 0)) * size
            if os.preadv(self._file, [room[place * size : (place + 1) * size]], start) != size:
                raise OSError(f"{array.filename} ends before row {row}")
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows of a mapped array can't be had without a copy")
        out = np.empty(self.shape, dtype or self.dtype)
        step = max(1, BLOCK // row_bytes(self.array))
        for start in range(0, len(self), step):
            out[start : start + step] = self[start : start + step]
        return out


class Normalised:
    """Images (n, C, H, W), normalised and flat when they are asked for: float32 (n, D), read by slices."""

    def __init__(self, images: np.ndarray | Rows, mean: np.ndarray, std: np.ndarray):
        self.images, self.moments = images, (mean, std)
        self.shape, self.dtype = (len(images), int(np.prod(images.shape[1:]))), np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> np.ndarray:
        found = self.images[rows]
        return normalise(found, *self.moments).reshape(len(found), -1)


def normalise(images: np.ndarray | Rows, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(pixel - mean) / std by channel, float32 (n, C, H, W)."""
    shape = (1, -1, 1, 1)
    out = np.array(images, dtype=np.float32)
    out -= mean.astype(np.float32).reshape(shape)
    out *= (1 / std).astype(np.float32).reshape(shape)
    return out


def row_bytes(array: Any) -> int:
    """Bytes of one row of an array (N, ...), or of what has a shape and a type as one."""
    return int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize


def rows_of(array: np.ndarray, index: np.ndarray, most: int) -> np.ndarray | Rows:
    """The rows `index` of an array: copied up to `most` bytes, else read when they are asked for."""
    rows = Rows(array, index)
    return np.asarray(rows) if rows.nbytes <= most else rows
