"""Write the page of verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from halobench.reporting import labels
from halobench.reporting.rendering import Choice, Column, Entry, Line, address, number, render
from halobench.results import finding
from halobench.results.names import OVER_SEEDS, THEMES

HEADINGS = {"theme": "Theme", "fit": "Calibration", "verdict": "Verdict"}
COLUMNS = (
    *(Column("Test"), Column("Calibration"), Column("Verdict"), Column("Estimate", number=True)),
    Column("95% interval", number=True, means=f"{OVER_SEEDS}; sorted by its lower end"),
    Column("Claimed", number=True, means="the value that the estimate should be below or above"),
    Column("Seeds", number=True, form="d", more=True),
    Column("Excluded", number=True, means="cells, or pairs of cells, that were left out", form="d", more=True),
    *(Column("See"), Column("Note", more=True)),
)
UNTESTED = (Column("Test"), Column("Calibration"), Column("Why it is not tested"))
# The figure that shows what a theme's tests are about; tests of radii have their own.
FIGURES = {"halos": "neighbourhood", "temperature_scaling": "calibration", "mixup": "calibration", "growth": "log_k"}


def claims_html(table: pd.DataFrame, experiment: str = "") -> str:
    """Return the verdicts as one HTML page.

    A row per claim shows scope ``all``; folded below it, each pair of data set and model has its own row. Verdicts are
    words, which colours only repeat. Claims that weren't tested come last, folded.

    Parameters
    ----------
    table : DataFrame
        As `halobench.results.claims.evaluate` returns it.
    experiment : str
        The experiment's name, for the links.
    """
    whole, rows = table[table["scope"] == "all"], table.to_dict("records")
    tested, untested = whole[whole["verdict"] != "not_tested"], whole[whole["verdict"] == "not_tested"]
    pairs = {str(claim): part for claim, part in table[table["scope"] != "all"].groupby("claim", sort=False)}
    decided: Iterable[Any] = tested.itertuples()
    left: Iterable[Any] = untested.itertuples()
    themed = tested.assign(theme=tested["statistic"].map(finding.theme_of))
    return render(
        "claims.html",
        title="Claims and verdicts",
        note="",
        experiment=experiment,
        finding=finding.finding(rows),
        checks=any(map(finding.is_check, rows)),
        themes=finding.theme_lines(rows),
        columns=COLUMNS,
        lines=[_line(row, pairs.get(row.claim, whole[:0])) for row in decided],
        selects=_choices(themed, ("theme", "fit", "verdict")),
        untested_columns=UNTESTED,
        untested=[Line({}, (_test(row), labels.calibrator_label(row.fit), row.note)) for row in left],
    )


def _line(row: Any, pairs: pd.DataFrame) -> Line:
    """Return the row of a test over all pairs of data set and model, with a row per pair below it."""
    theme = finding.theme_of(row.statistic)
    figure = "radii" if " of radii." in row.statistic else FIGURES.get(theme, theme)
    loss = re.search(r"\bloss (\w+)", row.statistic)
    see = (("figure", f"figures.html#{figure}"), ("cells", address("cells", **({"loss": loss[1]} if loss else {}))))
    folded = []
    each: Iterable[Any] = pairs.itertuples()
    for pair in each:
        dataset, _, model = pair.scope.partition("/")
        cells = address("cells", dataset=dataset, **({"model": model} if model else {}))
        folded.append((labels.cell_label(dataset, model), *_outcome(pair, (("cells", cells),))))
    keys = {"theme": theme, "fit": row.fit, "verdict": row.verdict}
    return Line(keys, (_test(row), *_outcome(row, see)), tuple(folded))


def _test(row: Any) -> Entry:
    """Return a test's label with its statement below."""
    return Entry(labels.test_label(row._asdict()), row.claim, below=labels.in_words(row.statement, place=True))


def _choices(table: pd.DataFrame, keys: Sequence[str]) -> list[Choice]:
    """Return menus of the values in columns, skipping columns with a single value."""
    words = labels.VERDICTS | labels.CALIBRATORS | {theme: name.label for theme, name in THEMES.items()}
    return [
        Choice(key, HEADINGS[key], tuple((value, words.get(value, value)) for value in values))
        for key in keys
        if len(values := table[key].unique()) > 1
    ]


def _outcome(row: Any, see: tuple[tuple[str, str], ...]) -> tuple[Any, ...]:
    """Return the entries of a row after its name; verdicts sort from claims that hold to untested ones."""
    interval = f"[{number(row.low)}, {number(row.high)}]" if np.isfinite(row.low) else "–"
    return (
        labels.calibrator_label(row.fit),
        Entry(labels.VERDICTS[row.verdict], str([*labels.VERDICTS].index(row.verdict)), f"verdict {row.verdict}"),
        row.estimate,
        Entry(interval, row.low if np.isfinite(row.low) else None),
        Entry(claimed(row._asdict()), row.margin),
        *(row.n, row.excluded, Entry("", links=see), Entry(row.note, row.note, "small")),
    )


def claimed(row: Mapping[Any, Any]) -> str:
    """Return what a row of the table claims about its estimate."""
    return f"{'<' if row['direction'] == 'below' else '>'} {number(row['margin'], 'g')}"
