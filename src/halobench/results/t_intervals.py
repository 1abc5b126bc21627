"""Student's t intervals of means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LEVEL = 0.95  # coverage


def t_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Return the mean over seeds with its Student's t interval.

    Parameters
    ----------
    values : array-like of float, shape (n,)
        One value per seed; NaNs are left out.

    Returns
    -------
    mean, low, high : float
        `low` and `high` are NaN for fewer than two values, since a single seed has no spread, and for an infinite mean.
        All three are NaN if there are no values.

    Examples
    --------
    >>> [round(x, 3) for x in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    present = np.asarray(values, dtype=float)
    present = present[~np.isnan(present)]
    if not len(present):
        return math.nan, math.nan, math.nan
    mean, low, high = t_intervals(present[None])[0].tolist()
    return mean, low, high


def t_intervals(values: np.ndarray) -> np.ndarray:
    """Compute `t_interval` for each row.

    Parameters
    ----------
    values : ndarray of float, shape (g, n)
        Must not contain NaN, and n >= 1.

    Returns
    -------
    ndarray, shape (g, 3)
        Mean, low and high.
    """
    from scipy.special import stdtrit  # slow to import, and a dry run reads the claims without judging them

    count = values.shape[1]
    with np.errstate(invalid="ignore"):  # infinite values
        mean = values.mean(axis=1)
        if count == 1:
            half = np.full(len(mean), np.nan)
        else:
            half = stdtrit(count - 1, 0.5 + LEVEL / 2) * values.std(axis=1, ddof=1) / np.sqrt(count)
        half = np.where(np.isfinite(mean), half, np.nan)
        return np.stack([mean, mean - half, mean + half], axis=1)
