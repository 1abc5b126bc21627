"""Verdicts on the paper's claims, from an experiment's tables, by the rules written in ``workflow/claims.yaml``.

The rules, in short:

- *Seed is the unit.* A seed draws the split, the label noise and the initialisation, so seeds are the replicates;
  intervals are Student's t over seeds, at 95%.
- *Differences are paired* within data set x model x seed, so that what two methods share cancels.
- *Only what the claim speaks of counts.* The paper's argument is about models that interpolate: cells that don't are
  left out and counted. A claim's ``interpolating`` lists the losses of which that is asked (by default all that it
  names); a loss that is not meant to fit hard labels (Mixup, focal, label smoothing) can be exempted, since leaving out
  its cells would leave out the very method that is compared. Pairs with unequal optimiser steps are left out and
  counted too.
- *Scope ``all``* is, per seed, the mean over those data set x model pairs that are complete in every seed; the rest is
  counted as excluded. It speaks of these data sets and models, not of others. Each pair has a row of its own below it.
- *The margin is the claim's own threshold*, with its sign: ``below`` claims estimate < margin, ``above`` claims
  estimate > margin. ``holds``: the interval lies wholly on the claimed side of the margin; ``does_not``: wholly on the
  other side; ``undecided``: the margin lies within the interval; ``not_tested``: the grid lacks what the claim needs,
  or seeds. ``holds`` and ``does_not`` are thus mirror images and ask the same evidence: each rejects the other at 2.5%.
  An effect measured to be there, but smaller than the margin, is ``does_not``: it isn't what was claimed to matter.
- *A censored radius is a lower bound*, and a verdict that its true value could overturn is withheld (``undecided``).
"""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from halobench.specs import SpecError, check_name, one_of, parse, require

CELL = ["dataset", "model", "seed"]
KEYS = ["dataset", "model", "loss", "seed"]
STATISTICS = ("level", "difference", "against_best", "slope")
VERDICTS = ("holds", "does_not", "undecided", "not_tested")
FITS = ("none", "released", "exact", "oracle")
REFERENCE = "reference"  # the loss that marks rows of calibrator-free predictors, which were not trained
CONFIDENCE = 0.95
CLASSES = 5  # values of k that a slope on log k needs

_DATASET = ("noise", "classes", "train_points")  # columns of runs that are the data set's, the same in all its cells
COLUMNS = {
    "metrics": (*KEYS, "split", "labels", "calibrator", "metric", "value", "low", "high"),
    "neighbourhood": (
        *(*KEYS, "points", "probe", "radius", "relative_radius"),
        *("confidence", "confidence_se", "logit_gap", "logit_gap_se"),
    ),
    "radii": (
        *(*KEYS, "points", "probe", "quantity", "calibrator", "threshold", "n", "censored"),
        *(f"{scale}_{level}" for scale in ("radius", "relative", "fraction") for level in ("q25", "median", "q75")),
    ),
    "runs": (*KEYS, *_DATASET, "train_accuracy", "interpolates", "steps", "seconds", "device", "parameters"),
}
COLUMNS["runs"] += tuple(f"temperature_{name}" for name in ("exact", "released", "oracle", "oracle_clean"))

_COMPARISON = re.compile(r"(>=|<=|!=|>|<)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)")
_COMPARE = {">=": np.greater_equal, "<=": np.less_equal, "!=": np.not_equal, ">": np.greater, "<": np.less}

RESULT = [
    *("claim", "statement", "scope", "fit", "statistic", "estimate", "low", "high"),
    *("margin", "direction", "n", "excluded", "verdict", "note"),
]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, and the rule by which it is judged.

    Attributes
    ----------
    name, statement, place : str
        A key, the claim in plain words, and where the paper makes it.
    statistic : str
        ``level``: `value` of side `a`; ``difference``: a less b; ``against_best``: a less the best of `baselines`;
        ``slope``: of `value` of side `a` on log k (k the number of classes).
    table, value : str
        The column `value` of a table is what's read.
    a, b : mapping of column to condition
        Rows of a side; with `where`, they must leave one row per cell and fix one `loss`. A condition is a value, a
        list of values, a comparison (``">0"``) or a pattern (``"overlap*"``); columns are the table's, or of
        ``runs``.
    where : mapping
        Conditions on all sides.
    baselines : tuple of mappings
        Sides to choose from, for ``against_best``: per data set x model, of those in the grid the one with the best
        mean over seeds. It is chosen once per pair, by its mean, not anew in each seed: a minimum per seed would beat
        any baseline that a user could pick. What optimism the choice has favours the baseline, not the claim.
    best : str
        Whether the ``lowest`` or the ``highest`` baseline is the best.
    direction : str
        ``below`` or ``above``: on which side of the margin the paper puts the statistic.
    margin : float
        The threshold, with its sign, in the unit of `value` (for ``slope``: per unit of log k).
    fit : str
        The calibrator whose fit the claim speaks of: none, released, exact or oracle.
    interpolating : tuple of str or None
        Losses whose cells must interpolate; None asks it of every loss of the claim.
    """

    name: str
    statement: str
    place: str
    statistic: str
    table: str
    value: str
    a: Mapping[str, Any]
    direction: str
    margin: float
    fit: str = "none"
    where: Mapping[str, Any] = field(default_factory=dict)
    b: Mapping[str, Any] | None = None
    baselines: tuple[Mapping[str, Any], ...] | None = None
    best: str = "lowest"
    interpolating: tuple[str, ...] | None = None

    def __post_init__(self):
        check_name("name", self.name)
        for key, names in (
            ("statistic", STATISTICS),
            ("table", COLUMNS),
            ("fit", FITS),
            ("direction", ("below", "above")),
            ("best", ("lowest", "highest")),
        ):
            require(getattr(self, key) in names, key, getattr(self, key), one_of(names, getattr(self, key)))
        require(self.value in COLUMNS[self.table], "value", self.value, one_of(COLUMNS[self.table], self.value))
        needed = {"difference": "b", "against_best": "baselines"}.get(self.statistic)
        for key in ("b", "baselines"):
            given = getattr(self, key)
            require((given is not None) == (key == needed), key, given, _expected_side(key, needed, self.statistic))
        require(self.baselines != (), "baselines", [], "at least one baseline")
        self._check_conditions("where", self.where)
        for key, conditions in self._own_sides():
            self._check_conditions(key, conditions)
            self._check_side(key, conditions)
        losses = {side["loss"] for side in self.sides} - {REFERENCE}
        for loss in self.interpolating or ():
            require(loss in losses, "interpolating", loss, f"losses of this claim: {one_of(losses, loss)}")

    def _own_sides(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield "a", self.a
        if self.b is not None:
            yield "b", self.b
        for position, baseline in enumerate(self.baselines or ()):
            yield f"baselines[{position}]", baseline

    def _check_conditions(self, key: str, conditions: Any) -> None:
        """Refuse a condition on a column that neither the table nor runs has."""
        require(isinstance(conditions, Mapping), key, conditions, "conditions by column, e.g. {loss: mixup2}")
        columns = {*COLUMNS[self.table], *COLUMNS["runs"]} - {"seed", self.value}
        for column in conditions:
            require(column in columns, f"{key}.{column}", conditions[column], f"a column, {one_of(columns, column)}")
            _check_condition(f"{key}.{column}", conditions[column])

    def _check_side(self, key: str, conditions: Mapping[str, Any]) -> None:
        """Refuse a side that contradicts `where`, names no loss, or would be paired with another data set or model."""
        for column in set(conditions) & set(self.where):
            raise SpecError(f"{key}.{column}", conditions[column], "the column in `where` or in a side, not in both")
        loss = {**self.where, **conditions}.get("loss")
        plain = isinstance(loss, str) and "*" not in loss
        require(plain, f"{key}.loss", loss, "the name of one loss, here or in `where`")
        require(key != "a" or loss != REFERENCE, "a.loss", loss, "a trained side: a reference can be b or a baseline")
        for column in ("dataset", "model") if self.statistic in ("difference", "against_best") else ():
            paired = column not in conditions or (column == "model" and loss == REFERENCE)
            require(paired, f"{key}.{column}", conditions.get(column), f"no {column}: sides are paired (use `where`)")

    @property
    def sides(self) -> list[dict[str, Any]]:
        """All conditions of each side, those of `where` included: a first, then b or the baselines."""
        return [{**self.where, **conditions} for _, conditions in self._own_sides()]

    @property
    def formula(self) -> str:
        """The statistic in one line."""
        a, *others = (_described(conditions) for _, conditions in self._own_sides())
        where = f" where {_described(self.where)}" if self.where else ""
        body = {
            "level": a,
            "difference": f"({a}) - ({', '.join(others)})",
            "against_best": f"({a}) - best of ({' | '.join(others)})",
            "slope": f"{a}, on log k",
        }[self.statistic]
        return f"{self.statistic} of {self.table}.{self.value}: {body}{where}"

    def must_interpolate(self, loss: str) -> bool:
        """Whether cells of a loss count only where they interpolate."""
        return loss != REFERENCE and (self.interpolating is None or loss in self.interpolating)


def _check_condition(key: str, condition: Any) -> None:
    """Refuse a condition that no value could meet."""
    for one in condition if isinstance(condition, list | tuple) else [condition]:
        require(
            isinstance(one, str | int | float | bool), key, one, "a value, a list of values, a comparison or a pattern"
        )
        compares = isinstance(one, str) and one[:1] in tuple("<>!=")
        require(not compares or _COMPARISON.fullmatch(one), key, one, 'a comparison with a number, e.g. ">0" or "!=10"')


def _expected_side(key: str, needed: str | None, statistic: str) -> str:
    return f"conditions: {statistic} needs {key}" if key == needed else f"nothing: {statistic} takes no {key}"


def _described(conditions: Mapping[str, Any]) -> str:
    """Conditions in a line, e.g. ``loss mixup2, noise >0``."""
    words = []
    for column, condition in conditions.items():
        shown = " or ".join(map(str, condition)) if isinstance(condition, list | tuple) else str(condition)
        words.append(f"{column} {shown}")
    return ", ".join(words)


# --- Reading the rules -----------------------------------------------------------------------------------------------


def load_claims(path: Path | str) -> list[Claim]:
    """Read the claims of a YAML file.

    An entry with ``each: {placeholder: [values]}`` stands for one claim per combination of values: ``{placeholder}`` in
    any of its strings, its name included, is replaced.

    Parameters
    ----------
    path : path
        A mapping with the one key ``claims``, a list of entries with the keys of `Claim`.

    Returns
    -------
    list of Claim

    Raises
    ------
    SpecError
        On YAML that can't be read, an unknown key, a missing one, a value out of its range, or a name given twice.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SpecError(str(path), " ".join(str(error).split()), "a YAML file") from None
    listed = isinstance(content, Mapping) and set(content) == {"claims"} and isinstance(content["claims"], list)
    found = sorted(map(str, content)) if isinstance(content, Mapping) else content
    require(listed, str(path), found, "the one key 'claims', a list of claims")
    claims: dict[str, Claim] = {}
    for position, entry in enumerate(content["claims"]):
        place = f"claims[{position}]"
        require(isinstance(entry, Mapping), place, entry, "a claim's keys and values")
        for variant in _variants(entry, place):
            named = f"claims.{variant.get('name', position)}"
            try:
                claim = parse(Claim, variant)
            except SpecError as error:
                raise error.within(named) from None
            require(claim.name not in claims, f"{named}.name", claim.name, "a name that no other claim has")
            claims[claim.name] = claim
    return list(claims.values())


def _variants(entry: Mapping[str, Any], place: str) -> Iterator[dict[str, Any]]:
    """The claims that an entry stands for: one, or with ``each`` one per combination of its values."""
    each = entry.get("each", {})
    fine = isinstance(each, Mapping) and all(isinstance(values, list) and values for values in each.values())
    require(fine, f"{place}.each", each, "lists of values by placeholder, e.g. {mixup: [mixup2, mixup5]}")
    for key in each:
        used = f"{{{key}}}" in str(entry.get("name", ""))
        require(used, f"{place}.each.{key}", entry.get("name"), f"a name with {{{key}}} in it, so that names differ")
    rest = {key: value for key, value in entry.items() if key != "each"}
    for values in itertools.product(*each.values()):
        yield _filled(rest, dict(zip(each, values, strict=True)))


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """`value` with every ``{placeholder}`` in its strings replaced, at every depth."""
    if isinstance(value, str):
        for key, text in values.items():
            value = value.replace(f"{{{key}}}", str(text))
        return value
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    return [_filled(item, values) for item in value] if isinstance(value, list) else value


# --- Judging ---------------------------------------------------------------------------------------------------------


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
        ``log k/model``). Columns: claim, statement (with its place), scope, fit, statistic, estimate, low, high (ends
        of the 95% t interval over seeds), margin, direction, n (seeds), excluded (cells or pairs of cells left out),
        verdict (holds, does_not, undecided, not_tested), note.

    Raises
    ------
    SpecError
        If a side's conditions leave more than one row per cell.
    """
    rows = [row for claim in claims for row in _judge(claim, tables)]
    found = pd.DataFrame(rows, columns=RESULT)
    return found.astype(dict.fromkeys(("estimate", "low", "high", "margin"), float) | {"n": int, "excluded": int})


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


def t_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95% Student's t interval of the mean of `values` (n,), n >= 2."""
    from scipy.special import stdtrit

    values = np.asarray(values, dtype=float)
    n = len(values)
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / math.sqrt(n)
    return float(values.mean() - half), float(values.mean() + half)


def _judge(claim: Claim, tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """The rows of one claim: scope all, then each pair."""
    measure = {"against_best": _against_best_units, "slope": _slope_units}.get(claim.statistic, _plain_units)
    try:
        units = measure(claim, tables)
    except _NotTested as missing:
        return [_row(claim, "all", np.array([]), 0, "", [str(missing)])]
    rows = [_all_row(claim, units)]
    for scope, group in units.groupby("scope", sort=True):
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
    word = "model" if claim.statistic == "slope" else "data set x model pair"
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
    estimate = float(values.mean()) if n else math.nan
    low, high = t_interval(values) if n >= 2 else (math.nan, math.nan)
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


def _plain_units(claim: Claim, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Units of ``level`` (the value) and ``difference`` (a less b): a scope per data set x model pair."""
    a = _side(claim, claim.sides[0], tables)
    if claim.statistic == "level":
        return _pair_units(claim, a, None)
    return _pair_units(claim, a, _side(claim, claim.sides[1], tables))


def _against_best_units(claim: Claim, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Units of a less, in each data set x model pair, the best baseline that the grid has there."""
    a = _side(claim, claim.sides[0], tables)
    rivals = []
    for conditions, own in zip(claim.sides[1:], claim.baselines, strict=True):
        try:
            units = _pair_units(claim, a, _side(claim, conditions, tables))
        except _NotTested:
            continue
        rivals.append(units.assign(remark=f"best baseline {_described(own)}"))
    if not rivals:
        raise _NotTested(f"the grid has no baseline beside {_described(claim.sides[0])}")
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


def _slope_units(claim: Claim, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Units of the least-squares slope of a on log k: a scope per model, over data sets complete in all its seeds."""
    cells = _pair_units(claim, _side(claim, claim.sides[0], tables), None)
    cells.loc[(cells["reason"] == "") & (cells["bound"] != ""), "reason"] = "censored"
    classes = tables["runs"].groupby("dataset")["classes"].first()
    cells["k"] = cells["dataset"].map(classes)
    grid = sorted(set(cells["k"].dropna().astype(int)))
    if len(grid) < CLASSES:
        shown = ", ".join(map(str, grid)) or "unknown"
        raise _NotTested(f"a slope on log k needs {CLASSES} values of k, the grid has {len(grid)} ({shown})")
    units = []
    for model, group in cells.groupby("model", sort=True):
        used = group[group["reason"] == ""]
        seeds = set(group["seed"])
        complete = [name for name, rows in used.groupby("dataset") if set(rows["seed"]) == seeds]
        values = sorted(set(classes[complete].astype(int)))
        why = f" ({'; '.join(_reasons(group))})" if len(used) < len(group) else ""
        reason = "" if len(values) >= CLASSES else f"only {len(values)} values of k are complete in every seed{why}"
        for seed, rows in group.groupby("seed", sort=True):
            kept = rows[rows["dataset"].isin(complete)]
            slope = np.polyfit(np.log(kept["k"].astype(float)), kept["value"], 1)[0] if not reason else math.nan
            unit = {"scope": f"log k/{model}", "seed": seed, "value": slope, "bound": "", "reason": reason}
            unit["remark"] = "" if reason else f"k = {', '.join(map(str, values))}{why}"
            unit["cells"] = 0 if reason else len(kept)
            unit["left_out"] = len(rows) - unit["cells"]
            units.append(unit)
    return pd.DataFrame(units)


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
    return rows.set_index(CELL)


def _reason(claim: Claim, row: Mapping[str, Any], sides: list[str]) -> str:
    """Why a pair of cells can't be used, "" if it can."""
    for side in sides:
        if not isinstance(row[f"loss_{side}"], str):
            return "one side lacks the seed"
    trained = [side for side in sides if row[f"loss_{side}"] != REFERENCE]
    for side in trained:
        if not isinstance(row[f"interpolates_{side}"], bool | np.bool_):
            return f"{row[f'loss_{side}']} has no record in runs"
        if claim.must_interpolate(row[f"loss_{side}"]) and not row[f"interpolates_{side}"]:
            return f"{row[f'loss_{side}']} does not interpolate"
    if len({row[f"steps_{side}"] for side in trained}) > 1:
        return "unequal optimiser steps"
    if not all(np.isfinite(row[f"value_{side}"]) for side in sides):
        return "no finite value"
    return ""


def _bound(row: Mapping[str, Any], sides: list[str]) -> str:
    """A "<" where the unit is a lower bound of the truth (a is censored), a ">" where an upper one (b is)."""
    marks = {"a": "<", "b": ">"}
    return "".join(marks[side] for side in sides if row[f"censored_{side}"] in (True,))


def _side(claim: Claim, conditions: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
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
    rows = _with_runs(_rows_that_meet(own, table), tables["runs"])
    for column in others:
        if column not in rows:
            raise _NotTested(f"neither {claim.table} nor runs has a column {column}")
    rows = _rows_that_meet(others, rows)
    if rows.empty:
        raise _NotTested(f"the grid has no rows of {claim.table} with {_described(conditions)}")
    if rows.duplicated(CELL).any():
        raise SpecError(f"claims.{claim.name}", _described(conditions), "conditions that leave one row per cell")
    out = rows[[*CELL, "loss", "interpolates", "steps"]].astype({"interpolates": object})
    out["interpolates"] = [_truth(value) for value in out["interpolates"]]
    out["value"] = pd.to_numeric(rows[claim.value], errors="coerce").astype(float)
    out["censored"] = _censored(claim, rows)
    return out.set_index(CELL)


def _rows_that_meet(conditions: Mapping[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that meet every condition."""
    for column, condition in conditions.items():
        table = table[_meets(table[column], condition)]
    return table


def _with_runs(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """A table's rows beside the columns of runs that it lacks; references, which have no run, get the data set's."""
    extra = [column for column in runs if column not in table]
    table = table.merge(runs[[*KEYS, *extra]], on=KEYS, how="left", validate="many_to_one")
    for column in ("interpolates", "steps"):
        if column not in table:
            table[column] = np.nan
    for column in set(_DATASET) & set(runs):
        table[column] = table[column].fillna(table["dataset"].map(runs.groupby("dataset")[column].first()))
    return table


def _meets(values: pd.Series, condition: Any) -> np.ndarray:
    """Which values (n,) meet a condition: a value, a list of values, a comparison or a pattern with ``*``."""
    if isinstance(condition, list | tuple):
        return np.logical_or.reduce([_meets(values, one) for one in condition] or [np.zeros(len(values), bool)])
    comparison = _COMPARISON.fullmatch(condition) if isinstance(condition, str) else None
    if comparison:
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
        return _COMPARE[comparison[1]](numbers, float(comparison[2])) & ~np.isnan(numbers)
    if isinstance(condition, int | float) and not isinstance(condition, bool):
        return np.isclose(
            pd.to_numeric(values, errors="coerce").to_numpy(dtype=float), condition, rtol=1e-9, atol=1e-12
        )
    if isinstance(condition, str) and "*" in condition:
        return np.array([isinstance(value, str) and fnmatchcase(value, condition) for value in values], dtype=bool)
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


# --- Showing ---------------------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 1rem; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding: 0 0 .6rem; max-width: 60rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #c8c8c8; }
thead th { border-bottom: 2px solid #1a1a1a; white-space: nowrap; }
tbody th { font-weight: normal; max-width: 34rem; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.verdict { white-space: nowrap; font-weight: 600; }
.holds { border-left: 6px solid #0072b2; }
.does_not { border-left: 6px solid #d55e00; }
.undecided { border-left: 6px solid #8a8a8a; }
.not_tested { border-left: 6px dotted #8a8a8a; font-weight: normal; }
.small { font-size: 13px; color: #4a4a4a; }
summary { cursor: pointer; }
"""
_WORDS = {"holds": "holds", "does_not": "does not hold", "undecided": "undecided", "not_tested": "not tested"}


def claims_html(table: pd.DataFrame) -> str:
    """The verdicts as one HTML page that needs no network and no script.

    A row per claim shows scope ``all``; its pairs unfold below the statement. Verdicts are words; colours only repeat
    them.

    Parameters
    ----------
    table : DataFrame
        As `evaluate` returns it.

    Returns
    -------
    str
    """
    heads = ["Claim", "Fit", "Verdict", "Estimate", "95% interval", "Claimed", "Seeds", "Excluded", "Note"]
    body = "\n".join(_claim_row(group) for _, group in table.groupby("claim", sort=False))
    whole = table[table["scope"] == "all"]
    counts = ", ".join(f"{(whole['verdict'] == name).sum()} {_WORDS[name]}" for name in VERDICTS)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Claims and verdicts</title>
<style>{_STYLE}</style>
</head>
<body>
<table>
<caption>Verdicts on {len(whole)} claims over all data set x model pairs: {counts}. Intervals are Student's t over
seeds; a claim holds, or does not, where its interval lies wholly on one side of the margin.</caption>
<thead><tr>{"".join(f'<th scope="col">{head}</th>' for head in heads)}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</body>
</html>
"""
    # ASCII with character references reads the same whatever encoding it is stored or served in.
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _claim_row(group: pd.DataFrame) -> str:
    """One claim's row of the page."""
    first = group.iloc[0]
    pairs = "".join(
        f"<li>{html.escape(row.scope)}: {_WORDS[row.verdict]}, {_number(row.estimate)} {_interval(row)}, "
        f"{row.n} seeds{', ' + html.escape(row.note) if row.note else ''}</li>"
        for row in group.iloc[1:].itertuples()
    )
    details = f"<details><summary>{len(group) - 1} rows by data set and model</summary><ul>{pairs}</ul></details>"
    sign = "&lt;" if first["direction"] == "below" else "&gt;"
    return (
        f'<tr id="{html.escape(first["claim"])}"><th scope="row">{html.escape(first["statement"])}'
        f'<div class="small">{html.escape(first["statistic"])}</div>{details if pairs else ""}</th>'
        f"<td>{html.escape(first['fit'])}</td>"
        f'<td class="verdict {first["verdict"]}">{_WORDS[first["verdict"]]}</td>'
        f'<td class="number">{_number(first["estimate"])}</td><td class="number">{_interval(first)}</td>'
        f'<td class="number">{sign} {first["margin"]:g}</td><td class="number">{first["n"]}</td>'
        f'<td class="number">{first["excluded"]}</td><td class="small">{html.escape(first["note"])}</td></tr>'
    )


def _number(value: float) -> str:
    """A number to three decimals with a real minus sign, a dash where there is none."""
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "\N{EN DASH}"


def _interval(row: Any) -> str:
    """The interval of a row of the table."""
    return f"[{_number(row.low)}, {_number(row.high)}]" if np.isfinite(row.low) else "\N{EN DASH}"
