"""Divide logits by a temperature. Arrays must already be checked (finite or -inf, no row all -inf)."""

from __future__ import annotations

from typing import Any

import numpy as np

from halobench.calibration.arrays import blocks

FLAT = 1e-9
"""Range, in logits, that `temper` leaves to a row at an infinite T: a mean NLL is off by less than this."""


def rescale(logits: np.ndarray, beta: float) -> np.ndarray:
    """Return logits times `beta` (finite, at least 0) minus their row's largest; float64 (n, k)."""
    scaled = np.empty(logits.shape)
    for rows in blocks(*logits.shape):
        shifted = scaled[rows]
        shifted[...] = logits[rows]
        shifted -= shifted.max(axis=1, keepdims=True)
        finite: Any = True if np.isfinite(shifted.min()) else np.isfinite(shifted)
        np.multiply(shifted, beta, out=shifted, where=finite)
    return scaled


def temper(logits: np.ndarray, beta: float) -> np.ndarray:
    """Return logits as `rescale` does, but with a range of `FLAT` per row if `beta` leaves less in every row."""
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
