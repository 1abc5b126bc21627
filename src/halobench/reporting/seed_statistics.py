"""Summarise tables over seeds as means with t intervals, and say how many seeds the means cover."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd

from halobench.analysis.t_intervals import t_intervals


def over_seeds(
    table: pd.DataFrame, by: Sequence[str], value: str, within: tuple[float, float] = (-np.inf, np.inf)
) -> pd.DataFrame:
    """Return the mean of `value` over seeds with its t interval, clipped to `within`, per combination of columns `by`.

    Rows that share `by` and seed (e.g. pooled models) are averaged first, because the seed is the unit of replication.
    Intervals are widened by a group's largest ``seed_correction`` (see `t_interval`); without this column or a value in
    it, seeds count as independent.
    """
    table = table.dropna(subset=[value])
    table = table.assign(correction=table["seed_correction"].fillna(0.0) if "seed_correction" in table else 0.0)
    per_seed = table.groupby([*by, "seed"], sort=True)[value].mean()
    keys = cast("pd.MultiIndex", per_seed.index).droplevel("seed").to_frame(index=False)
    values = per_seed.to_numpy(dtype=float)
    # Rows are sorted by key, so a group begins wherever a key changes.
    firsts = np.flatnonzero(np.r_[len(keys) > 0, keys.ne(keys.shift()).any(axis=1).to_numpy()[1:]])
    sizes = np.diff([*firsts, len(values)])
    corrections = table.groupby(list(by), sort=True)["correction"].max().to_numpy(dtype=float)
    intervals = np.empty((len(firsts), 3))
    for size in np.unique(sizes):
        rows = sizes == size
        intervals[rows] = t_intervals(values[firsts[rows, None] + np.arange(size)], corrections[rows])
    means = keys.iloc[firsts].reset_index(drop=True)
    intervals[:, 1:] = intervals[:, 1:].clip(*within)
    means[["mean", "low", "high"]] = intervals
    return means.assign(n=sizes)


def seeds_note(*tables: pd.DataFrame) -> str:
    """Say how many seeds the means in the tables cover, and whether these means have intervals."""
    cell = ["dataset", "model", "loss"]
    seeds = [t.groupby(cell, observed=True)["seed"].nunique() for t in tables if len(t)]
    most, least = (max(map(int, ends), default=0) for ends in ([n.max() for n in seeds], [n.min() for n in seeds]))
    if most < 2:
        return f"one {'seed' if named(*tables) else 'model'}, so no interval over several"
    shared = any("seed_correction" in t and t["seed_correction"].gt(0).any() for t in tables)
    widened = ", widened where seeds share samples" if shared else ""
    return f"mean and 95% t-interval over {most if least == most else f'{least} to {most}'} seeds{widened}"


def named(*tables: pd.DataFrame) -> bool:
    """Return whether any model or loss in the tables has a name, as in a grid; a user's tables may have no names."""
    return any((table[column] != "").any() for table in tables for column in ("model", "loss"))
