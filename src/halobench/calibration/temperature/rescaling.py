"""Divide checked logits by a temperature; each logit is finite or -inf, and no row consists only of -inf."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from halobench.calibration.arrays import blocks

# The range of logits that `temper` leaves in a row at infinite T; it changes a mean NLL by a smaller amount.
FLAT = 1e-9


def rescale(logits: np.ndarray, beta: float) -> np.ndarray:
    """Multiply logits by `beta` (finite, at least 0) and subtract the largest of each row; return float64 (n, k)."""
    scaled = np.empty(logits.shape)
    for rows in blocks(*logits.shape):
        shifted = scaled[rows]
        shifted[...] = logits[rows]
        shifted -= shifted.max(axis=1, keepdims=True)
        finite: Any = True if np.isfinite(shifted.min()) else np.isfinite(shifted)
        np.multiply(shifted, beta, out=shifted, where=finite)
    return scaled


def temper(logits: np.ndarray, beta: float) -> np.ndarray:
    """Scale logits as `rescale` does, but to a range of `FLAT` per row if every row's range would be smaller."""
    scaled = rescale(logits, beta)
    lowest = scaled.min()
    if not np.isfinite(lowest):  # some class has no mass
        lowest = scaled[np.isfinite(scaled)].min()
    if -lowest >= FLAT:
        return scaled
    shifted = rescale(logits, 1.0)
    for rows in blocks(*shifted.shape):
        block = shifted[rows]
        finite = np.isfinite(block)
        spread = -np.where(finite, block, 0.0).min(axis=1, keepdims=True)
        factor = np.divide(FLAT, spread, out=np.ones_like(spread), where=spread > 0)
        np.multiply(block, factor, out=block, where=finite)
    return shifted


def power_of_two(logits: np.ndarray) -> float:
    """Return a power of two near the largest magnitude of a logit; logits divided by it can be squared at any scale.

    The division is exact, unless it underflows.
    """
    largest = max(abs(float(logits.max())), abs(float(logits.min())))
    return math.ldexp(1.0, math.frexp(largest)[1] - 1) if largest else 1.0


def spread(logits: np.ndarray) -> float:
    """Return the standard deviation of finite logits (n, k) about their rows' means, or 1 if it is 0."""
    unit = power_of_two(logits)
    scaled = logits / unit
    return float((scaled - scaled.mean(axis=1, keepdims=True)).std()) * unit or 1.0
