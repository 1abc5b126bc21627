"""Define the classwise expected calibration error, in [0, 1]."""

from __future__ import annotations

import numpy as np

from halobench.calibration.arrays import blocks
from halobench.calibration.scores.binning import bin_edges, bin_index

TITLE = "Classwise ECE"
ABOUT = "ECE of each class's probability, averaged over classes"
RANGE = (0, 1)
LOWER_IS_BETTER = True
SOURCE = (
    "M. Kull et al., *Beyond Temperature Scaling*, NeurIPS 2019, [arXiv 1910.12656](https://arxiv.org/abs/1910.12656)"
)
ORDER = 9


def score(probabilities: np.ndarray, targets: np.ndarray, *, bins: int = 15) -> float:
    """Return the mean over classes k of the ECE of "is it class k?", with confidence p_k in equal-width bins."""
    edges = bin_edges(bins)
    n, k = probabilities.shape
    # Signed sums of p - t by bin and class. At most `bins` entries of a row lie above the first bin. Only these are
    # assigned to bins one by one; the first bin receives the rest of each class's total.
    sums = np.zeros((bins, k))
    total = np.zeros(k)
    for rows in blocks(n, k):
        block = probabilities[rows].astype(np.float64, copy=False)
        total += block.sum(axis=0)
        flat = np.flatnonzero(block >= edges[1])
        row, column = np.divmod(flat, k)
        value = block.ravel()[flat]
        if targets.ndim == 1:
            value = value - (targets[rows][row] == column)
        else:
            total -= targets[rows].sum(axis=0, dtype=np.float64)
            value = value - targets[rows][row, column]
        cell = bin_index(block.ravel()[flat], edges) * k + column
        sums += np.bincount(cell, weights=value, minlength=bins * k).reshape(bins, k)
    if targets.ndim == 1:
        total -= np.bincount(targets, minlength=k)
    sums[0] = total - sums[1:].sum(axis=0) if bins > 1 else total
    return float(np.abs(sums).sum() / (n * k))
