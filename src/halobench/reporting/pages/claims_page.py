"""Write the page of the verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from halobench.reporting import labels
from halobench.reporting.rendering import Choice, Column, Entry, Line, choices, number, render
from halobench.results.claims.rules import VERDICTS

NUMBERS = (
    Column("Estimate", number=True),
    Column("95% interval", number=True, means="sorted by its lower end"),
    Column("Claimed", number=True, means="what the estimate should be below, or above"),
    Column("Seeds", number=True, form="d"),
    Column("Excluded", number=True, means="cells, or pairs of cells, that were left out", form="d"),
    Column("Note"),
)


def claims_html(table: pd.DataFrame) -> str:
    """Return the verdicts as one HTML page.

    A row per claim shows scope ``all``; below, each pair of data set and model has a row of its own. Verdicts are
    words; colours only repeat them.

    Parameters
    ----------
    table : DataFrame
        As `halobench.results.claims.evaluate` returns it.
    """
    whole = table[table["scope"] == "all"]
    return render(
        "claims.html",
        title="Claims and verdicts",
        note="",
        count=len(whole),
        counted=counted(whole),
        whole=_whole(whole),
        pairs=_pairs(table[table["scope"] != "all"]),
    )


def counted(whole: pd.DataFrame) -> str:
    """Return in words how many claims have which verdict."""
    plural = labels.VERDICTS | {"holds": "hold", "does_not": "do not hold"}
    counts = {name: int((whole["verdict"] == name).sum()) for name in VERDICTS}
    return ", ".join(f"{n} {(labels.VERDICTS if n == 1 else plural)[name]}" for name, n in counts.items())


def _whole(whole: pd.DataFrame) -> dict[str, Any]:
    """Return the table of claims over all pairs."""
    rows: Iterable[Any] = whole.itertuples()
    lines = [
        Line(
            {"fit": row.fit, "verdict": row.verdict},
            (Entry(row.statement, row.claim, below=row.statistic), row.fit, *_outcome(row)),
        )
        for row in rows
    ]
    columns = (Column("Claim"), Column("Fit"), Column("Verdict"), *NUMBERS)
    return {"columns": columns, "lines": lines, "selects": _choices(whole, ("fit", "verdict"))}


def _pairs(pairs: pd.DataFrame) -> dict[str, Any]:
    """Return the table of claims by pair of data set and model."""
    lines = []
    rows: Iterable[Any] = pairs.itertuples()
    for row in rows:
        dataset, _, model = row.scope.partition("/")
        keys = {"claim": row.claim, "dataset": dataset, "model": model, "fit": row.fit, "verdict": row.verdict}
        names = (row.claim, labels.dataset_label(dataset), labels.model_label(model), row.fit)
        lines.append(Line(keys, (*names, *_outcome(row))))
    selects = [*choices(line.keys for line in lines), *_choices(pairs, ("fit", "verdict"))]
    columns = (Column("Claim"), Column("Data set"), Column("Model"), Column("Fit"), Column("Verdict"), *NUMBERS)
    return {"columns": columns, "lines": lines, "selects": [*_choices(pairs, ("claim",)), *selects]}


def _choices(table: pd.DataFrame, keys: Sequence[str]) -> list[Choice]:
    """Return selects of the values of columns; none for a column of one value."""
    return [
        Choice(key, key.capitalize(), tuple((value, labels.VERDICTS.get(value, value)) for value in values))
        for key in keys
        if len(values := table[key].unique()) > 1
    ]


def _outcome(row: Any) -> tuple[Any, ...]:
    """Return the entries of a row from its verdict on; verdicts sort from those that hold to those not tested."""
    interval = f"[{number(row.low)}, {number(row.high)}]" if np.isfinite(row.low) else "–"
    return (
        Entry(labels.VERDICTS[row.verdict], str(VERDICTS.index(row.verdict)), f"verdict {row.verdict}"),
        row.estimate,
        Entry(interval, row.low if np.isfinite(row.low) else None),
        Entry(claimed(row), row.margin),
        row.n,
        row.excluded,
        Entry(row.note, row.note, "small"),
    )


def claimed(row: Any) -> str:
    """Return what a row of the table claims of its estimate."""
    return f"{'<' if row.direction == 'below' else '>'} {number(row.margin, 'g')}"
