"""Adjust p-values for the number of tests."""

from __future__ import annotations

import numpy as np


def adjusted(p: np.ndarray) -> np.ndarray:
    """Return the adjusted p-values (m,) of Holm's step-down procedure, which assumes nothing about dependence.

    If those at or below 5% are rejected, the probability of any false rejection is at most 5%. NaNs are no tests; they
    stay NaN and aren't counted.

    Examples
    --------
    >>> adjusted(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    result = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: np.isfinite(p).sum()]  # NaNs are sorted to the end
    steps = np.arange(len(order), 0, -1) * p[order]
    result[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return result
