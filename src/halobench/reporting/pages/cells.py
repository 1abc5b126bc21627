"""Write the page of all cells: how each was trained, and its test metrics and radii, in one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from halobench.reporting import labels, table_views
from halobench.reporting.rendering import KINDS, Choice, Column, Entry, Line, choices, named, number, render
from halobench.storage.columns import KEYS

SCORES = {name: labels.metric_label(name) for name in ("nll", "ece")}
CALIBRATORS = ("none", "released", "exact")
PROBE, QUANTITY = "nearest_other", "certainty"
NONE: float = math.nan


def columns() -> list[Column]:
    """Return the columns of the table."""
    return [
        *(Column("Data set"), Column("Model"), Column("Loss"), Column("Seed", number=True, form="d")),
        Column("Train accuracy", number=True, means="on the labels trained on, noise included"),
        Column("Interpolates", means="at least 99% of the labels trained on are predicted"),
        Column("Test accuracy", number=True, means="expected, where the labels' distribution is known"),
        *(Column(f"{s}, {labels.calibrator_label(c)}", number=True) for s in SCORES.values() for c in CALIBRATORS),
        *(Column(f"T, {labels.calibrator_label(c)}", number=True) for c in ("released", "exact", "oracle")),
        *(Column(f"Radius, {labels.calibrator_label(c)}", number=True) for c in ("none", "exact")),
        Column("Steps", number=True, form="d"),
        Column("Seconds", number=True, means="of training and probe", form=".1f"),
    ]


def lines(tables: Mapping[str, pd.DataFrame]) -> list[Line]:
    """Return a line per cell, in the order of the figures.

    Parameters
    ----------
    tables : mapping
        ``runs``, ``metrics`` and ``radii``, as aggregated.
    """
    scores, radii = _scores(tables["metrics"]), _radii(tables["radii"])
    runs = tables["runs"]
    ranks = {
        kind: {name: i for i, name in enumerate(labels.ordered(runs[kind], order))}
        for kind, (_, _, order) in KINDS.items()
    }

    def place(run: dict[str, Any]) -> tuple:
        return (*(rank[run[kind]] for kind, rank in ranks.items()), run["seed"])

    records: Any = runs.to_dict("records")
    return [_line(run, scores, radii) for run in sorted(records, key=place)]


def _scores(metrics: pd.DataFrame) -> dict[tuple, float]:
    """Return test metrics by cell, calibrator and metric, against the labels that figures use."""
    rows = metrics[(metrics["loss"] != "reference") & metrics["metric"].isin([*SCORES, "error"])]
    rows = table_views.preferred_labels(rows)
    scores: Any = rows.set_index([*KEYS, "calibrator", "metric"])["value"].to_dict()
    return scores


def _radii(radii: pd.DataFrame) -> dict[tuple, tuple[float, bool]]:
    """Return median certainty radii towards the nearest sample of another label, and whether they are censored."""
    rows, _ = table_views.with_evaluation_as_train(radii)
    rows = rows[(rows["points"] == "train") & (rows["probe"] == PROBE) & (rows["quantity"] == QUANTITY)]
    keys = rows[[*KEYS, "calibrator"]].itertuples(index=False, name=None)
    return dict(zip(keys, zip(rows["relative_median"], rows["censored"] > 0.5, strict=True), strict=True))


def _line(run: dict[str, Any], scores: Mapping[tuple, float], radii: Mapping[tuple, tuple[float, bool]]) -> Line:
    """Return the row of one cell."""
    cell = tuple(run[key] for key in KEYS)
    fits = "yes" if run["interpolates"] else "no"
    keys = {"dataset": cell[0], "model": cell[1], "loss": cell[2], "interpolates": fits}
    entries = [*named(keys), cell[3], run["train_accuracy"], fits]
    entries.append(1 - scores.get((*cell, "none", "error"), NONE))
    entries += [scores.get((*cell, calibrator, metric), NONE) for metric in SCORES for calibrator in CALIBRATORS]
    entries += [run[f"temperature_{name}"] for name in ("released", "exact", "oracle")]
    entries += [_radius(*radii.get((*cell, calibrator), (NONE, False))) for calibrator in ("none", "exact")]
    seconds = [run["seconds"], run.get("probe_seconds", NONE)]
    return Line(keys, (*entries, run["steps"], sum(value for value in seconds if not math.isnan(value))))


def _radius(value: float, censored: bool) -> Any:
    """Return a radius, with ≥ if it is censored."""
    return Entry(f"≥ {number(value)}", value) if censored and not math.isnan(value) else value


def cells_page(experiment: str, tables: Mapping[str, pd.DataFrame], note: str = "") -> str:
    """Return the page of an experiment's cells; `note` leads it, e.g. that cells are missing."""
    rows = lines(tables)
    selects = choices(line.keys for line in rows)
    if len({line.keys["interpolates"] for line in rows}) > 1:
        selects.append(Choice("interpolates", "Interpolates", (("yes", "yes"), ("no", "no"))))
    shown = {"experiment": experiment, "columns": columns(), "lines": rows, "selects": selects}
    return render("cells.html", title=f"Every cell of {experiment}", note=note, **shown)
