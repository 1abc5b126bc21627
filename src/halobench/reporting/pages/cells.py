"""The page of all cells: what each was trained with, and its test metrics and radii, in one table."""

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
    """The columns of the table."""
    found = [
        *(Column("Data set"), Column("Model"), Column("Loss"), Column("Seed", number=True)),
        Column("Train accuracy", number=True, means="on the labels trained on, noise included"),
        Column("Interpolates", means="at least 99% of the labels trained on are predicted"),
        Column("Test accuracy", number=True, means="expected, where the labels' distribution is known"),
    ]
    for label in SCORES.values():
        found += [Column(f"{label}, {labels.calibrator_label(c)}", number=True) for c in CALIBRATORS]
    found += [Column(f"T, {name}", number=True) for name in ("released", "exact", "oracle")]
    found += [Column(f"Radius, {labels.calibrator_label(c)}", number=True) for c in ("none", "exact")]
    return [*found, Column("Steps", number=True), Column("Seconds", number=True, means="of training and probe")]


def lines(tables: Mapping[str, pd.DataFrame]) -> list[Line]:
    """A line a cell, in the order of the figures.

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
    places = {kind: {name: i for i, name in enumerate(found)} for kind, found in order.items()}

    def place(run: dict[str, Any]) -> tuple:
        return (*(places[kind][run[kind]] for kind in places), run["seed"])

    found: Any = runs.to_dict("records")
    return [_line(run, scores, radii) for run in sorted(found, key=place)]


def _scores(metrics: pd.DataFrame) -> dict[tuple, float]:
    """Test metrics by cell, calibrator and metric, against the labels that figures judge by."""
    wanted = [*SCORES, "error"]
    rows = metrics[(metrics["loss"] != "reference") & metrics["metric"].isin(wanted)]
    rows = table_views.preferred_labels(rows)
    return dict(
        zip(rows[[*CELL, "calibrator", "metric"]].itertuples(index=False, name=None), rows["value"], strict=True)
    )


def _radii(radii: pd.DataFrame) -> dict[tuple, tuple[float, bool]]:
    """Median certainty radii towards the nearest point of another label, and whether they are censored."""
    rows, _ = table_views.with_evaluation_as_train(radii)
    rows = rows[(rows["points"] == "train") & (rows["probe"] == PROBE) & (rows["quantity"] == QUANTITY)]
    keys = rows[[*CELL, "calibrator"]].itertuples(index=False, name=None)
    return dict(zip(keys, zip(rows["relative_median"], rows["censored"] > 0.5, strict=True), strict=True))


def _line(run: dict[str, Any], scores: Mapping[tuple, float], radii: Mapping[tuple, tuple[float, bool]]) -> Line:
    """The row of one cell."""
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
    """A radius; of a censored one what it is at least."""
    entry = elements.number(value)
    return Entry(f"≥ {entry.shown}", entry.value) if censored and not math.isnan(value) else entry


def page(experiment: str, tables: Mapping[str, pd.DataFrame], note: str = "") -> str:
    """The page of an experiment's cells; `note` leads it, e.g. that cells are missing."""
    found = lines(tables)
    selects = elements.choices(line.keys for line in found)
    if len({line.keys["interpolates"] for line in found}) > 1:
        selects.append(Choice("interpolates", "Interpolates", (("yes", "yes"), ("no", "no"))))
    told = "\n".join(f"<p>{html.escape(text)}</p>" for text in _told())
    made = elements.table(f"Cells of {experiment}. Press a heading to sort by it.", columns(), found, wide=True)
    body = f'{elements.note(note)}\n{told}\n{elements.filters(selects, "cells", "cells")}\n<div id="cells">{made}</div>'
    return elements.document(f"Every cell of {experiment}", body)


def _told() -> Iterator[str]:
    """How to read the table."""
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


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """The cells by data set, model and loss: seeds, and how many interpolate of those that were trained here."""
    rows = runs.assign(here=table_views.trained_here(runs))
    found = []
    for (dataset, model, loss), own in rows.groupby(["dataset", "model", "loss"], sort=False):
        here = own[own["here"]]
        found.append(
            {"dataset": dataset, "model": model, "loss": loss, "cells": len(own), "trained": len(here)}
            | {"seeds": sorted(own["seed"].tolist()), "interpolate": int(here["interpolates"].sum())}
            | {"accuracy": float(own["train_accuracy"].mean())}
        )
    return found


def named(keys: Mapping[str, str]) -> list[Entry]:
    """Names of a data set, model and loss in words."""
    return [elements.words(told(keys[kind])) for kind, (_, told, _) in elements.KINDS.items()]


def listed(values: Iterable[str], kind: str) -> str:
    """Names in words and in order, separated by commas."""
    label, known = elements.KINDS[kind][1:]
    return ", ".join(map(label, labels.ordered(values, known)))
