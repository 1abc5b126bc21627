"""Rows of an array that is mapped into memory, read on demand: a split of a source of any size."""

from __future__ import annotations

import io
import os
import weakref
from typing import Any, cast

import numpy as np

BLOCK = 2**24  # bytes that are read at a time when all rows are wanted


class Rows:
    """The rows `index` of an array, as an array that lies on disk: it has a shape, a type and a length.

    ``rows[a:b]`` and ``rows[[3, 1, 4]]`` read those rows into an array, ``rows[3]`` a single one; ``np.asarray(rows)``
    reads all of them. Nothing is kept: rows of a mapped array are read from its file, since pages of a map that were
    touched count as memory of this process.

    Parameters
    ----------
    array : array (N, ...)
        Mapped into memory if it is to take none.
    index : int array (n,)
    """

    def __init__(self, array: np.ndarray, index: np.ndarray):
        self.array, self.index = array, np.asarray(index)
        self._file: io.FileIO | None = None
        if isinstance(array, np.memmap) and array.filename is not None and array.flags.c_contiguous:
            self._file = io.FileIO(array.filename)
            weakref.finalize(self, self._file.close)
        self.dtype = array.dtype
        self.shape = (len(self.index), *array.shape[1:])
        self.ndim = array.ndim

    def __len__(self) -> int:
        return len(self.index)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all rows."""
        return len(self) * row_bytes(self.array)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return those rows, copied; `rows` is an int, a slice, or an array of whole numbers or truth values."""
        wanted = self.index[rows]
        block = self._read(np.atleast_1d(wanted))
        return block if np.ndim(wanted) else block[0]

    def _read(self, wanted: np.ndarray) -> np.ndarray:
        """Return rows of the array, copied.

        Raises
        ------
        OSError
            If the array's file is shorter than it was.
        """
        if self._file is None:
            return np.array(self.array[wanted])
        out = np.empty((len(wanted), *self.array.shape[1:]), self.dtype)
        size, offset = row_bytes(self.array), cast("np.memmap", self.array).offset
        for place, row in enumerate(wanted.tolist()):
            # With its position, since several threads may read.
            start = offset + row % len(self.array) * size
            if os.preadv(self._file.fileno(), [out[place : place + 1].data], start) != size:
                raise OSError(f"{self._file.name} ends before row {row}")
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
    """Images (n, C, H, W) or features as normalised flat rows: float32 (n, D), computed for each slice that is read."""

    def __init__(self, images: np.ndarray | Rows, mean: np.ndarray, std: np.ndarray):
        self.images, self.mean, self.std = images, mean, std
        self.shape, self.dtype = (len(images), int(np.prod(images.shape[1:]))), np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> np.ndarray:
        images = self.images[rows]
        return normalise(images, self.mean, self.std).reshape(len(images), -1)


def normalise(images: np.ndarray | Rows, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return (value - mean) / std as float32: per channel of images (n, C, H, W), per feature of rows (n, D)."""
    out = np.array(images, dtype=np.float32)
    shape = (1, -1, *[1] * (out.ndim - 2))
    out -= mean.astype(np.float32).reshape(shape)
    out *= (1 / std).astype(np.float32).reshape(shape)
    return out


def row_bytes(array: Any) -> int:
    """Return the bytes of one row of an array (N, ...), or of any object with a shape and a dtype."""
    return int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize


def rows_of(array: np.ndarray, index: np.ndarray, most: int) -> np.ndarray | Rows:
    """Return the rows `index` of an array: copied if they are at most `most` bytes, else as `Rows`, read on demand."""
    rows = Rows(array, index)
    return np.asarray(rows) if rows.nbytes <= most else rows
