"""Compute the mean and standard deviation of each channel of images, or of each feature."""

from __future__ import annotations

import numpy as np

BLOCK = 2**22  # values squared at once


class ChannelStats:
    """Mean and standard deviation of each channel over all pixels of the images added.

    The sums are over integers and therefore exact, so they don't depend on how images are divided into blocks.
    """

    def __init__(self, channels: int):
        self.count = 0  # pixels per channel
        self.total, self.square = np.zeros(channels, dtype=object), np.zeros(channels, dtype=object)

    def add(self, images: np.ndarray) -> None:
        """Add images, uint8 (n, C, H, W)."""
        step = max(1, BLOCK // max(1, images[0].size)) if len(images) else 1
        for start in range(0, len(images), step):
            block = images[start : start + step].astype(np.uint32)
            self.count += block.shape[0] * block.shape[2] * block.shape[3]
            self.total += block.sum(axis=(0, 2, 3), dtype=np.uint64).astype(object)
            self.square += (block * block).sum(axis=(0, 2, 3), dtype=np.uint64).astype(object)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and standard deviation, float64 (C,) each; the latter is 1, not 0, for a constant channel."""
        mean = self.total.astype(float) / self.count
        std = np.sqrt(np.maximum(self.square.astype(float) / self.count - mean**2, 0))
        return mean, np.where(std > 0, std, 1.0)


class FeatureStats:
    """Mean and standard deviation of each feature over the rows added, computed by scikit-learn's StandardScaler."""

    def __init__(self) -> None:
        from sklearn.preprocessing import StandardScaler

        self.scaler = StandardScaler()

    def add(self, rows: np.ndarray) -> None:
        """Add rows of features, float32 (n, D)."""
        if len(rows):
            self.scaler.partial_fit(rows.astype(np.float64))

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and standard deviation, float64 (D,) each; the latter is 1, not 0, for a constant feature."""
        return self.scaler.mean_, self.scaler.scale_
