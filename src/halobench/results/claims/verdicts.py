"""Judge claims by comparing intervals over seeds, which are the replicates, with margins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from halobench.results.claims.rules import Claim
from halobench.results.claims.sides import ClaimTables, NotTested
from halobench.results.claims.units import measure, reasons
from halobench.results.t_intervals import LEVEL, p_value, t_interval
from halobench.storage.columns import CLAIM_COLUMNS

NUMBERS = (
    *("estimate", "low", "high", "margin", "seed_correction", "p", "holm", "holm_theme"),
    *("mean_datasets", "low_datasets", "high_datasets"),
)
OF_CLAIM = (
    *("label", "theme", "question", "kind", "fit", "table", "measure", "statistic", "formula"),
    *("margin", "direction", "registered"),
)
COUNTS = ("n", "excluded", "pairs", "opposite", "datasets")


def evaluate(claims: Iterable[Claim], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Judge claims by an experiment's tables, which are passed by name; claims whose table is missing aren't tested.

    For each claim, there is one row with scope ``all``, then one per data set x model pair (``dataset/model``; for
    slopes ``log k/model``; for ratios of two data sets ``a's : b's/model``), with the columns `CLAIM_COLUMNS`:

    - measure is the metric or column that is read, and loss is the loss of side a;
    - low and high are the ends of the 95% t interval over the n seeds, excluded is the number of cells or pairs of
      cells left out, and p is the p-value of a two-sided t test of the margin (1 if the verdict is withheld because of
      censored radii);
    - seed_correction is explained in `t_interval`; for scope ``all``, it is the largest of all its data sets;
    - only rows of scope ``all`` have pairs (the number tested), opposite (the number of pairs with the opposite verdict
      or, if the verdict is undecided, against the majority of decided pairs), holm and holm_theme (p-values adjusted
      for all tests and for those of the theme), adjusted (the verdict by holm), and the mean over data sets with its
      interval, for which data sets are the replicates (NaN for fewer than two).
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

    If hypotheses at or below 5% are rejected, the probability of any false rejection is at most 5%. NaNs stay NaN and
    don't count as tests.

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
    """Fill in the columns that adjust the tests over all pairs for the number of tests."""
    tests = (verdicts["scope"] == "all") & (verdicts["verdict"] != "not_tested")
    verdicts.loc[tests, "holm"] = adjusted(verdicts.loc[tests, "p"].to_numpy())
    for _, rows in verdicts[tests].groupby("theme"):
        verdicts.loc[rows.index, "holm_theme"] = adjusted(rows["p"].to_numpy())
    kept = verdicts["verdict"].where(verdicts["holm"] < 1 - LEVEL, "undecided").where(tests, "not_tested")
    return verdicts.assign(adjusted=kept.where(verdicts["scope"] == "all", ""))


def _judge(claim: Claim, tables: ClaimTables) -> list[dict[str, Any]]:
    """Judge one claim; return the row with scope all, then one for each pair."""
    try:
        units = measure(claim, tables)
    except NotTested as missing:
        return [_row(claim, "all", _Sample(), 0, [str(missing)])]
    rows = [_pair_row(claim, group) for _, group in units.groupby("scope", sort=True)]
    whole = _all_row(claim, units)
    verdicts = [row["verdict"] for row in rows]
    whole["pairs"] = len(verdicts) - verdicts.count("not_tested")
    against = {"holds": ("does_not",), "does_not": ("holds",), "undecided": ("holds", "does_not")}
    whole["opposite"] = min(map(verdicts.count, against.get(whole["verdict"], ("none",))))
    return [whole, *rows]


def _pair_row(claim: Claim, group: pd.DataFrame) -> dict[str, Any]:
    """Return the row of one pair from its units."""
    excluded, scope = int(group["left_out"].sum()), str(group["scope"].iloc[0])
    if without := _without_logarithm(claim, group):
        return _row(claim, scope, _Sample(), excluded, [without])
    used = group[group["reason"] == ""]
    sample = _Sample(used["value"].to_numpy(), "".join(sorted(set(used["bound"]))), float(group["correction"].max()))
    return _row(claim, scope, sample, excluded, [*_remarks(used), *reasons(group)])


def _remarks(used: pd.DataFrame) -> list[str]:
    """Return the remarks of a pair's units, with the number of seeds if some are missing."""
    counts = used.loc[used["remark"] != "", "remark"].value_counts(sort=False)
    total = len(used)
    return [f"{text}: {count} of {total} seeds" if count < total else str(text) for text, count in counts.items()]


def _without_logarithm(claim: Claim, units: pd.DataFrame) -> str:
    """Say which cells of a ratio aren't above 0, since leaving out just those would select by the outcome."""
    bad = units[(units["zero"] != "") & (units["reason"] == "")]
    if claim.statistic != "ratio" or bad.empty:
        return ""
    cells = [f"{row.scope} seed {row.seed} ({row.zero})" for row in bad.itertuples()]
    more = f" and {len(cells) - 5} more" if len(cells) > 5 else ""
    return f"a ratio needs sides above 0, which these aren't: {', '.join(cells[:5])}{more}; claim a difference instead"


def _all_row(claim: Claim, units: pd.DataFrame) -> dict[str, Any]:
    """Return the row with scope all, which averages, for each seed, over the scopes that are complete in every seed.

    Its correction is the largest of its pairs' data sets. It isn't tested if any side of a ratio isn't above 0.
    """
    if without := _without_logarithm(claim, units):
        return _row(claim, "all", _Sample(), int(units["left_out"].sum()), [without])
    planned = {scope: frozenset(group["seed"]) for scope, group in units.groupby("scope", sort=True)}
    used = units[units["reason"] == ""]
    seeds = _common_seeds(planned.values())
    complete = [scope for scope in planned if seeds <= set(used.loc[used["scope"] == scope, "seed"])]
    chosen = used["scope"].isin(complete) & used["seed"].isin(seeds)
    kept, dropped = used[chosen], used[~chosen]
    excluded = int(units["left_out"].sum() + dropped["cells"].sum())
    word = "model" if claim.statistic == "slope" or claim.across_datasets else "data set x model pair"
    notes = [f"mean over {len(complete)} of {len(planned)} {word}{'s' * (len(planned) != 1)}"]
    if not complete:
        notes = [f"no {word} is complete in every seed"]
    remarks = kept.drop_duplicates(["scope", "remark"])["remark"].replace("", np.nan).dropna()
    notes += [f"{remark}: {count} of {len(complete)}" for remark, count in remarks.value_counts(sort=False).items()]
    notes += reasons(units)
    if dropped["cells"].sum():
        notes.append(f"{dropped['cells'].sum()} left out for balance")
    values, correction = kept.groupby("seed")["value"].mean().to_numpy(), kept["correction"].max()
    sample = _Sample(values, "".join(sorted(set(kept["bound"]))), float(correction) if len(kept) else 0.0)
    return _row(claim, "all", sample, excluded, notes) | _over_datasets(claim, kept)


def _over_datasets(claim: Claim, units: pd.DataFrame) -> dict[str, Any]:
    """Return the columns with the mean over data sets, each of which counts once, and its interval.

    The data sets are the replicates, so the interval is about data sets like these. There is no such mean for units
    that span several data sets (slopes, and ratios of two data sets).
    """
    means = units[units["dataset"] != ""].groupby("dataset")["value"].mean().to_numpy()
    interval = t_interval(means) if len(means) >= 2 else (math.nan,) * 3
    names = ("mean_datasets", "low_datasets", "high_datasets")
    return {"datasets": len(means)} | dict(zip(names, _on_its_scale(claim, *interval), strict=True))


def _on_its_scale(claim: Claim, *values: float) -> list[float]:
    """Return values on the scale of the margin; for ratios, the logarithms are reversed."""
    return [float(np.exp(value)) if claim.statistic == "ratio" else value for value in values]


def _common_seeds(planned: Iterable[frozenset[int]]) -> frozenset[int]:
    """Return the seeds to average over: the planned set that keeps the most units and, in a tie, the most seeds.

    The choice depends only on the grid, never on values. If all pairs have the same seeds, these are chosen.
    """
    planned = list(planned)
    return max(
        set(planned),
        key=lambda seeds: (len(seeds) * sum(seeds <= other for other in planned), len(seeds), sorted(seeds)),
    )


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
            judged, p = "undecided", 1.0
    return {
        **{key: getattr(claim, key) for key in OF_CLAIM},
        **{"claim": claim.name, "statement": f"{claim.statement} [{claim.place}]", "loss": claim.sides[0]["loss"]},
        **{"scope": scope, "estimate": estimate, "low": low, "high": high, "p": p, "verdict": judged},
        **{"n": n, "excluded": excluded, "seed_correction": sample.correction if n else math.nan},
        **{"pairs": 0, "opposite": 0, "datasets": 0, "note": "; ".join(notes)},
    }


def _may_be_overturned(judged: str, bounds: str, direction: str) -> bool:
    """Return True if the truth, beyond its bounds, and the estimate could be on different sides of the margin."""
    other = "above" if direction == "below" else "below"
    over = {"holds": direction, "does_not": other}.get(judged)
    return ("<" in bounds and over == "below") or (">" in bounds and over == "above")
