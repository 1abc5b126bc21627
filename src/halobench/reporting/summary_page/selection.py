"""Choose what the summary page shows of a grid that is too large for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from halobench.reporting import labels, table_views

MOST_CELLS, MOST_DATASETS, MOST_LOSSES = 12, 3, 4


@dataclass(frozen=True)
class Selection:
    """The cells, model, data sets and losses that the page shows.

    Attributes
    ----------
    losses : list of str
    cells : list of (data set, model)
        Of the runs on images, if there are any: distributions have a part of their own.
    shown : list of (data set, model)
        The `cells` in parts B and C, at most `MOST_CELLS`.
    model : str
        In parts A and D.
    of_model : list of str
        The data sets of `model`.
    datasets : list of str
        Those in part A, at most `MOST_DATASETS`.
    pair : (data set, model)
        In part D.
    """

    losses: list[str]
    cells: list[tuple[str, str]]
    shown: list[tuple[str, str]]
    model: str
    of_model: list[str]
    datasets: list[str]
    pair: tuple[str, str]


def select(runs: pd.DataFrame) -> Selection:
    """Choose what is shown of these runs."""
    images = runs[runs["distribution"] == ""]
    pictured = images if len(images) else runs
    cells = table_views.cells_in(pictured)
    # Weights from elsewhere say less of what training does.
    model = focus_model(table_views.cells_in(pictured[table_views.trained_here(pictured)]) or cells)
    shown = cells if len(cells) <= MOST_CELLS else [cell for cell in cells if cell[1] == model][:MOST_CELLS]
    pair = focus_cell(pictured, model)
    of_model = [dataset for dataset, other in cells if other == model]
    datasets = focus_datasets(of_model, pair[0])
    return Selection(table_views.losses_in(pictured), cells, shown, model, of_model, datasets, pair)


def focus_model(cells: Sequence[tuple[str, str]]) -> str:
    """Return the model with the most data sets, the first of those in the order of panels."""
    models = labels.ordered((model for _, model in cells), labels.MODELS)
    return max(models, key=lambda model: sum(model == other for _, other in cells))


def focus_cell(runs: pd.DataFrame, model: str) -> tuple[str, str]:
    """Return the data set with the most label noise, then the most losses, that `model` was trained on; and `model`."""
    rows = runs[runs["model"] == model]
    order = labels.ordered(rows["dataset"], labels.DATASETS)
    by = rows.groupby("dataset")
    noise, losses = by["noise"].max(), by["loss"].nunique()
    return max(order, key=lambda dataset: (noise[dataset], losses[dataset])), model


def focus_datasets(datasets: Sequence[str], always: str) -> list[str]:
    """Return the first data sets, as many as the page has room for, `always` among them."""
    chosen = list(datasets[:MOST_DATASETS])
    return chosen if always in chosen else [*chosen[:-1], always]


def part_of(shown: int, total: int, what: str) -> str:
    """Return how many are shown if not all are, e.g. ``; 4 of 9 losses``."""
    return f"; {shown} of {total} {what}" if shown < total else ""
