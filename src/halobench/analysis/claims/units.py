"""Measure a claim's statistic in units, each with one value for a scope and seed.

A table of units has the columns scope, dataset ("" if it spans several), seed, value (for ratios, the logarithm), bound
("<" or ">" if a radius is censored), reason (why the unit isn't used; "" if it is), zero (which side of a ratio isn't
above 0; "" if both are), remark, correction (for seeds that share samples), cells and left_out (the numbers of cells,
or of pairs of cells, that the unit uses and leaves out), and a and b (the two sides' values; NaN without one).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from halobench.analysis.claims.rules import CLASSES, Claim, described
from halobench.analysis.claims.sides import ClaimTables, NotTested, side_cells
from halobench.storage.columns import PAIRED, REFERENCE


def measure(claim: Claim, tables: ClaimTables) -> pd.DataFrame:
    """Return the units of a claim; raise NotTested if the grid is missing something that the claim needs."""
    by_statistic = {"against_best": _against_best_units, "slope": _slope_units}
    return by_statistic.get(claim.statistic, _plain_units)(claim, tables)


def reasons(units: pd.DataFrame) -> list[str]:
    """Return the reasons why cells or pairs of cells were left out, each with its count."""
    counts = units.loc[units["reason"] != ""].groupby("reason", sort=True)["left_out"].sum()
    return [f"{count} left out: {reason}" for reason, count in counts.items()]


def untestable(claim: Claim, units: pd.DataFrame) -> str:
    """Return why the units of a pair could never decide a claim, or "" if they could.

    The margin of a difference may be out of reach: if side a's mean is 0.05 and the measure is at least 0, a - b can't
    exceed a margin of 0.1. The difference only repeats side a if side b is at its bound in every seed, and only repeats
    side b if side a is a radius of 0, i.e. if confidence is below the threshold at the sample itself. A ratio needs
    sides above 0; leaving out only cells with other values would select cells by their outcome.
    """
    used = units[units["reason"] == ""]
    if claim.statistic == "ratio":
        bad = used[used["zero"] != ""]
        cells = [f"{row.scope} seed {row.seed} ({row.zero})" for row in bad.itertuples()]
        more = f" and {len(cells) - 5} more" if len(cells) > 5 else ""
        why = (
            f"a ratio needs sides above 0, which these aren't: {', '.join(cells[:5])}{more}; claim a difference instead"
        )
        return why if cells else ""
    if claim.statistic not in ("difference", "against_best") or used.empty:
        return ""
    (lowest, highest), (a, b) = claim.bounds, (used[side].mean() for side in "ab")
    above = claim.direction == "above"
    bounds = {"b": lowest if above else highest} | ({"a": lowest} if claim.table == "radii" else {})
    for side, bound in bounds.items():
        if np.isfinite(bound) and np.allclose(used[side], bound, rtol=0, atol=1e-12):
            return f"{side} is {bound:g} in every seed, so the difference only repeats {'b' if side == 'a' else 'a'}"
    reach = min(a - lowest, highest - b) if above else max(lowest - b, a - highest)
    if (reach <= claim.margin) if above else (reach >= claim.margin):
        most = "most" if above else "least"
        return f"the margin is out of reach: at a = {a:.3g} and b = {b:.3g}, a - b can be {reach:.3g} at {most}"
    return ""


def _plain_units(claim: Claim, tables: ClaimTables) -> pd.DataFrame:
    """Measure a level, a difference or a ratio, with one scope per pair."""
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
    """Measure a minus the best baseline in the grid for each data set x model pair."""
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
    """Return a sort key for how hard a baseline is to beat: first whether it can be tested, then the mean difference.

    Baselines are compared by the means of their paired differences from side a. If all baselines have the same seeds,
    this ranks baselines by their means; the ranking is also fair if a seed is missing from some baseline.
    """
    used = units.loc[units["reason"] == "", "value"]
    mean = used.mean() if len(used) else -math.inf
    return len(used) >= 2, mean if claim.lowest_is_best or not len(used) else -mean


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
        remark = "" if reason else f"k = {', '.join(map(str, values))}{why}"
        for seed, rows in group.groupby("seed", sort=True):
            kept = rows.iloc[:0] if reason else rows[rows["dataset"].isin(complete)]
            slope = math.nan if reason else np.polyfit(np.log(kept["k"].astype(float)), kept["value"], 1)[0]
            unit: dict[str, Any] = {"scope": f"log k/{model}", "dataset": "", "seed": seed, "value": slope}
            unit |= {"bound": "", "reason": reason, "zero": "", "remark": remark, "a": math.nan, "b": math.nan}
            unit |= {"correction": rows["correction"].max(), "cells": len(kept), "left_out": len(rows) - len(kept)}
            units.append(unit)
    return pd.DataFrame(units)


def _pair_units(claim: Claim, tables: ClaimTables, a: pd.DataFrame, b: pd.DataFrame | None) -> pd.DataFrame:
    """Measure a (if b is None), a minus b or log(a / b) for each pair that has both sides.

    A pair is a data set and a model or, for a ratio of two data sets, a model.
    """
    across, divides = claim.across_datasets, claim.statistic == "ratio"
    if across and b is not None:
        a, b = a.droplevel("dataset"), b.droplevel("dataset")
    joined, pairs = a.add_suffix("_a"), _without_seeds(a)
    if b is not None:
        b = _broadcast(b, a) if (b["loss"] == REFERENCE).all() else b
        pairs = pairs.intersection(_without_seeds(b))
        if pairs.empty:
            raise NotTested(f"no {'model' if across else 'data set x model pair'} has both sides ({claim.formula})")
        joined = joined.join(b.add_suffix("_b"), how="outer")
    joined = joined[_without_seeds(joined).isin(pairs)].sort_index()
    value, sides = joined["value_a"], ["a"] if b is None else ["a", "b"]
    if b is not None:
        value = _log_ratio(joined) if divides else value - joined["value_b"]
    units, rows = joined.index.to_frame(index=False), joined.to_dict("records")
    if across:
        names = [side["dataset"] for side in claim.sides]
        units = units.assign(scope=f"{names[0]} : {names[1]}/" + units["model"], dataset="")
        units["correction"] = max(map(tables.correction, names))
    else:
        units["scope"] = units["dataset"] + "/" + units["model"]
        units["correction"] = units["dataset"].map(tables.correction)
    units["value"] = value.to_numpy()
    units["reason"] = [_reason(claim, row, sides, same_steps=not across) for row in rows]
    units["bound"] = [_bound(row, sides) for row in rows]
    units.loc[(units["reason"] == "") & (units["bound"] == "<>"), "reason"] = "both radii censored"
    units["zero"] = [_zero_side(row) for row in rows] if divides else ""
    units["a"], units["b"] = joined["value_a"].to_numpy(), joined["value_b"].to_numpy() if b is not None else math.nan
    units["remark"] = ""
    cells = 2 if across else 1
    units["cells"] = cells * (units["reason"] == "").astype(int)
    units["left_out"] = cells - units["cells"]
    return units


def _without_seeds(cells: pd.DataFrame) -> pd.Index:
    index: Any = cells.index  # the stubs assume a single level
    return index.droplevel("seed")


def _log_ratio(joined: pd.DataFrame) -> pd.Series:
    """Return log(a / b), or NaN if a or b isn't above 0."""
    a, b = (joined[column].where(joined[column] > 0) for column in ("value_a", "value_b"))
    return np.log(a) - np.log(b)


def _zero_side(row: Mapping[Any, Any]) -> str:
    """Return the sides of a ratio that are 0 or less, e.g. ``a and b``, or "" if both are above 0."""
    return " and ".join(side for side in ("a", "b") if row[f"value_{side}"] <= 0)


def _broadcast(reference: pd.DataFrame, a: pd.DataFrame) -> pd.DataFrame:
    """Repeat a reference's rows, which have no model, for every model of a on the same data set."""
    models = a.index.to_frame(index=False)[["dataset", "model"]].drop_duplicates()
    rows = reference.reset_index().drop(columns="model").merge(models, on="dataset")
    return rows.set_index(PAIRED)


def _reason(claim: Claim, row: Mapping[Any, Any], sides: list[str], same_steps: bool) -> str:
    """Return why a pair of cells can't be used, or "" if it can; across data sets, numbers of steps may differ."""
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
    """Return "<" for a lower bound (a is censored), ">" for an upper bound (b is censored), both, or ""."""
    marks = {"a": "<", "b": ">"}
    return "".join(marks[side] for side in sides if row[f"censored_{side}"] in (True,))
