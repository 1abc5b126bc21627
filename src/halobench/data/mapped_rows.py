"""Read rows of a memory-mapped array on demand, for splits of sources of any size."""

from __future__ import annotations

from typing import Any

import numpy as np


class Rows:
    """The rows `index` (n,) of an array (N, ...), read only when indexed; has a shape, a dtype and a length."""

    def __init__(self, array: np.ndarray, index: np.ndarray):
        self.array, self.index = np.asarray(array), np.asarray(index)
        self.dtype = array.dtype
        self.shape = (len(self.index), *array.shape[1:])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.array[self.index[rows]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array[self.index].astype(dtype or self.dtype, copy=False)


class Normalised:
    """Images (n, C, H, W) or features as flat normalised rows, float32 (n, D), computed when they are read."""

    def __init__(self, images: np.ndarray | Rows, mean: np.ndarray, std: np.ndarray):
        self.images, self.mean, self.std = images, mean, std
        self.shape, self.dtype = (len(images), int(np.prod(images.shape[1:]))), np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> np.ndarray:
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
    return np.asarray(rows) if len(rows) * row_bytes(array) <= most else rows
