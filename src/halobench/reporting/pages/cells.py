"""Write the page of all cells: test metrics and radii as means over seeds, with each seed below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from halobench.reporting import labels, table_views
from halobench.reporting.rendering import KINDS, Choice, Column, Entry, Line, address, choices, named, number, render
from halobench.storage.columns import KEYS, REFERENCE

CALIBRATORS = ("none", "released", "exact")
PROBE, QUANTITY = "nearest_other", "certainty"
NONE: float = math.nan
SHORT = {"none": "uncal.", "released": "TS (paper)", "exact": "TS (opt.)", "oracle": "TS (oracle)"}


def _column(what: str, calibrator: str, more: bool = False) -> Column:
    """Return the column of one quantity for a calibrator, with a short heading and its full meaning."""
    return Column(f"{what} {SHORT[calibrator]}", True, f"{what}, {labels.calibrator_label(calibrator)}", more=more)


def columns() -> list[Column]:
    """Return the columns of the table."""
    return [
        *(Column("Data set"), Column("Model"), Column("Loss"), Column("Seeds", number=True, form="d", more=True)),
        Column("Accuracy", True, "on test data, in expectation if the distribution of labels is known"),
        *(_column("NLL", c) for c in CALIBRATORS),
        *(_column("ECE", c, more=c == "released") for c in CALIBRATORS),
        *(_column("T", c, more=c != "exact") for c in ("released", "exact", "oracle")),
        *(_column("Radius", c, more=c != "none") for c in ("none", "exact")),
        Column("Train accuracy", True, "on the labels trained on, noise included", more=True),
        Column("Interpolates", means="at least 99% of the labels trained on are predicted", more=True),
        Column("Steps", True, form="d", more=True),
        Column("Seconds", True, "of training and probe", ".1f", more=True),
    ]


def lines(tables: Mapping[str, pd.DataFrame], experiment: str) -> list[Line]:
    """Return a line per data set, model and loss in the order of the figures, with the seeds' lines folded.

    Parameters
    ----------
    tables : mapping
        The aggregated ``runs``, ``metrics`` and ``radii``.
    experiment : str
        The experiment whose explorer has the cells' cards.
    """
    scores, radii = _scores(tables["metrics"]), _radii(tables["radii"])
    runs = tables["runs"].sort_values("seed")
    ranks = {
        kind: {name: i for i, name in enumerate(labels.ordered(runs[kind], order))}
        for kind, (_, _, order) in KINDS.items()
    }
    groups: Iterable[tuple[Any, pd.DataFrame]] = runs.groupby([*KINDS], sort=False)
    placed = sorted(groups, key=lambda group: [ranks[kind][name] for kind, name in zip(KINDS, group[0], strict=True)])
    return [
        _line(
            dict(zip(KINDS, kinds, strict=True)),
            [_values(run, scores, radii) for run in cells.to_dict("records")],
            experiment,
        )
        for kinds, cells in placed
    ]


def _line(keys: dict[str, str], seeds: Sequence[list[Any]], experiment: str) -> Line:
    """Return the row of a loss's means over seeds, with the rows of the seeds below."""
    fits = {values[-3] for values in seeds}
    keys["interpolates"] = fits.pop() if len(fits) == 1 else "some"
    forms = [column.form.replace("d", ".0f") for column in columns()[3:]]
    middle = [_mean([values[i] for values in seeds], forms[i]) for i in range(1, len(seeds[0]))]
    middle[-3] = keys["interpolates"]
    below = []
    for values in seeds:
        name = "/".join((*(keys[kind] for kind in KINDS), f"seed{values[0]}"))
        card = ((f"seed {values[0]}", address("../../explorer", experiment=experiment, cell=name)),)
        first, model, loss = named(keys)
        below.append((Entry(first, keys["dataset"]), model, Entry(loss, keys["loss"], links=card), *values))
    return Line(keys, (*named(keys), len(seeds), *middle), tuple(below))


def _mean(values: Sequence[Any], form: str) -> Any:
    """Return the mean and standard deviation of numbers as an entry, with ≥ if any number is censored."""
    keys: list[Any] = [value.key if isinstance(value, Entry) else value for value in values]
    if any(isinstance(key, str) for key in keys):
        return ""
    numbers = np.array([key for key in keys if not math.isnan(key)], dtype=float)
    if not len(numbers):
        return NONE
    mean = float(numbers.mean())
    text = ("≥ " if any(isinstance(value, Entry) for value in values) else "") + number(mean, form)
    spread = len(numbers) > 1 and math.isfinite(mean)
    return Entry(text, mean, spread=f"± {number(float(numbers.std(ddof=1)), form)}" if spread else "")


def _scores(metrics: pd.DataFrame) -> dict[tuple, float]:
    """Return test metrics by cell, calibrator and metric, scored against the labels used in figures."""
    rows = metrics[(metrics["loss"] != REFERENCE) & metrics["metric"].isin(["nll", "ece", "error"])]
    rows = table_views.preferred_labels(rows)
    scores: Any = rows.set_index([*KEYS, "calibrator", "metric"])["value"].to_dict()
    return scores


def _radii(radii: pd.DataFrame) -> dict[tuple, tuple[float, bool]]:
    """Return median certainty radii towards the nearest sample of another label, and whether they are censored."""
    rows, _ = table_views.with_evaluation_as_train(radii)
    rows = rows[(rows["points"] == "train") & (rows["probe"] == PROBE) & (rows["quantity"] == QUANTITY)]
    keys = rows[[*KEYS, "calibrator"]].itertuples(index=False, name=None)
    return dict(zip(keys, zip(rows["relative_median"], rows["censored"] > 0.5, strict=True), strict=True))


def _values(run: dict[Any, Any], scores: Mapping[tuple, float], radii: Mapping[tuple, tuple[float, bool]]) -> list[Any]:
    """Return a cell's seed and its values, one per column from the fourth on."""
    cell = tuple(run[key] for key in KEYS)
    seconds = [run["seconds"], run.get("probe_seconds", NONE)]
    return [
        *(cell[3], 1 - scores.get((*cell, "none", "error"), NONE)),
        *(scores.get((*cell, calibrator, metric), NONE) for metric in ("nll", "ece") for calibrator in CALIBRATORS),
        *(run[f"temperature_{name}"] for name in ("released", "exact", "oracle")),
        *(_radius(*radii.get((*cell, calibrator), (NONE, False))) for calibrator in ("none", "exact")),
        *(run["train_accuracy"], "yes" if run["interpolates"] else "no", run["steps"]),
        sum(value for value in seconds if not math.isnan(value)),
    ]


def _radius(value: float, censored: bool) -> Any:
    """Return a radius, marked ≥ if it is censored."""
    return Entry(f"≥ {number(value)}", value) if censored and not math.isnan(value) else value


def cells_page(experiment: str, tables: Mapping[str, pd.DataFrame], note: str = "") -> str:
    """Return the page of an experiment's cells, which starts with `note`, e.g. that cells are missing."""
    rows = lines(tables, experiment)
    selects = choices(line.keys for line in rows)
    fits = labels.ordered((line.keys["interpolates"] for line in rows), ("yes", "some", "no"))
    if len(fits) > 1:
        selects.append(Choice("interpolates", "Interpolates", tuple((fit, fit) for fit in fits)))
    shown = {
        "experiment": experiment,
        "columns": columns(),
        "lines": rows,
        "selects": selects,
        "short": SHORT,
        "names": labels.CALIBRATORS,
    }
    return render("cells.html", title=f"Cells of {experiment}", note=note, **shown)
