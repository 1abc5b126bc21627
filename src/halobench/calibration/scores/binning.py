"""Bin samples by confidence into bins of equal width.

Each bin includes its lower edge, as in netcal, and the last bin also includes 1. The functions in this module don't
check their arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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

    def gaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the count and abs(accuracy - confidence) of each bin that isn't empty."""
        held = self.count > 0
        return self.count[held], np.abs(self.accuracy - self.confidence)[held]


def bin_edges(bins: int) -> np.ndarray:
    """Return the edges (bins + 1,) of equal-width bins on [0, 1]."""
    return np.linspace(0, 1, bins + 1)


def bin_index(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the number, from 0, of each value's bin [edge, next edge); values of at least 1 are in the last bin."""
    return np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2)


def bin_by_confidence(confidence: np.ndarray, correct: np.ndarray, bins: int) -> Reliability:
    """Return the reliability diagram of confidences and (expected) correctness, (n,) each."""
    edges = bin_edges(bins)
    index = bin_index(confidence, edges)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = (np.bincount(index, weights=part, minlength=bins) / count for part in (confidence, correct))
        return Reliability(edges[:-1], edges[1:], count, *means)
