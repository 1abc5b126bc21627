"""Resample labels and samples for the ECE floor and bootstrap intervals, from already checked arrays.

These are kernels of `halobench.calibration.metrics`.
"""

from __future__ import annotations

import numpy as np

from halobench.calibration.binning import bin_edges, bin_index


def ece_floor(confidence: np.ndarray, bins: int, draws: int, rng: np.random.Generator) -> float:
    """Return the mean ECE over `draws` draws of correctness ~ Bernoulli(confidence), for confidences (n,)."""
    confidence = np.sort(confidence)
    n = len(confidence)
    # Sorted by confidence, each bin is a run of consecutive samples.
    starts = np.unique(bin_index(confidence, bin_edges(bins)), return_index=True)[1]
    expected = np.add.reduceat(confidence, starts)
    errors = []
    for size in _draw_sizes(draws, n):
        correct = rng.random((size, n)) < confidence
        hits = np.add.reduceat(correct, starts, axis=1, dtype=np.float64)
        errors.append(np.abs(hits - expected).sum(axis=1) / n)
    return float(np.concatenate(errors).mean())


def bootstrap_intervals(
    values: np.ndarray, draws: int, rng: np.random.Generator, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends (m,) of percentile intervals for the means of float64 columns (n, m), whose values may be inf."""
    n = len(values)
    endless = np.isinf(values)
    finite = np.where(endless, 0, values)
    touched = endless.any(axis=0)
    means = []
    for size in _draw_sizes(draws, n):
        # The counts of each sample are multinomial, so one product resamples all columns.
        counts = np.empty((size, n))
        for row, picks in zip(counts, rng.integers(n, size=(size, n)), strict=True):
            row[...] = np.bincount(picks, minlength=n)
        resampled = counts @ finite / n
        if touched.any():
            resampled[:, touched] = np.where(counts @ endless[:, touched] > 0, np.inf, resampled[:, touched])
        means.append(resampled)
    # (1 - .95) / 2 is slightly above .025, which would select the 26th of 1,000 means instead of the 25th.
    tails = [round((1 - level) / 2, 12), round((1 + level) / 2, 12)]
    low, high = np.quantile(np.concatenate(means), tails, axis=0, method="inverted_cdf")
    return low, high


def _draw_sizes(draws: int, n: int) -> list[int]:
    """Split `draws` into parts of about 2**16 numbers (half a MiB), which fit in a core's cache with their counts."""
    size = max(1, (1 << 16) // n)
    return [min(size, draws - start) for start in range(0, draws, size)]
