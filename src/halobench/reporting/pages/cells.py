"""Write the page of all cells: how each was trained, and its test metrics and radii, in one table."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from halobench.reporting import labels, styles, table_views
from halobench.reporting.pages import elements
from halobench.reporting.pages.elements import Choice, Column, Entry, Line

CELL = ["dataset", "model", "loss", "seed"]
SCORES = {"nll": "NLL", "ece": "ECE"}
CALIBRATORS = ("none", "released", "exact")
PROBE, QUANTITY = "nearest_other", "certainty"
NONE: float = math.nan


def columns() -> list[Column]:
    """Return the columns of the table."""
    columns = [
        *(Column("Data set"), Column("Model"), Column("Loss"), Column("Seed", number=True)),
        Column("Train accuracy", number=True, means="on the labels trained on, noise included"),
        Column("Interpolates", means="at least 99% of the labels trained on are predicted"),
        Column("Test accuracy", number=True, means="expected, where the labels' distribution is known"),
    ]
    for label in SCORES.values():
        columns += [Column(f"{label}, {labels.calibrator_label(c)}", number=True) for c in CALIBRATORS]
    columns += [Column(f"T, {name}", number=True) for name in ("released", "exact", "oracle")]
    columns += [Column(f"Radius, {labels.calibrator_label(c)}", number=True) for c in ("none", "exact")]
    return [*columns, Column("Steps", number=True), Column("Seconds", number=True, means="of training and probe")]


def lines(tables: Mapping[str, pd.DataFrame]) -> list[Line]:
    """Return a line per cell, in the order of the figures.

    Parameters
    ----------
    tables : mapping
        ``runs``, ``metrics`` and ``radii``, as aggregated.
    """
    scores, radii = _scores(tables["metrics"]), _radii(tables["radii"])
    runs = tables["runs"]
    order = {
        "dataset": labels.ordered(runs["dataset"], labels.DATASETS),
        "model": labels.ordered(runs["model"], labels.MODELS),
        "loss": labels.ordered(runs["loss"], styles.KNOWN_LOSSES),
    }
    places = {kind: {name: i for i, name in enumerate(names)} for kind, names in order.items()}

    def place(run: dict[str, Any]) -> tuple:
        return (*(places[kind][run[kind]] for kind in places), run["seed"])

    records: Any = runs.to_dict("records")
    return [_line(run, scores, radii) for run in sorted(records, key=place)]


def _scores(metrics: pd.DataFrame) -> dict[tuple, float]:
    """Return test metrics by cell, calibrator and metric, against the labels that figures use."""
    wanted = [*SCORES, "error"]
    rows = metrics[(metrics["loss"] != "reference") & metrics["metric"].isin(wanted)]
    rows = table_views.preferred_labels(rows)
    return dict(
        zip(rows[[*CELL, "calibrator", "metric"]].itertuples(index=False, name=None), rows["value"], strict=True)
    )


def _radii(radii: pd.DataFrame) -> dict[tuple, tuple[float, bool]]:
    """Return median certainty radii towards the nearest sample of another label, and whether they are censored."""
    rows, _ = table_views.with_evaluation_as_train(radii)
    rows = rows[(rows["points"] == "train") & (rows["probe"] == PROBE) & (rows["quantity"] == QUANTITY)]
    keys = rows[[*CELL, "calibrator"]].itertuples(index=False, name=None)
    return dict(zip(keys, zip(rows["relative_median"], rows["censored"] > 0.5, strict=True), strict=True))


def _line(run: dict[str, Any], scores: Mapping[tuple, float], radii: Mapping[tuple, tuple[float, bool]]) -> Line:
    """Return the row of one cell."""
    cell = tuple(run[key] for key in CELL)
    fits = "yes" if run["interpolates"] else "no"
    keys = {"dataset": cell[0], "model": cell[1], "loss": cell[2], "interpolates": fits}
    entries = [*named(keys), elements.number(int(cell[3]), "d")]
    entries += [elements.number(run["train_accuracy"]), elements.words(fits)]
    entries.append(elements.number(1 - scores.get((*cell, "none", "error"), NONE)))
    entries += [elements.number(scores.get((*cell, c, metric), NONE)) for metric in SCORES for c in CALIBRATORS]
    entries += [elements.number(run.get(f"temperature_{name}", NONE)) for name in ("released", "exact", "oracle")]
    entries += [_radius(*radii.get((*cell, c), (NONE, False))) for c in ("none", "exact")]
    seconds = [run.get(name, NONE) for name in ("seconds", "probe_seconds")]
    took = sum(value for value in seconds if not math.isnan(value))
    return Line(keys, (*entries, elements.number(int(run["steps"]), "d"), elements.number(took, ".1f")))


def _radius(value: float, censored: bool) -> Entry:
    """Return a radius, with ≥ if it is censored."""
    entry = elements.number(value)
    return Entry(f"≥ {entry.shown}", entry.value) if censored and not math.isnan(value) else entry


def cells_page(experiment: str, tables: Mapping[str, pd.DataFrame], note: str = "") -> str:
    """Return the page of an experiment's cells; `note` leads it, e.g. that cells are missing."""
    rows = lines(tables)
    selects = elements.choices(line.keys for line in rows)
    if len({line.keys["interpolates"] for line in rows}) > 1:
        selects.append(Choice("interpolates", "Interpolates", (("yes", "yes"), ("no", "no"))))
    paragraphs = "\n".join(f"<p>{html.escape(text)}</p>" for text in _explanation())
    table = elements.table(f"Cells of {experiment}. Press a heading to sort by it.", columns(), rows, wide=True)
    filters = elements.filters(selects, "cells", "cells")
    body = f'{elements.note(note)}\n{paragraphs}\n{filters}\n<div id="cells">{table}</div>'
    return elements.document(f"Every cell of {experiment}", body)


def _explanation() -> Iterator[str]:
    """Yield paragraphs on how to read the table."""
    yield (
        "A row is one trained model. Scores are on test data: in expectation under the known distribution of "
        "the labels trained on, or else against the test labels. NLL is in nats; T is the temperature that each fit "
        "found, and a dash says that there is no finite optimum, or that nothing was computed."
    )
    yield (
        "Radius: how far out from a training point confidence in its label stays at 0.9, as a median over points, "
        "on the way to the nearest training point of another label, which is at 1. With ≥, more than half of the walks "
        "ended before it fell."
    )


def count_cells(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Count cells by data set, model and loss, and those trained here that interpolate."""
    rows = runs.assign(here=table_views.trained_here(runs))
    counts = []
    for (dataset, model, loss), cells in rows.groupby(["dataset", "model", "loss"], sort=False):
        here = cells[cells["here"]]
        counts.append(
            {"dataset": dataset, "model": model, "loss": loss, "cells": len(cells), "trained": len(here)}
            | {"seeds": sorted(cells["seed"].tolist()), "interpolate": int(here["interpolates"].sum())}
            | {"accuracy": float(cells["train_accuracy"].mean())}
        )
    return counts


def named(keys: Mapping[str, str]) -> list[Entry]:
    """Return the names of a data set, model and loss in words."""
    return [elements.words(label(keys[kind])) for kind, (_, label, _) in elements.KINDS.items()]


def listed(values: Iterable[str], kind: str) -> str:
    """Return names in words and in order, separated by commas."""
    label, order = elements.KINDS[kind][1:]
    return ", ".join(map(label, labels.ordered(values, order)))
