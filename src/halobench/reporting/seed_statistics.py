"""Means and t intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from scipy.special import stdtrit


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean over seeds with Student's t interval.

    Parameters
    ----------
    values : sequence of float, shape (n,)
        One value a seed; NaN are left out.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    mean, low, high : float
        `low` and `high` are NaN for fewer than two values: one seed has no spread.

    Examples
    --------
    >>> [round(x, 3) for x in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    n = len(known)
    if n == 0:
        return (float("nan"),) * 3
    mean = float(known.mean())
    if n == 1 or not np.isfinite(mean):
        return mean, float("nan"), float("nan")
    half = float(stdtrit(n - 1, 0.5 + level / 2) * known.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def over_seeds(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Mean and t interval of `value` over seeds, for each combination of the columns `by`.

    Rows that share `by` and seed (e.g. models, where they are pooled) are averaged first: the seed is the unit.

    Returns
    -------
    DataFrame
        Columns `by`, mean, low, high, n (seeds).
    """
    per_seed = table.dropna(subset=[value]).groupby([*by, "seed"], sort=True)[value].mean()
    keys = cast("pd.MultiIndex", per_seed.index).droplevel("seed").to_frame(index=False)
    values = per_seed.to_numpy(dtype=float)
    # Rows are sorted by keys, so that a group begins where a key changes.
    firsts = np.flatnonzero(np.r_[len(keys) > 0, keys.ne(keys.shift()).any(axis=1).to_numpy()[1:]])
    sizes = np.diff([*firsts, len(values)])
    found = np.empty((len(firsts), 3))
    for size in np.unique(sizes):
        rows = sizes == size
        found[rows] = _t_intervals(values[firsts[rows, None] + np.arange(size)])
    made = keys.iloc[firsts].reset_index(drop=True)
    made[["mean", "low", "high"]] = found
    return made.assign(n=sizes)


def _t_intervals(values: np.ndarray, level: float = 0.95) -> np.ndarray:
    """`t_interval` of each row of values (g, n), of which none is NaN: mean, low and high (g, 3)."""
    count = values.shape[1]
    with np.errstate(invalid="ignore"):  # infinite values
        mean = values.mean(axis=1)
        if count == 1:
            half = np.full(len(mean), np.nan)
        else:
            half = stdtrit(count - 1, 0.5 + level / 2) * values.std(axis=1, ddof=1) / np.sqrt(count)
        half = np.where(np.isfinite(mean), half, np.nan)
        return np.stack([mean, mean - half, mean + half], axis=1)


def seeds_note(*tables: pd.DataFrame) -> str:
    """What lines, points and bands are: means over so many seeds, with the interval if there is one."""
    cell = ["dataset", "model", "loss"]
    most = max((int(t.groupby(cell)["seed"].nunique().max()) for t in tables if len(t)), default=0)
    if most < 2:
        return "one seed, so no interval"
    return f"mean and 95% t-interval over {most} seeds"
