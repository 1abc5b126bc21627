"""Judge claims by comparing an interval over seeds, which are the replicates, with a margin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from halobench.results.claims.rules import Claim
from halobench.results.claims.sides import ClaimTables, NotTested
from halobench.results.claims.units import measure, reasons
from halobench.results.t_intervals import t_interval
from halobench.storage.columns import CLAIM_COLUMNS


def evaluate(claims: Iterable[Claim], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Judge claims from an experiment's tables.

    Parameters
    ----------
    claims : iterable of Claim
    tables : mapping of str to DataFrame
        Tables by name, with the columns in `COLUMNS`; ``runs`` (one row per cell) says which cells interpolate and how
        many steps they took. Claims whose table is missing aren't tested.

    Returns
    -------
    DataFrame
        For each claim, one row with scope ``all``, then one per data set x model pair (``dataset/model``; for slopes
        ``log k/model``; for ratios ``a's data set : b's data set/model``). The columns are claim, statement (with its
        place), scope, fit, statistic, estimate, low, high (ends of the 95% t interval over seeds), margin, direction, n
        (seeds), excluded (cells or pairs of cells left out), verdict (holds, does_not, undecided, not_tested) and note.

    Raises
    ------
    SpecError
        If a side's conditions leave more than one row per cell.
    """
    shared = ClaimTables(tables)
    rows = [row for claim in claims for row in _judge(claim, shared)]
    verdicts = pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))
    return verdicts.astype(dict.fromkeys(("estimate", "low", "high", "margin"), float) | {"n": int, "excluded": int})


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


def _judge(claim: Claim, tables: ClaimTables) -> list[dict[str, Any]]:
    """Judge one claim; return the row with scope all, then one for each pair."""
    try:
        units = measure(claim, tables)
    except NotTested as missing:
        return [_row(claim, "all", np.array([]), 0, "", [str(missing)])]
    rows = [_all_row(claim, units)]
    groups: Iterable[tuple[Any, pd.DataFrame]] = units.groupby("scope", sort=True)
    for scope, group in groups:
        used = group[group["reason"] == ""]
        notes = [*_unique(group["remark"]), *reasons(group)]
        values, bounds = used["value"].to_numpy(), "".join(_unique(used["bound"]))
        rows.append(_row(claim, scope, values, int(group["left_out"].sum()), bounds, notes))
    return rows


def _all_row(claim: Claim, units: pd.DataFrame) -> dict[str, Any]:
    """Return the row with scope all, which averages, for each seed, over the scopes that are complete in every seed."""
    planned = {scope: frozenset(group["seed"]) for scope, group in units.groupby("scope", sort=True)}
    used = units[units["reason"] == ""]
    seeds = _common_seeds(planned.values())
    complete = [scope for scope in planned if seeds <= set(used.loc[used["scope"] == scope, "seed"])]
    chosen = used["scope"].isin(complete) & used["seed"].isin(seeds)
    kept, dropped = used[chosen], used[~chosen]
    excluded = int(units["left_out"].sum() + dropped["cells"].sum())
    means = kept.groupby("seed")["value"].mean().to_numpy()
    word = "model" if claim.statistic == "slope" or claim.across_datasets else "data set x model pair"
    notes = [f"mean over {len(complete)} of {len(planned)} {word}{'s' * (len(planned) != 1)}"]
    if not complete:
        notes = [f"no {word} is complete in every seed"]
    remarks = kept.drop_duplicates("scope")["remark"].replace("", np.nan).dropna()
    notes += [f"{remark}: {count} of {len(complete)}" for remark, count in remarks.value_counts(sort=False).items()]
    notes += reasons(units)
    if dropped["cells"].sum():
        notes.append(f"{dropped['cells'].sum()} left out for balance")
    return _row(claim, "all", means, excluded, "".join(_unique(kept["bound"])), notes)


def _common_seeds(planned: Iterable[frozenset[int]]) -> frozenset[int]:
    """Return the seeds to average over: the planned set that keeps the most units and, in a tie, the most seeds.

    The choice depends only on the grid, never on the values. If all pairs have the same seeds, those are chosen.
    """
    planned = list(planned)
    return max(
        set(planned),
        key=lambda seeds: (len(seeds) * sum(seeds <= other for other in planned), len(seeds), sorted(seeds)),
    )


def _unique(texts: pd.Series) -> list[str]:
    return sorted(set(texts) - {""})


def _row(claim: Claim, scope: str, values: np.ndarray, excluded: int, bounds: str, notes: list[str]) -> dict[str, Any]:
    """Return one row, with the estimate, interval and verdict for the values (n,), one per seed.

    `bounds` says in which direction values that are only bounds may differ from the truth ("<": the truth may be
    larger; ">": it may be smaller), as when a radius was not reached. A verdict that the truth could overturn is
    withheld.
    """
    n = len(values)
    estimate, low, high = t_interval(values)
    judged = verdict(low, high, claim.margin, claim.direction) if n >= 2 else "not_tested"
    if n == 1:
        notes = [*notes, "only 1 seed, but an interval needs 2"]
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
