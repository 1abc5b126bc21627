"""Write the page of the verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from halobench.reporting import labels
from halobench.reporting.rendering import Choice, Column, Entry, Line, choices, number, render
from halobench.results import finding
from halobench.results.claims.rules import VERDICTS
from halobench.results.names import OVER_SEEDS, THEMES

HEADINGS = {"theme": "Theme", "claim": "Test", "fit": "Calibration", "verdict": "Verdict"}
NUMBERS = (
    Column("Estimate", number=True),
    Column("95% interval", number=True, means=f"{OVER_SEEDS}; sorted by its lower end"),
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
    whole, rows = table[table["scope"] == "all"], table.to_dict("records")
    return render(
        "claims.html",
        title="Claims and verdicts",
        note="",
        finding=finding.finding(rows),
        themes=finding.theme_lines(rows),
        whole=_whole(whole),
        pairs=_pairs(table[table["scope"] != "all"]),
    )


def _whole(whole: pd.DataFrame) -> dict[str, Any]:
    """Return the table of claims over all pairs."""
    rows: Iterable[Any] = whole.itertuples()
    lines = [
        Line(
            {"theme": finding.theme_of(row.statistic), "fit": row.fit, "verdict": row.verdict},
            (
                Entry(
                    labels.claim_label(row.claim, row.fit), row.claim, below=labels.in_words(row.statement, place=True)
                ),
                *(labels.calibrator_label(row.fit), *_outcome(row)),
            ),
        )
        for row in rows
    ]
    columns = (Column("Test"), Column("Calibration"), Column("Verdict"), *NUMBERS)
    themed = whole.assign(theme=whole["statistic"].map(finding.theme_of))
    return {"columns": columns, "lines": lines, "selects": _choices(themed, ("theme", "fit", "verdict"))}


def _pairs(pairs: pd.DataFrame) -> dict[str, Any]:
    """Return the table of claims by pair of data set and model."""
    lines = []
    rows: Iterable[Any] = pairs.itertuples()
    for row in rows:
        dataset, _, model = row.scope.partition("/")
        keys = {"claim": row.claim, "dataset": dataset, "model": model, "fit": row.fit, "verdict": row.verdict}
        label, fit = labels.claim_label(row.claim, row.fit), labels.calibrator_label(row.fit)
        names = (label, labels.dataset_label(dataset), labels.model_label(model), fit)
        lines.append(Line(keys, (*names, *_outcome(row))))
    selects = [*choices(line.keys for line in lines), *_choices(pairs, ("fit", "verdict"))]
    columns = (Column("Test"), Column("Data set"), Column("Model"), Column("Calibration"), Column("Verdict"), *NUMBERS)
    return {"columns": columns, "lines": lines, "selects": [*_choices(pairs, ("claim",)), *selects]}


def _choices(table: pd.DataFrame, keys: Sequence[str]) -> list[Choice]:
    """Return selects of the values of columns; none for a column of one value."""
    claims = table[["claim", "fit"]].drop_duplicates()
    words = {claim: f"{labels.claim_label(claim, fit)}, {fit}" for claim, fit in claims.itertuples(index=False)}
    words |= labels.VERDICTS | labels.CALIBRATORS | {theme: name.label for theme, name in THEMES.items()}
    return [
        Choice(key, HEADINGS[key], tuple((value, words.get(value, value)) for value in values))
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
        Entry(claimed(row._asdict()), row.margin),
        row.n,
        row.excluded,
        Entry(row.note, row.note, "small"),
    )


def claimed(row: Mapping[Any, Any]) -> str:
    """Return what a row of the table claims of its estimate."""
    return f"{'<' if row['direction'] == 'below' else '>'} {number(row['margin'], 'g')}"
