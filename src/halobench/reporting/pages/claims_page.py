"""Write the page of verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from halobench.analysis.names import OVER_SEEDS
from halobench.core.formatting import interval, number
from halobench.reporting import finding, labels
from halobench.reporting.rendering import Column, Entry, Line, choices, render, site_address

OWN = "by its own interval"
CLAIMS_PAGE_COLUMNS = (
    *(Column("Test"), Column("Calibration")),
    Column("Verdict", means="after Holm's correction for all tests of the run; of a single pair, by its own interval"),
    Column("Estimate", number=True),
    Column("95% interval", number=True, means=f"{OVER_SEEDS}, widened if seeds share samples; sorted by its lower end"),
    Column("Pairs", number=True, means="the smallest and largest estimate of a pair of data set and model"),
    Column("Claimed", number=True, means="the value that the estimate should be below or above"),
    Column(OWN.capitalize(), means="the verdict before Holm's correction for all tests of the run", more=True),
    Column("p", number=True, means="of a two-sided t test of the margin", form=".2g", more=True),
    Column("p, Holm", number=True, means="adjusted for all tests of the run", form=".2g", more=True),
    Column("Seeds", number=True, form="d", more=True),
    Column("Excluded", number=True, means="cells, or pairs of cells, that were left out", form="d", more=True),
    Column("Registered", means="when the claim and its margin were set", more=True),
    Column("Note", means="which pairs are not in the mean, and why", more=True),
)
UNTESTED = (Column("Test"), Column("Calibration"), Column("Why it is not tested"))
# The figure for each theme's tests; tests of radii have a figure of their own.
FIGURES = {
    "halos": "reach",
    "temperature_scaling": "temperature",
    "growth": "log_k",
    "repair": "maps",
    "own": "summary",
}


def claims_html(
    table: pd.DataFrame,
    experiment: str = "",
    rules: str = "",
    formats: Iterable[str] = ("csv", "parquet"),
    figures: Collection[str] | None = None,
) -> str:
    """Return the verdicts as one HTML page.

    A row per claim shows scope ``all``, and rows that are folded below it show the pairs of data set and model.
    Verdicts are in words, and colours only repeat them. Claims that couldn't be tested come last, folded. Links lead to
    the table in each of `formats`, and to the experiment's `figures` (by default, all figures).
    """
    whole, rows = table[table["scope"] == "all"], table.to_dict("records")
    unmade = whole["verdict"].isin(finding.UNMADE)
    tested, untested = whole[~unmade], whole[unmade]
    pairs = {str(claim): part for claim, part in table[table["scope"] != "all"].groupby("claim", sort=False)}
    decided: Iterable[Any] = tested.itertuples()
    left: Iterable[Any] = untested.itertuples()
    lines = [_line(row, pairs.get(row.claim, whole[:0]), experiment, figures) for row in decided]
    return render(
        "claims.html",
        title="Claims and verdicts",
        note="",
        experiment=experiment,
        finding=finding.finding(rows),
        checks=any(map(finding.is_check, rows)),
        registered=finding.registration_line(rows),
        rules=rules,
        files=[f"claims.{suffix}" for suffix in formats],
        columns=CLAIMS_PAGE_COLUMNS,
        lines=lines,
        selects=choices(line.keys for line in lines),
        untested_columns=UNTESTED,
        untested=[Line({}, (_test(row, ()), labels.calibrator_label(row.fit), row.note)) for row in left],
    )


def _line(row: Any, pairs: pd.DataFrame, experiment: str, figures: Collection[str] | None) -> Line:
    """Return the row of a test over all pairs of data set and model, with a row per pair below it."""
    figure = FIGURES.get(row.theme, row.theme)
    cells = site_address("explorer", experiment, **({"loss": row.loss} if row.loss else {}))
    drawn = (("figure", f"figures.html#{figure}"),) if figures is None or figure in figures else ()
    see = (*drawn, ("cells", cells))
    folded = []
    pair: Any
    for pair in pairs.itertuples():
        dataset, _, model = pair.scope.partition("/")
        cells = site_address("explorer", experiment, dataset=dataset, **({"model": model} if model else {}))
        folded.append((Entry(labels.cell_label(dataset, model), links=(("cells", cells),)), *_outcome(pair)))
    keys = {"theme": row.theme, "fit": row.fit, "verdict": row.adjusted}
    return Line(keys, (_test(row, see), *_outcome(row)), tuple(folded))


def _test(row: Any, see: tuple[tuple[str, str], ...]) -> Entry:
    """Return a test's label with links to its figure and cells, and with its statement below."""
    return Entry(labels.test_label(row._asdict()), row.claim, below=row.statement, links=see)


def _outcome(row: Any) -> tuple[Any, ...]:
    """Return the entries of a row after its name; verdicts are sorted from claims that hold to untested ones.

    The verdict on a test is the one after Holm's correction. A single pair's verdict is by the pair's own interval.
    """
    verdict = row.adjusted or row.verdict
    own = Entry(labels.VERDICTS[row.verdict], _rank(row.verdict)) if row.adjusted else Entry("–")
    style, below = (f"verdict {verdict}", finding.pairs_in_words(row._asdict())) if row.adjusted else ("", OWN)
    mixed = row.verdict == "mixed"  # a mean over pairs that are decided both ways stands for none of them
    return (
        labels.calibrator_label(row.fit),
        Entry(labels.VERDICTS[verdict], _rank(verdict), style, below),
        Entry("–") if mixed else row.estimate,
        Entry("–") if mixed else _interval(row.low, row.high),
        Entry(f"{number(row.least)} to {number(row.most)}", row.least) if row.pairs > 1 else Entry("–"),
        Entry(claimed(row._asdict()), row.margin),
        own,
        *(row.p, row.holm, row.n, row.excluded),
        *(Entry(text, text, "small") for text in (row.registered if row.scope == "all" else "", row.note)),
    )


def _rank(verdict: str) -> str:
    return str([*labels.VERDICTS].index(verdict))


def _interval(low: float, high: float) -> Entry:
    """Return the entry of an interval, which is sorted by its lower end."""
    finite = bool(np.isfinite(low))
    return Entry(interval(low, high) if finite else "–", low if finite else None)


def claimed(row: Mapping[Any, Any]) -> str:
    """Return the claim that a row of the table makes about its estimate."""
    return f"{'<' if row['direction'] == 'below' else '>'} {number(row['margin'], 'g')}"
