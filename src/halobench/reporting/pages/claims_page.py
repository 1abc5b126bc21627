"""Write the page of the verdicts."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from halobench.reporting import labels
from halobench.reporting.pages import elements
from halobench.reporting.pages.elements import Choice, Column, Entry, Line
from halobench.results.claims.rules import VERDICTS

NUMBERS = (
    Column("Estimate", number=True),
    Column("95% interval", number=True, means="sorted by its lower end"),
    Column("Claimed", number=True, means="what the estimate should be below, or above"),
    Column("Seeds", number=True),
    Column("Excluded", number=True, means="cells, or pairs of cells, that were left out"),
    Column("Note"),
)


def claims_html(table: pd.DataFrame) -> str:
    """Return the verdicts as one HTML page that needs no network, and no script to be read.

    A row per claim shows scope ``all``; below, each pair of data set and model has a row of its own. Verdicts are
    words; colours only repeat them.

    Parameters
    ----------
    table : DataFrame
        As `evaluate` returns it.

    Returns
    -------
    str
    """
    whole = table[table["scope"] == "all"]
    counts = f"Verdicts on {len(whole)} claims over all data set x model pairs: {counted(whole)}."
    rule = (
        f"{counts} Intervals are Student's t over seeds; a claim holds, or does not, where its interval lies wholly on "
        "one side of the margin."
    )
    parts = [f"<p>{html.escape(rule)}</p>", _whole(whole), _pairs(table[table["scope"] != "all"])]
    return elements.document("Claims and verdicts", "\n".join(parts))


def counted(whole: pd.DataFrame) -> str:
    """Return in words how many claims have which verdict."""
    plural = labels.VERDICTS | {"holds": "hold", "does_not": "do not hold"}
    counts = {name: int((whole["verdict"] == name).sum()) for name in VERDICTS}
    return ", ".join(f"{n} {(labels.VERDICTS if n == 1 else plural)[name]}" for name, n in counts.items())


def _whole(whole: pd.DataFrame) -> str:
    """Return the table of claims over all pairs."""
    columns = (Column("Claim"), Column("Fit"), Column("Verdict"), *NUMBERS)
    rows: Iterable[Any] = whole.itertuples()
    lines = [
        Line(
            {"fit": row.fit, "verdict": row.verdict},
            (
                Entry(f'{html.escape(row.statement)} <div class="small">{html.escape(row.statistic)}</div>', row.claim),
                elements.words(row.fit),
                verdict_entry(row.verdict),
                *_numbers(row),
            ),
        )
        for row in rows
    ]
    selects = _choices(whole, ("fit", "verdict"))
    table = elements.table("Claims over all pairs of data set and model", columns, lines)
    return f'{elements.filters(selects, "whole", "claims")}<div id="whole" class="claims">{table}</div>'


def _pairs(pairs: pd.DataFrame) -> str:
    """Return the table of claims by pair of data set and model."""
    if not len(pairs):
        return ""
    columns = (Column("Claim"), Column("Data set"), Column("Model"), Column("Fit"), Column("Verdict"), *NUMBERS)
    lines, all_keys = [], []
    rows: Iterable[Any] = pairs.itertuples()
    for row in rows:
        dataset, _, model = row.scope.partition("/")
        keys = {"dataset": dataset, "model": model}
        all_keys.append(keys)
        places = (labels.dataset_label(dataset), labels.model_label(model))
        entries = (elements.words(row.claim), *map(elements.words, places), elements.words(row.fit))
        lines.append(
            Line(
                {"claim": row.claim, **keys, "fit": row.fit, "verdict": row.verdict},
                (*entries, verdict_entry(row.verdict), *_numbers(row)),
            )
        )
    selects = [*_choices(pairs, ("claim",)), *elements.choices(all_keys), *_choices(pairs, ("fit", "verdict"))]
    table = elements.table("The same by data set and model", columns, lines, wide=True)
    return f'<h2>By data set and model</h2>{elements.filters(selects, "pairs", "rows")}<div id="pairs">{table}</div>'


def _choices(table: pd.DataFrame, keys: Sequence[str]) -> list[Choice]:
    """Return selects of the values of columns; none for a column of one value."""
    headings = {"claim": "Claim", "fit": "Fit", "verdict": "Verdict"}
    selects = []
    for key in keys:
        values = list(dict.fromkeys(table[key]))
        if len(values) > 1:
            options = tuple((value, labels.VERDICTS[value] if key == "verdict" else value) for value in values)
            selects.append(Choice(key, headings[key], options))
    return selects


def verdict_entry(verdict: str) -> Entry:
    """Return a verdict in words, sorted from those that hold to those that weren't tested."""
    return Entry(
        f'<span class="verdict {verdict}">&nbsp;{labels.VERDICTS[verdict]}</span>', f"{VERDICTS.index(verdict)}"
    )


def _numbers(row: Any) -> tuple[Entry, ...]:
    """Return the entries of a row after its verdict."""
    return (
        elements.number(row.estimate),
        Entry(_interval(row.low, row.high), row.low if np.isfinite(row.low) else None),
        Entry(claimed(row), row.margin),
        Entry(str(row.n), int(row.n)),
        Entry(str(row.excluded), int(row.excluded)),
        Entry(f'<span class="small">{html.escape(row.note)}</span>', row.note or None),
    )


def claimed(row: Any) -> str:
    """Return what a row of the table claims of its estimate, as HTML."""
    sign = "&lt;" if row.direction == "below" else "&gt;"
    return f"{sign} {elements.number(row.margin, 'g').shown}"


def _interval(low: float, high: float) -> str:
    """Return an interval in brackets, or a dash if there is none."""
    return f"[{elements.number(low).shown}, {elements.number(high).shown}]" if np.isfinite(low) else "\N{EN DASH}"
