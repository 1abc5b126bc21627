"""Measure a claim's statistic as units, each of which is one value for a scope and seed.

A table of units has the columns scope, dataset ("" if it spans several), seed, value (of a ratio, its logarithm), bound
("<" or ">" if a radius is censored), reason (why the unit isn't used, "" if it is), zero (which side of a ratio isn't
above 0, "" if both are), remark, correction (for seeds that share samples), cells (how many cells a used unit stands
for) and left_out (how many cells it leaves out).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from halobench.results.claims.rules import CLASSES, Claim, described
from halobench.results.claims.sides import ClaimTables, NotTested, side_cells
from halobench.storage.columns import PAIRED, REFERENCE


def measure(claim: Claim, tables: ClaimTables) -> pd.DataFrame:
    """Return the units of a claim.

    Raises
    ------
    NotTested
        If the grid doesn't have what the claim needs.
    """
    if claim.across_datasets:
        return _ratio_units(claim, tables)
    by_statistic = {"against_best": _against_best_units, "slope": _slope_units}
    return by_statistic.get(claim.statistic, _plain_units)(claim, tables)


def reasons(units: pd.DataFrame) -> list[str]:
    """List the reasons why units were left out, each with its count."""
    counts = units.loc[units["reason"] != ""].groupby("reason", sort=True)["left_out"].sum()
    return [f"{count} left out: {reason}" for reason, count in counts.items()]


def _plain_units(claim: Claim, tables: ClaimTables) -> pd.DataFrame:
    """Measure a level, or a difference or ratio within pairs, with one scope per data set x model pair."""
    a = side_cells(claim, claim.sides[0], tables)
    if claim.statistic == "level":
        return _pair_units(claim, tables, a, None)
    b = side_cells(claim, claim.sides[1], tables)
    if claim.otherwise is None:
        return _pair_units(claim, tables, a, b)
    other = side_cells(claim, claim.sides[2], tables)
    empty = b.index[b["value"].isna()]
    b.loc[empty] = other.reindex(empty)
    units = _pair_units(claim, tables, a, b)
    replaced = units.set_index(PAIRED).index.isin(empty)
    units.loc[replaced & (units["reason"] == ""), "remark"] = f"b without a value, so {described(claim.otherwise)}"
    return units


def _against_best_units(claim: Claim, tables: ClaimTables) -> pd.DataFrame:
    """Measure a minus the best baseline that the grid has for each data set x model pair."""
    a = side_cells(claim, claim.sides[0], tables)
    rivals = []
    for loss in tables.losses(claim.baselines or {}):
        try:
            side = {**claim.where, **(claim.baselines or {}), "loss": loss}
            units = _pair_units(claim, tables, a, side_cells(claim, side, tables))
        except NotTested:
            continue
        rivals.append(units.assign(remark=f"best baseline {described({'loss': loss})}"))
    if not rivals:
        raise NotTested(f"the grid has no baseline to compare with {described(claim.sides[0])}")
    return pd.concat(
        [
            max((group for _, group in options.groupby("remark", sort=True)), key=lambda g: _strength(claim, g))
            for _, options in pd.concat(rivals).groupby("scope", sort=True)
        ],
        ignore_index=True,
    )


def _strength(claim: Claim, units: pd.DataFrame) -> tuple[bool, float]:
    """Return a sort key for how hard a baseline is to beat: first whether it can be tested, then its mean.

    Means are compared through the paired difference from a, which gives the same ranking as the baselines' own means if
    they have the same seeds and stays fair if one of them is missing a seed.
    """
    used = units.loc[units["reason"] == "", "value"]
    mean = used.mean() if len(used) else -math.inf
    return len(used) >= 2, mean if claim.best == "lowest" or not len(used) else -mean


def _slope_units(claim: Claim, tables: ClaimTables) -> pd.DataFrame:
    """Measure the least-squares slope of a on log k, where k is the number of classes, with one scope per model.

    The slope is fitted over the data sets that are complete for all of the model's seeds.
    """
    cells = _pair_units(claim, tables, side_cells(claim, claim.sides[0], tables), None)
    cells.loc[(cells["reason"] == "") & (cells["bound"] != ""), "reason"] = "censored"
    classes = tables.by_dataset["classes"]
    cells["k"] = cells["dataset"].map(classes)
    grid = sorted(set(cells["k"].dropna().astype(int)))
    if len(grid) < CLASSES:
        shown = ", ".join(map(str, grid)) or "unknown"
        raise NotTested(f"a slope on log k needs {CLASSES} values of k, but the grid has {len(grid)} ({shown})")
    units = []
    for model, group in cells.groupby("model", sort=True):
        used = group[group["reason"] == ""]
        seeds = set(group["seed"])
        complete: list[Any] = [name for name, rows in used.groupby("dataset") if set(rows["seed"]) == seeds]
        values = sorted(set(classes[complete].astype(int)))
        why = f" ({'; '.join(reasons(group))})" if len(used) < len(group) else ""
        reason = "" if len(values) >= CLASSES else f"only {len(values)} values of k are complete in every seed{why}"
        for seed, rows in group.groupby("seed", sort=True):
            kept = rows[rows["dataset"].isin(complete)]
            slope = np.polyfit(np.log(kept["k"].astype(float)), kept["value"], 1)[0] if not reason else math.nan
            unit: dict[str, Any] = {"scope": f"log k/{model}", "dataset": "", "seed": seed, "value": slope}
            unit |= {"bound": "", "reason": reason, "zero": "", "correction": rows["correction"].max()}
            unit["remark"] = "" if reason else f"k = {', '.join(map(str, values))}{why}"
            unit["cells"] = 0 if reason else len(kept)
            unit["left_out"] = len(rows) - unit["cells"]
            units.append(unit)
    return pd.DataFrame(units)


def _ratio_units(claim: Claim, tables: ClaimTables) -> pd.DataFrame:
    """Measure a over b (two data sets), paired within model x seed, with one scope per model that has both."""
    a, b = (side_cells(claim, side, tables).droplevel("dataset") for side in claim.sides)
    joined = a.add_suffix("_a").join(b.add_suffix("_b"), how="outer").sort_index()
    both = set(a.index.get_level_values("model")) & set(b.index.get_level_values("model"))
    joined = joined[joined.index.get_level_values("model").isin(both)]
    if joined.empty:
        raise NotTested(f"no model has both sides ({claim.formula})")
    names = [side["dataset"] for side in claim.sides]
    units = joined.index.to_frame(index=False)
    units["scope"] = f"{names[0]} : {names[1]}/" + units["model"]
    units["dataset"] = ""
    units["value"] = _log_ratio(joined).to_numpy()
    units["reason"] = [_reason(claim, row, ["a", "b"], same_steps=False) for row in joined.to_dict("records")]
    units["zero"] = [_zero_side(row) for row in joined.to_dict("records")]
    units["correction"] = max(tables.correction(name) for name in names)
    units[["bound", "remark"]] = ""
    units["cells"] = 2 * (units["reason"] == "")
    units["left_out"] = 2 - units["cells"]
    return units


def _pair_units(claim: Claim, tables: ClaimTables, a: pd.DataFrame, b: pd.DataFrame | None) -> pd.DataFrame:
    """Measure a (if b is None), a minus b or log(a / b) for each data set x model pair that has both."""
    pairs = {(dataset, model) for dataset, model, _ in a.index}
    joined = a.add_suffix("_a")
    if b is not None:
        b = _broadcast(b, a) if (b["loss"] == REFERENCE).all() else b
        pairs &= {(dataset, model) for dataset, model, _ in b.index}
        if not pairs:
            raise NotTested(f"no data set x model pair has both sides ({claim.formula})")
        joined = joined.join(b.add_suffix("_b"), how="outer")
    joined = joined[[(dataset, model) in pairs for dataset, model, _ in joined.index]].sort_index()
    sides = ["a"] if b is None else ["a", "b"]
    divides, value = claim.statistic == "ratio", joined["value_a"]
    if b is not None:
        value = _log_ratio(joined) if divides else value - joined["value_b"]
    units = joined.index.to_frame(index=False)
    units["scope"] = units["dataset"] + "/" + units["model"]
    units["value"] = value.to_numpy()
    units["reason"] = [_reason(claim, row, sides) for row in joined.to_dict("records")]
    units["bound"] = [_bound(row, sides) for row in joined.to_dict("records")]
    units.loc[(units["reason"] == "") & (units["bound"] == "<>"), "reason"] = "both radii censored"
    units["zero"] = [_zero_side(row) for row in joined.to_dict("records")] if divides else ""
    units["correction"] = units["dataset"].map(tables.correction)
    units["remark"] = ""
    units["cells"] = (units["reason"] == "").astype(int)
    units["left_out"] = 1 - units["cells"]
    return units


def _log_ratio(joined: pd.DataFrame) -> pd.Series:
    """Return log(a / b), or NaN if either isn't above 0."""
    a, b = (joined[column].where(joined[column] > 0) for column in ("value_a", "value_b"))
    return np.log(a) - np.log(b)


def _zero_side(row: Mapping[Any, Any]) -> str:
    """Return which side of a ratio is 0 or less, or "" if neither is."""
    return " and ".join(side for side in ("a", "b") if row[f"value_{side}"] <= 0)


def _broadcast(reference: pd.DataFrame, a: pd.DataFrame) -> pd.DataFrame:
    """Repeat a reference's rows, which have no model, for every model that a has on the same data set."""
    models = a.index.to_frame(index=False)[["dataset", "model"]].drop_duplicates()
    rows = reference.reset_index().drop(columns="model").merge(models, on="dataset")
    return rows.set_index(PAIRED)


def _reason(claim: Claim, row: Mapping[Any, Any], sides: list[str], same_steps: bool = True) -> str:
    """Return why a pair of cells can't be used, or "" if it can.

    If `same_steps` is true, both cells must have taken the same number of optimiser steps; across data sets, the
    numbers may differ.
    """
    for side in sides:
        if not isinstance(row[f"loss_{side}"], str):
            return "only one side has this seed"
    trained = [side for side in sides if row[f"loss_{side}"] != REFERENCE]
    for side in trained:
        if not isinstance(row[f"interpolates_{side}"], bool | np.bool_):
            return f"{row[f'loss_{side}']} has no record in runs"
        if claim.must_interpolate(row[f"loss_{side}"]) and not row[f"interpolates_{side}"]:
            return f"{row[f'loss_{side}']} does not interpolate"
    if same_steps and len({row[f"steps_{side}"] for side in trained}) > 1:
        return "unequal optimiser steps"
    if not all(np.isfinite(row[f"value_{side}"]) for side in sides):
        return "no finite value"
    return ""


def _bound(row: Mapping[Any, Any], sides: list[str]) -> str:
    """Return "<" if the unit is a lower bound (a is censored), ">" if it is an upper bound (b is), both, or ""."""
    marks = {"a": "<", "b": ">"}
    return "".join(marks[side] for side in sides if row[f"censored_{side}"] in (True,))
