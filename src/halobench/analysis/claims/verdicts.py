"""Judge claims by comparing intervals over seeds, which are the replicates, with margins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from halobench.analysis.claims.rules import Claim, resolved
from halobench.analysis.claims.sides import ClaimTables, NotTested
from halobench.analysis.claims.units import measure, reasons, untestable
from halobench.analysis.shared_samples import common_seeds
from halobench.analysis.t_intervals import LEVEL, p_value, t_interval
from halobench.core.errors import SpecError
from halobench.storage.columns import CLAIM_COLUMNS

NUMBERS = ("estimate", "low", "high", "margin", "seed_correction", "p", "holm", "least", "most")
OF_CLAIM = (
    *("label", "theme", "kind", "fit", "table", "measure", "statistic", "formula"),
    *("margin", "direction", "registered"),
)
COUNTS = ("n", "excluded", "pairs", "hold", "fail", "left_out")
OPEN = ("not_tested", "not_testable")  # verdicts of tests that weren't made
BY_PAIRS = ("mixed", "no_pair")  # verdicts over all pairs that count the pairs' own verdicts


def evaluate(claims: Iterable[Claim], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Judge claims by an experiment's tables, which are passed by name; claims whose table is missing aren't tested.

    For each claim, there is one row with scope ``all``, then one per data set x model pair (``dataset/model``; for
    slopes ``log k/model``; for ratios of two data sets ``a's : b's/model``), with the columns `CLAIM_COLUMNS`:

    - measure is the metric or column that is read, and loss is the loss of side a;
    - low and high are the ends of the 95% t interval over the n seeds, excluded is the number of cells or pairs of
      cells left out, and p is the p-value of a two-sided t test of the margin;
    - seed_correction is explained in `t_interval`; for scope ``all``, it is the largest correction of its data sets;
    - only rows of scope ``all`` have pairs (the number tested), hold and fail (the numbers of pairs that do and don't
      hold), least and most (the smallest and largest estimate of a pair), left_out (the number of pairs that aren't
      part of the estimate, which the note lists with the reasons), holm (the p-value adjusted for all tests) and
      adjusted (the verdict according to holm).
    """
    shared = ClaimTables(tables)
    rows = [row for claim in claims for row in _judge(claim, shared)]
    verdicts = pd.DataFrame(rows, columns=list(CLAIM_COLUMNS)).astype(dict.fromkeys(NUMBERS, float))
    return _adjust(verdicts.astype(dict.fromkeys(COUNTS, int) | {"adjusted": object}))


def verdict(low: float, high: float, margin: float, direction: str) -> str:
    """Return ``holds``, ``does_not`` or ``undecided`` for an interval [low, high] against a signed margin.

    The two decided verdicts mirror each other: reflecting the interval about the margin swaps them, and an interval
    that ends exactly at the margin is undecided.

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


def adjusted(p: np.ndarray) -> np.ndarray:
    """Return the adjusted p-values (m,) of Holm's step-down procedure, which assumes nothing about dependence.

    If hypotheses with adjusted p-values of at most 5% are rejected, the probability of any false rejection is
    at most 5%. NaNs stay NaN and don't count as tests.

    Examples
    --------
    >>> adjusted(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    result = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: np.isfinite(p).sum()]  # NaNs are sorted to the end
    steps = np.arange(len(order), 0, -1) * p[order]
    result[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return result


def _adjust(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Fill in the columns that adjust the tests over all pairs for the number of tests; verdicts by pairs stay."""
    whole = verdicts["scope"] == "all"
    tests = whole & ~verdicts["verdict"].isin(OPEN)
    verdicts.loc[tests, "holm"] = adjusted(verdicts.loc[tests, "p"].to_numpy())
    kept = (verdicts["holm"] < 1 - LEVEL) | verdicts["verdict"].isin(BY_PAIRS) | ~tests
    all_fail = (verdicts["pairs"] > 1) & (verdicts["fail"] == verdicts["pairs"])
    otherwise = np.where(all_fail, "no_pair", "undecided")
    return verdicts.assign(adjusted=verdicts["verdict"].where(kept, otherwise).where(whole, ""))


def _judge(claim: Claim, tables: ClaimTables) -> list[dict[str, Any]]:
    """Judge one claim; return the row with scope all, then a row for each pair."""
    try:
        claim = resolved(claim, tables.table("runs"))
        units = measure(claim, tables)
    except (NotTested, SpecError) as missing:
        return [_row(claim, "all", _Sample(), 0, [str(missing)])]
    rows = [_pair_row(claim, group) for _, group in units.groupby("scope", sort=True)]
    out = {row["scope"]: row["note"] for row in rows if row["verdict"] == "not_testable"}
    whole = _all_row(claim, units[~units["scope"].isin(out)], out)
    tested = [row for row in rows if row["verdict"] not in OPEN]
    verdicts, estimates = [row["verdict"] for row in tested], [row["estimate"] for row in tested]
    whole |= {"pairs": len(tested), "hold": verdicts.count("holds"), "fail": verdicts.count("does_not")}
    whole |= {"least": min(estimates, default=math.nan), "most": max(estimates, default=math.nan)}
    if 0 < whole["fail"] < len(tested):
        whole["verdict"] = "mixed" if whole["hold"] else "no_pair"
    elif rows and len(out) == len(rows):
        whole["verdict"] = "not_testable"
    return [whole, *rows]


def _pair_row(claim: Claim, group: pd.DataFrame) -> dict[str, Any]:
    """Return the row of one pair from its units."""
    excluded, scope = int(group["left_out"].sum()), str(group["scope"].iloc[0])
    why, used = untestable(claim, group), group[group["reason"] == ""]
    if why and claim.statistic == "ratio":
        return _row(claim, scope, _Sample(), excluded, [why]) | {"verdict": "not_testable"}
    sample = _Sample(used["value"].to_numpy(), "".join(sorted(set(used["bound"]))), float(group["correction"].max()))
    row = _row(claim, scope, sample, excluded, [*filter(None, [why]), *_remarks(used), *reasons(group)])
    # An effect in the opposite direction contradicts the claim, whatever the margin.
    against = row["low"] > 0 if claim.direction == "below" else row["high"] < 0
    open_ = why and row["verdict"] not in OPEN and not against
    return row | ({"verdict": "not_testable", "p": math.nan} if open_ else {})


def _remarks(used: pd.DataFrame) -> list[str]:
    """Return the remarks on a pair's units, each with its number of seeds unless it is about all seeds."""
    counts = used.loc[used["remark"] != "", "remark"].value_counts(sort=False)
    total = len(used)
    return [f"{text}: {count} of {total} seeds" if count < total else str(text) for text, count in counts.items()]


def _all_row(claim: Claim, units: pd.DataFrame, out: Mapping[str, str]) -> dict[str, Any]:
    """Return the row with scope all, which averages, for each seed, over the scopes that are complete in every seed.

    `out` has the scopes that can't be tested, with the reasons. The row's correction for shared samples is the largest
    correction of its pairs.
    """
    planned = {scope: frozenset(group["seed"]) for scope, group in units.groupby("scope", sort=True)}
    used = units[units["reason"] == ""]
    seeds = common_seeds(planned.values())
    complete = [scope for scope in planned if seeds <= set(used.loc[used["scope"] == scope, "seed"])]
    chosen = used["scope"].isin(complete) & used["seed"].isin(seeds)
    kept, dropped = used[chosen], used[~chosen]
    excluded = int(units["left_out"].sum() + dropped["cells"].sum())
    word, total = "model" if claim.statistic == "slope" or claim.across_datasets else "pair", len(planned) + len(out)
    notes = [f"mean over {len(complete)} of {total} {word}{'s' * (total != 1)}"]
    if not complete:
        notes = [f"no {word} is complete in every seed" if planned else f"no {word} can be tested"]
    missing = {str(name): _why_incomplete(units[units["scope"] == name]) for name in planned if name not in complete}
    for state, scopes in (("not in the mean", missing), ("not testable", out)):
        notes += [f"{state}: {', '.join(f'{scope} ({why})' for scope, why in scopes.items())}"] if scopes else []
    remarks = kept.drop_duplicates(["scope", "remark"])["remark"].replace("", np.nan).dropna()
    notes += [f"{remark}: {count} of {len(complete)}" for remark, count in remarks.value_counts(sort=False).items()]
    notes += reasons(units)
    if dropped["cells"].sum():
        notes.append(f"{dropped['cells'].sum()} left out for balance")
    values, correction = kept.groupby("seed")["value"].mean().to_numpy(), kept["correction"].max()
    sample = _Sample(values, "".join(sorted(set(kept["bound"]))), float(correction) if len(kept) else 0.0)
    return _row(claim, "all", sample, excluded, notes) | {"left_out": total - len(complete)}


def _why_incomplete(units: pd.DataFrame) -> str:
    """Return why a scope's units can't be used, or ``other seeds`` if its seeds differ from those of most scopes."""
    return " and ".join(sorted(set(units["reason"]) - {""})) or "other seeds"


def _on_its_scale(claim: Claim, *values: float) -> list[float]:
    """Return values on the scale of the margin, undoing the logarithms of ratios."""
    return [float(np.exp(value)) if claim.statistic == "ratio" else value for value in values]


@dataclass(frozen=True)
class _Sample:
    """The values by which a row is judged, one per seed, (n,)."""

    values: np.ndarray = field(default_factory=lambda: np.array([]))
    # Where the truth may lie if values are only bounds, e.g. for censored radii ("<": it may be larger; ">": smaller).
    bounds: str = ""
    correction: float = 0.0  # see `t_interval`


def _row(claim: Claim, scope: str, sample: _Sample, excluded: int, notes: list[str]) -> dict[str, Any]:
    """Return one row, with the estimate, interval, p-value and verdict of a sample."""
    n = len(sample.values)
    interval = t_interval(sample.values, sample.correction)
    estimate, low, high = _on_its_scale(claim, *interval)
    judged = verdict(low, high, claim.margin, claim.direction) if n >= 2 else "not_tested"
    threshold = math.log(claim.margin) if claim.statistic == "ratio" else claim.margin
    p = p_value(sample.values, threshold, sample.correction)
    if n == 1:
        notes = [*notes, "only 1 seed, but an interval needs 2"]
    elif n == 0 and excluded:
        notes = [*notes, "nothing left to test"]
    elif n >= 2 and sample.correction:
        notes = [*notes, f"interval widened for seeds that share samples (test / training: {sample.correction:.2f})"]
    if sample.bounds and n >= 2:
        notes = [*notes, "censored radii: the estimate is a bound"]
        if _may_be_overturned(judged, sample.bounds, claim.direction):
            judged, p, notes = "not_testable", math.nan, [*notes, "the truth may lie on the other side of the margin"]
    return {
        **{key: getattr(claim, key) for key in OF_CLAIM},
        **{"claim": claim.name, "statement": f"{claim.statement} [{claim.place}]", "loss": claim.sides[0]["loss"]},
        **{"scope": scope, "estimate": estimate, "low": low, "high": high, "p": p, "verdict": judged},
        **{"n": n, "excluded": excluded, "seed_correction": sample.correction if n else math.nan},
        **{"pairs": 0, "hold": 0, "fail": 0, "left_out": 0, "least": math.nan, "most": math.nan},
        "note": "; ".join(notes),
    }


def _may_be_overturned(judged: str, bounds: str, direction: str) -> bool:
    """Return whether the true value, which the estimate only bounds, could lie on the other side of the margin."""
    other = "above" if direction == "below" else "below"
    over = {"holds": direction, "does_not": other}.get(judged)
    return ("<" in bounds and over == "below") or (">" in bounds and over == "above")
