"""Rows of an array that is mapped into memory, read when they are asked for: a split of a source of any size."""

from __future__ import annotations

from typing import Any

import numpy as np

BLOCK = 2**24  # bytes that are read at a time where all rows are asked for


class Rows:
    """The rows `index` of an array, as an array that lies on disk: it has a shape, a type and a length.

    ``rows[a:b]`` and ``rows[[3, 1, 4]]`` read those rows into an array, ``rows[3]`` a single one; ``np.asarray(rows)``
    reads all of them. Nothing is kept.

    Parameters
    ----------
    array : array (N, ...)
        Mapped into memory, if it is to take none.
    index : int array (n,)
    """

    def __init__(self, array: np.ndarray, index: np.ndarray):
        self.array, self.index = array, np.asarray(index)
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
        found = self.array[self.index[rows]]
        return np.array(found) if np.ndim(found) < self.ndim else np.asarray(found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows of a mapped array can't be had without a copy")
        out = np.empty(self.shape, dtype or self.dtype)
        step = max(1, BLOCK // row_bytes(self.array))
        for start in range(0, len(self), step):
            out[start : start + step] = self[start : start + step]
        return out


def row_bytes(array: Any) -> int:
    """Bytes of one row of an array (N, ...), or of what has a shape and a type as one."""
    return int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize


def rows_of(array: np.ndarray, index: np.ndarray, most: int) -> np.ndarray | Rows:
    """The rows `index` of an array: copied up to `most` bytes, else read when they are asked for."""
    rows = Rows(array, index)
    return np.asarray(rows) if rows.nbytes <= most else rows
