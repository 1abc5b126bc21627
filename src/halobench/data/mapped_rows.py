"""Rows of a memory-mapped array, read on demand, for a split of a source of any size."""

from __future__ import annotations

import io
import os
import weakref
from typing import Any, cast

import numpy as np

BLOCK = 2**24  # bytes read at a time when all rows are requested


class Rows:
    """The rows `index` of an array, accessed like an array on disk, with a shape, a type and a length.

    ``rows[a:b]`` and ``rows[[3, 1, 4]]`` read those rows into an array, and ``rows[3]`` reads a single one;
    ``np.asarray(rows)`` reads all of them. Nothing is kept in memory. Rows of a mapped array are read from its file,
    since any page of the map that is touched would count as this process's memory.

    Parameters
    ----------
    array : array (N, ...)
        Memory-mapped if it should take up no memory.
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
        """Return the size of all rows in bytes."""
        return len(self) * row_bytes(self.array)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return a copy of the given rows; `rows` is an int, a slice, or an array of integers or booleans."""
        wanted = self.index[rows]
        block = self._read(np.atleast_1d(wanted))
        return block if np.ndim(wanted) else block[0]

    def _read(self, wanted: np.ndarray) -> np.ndarray:
        """Return a copy of rows of the array.

        Raises
        ------
        OSError
            If the array's file has become shorter.
        """
        if self._file is None:
            return np.array(self.array[wanted])
        out = np.empty((len(wanted), *self.array.shape[1:]), self.dtype)
        size, offset = row_bytes(self.array), cast("np.memmap", self.array).offset
        for place, row in enumerate(wanted.tolist()):
            # Read at an explicit position, since several threads may be reading.
            start = offset + row % len(self.array) * size
            if os.preadv(self._file.fileno(), [out[place : place + 1].data], start) != size:
                raise OSError(f"{self._file.name} ends before row {row}")
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows of a mapped array can't be returned without copying them")
        out = np.empty(self.shape, dtype or self.dtype)
        step = max(1, BLOCK // row_bytes(self.array))
        for start in range(0, len(self), step):
            out[start : start + step] = self[start : start + step]
        return out


class Normalised:
    """Images (n, C, H, W) or features as normalised flat rows, float32 (n, D), computed when a slice is read."""

    def __init__(self, images: np.ndarray | Rows, mean: np.ndarray, std: np.ndarray):
        self.images, self.mean, self.std = images, mean, std
        self.shape, self.dtype = (len(images), int(np.prod(images.shape[1:]))), np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> np.ndarray:
        images = self.images[rows]
        return normalise(images, self.mean, self.std).reshape(len(images), -1)


def normalise(images: np.ndarray | Rows, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return (value - mean) / std as float32, per channel for images (n, C, H, W) and per feature for rows (n, D)."""
    out = np.array(images, dtype=np.float32)
    shape = (1, -1, *[1] * (out.ndim - 2))
    out -= mean.astype(np.float32).reshape(shape)
    out *= (1 / std).astype(np.float32).reshape(shape)
    return out


def row_bytes(array: Any) -> int:
    """Return the size in bytes of one row of an array (N, ...), or of any object with a shape and a dtype."""
    return int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize


def rows_of(array: np.ndarray, index: np.ndarray, most: int) -> np.ndarray | Rows:
    """Return the rows `index` of an array: a copy if they take at most `most` bytes, else `Rows`, read on demand."""
    rows = Rows(array, index)
    return np.asarray(rows) if rows.nbytes <= most else rows
