"""Moments of images, by channel."""

from __future__ import annotations

import numpy as np


def channel_moments(images: np.ndarray, chunk: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over all pixels, (C,) each, read in chunks of images.

    A constant channel gets a deviation of 1, so that dividing by it is harmless.
    """
    count, total, square = 0, 0.0, 0.0
    for start in range(0, len(images), chunk):
        block = images[start : start + chunk].astype(np.float64)
        count += block.shape[0] * block.shape[2] * block.shape[3]
        total = total + block.sum(axis=(0, 2, 3))
        square = square + (block**2).sum(axis=(0, 2, 3))
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    return mean, np.where(std > 0, std, 1.0)
