"""Compute Student's t intervals for means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LEVEL = 0.95  # coverage


def t_interval(values: Sequence[float] | np.ndarray, correction: float = 0.0) -> tuple[float, float, float]:
    """Return the mean over seeds (one value per seed; NaNs are left out) and the ends of its Student's t interval.

    `correction` is the term that Nadeau and Bengio (2003) add to 1 / n in the variance of the mean if seeds resample
    the same samples: the ratio of test samples to training samples. The correction is 0 if seeds are independent.

    The ends are NaN for fewer than two values, since a single seed has no spread, and for an infinite mean. If there
    are no values, the mean and both ends are NaN.

    Examples
    --------
    >>> [round(x, 3) for x in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    present = np.asarray(values, dtype=float)
    present = present[~np.isnan(present)]
    if not len(present):
        return math.nan, math.nan, math.nan
    mean, low, high = t_intervals(present[None], correction)[0].tolist()
    return mean, low, high


def p_value(values: np.ndarray, margin: float, correction: float = 0.0) -> float:
    """Return the two-sided p-value of a t test of the mean of values (n,) against a margin; NaN for n < 2.

    The p-value is below 1 - `LEVEL` if and only if the margin lies outside the `t_interval`.
    """
    return float(p_values(values[None], margin, correction)[0]) if len(values) >= 2 else math.nan


def p_values(values: np.ndarray, margin: float, correction: float = 0.0) -> np.ndarray:
    """Compute `p_value` for each row of values (g, n), n >= 2."""
    from scipy.special import stdtr

    gap, error = np.abs(values.mean(axis=1) - margin), _standard_errors(values, correction)
    with np.errstate(divide="ignore", invalid="ignore"):  # if all values are the same
        p = 2 * stdtr(values.shape[1] - 1, -gap / error)
    return np.where(gap == 0, 1.0, p)


def t_intervals(values: np.ndarray, correction: float | np.ndarray = 0.0) -> np.ndarray:
    """Compute `t_interval` for each row of values (g, n), n >= 1, without NaN: mean, low and high, (g, 3).

    The correction is one number for all rows, or an array (g,) with one number per row.
    """
    from scipy.special import stdtrit  # slow to import, and a dry run reads claims without judging them

    count = values.shape[1]
    with np.errstate(invalid="ignore"):  # values may be infinite
        mean = values.mean(axis=1)
        if count == 1:
            half = np.full(len(mean), np.nan)
        else:
            half = stdtrit(count - 1, 0.5 + LEVEL / 2) * _standard_errors(values, correction)
        half = np.where(np.isfinite(mean), half, np.nan)
        return np.stack([mean, mean - half, mean + half], axis=1)


def _standard_errors(values: np.ndarray, correction: float | np.ndarray) -> np.ndarray:
    """Return the standard error of the mean of each row of values (g, n), n >= 2."""
    return values.std(axis=1, ddof=1) * np.sqrt(1 / values.shape[1] + correction)
