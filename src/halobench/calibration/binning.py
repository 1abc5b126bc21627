"""Compute calibration errors over bins of confidence, from arrays that have already been checked.

These are kernels of `halobench.calibration.metrics`, like those in `halobench.calibration.sample_scores`. Bins have
equal width and are closed on the left, as in netcal; the last one also includes 1.0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from halobench.calibration.arrays import blocks


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram, as arrays (bins,).

    Attributes
    ----------
    lower, upper : edges of each bin, in confidence.
    count : number of samples; 0 in an empty bin.
    confidence, accuracy : means over the samples; NaN in an empty bin.
    """

    lower: np.ndarray
    upper: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def bin_edges(bins: int) -> np.ndarray:
    """Return the edges (bins + 1,) of equal-width bins on [0, 1]."""
    return np.linspace(0, 1, bins + 1)


def bin_index(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Find each value's bin [edge, next edge); 1.0 and any value that rounding put above it belong to the last bin."""
    return np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2)


def bin_by_confidence(confidence: np.ndarray, correct: np.ndarray, bins: int) -> Reliability:
    """Compute the reliability diagram from confidences and (expected) correctness, (n,) each."""
    edges = bin_edges(bins)
    index = bin_index(confidence, edges)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = (np.bincount(index, weights=part, minlength=bins) / count for part in (confidence, correct))
        return Reliability(edges[:-1], edges[1:], count, *means)


def gap_errors(diagram: Reliability) -> dict[str, float]:
    """Compute the errors that depend only on a diagram's gaps: `ece`, `ace_average` (kind ``average``) and `mce`.

    Each equals the result of the corresponding function in `halobench.calibration.metrics`, but all three share one
    pass over the probabilities, made by `halobench.calibration.metrics.reliability`.

    Examples
    --------
    >>> from halobench.calibration.metrics import reliability
    >>> diagram = reliability(np.array([[0.95, 0.05], [0.4, 0.6], [0.4, 0.6]]), np.array([0, 1, 0]))
    >>> {name: round(value, 12) for name, value in gap_errors(diagram).items()}
    {'ece': 0.083333333333, 'ace_average': 0.075, 'mce': 0.1}
    """
    held = diagram.count > 0
    count, gap = diagram.count[held], np.abs(diagram.accuracy - diagram.confidence)[held]
    return {"ece": float(count @ gap / count.sum()), "ace_average": float(gap.mean()), "mce": float(gap.max())}


def equal_mass_error(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Compute the mean of abs(accuracy - confidence) over equal-sized groups of consecutive confidences.

    Samples with equal confidence are all assigned their mean correctness, so their order doesn't matter.
    """
    levels, group, size = np.unique(confidence, return_inverse=True, return_counts=True)
    confidence = np.repeat(levels, size)
    correct = np.repeat(np.bincount(group, weights=correct) / size, size)
    parts = np.array_split(confidence - correct, min(bins, len(confidence)))
    return float(np.mean([abs(part.mean()) for part in parts]))


def classwise_error(
    probabilities: np.ndarray, targets: np.ndarray, bins: int, parts: Iterable[slice] | None = None
) -> float:
    """Compute the ECE of "is it class k?" with confidence p_k, averaged over the classes.

    `parts` are the blocks of rows to work on, by default those from `halobench.calibration.arrays.blocks`.
    """
    edges = bin_edges(bins)
    n, k = probabilities.shape
    # Signed sums of p - t by bin and class. At most `bins` entries of a row lie above the first bin, so only these are
    # assigned to bins one by one, and the first bin receives the rest of each class's total.
    sums = np.zeros((bins, k))
    total = np.zeros(k)
    for rows in parts or blocks(n, k):
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
