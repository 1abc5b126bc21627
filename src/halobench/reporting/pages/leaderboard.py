"""Write the leaderboard, which ranks methods on each data set by KL, or by NLL if no posterior is known.

A method is a loss with a calibrator. Ranks are intervals: a method's best rank is 1 plus the number of clearly better
methods, and its worst rank is the number of methods, itself included, that aren't clearly worse. A method is clearly
better than another if its score is lower and the 95% t interval of their difference, paired over seeds, excludes 0. As
in claims, intervals are widened if seeds share samples. Ranks aren't corrected for multiple comparisons.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from halobench.analysis.names import OVER_SEEDS
from halobench.analysis.t_intervals import t_intervals
from halobench.core.formatting import interval
from halobench.reporting import labels
from halobench.reporting.leaders import Compared, compared, leader
from halobench.reporting.rendering import Column, Entry, Line, choices, render, site_address

OTHERS = ("nll", "ece", "error")  # metrics shown in addition to the ranking metric


def ranks(values: np.ndarray, correction: float = 0.0) -> np.ndarray:
    """Return each method's best and worst rank (methods, 2) by paired differences of `values` (methods, seeds).

    Lower values are better. `correction` widens intervals over seeds that share samples, as in `t_interval`.

    Examples
    --------
    >>> ranks(np.array([[1.0, 1.1, 1.2], [1.1, 1.0, 1.2], [3.0, 3.1, 3.2]])).tolist()
    [[1, 2], [1, 2], [3, 3]]
    """
    better = np.zeros((len(values), len(values)), dtype=bool)
    for i, method in enumerate(values):
        with np.errstate(invalid="ignore"):
            differences = method - values  # inf - inf is NaN, i.e. unknown
        for j, row in enumerate(differences):
            paired = row[~np.isnan(row)]
            if len(paired):
                mean, _, high = t_intervals(paired[None], correction)[0]
                better[i, j] = high < 0 or (len(paired) > 1 and mean == -np.inf)
    return np.stack([1 + better.sum(axis=0), len(values) - better.sum(axis=1)], axis=1)


def boards(metrics: pd.DataFrame, runs: pd.DataFrame, experiment: str = "") -> list[dict[str, Any]]:
    """Return a table per data set with its name, models, metric, columns and lines."""
    groups = compared(metrics, runs)
    return [_board(experiment, name, groups[name]) for name in labels.ordered(groups, labels.DATASETS)]


def _board(experiment: str, dataset: str, methods: Compared) -> dict[str, Any]:
    """Return the table of one data set."""
    metric, means, ranked, correction = methods.metric, methods.means, methods.ranked, methods.correction
    others = [name for name in OTHERS if name != metric]
    values = ranked.to_numpy(dtype=float)
    lines = []
    places = ranks(values, correction).tolist()
    for (loss, calibrator), (first, last), seeds in zip(ranked.index, places, values, strict=True):
        scored, of_method = ~np.isnan(seeds), means.loc[loss, calibrator].reindex(others)
        mean, low, high = t_intervals(seeds[scored][None], correction)[0].tolist()
        cells = site_address("explorer", experiment, dataset=dataset, loss=loss)
        entries = (
            Entry(f"{first}" if first == last else f"{first}–{last}", first, "best" if first == 1 else ""),
            *(labels.loss_label(loss), labels.calibrator_label(calibrator), mean),
            Entry(interval(max(low, 0), high) if np.isfinite(low) else "–", low),
            *of_method.to_numpy(dtype=float)[:, scored].mean(axis=1).tolist(),
            *(int(scored.sum()), Entry("", links=(("cells", cells),))),
        )
        lines.append(Line({"dataset": dataset, "loss": loss, "calibrator": calibrator}, entries))
    columns = (
        Column("Rank", number=True, means="best to worst rank that the differences allow"),
        *(Column("Loss"), Column("Calibration"), Column(labels.metric_axis(metric), number=True)),
        Column("95% interval", number=True, means=OVER_SEEDS),
        *(Column(labels.metric_label(name), number=True) for name in others),
        *(Column("Seeds", number=True, form="d"), Column("See")),
    )
    return {
        **{"dataset": dataset, "label": labels.dataset_label(dataset), "leader": leader(methods)},
        "columns": columns,
        "models": [labels.model_label(name) for name in labels.ordered(methods.models, labels.MODELS)],
        "lines": sorted(lines, key=lambda line: (line.entries[3], line.entries[0].key)),
    }


def leaderboard_page(
    experiment: str,
    metrics: pd.DataFrame,
    runs: pd.DataFrame,
    note: str = "",
    formats: Iterable[str] = ("csv", "parquet"),
) -> str:
    """Return the page of the leaderboards, with links to the table of metrics in each of `formats`."""
    tables = boards(metrics, runs, experiment)
    selects = choices(line.keys for table in tables for line in table["lines"])
    title = f"Leaderboard of {experiment}"
    shown = {"selects": selects, "boards": tables, "files": [f"metrics.{suffix}" for suffix in formats]}
    return render("leaderboard.html", title=title, note=note, experiment=experiment, **shown)
