"""Summarise tables over seeds as means with t intervals, and state in words what these are based on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd

from halobench.results.t_intervals import t_intervals


def over_seeds(
    table: pd.DataFrame, by: Sequence[str], value: str, within: tuple[float, float] = (-np.inf, np.inf)
) -> pd.DataFrame:
    """Return the mean and t interval, clipped to `within`, of `value` over seeds for each combination of columns `by`.

    Rows that share `by` and seed (e.g. pooled models) are averaged first, because the seed is the unit of replication.
    Intervals are widened by the column ``seed_correction``, if there is one: see `t_interval`.
    """
    table = table if "seed_correction" in table else table.assign(seed_correction=0.0)
    groups = table.dropna(subset=[value]).groupby([*by, "seed"], sort=True)
    per_seed = groups.agg(**{"value": (value, "mean"), "correction": ("seed_correction", "max")})
    keys = cast("pd.MultiIndex", per_seed.index).droplevel("seed").to_frame(index=False)
    values = per_seed["value"].to_numpy(dtype=float)
    # Rows are sorted by key, so a group begins wherever a key changes.
    firsts = np.flatnonzero(np.r_[len(keys) > 0, keys.ne(keys.shift()).any(axis=1).to_numpy()[1:]])
    sizes = np.diff([*firsts, len(values)])
    corrections = per_seed["correction"].to_numpy(dtype=float)[firsts]
    intervals = np.empty((len(firsts), 3))
    for size in np.unique(sizes):
        rows = sizes == size
        intervals[rows] = t_intervals(values[firsts[rows, None] + np.arange(size)], corrections[rows])
    means = keys.iloc[firsts].reset_index(drop=True)
    intervals[:, 1:] = intervals[:, 1:].clip(*within)
    means[["mean", "low", "high"]] = intervals
    return means.assign(n=sizes)


def seeds_note(*tables: pd.DataFrame) -> str:
    """State in words what is drawn: means over how many seeds, with intervals if there are any."""
    cell = ["dataset", "model", "loss"]
    seeds = [t.groupby(cell, observed=True)["seed"].nunique() for t in tables if len(t)]
    most, least = (max(map(int, ends), default=0) for ends in ([n.max() for n in seeds], [n.min() for n in seeds]))
    if most < 2:
        return f"one {'seed' if named(*tables) else 'model'}, so no interval over several"
    return f"mean and 95% t-interval over {most if least == most else f'{least} to {most}'} seeds"


def named(*tables: pd.DataFrame) -> bool:
    """Return True if the tables' models and losses have names, as in a grid; in a user's own tables, they may not."""
    return any((table[column] != "").any() for table in tables for column in ("model", "loss"))
