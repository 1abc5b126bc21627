"""The judging of claims: cells are paired, seeds are the unit, and an interval stands against a margin."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from halobench.core.errors import SpecError
from halobench.results.claims.rules import CLASSES, COMPARISON, REFERENCE, Claim, described
from halobench.results.t_intervals import t_interval
from halobench.storage.columns import CLAIM_COLUMNS, DATASET, KEYS, PAIRED

_COMPARE = {">=": np.greater_equal, "<=": np.less_equal, "!=": np.not_equal, ">": np.greater, "<": np.less}


class _NotTested(Exception):
    """The grid lacks what a claim needs; the message says what."""


def evaluate(claims: Iterable[Claim], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Judge claims by an experiment's tables.

    Parameters
    ----------
    claims : iterable of Claim
    tables : mapping of str to DataFrame
        By name, with the columns of `COLUMNS`; ``runs`` (a row per cell) says what interpolates and how many steps it
        took. A table that is missing leaves its claims untested.

    Returns
    -------
    DataFrame
        Per claim a row of scope ``all``, then one per data set x model pair (``dataset/model``; for slopes
        ``log k/model``; for ratios ``a's data set : b's data set/model``). Columns: claim, statement (with its place),
        scope, fit, statistic, estimate, low, high (ends of the 95% t interval over seeds), margin, direction, n
        (seeds), excluded (cells or pairs of cells left out), verdict (holds, does_not, undecided, not_tested), note.

    Raises
    ------
    SpecError
        If a side's conditions leave more than one row per cell.
    """
    tables = _Tables(tables)
    rows = [row for claim in claims for row in _judge(claim, tables)]
    found = pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))
    return found.astype(dict.fromkeys(("estimate", "low", "high", "margin"), float) | {"n": int, "excluded": int})


class _Tables(dict):
    """Tables by name, and what claims share of them: most claims look at the same few kinds of rows."""

    def __init__(self, tables: Mapping[str, pd.DataFrame]):
        super().__init__(tables)
        self._masks: dict[tuple[str, str, str], np.ndarray] = {}

    def rows(self, name: str, conditions: Mapping[str, Any]) -> pd.DataFrame:
        """The rows of a table that meet every condition on its columns."""
        masks = [self._mask(name, column, condition) for column, condition in conditions.items()]
        return self[name][np.logical_and.reduce(masks)] if masks else self[name]

    def _mask(self, name: str, column: str, condition: Any) -> np.ndarray:
        key = (name, column, repr(condition))
        if key not in self._masks:
            self._masks[key] = _meets(self[name][column], condition)
        return self._masks[key]

    @functools.cached_property
    def by_dataset(self) -> pd.DataFrame:
        """What runs tell of each data set."""
        runs = self["runs"]
        return runs.groupby("dataset")[[column for column in DATASET if column in runs]].first()


def verdict(low: float, high: float, margin: float, direction: str) -> str:
    """``holds``, ``does_not`` or ``undecided``, for an interval [low, high] against a signed margin.

    The two decided verdicts mirror each other: reflecting the interval at the margin swaps them, and an end that lies
    on the margin decides nothing.

    Examples
    --------
    >>> verdict(-0.3, -0.1, -0.05, "below"), verdict(-0.04, 0.2, -0.05, "below"), verdict(-0.1, 0.1, -0.05, "below")
    ('holds', 'does_not', 'undecided')
    """
    if high < margin:
        return "holds" if direction == "below" else "does_not"
    if low > margin:
        return "holds" if direction == "above" else "does_not"
    return "undecided"


def _judge(claim: Claim, tables: _Tables) -> list[dict[str, Any]]:
    """The rows of one claim: scope all, then each pair."""
    measure = {"against_best": _against_best_units, "slope": _slope_units, "ratio": _ratio_units}.get(
        claim.statistic, _plain_units
    )
    try:
        units = measure(claim, tables)
    except _NotTested as missing:
        return [_row(claim, "all", np.array([]), 0, "", [str(missing)])]
    rows = [_all_row(claim, units)]
    groups: Iterable[tuple[Any, pd.DataFrame]] = units.groupby("scope", sort=True)
    for scope, group in groups:
        used = group[group["reason"] == ""]
        notes = [*_unique(group["remark"]), *_reasons(group)]
        values, bounds = used["value"].to_numpy(), "".join(_unique(used["bound"]))
        rows.append(_row(claim, scope, values, int(group["left_out"].sum()), bounds, notes))
    return rows


def _all_row(claim: Claim, units: pd.DataFrame) -> dict[str, Any]:
    """The row of scope all: per seed the mean over the scopes that are complete in every seed."""
    planned = {scope: frozenset(group["seed"]) for scope, group in units.groupby("scope", sort=True)}
    used = units[units["reason"] == ""]
    seeds = _common_seeds(planned.values())
    complete = [scope for scope in planned if seeds <= set(used.loc[used["scope"] == scope, "seed"])]
    chosen = used["scope"].isin(complete) & used["seed"].isin(seeds)
    kept, dropped = used[chosen], used[~chosen]
    excluded = int(units["left_out"].sum() + dropped["cells"].sum())
    means = kept.groupby("seed")["value"].mean().to_numpy()
    word = "model" if claim.statistic in ("slope", "ratio") else "data set x model pair"
    notes = [f"mean over {len(complete)} of {len(planned)} {word}{'s' * (len(planned) != 1)}"]
    if not complete:
        notes = [f"no {word} is complete in every seed"]
    remarks = kept.drop_duplicates("scope")["remark"].replace("", np.nan).dropna()
    notes += [f"{remark}: {count} of {len(complete)}" for remark, count in remarks.value_counts(sort=False).items()]
    notes += _reasons(units)
    if dropped["cells"].sum():
        notes.append(f"{dropped['cells'].sum()} left out for balance")
    return _row(claim, "all", means, excluded, "".join(_unique(kept["bound"])), notes)


def _common_seeds(planned: Iterable[frozenset[int]]) -> frozenset[int]:
    """The seeds to average over: of the seed sets that the grid plans, the one that keeps most units, then most seeds.

    It depends on the grid alone, never on what came out. Where all pairs share their seeds it is those.
    """
    planned = list(planned)
    return max(
        set(planned),
        key=lambda seeds: (len(seeds) * sum(seeds <= other for other in planned), len(seeds), sorted(seeds)),
    )


def _reasons(units: pd.DataFrame) -> list[str]:
    """Why units were left out, each with its count."""
    counts = units.loc[units["reason"] != ""].groupby("reason", sort=True)["left_out"].sum()
    return [f"{count} left out: {reason}" for reason, count in counts.items()]


def _unique(texts: pd.Series) -> list[str]:
    return sorted(set(texts) - {""})


def _row(claim: Claim, scope: str, values: np.ndarray, excluded: int, bounds: str, notes: list[str]) -> dict[str, Any]:
    """One row: estimate, interval and verdict of the values (n,), one a seed.

    `bounds` tells in which direction the values are only bounds ("<": the truth may be larger; ">": smaller), as
    where a radius was not reached: a verdict that the truth could overturn is withheld.
    """
    n = len(values)
    estimate, low, high = t_interval(values)
    judged = verdict(low, high, claim.margin, claim.direction) if n >= 2 else "not_tested"
    if n == 1:
        notes = [*notes, "1 seed: an interval needs 2"]
    elif n == 0 and excluded:
        notes = [*notes, "nothing left to test"]
    if bounds and n >= 2:
        notes = [*notes, "censored radii: the estimate is a bound"]
        over = {"holds": claim.direction, "does_not": "above" if claim.direction == "below" else "below"}.get(judged)
        if ("<" in bounds and over == "below") or (">" in bounds and over == "above"):
            judged = "undecided"
    return {
        "claim": claim.name,
        "statement": f"{claim.statement} [{claim.place}]",
        "scope": scope,
        "fit": claim.fit,
        "statistic": claim.formula,
        "estimate": estimate,
        "low": low,
        "high": high,
        "margin": claim.margin,
        "direction": claim.direction,
        "n": n,
        "excluded": excluded,
        "verdict": judged,
        "note": "; ".join(notes),
    }


# --- Units: one value per scope and seed -----------------------------------------------------------------------------
# A table of units has the columns scope, seed, value, bound, reason ("" where the unit is used), remark, cells (what a
# used unit stands for) and left_out (what it leaves out).


def _plain_units(claim: Claim, tables: _Tables) -> pd.DataFrame:
    """Units of ``level`` (the value) and ``difference`` (a less b): a scope per data set x model pair."""
    a = _side(claim, claim.sides[0], tables)
    if claim.statistic == "level":
        return _pair_units(claim, a, None)
    return _pair_units(claim, a, _side(claim, claim.sides[1], tables))


def _against_best_units(claim: Claim, tables: _Tables) -> pd.DataFrame:
    """Units of a less, in each data set x model pair, the best baseline that the grid has there."""
    a = _side(claim, claim.sides[0], tables)
    rivals = []
    for conditions, own in zip(claim.sides[1:], claim.baselines or (), strict=True):
        try:
            units = _pair_units(claim, a, _side(claim, conditions, tables))
        except _NotTested:
            continue
        rivals.append(units.assign(remark=f"best baseline {described(own)}"))
    if not rivals:
        raise _NotTested(f"the grid has no baseline beside {described(claim.sides[0])}")
    return pd.concat(
        [
            max((group for _, group in options.groupby("remark", sort=True)), key=lambda g: _strength(claim, g))
            for _, options in pd.concat(rivals).groupby("scope", sort=True)
        ],
        ignore_index=True,
    )


def _strength(claim: Claim, units: pd.DataFrame) -> tuple[bool, float]:
    """How hard a baseline is to beat: first of all testable, then by its mean.

    Means are compared through the paired difference to a, which ranks like the baselines' own means where these have
    the same seeds, and stays fair where one of them lacks a seed.
    """
    used = units.loc[units["reason"] == "", "value"]
    mean = used.mean() if len(used) else -math.inf
    return len(used) >= 2, mean if claim.best == "lowest" or not len(used) else -mean


def _slope_units(claim: Claim, tables: _Tables) -> pd.DataFrame:
    """Units of the least-squares slope of a on log k: a scope per model, over data sets complete in all its seeds."""
    cells = _pair_units(claim, _side(claim, claim.sides[0], tables), None)
    cells.loc[(cells["reason"] == "") & (cells["bound"] != ""), "reason"] = "censored"
    classes = tables.by_dataset["classes"]
    cells["k"] = cells["dataset"].map(classes)
    grid = sorted(set(cells["k"].dropna().astype(int)))
    if len(grid) < CLASSES:
        shown = ", ".join(map(str, grid)) or "unknown"
        raise _NotTested(f"a slope on log k needs {CLASSES} values of k, the grid has {len(grid)} ({shown})")
    units = []
    for model, group in cells.groupby("model", sort=True):
        used = group[group["reason"] == ""]
        seeds = set(group["seed"])
        complete: list[Any] = [name for name, rows in used.groupby("dataset") if set(rows["seed"]) == seeds]
        values = sorted(set(classes[complete].astype(int)))
        why = f" ({'; '.join(_reasons(group))})" if len(used) < len(group) else ""
        reason = "" if len(values) >= CLASSES else f"only {len(values)} values of k are complete in every seed{why}"
        for seed, rows in group.groupby("seed", sort=True):
            kept = rows[rows["dataset"].isin(complete)]
            slope = np.polyfit(np.log(kept["k"].astype(float)), kept["value"], 1)[0] if not reason else math.nan
            unit: dict[str, Any] = {"scope": f"log k/{model}", "seed": seed, "value": slope}
            unit |= {"bound": "", "reason": reason}
            unit["remark"] = "" if reason else f"k = {', '.join(map(str, values))}{why}"
            unit["cells"] = 0 if reason else len(kept)
            unit["left_out"] = len(rows) - unit["cells"]
            units.append(unit)
    return pd.DataFrame(units)


def _ratio_units(claim: Claim, tables: _Tables) -> pd.DataFrame:
    """Units of a over b, two data sets, paired within model x seed: a scope per model that has both."""
    a, b = (_side(claim, side, tables).droplevel("dataset") for side in claim.sides)
    joined = a.add_suffix("_a").join(b.add_suffix("_b"), how="outer").sort_index()
    both = set(a.index.get_level_values("model")) & set(b.index.get_level_values("model"))
    joined = joined[joined.index.get_level_values("model").isin(both)]
    if joined.empty:
        raise _NotTested(f"no model has both sides ({claim.formula})")
    names = [side["dataset"] for side in claim.sides]
    units = joined.index.to_frame(index=False)
    units["scope"] = f"{names[0]} : {names[1]}/" + units["model"]
    units["value"] = (joined["value_a"] / joined["value_b"]).to_numpy()
    units["reason"] = [_reason(claim, row, ["a", "b"], same_steps=False) for row in joined.to_dict("records")]
    units.loc[(units["reason"] == "") & ~(joined["value_b"] > 0).to_numpy(), "reason"] = "nothing to divide by"
    units[["bound", "remark"]] = ""
    units["cells"] = 2 * (units["reason"] == "")
    units["left_out"] = 2 - units["cells"]
    return units


def _pair_units(claim: Claim, a: pd.DataFrame, b: pd.DataFrame | None) -> pd.DataFrame:
    """Units of a (b None) or of a less b, for the data set x model pairs that have both."""
    pairs = {(dataset, model) for dataset, model, _ in a.index}
    joined = a.add_suffix("_a")
    if b is not None:
        b = _broadcast(b, a) if (b["loss"] == REFERENCE).all() else b
        pairs &= {(dataset, model) for dataset, model, _ in b.index}
        if not pairs:
            raise _NotTested(f"no data set x model pair has both sides ({claim.formula})")
        joined = joined.join(b.add_suffix("_b"), how="outer")
    joined = joined[[(dataset, model) in pairs for dataset, model, _ in joined.index]].sort_index()
    sides = ["a"] if b is None else ["a", "b"]
    value = joined["value_a"] if b is None else joined["value_a"] - joined["value_b"]
    units = joined.index.to_frame(index=False)
    units["scope"] = units["dataset"] + "/" + units["model"]
    units["value"] = value.to_numpy()
    units["reason"] = [_reason(claim, row, sides) for row in joined.to_dict("records")]
    units["bound"] = [_bound(row, sides) for row in joined.to_dict("records")]
    units.loc[(units["reason"] == "") & (units["bound"] == "<>"), "reason"] = "both radii censored"
    units["remark"] = ""
    units["cells"] = (units["reason"] == "").astype(int)
    units["left_out"] = 1 - units["cells"]
    return units


def _broadcast(reference: pd.DataFrame, a: pd.DataFrame) -> pd.DataFrame:
    """A reference's rows (it has no model) beside every model of a on the same data set."""
    models = a.index.to_frame(index=False)[["dataset", "model"]].drop_duplicates()
    rows = reference.reset_index().drop(columns="model").merge(models, on="dataset")
    return rows.set_index(PAIRED)


def _reason(claim: Claim, row: Mapping[Any, Any], sides: list[str], same_steps: bool = True) -> str:
    """Why a pair of cells can't be used, "" if it can; two data sets need not take the same number of steps."""
    for side in sides:
        if not isinstance(row[f"loss_{side}"], str):
            return "one side lacks the seed"
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
    """A "<" where the unit is a lower bound of the truth (a is censored), a ">" where an upper one (b is)."""
    marks = {"a": "<", "b": ">"}
    return "".join(marks[side] for side in sides if row[f"censored_{side}"] in (True,))


def _side(claim: Claim, conditions: Mapping[str, Any], tables: _Tables) -> pd.DataFrame:
    """A side's cells: index dataset, model, seed; columns value, loss, interpolates, steps, censored.

    Raises
    ------
    _NotTested
        If no row meets the conditions.
    SpecError
        If more than one row per cell does.
    """
    for name in ("runs", claim.table):
        if name not in tables:
            raise _NotTested(f"there is no table {name}")
    table = tables[claim.table]
    absent = [column for column in (*KEYS, claim.value) if column not in table]
    if absent:
        raise _NotTested(f"{claim.table} has no column {absent[0]}")
    own, others = ({c: v for c, v in conditions.items() if (c in table) == here} for here in (True, False))
    # The table's own columns first: joining runs to millions of rows, to keep a few, would be slow.
    rows = _with_runs(tables.rows(claim.table, own), tables)
    for column in others:
        if column not in rows:
            raise _NotTested(f"neither {claim.table} nor runs has a column {column}")
    for column, condition in others.items():
        rows = rows[_meets(rows[column], condition)]
    if rows.empty:
        raise _NotTested(f"the grid has no rows of {claim.table} with {described(conditions)}")
    if rows.duplicated(PAIRED).any():
        raise SpecError(f"claims.{claim.name}", described(conditions), "conditions that leave one row per cell")
    out = rows[[*PAIRED, "loss", "interpolates", "steps"]].astype({"interpolates": object})
    out["interpolates"] = [_truth(value) for value in out["interpolates"]]
    out["value"] = pd.to_numeric(rows[claim.value], errors="coerce").astype(float)
    out["censored"] = _censored(claim, rows)
    return out.set_index(PAIRED)


def _with_runs(table: pd.DataFrame, tables: _Tables) -> pd.DataFrame:
    """A table's rows beside the columns of runs that it lacks; references, which have no run, get the data set's."""
    runs = tables["runs"]
    extra = [column for column in runs if column not in table]
    table = table.merge(runs[[*KEYS, *extra]], on=KEYS, how="left", validate="many_to_one")
    for column in ("interpolates", "steps"):
        if column not in table:
            table[column] = np.nan
    for column in set(DATASET) & set(runs):
        table[column] = table[column].fillna(table["dataset"].map(tables.by_dataset[column]))
    return table


def _meets(values: pd.Series, condition: Any) -> np.ndarray:
    """Which values (n,) meet a condition: a value, a list of values, a comparison or a pattern with ``*``."""
    if isinstance(condition, list | tuple):
        return np.logical_or.reduce([_meets(values, one) for one in condition] or [np.zeros(len(values), bool)])
    comparison = COMPARISON.fullmatch(condition) if isinstance(condition, str) else None
    if comparison:
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
        return _COMPARE[comparison[1]](numbers, float(comparison[2])) & ~np.isnan(numbers)
    if isinstance(condition, int | float) and not isinstance(condition, bool):
        return np.isclose(
            pd.to_numeric(values, errors="coerce").to_numpy(dtype=float), condition, rtol=1e-9, atol=1e-12
        )
    if isinstance(condition, str) and "*" in condition:
        # Of the distinct values, of which there are few: a table may have a million rows.
        fits = {value for value in values.unique() if isinstance(value, str) and fnmatchcase(value, condition)}
        return values.isin(fits).to_numpy(dtype=bool)
    return (values == condition).fillna(False).to_numpy(dtype=bool)


def _truth(value: Any) -> bool | None:
    """A truth value as a table holds it (CSV may have made it a string), None where it is missing."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}.get(str(value).lower())


_LEVELS = {"q25": 0.25, "median": 0.5, "q75": 0.75}


def _censored(claim: Claim, rows: pd.DataFrame) -> list[bool]:
    """Whether each row's quantile of radii is only a lower bound: the share of censored radii reaches it."""
    level = _LEVELS.get(claim.value.rpartition("_")[2])
    if claim.table != "radii" or level is None or "censored" not in rows:
        return [False] * len(rows)
    share = rows["censored"].to_numpy(dtype=float)
    return (share > 1 - level + 1e-9).tolist()
