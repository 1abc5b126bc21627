"""Choose what the summary page shows when a grid is too large for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from halobench.reporting import labels, table_views

MOST_DATASETS, MOST_LOSSES, MOST_MODELS = 3, 4, 4


@dataclass(frozen=True)
class Selection:
    """What the page shows: one `model`, on `datasets` (some of those `of_model`) and, in diagrams, on one `dataset`.

    If there are runs on images, only those count, since distributions have their own part.
    """

    losses: list[str]
    model: str
    of_model: list[str]
    datasets: list[str]
    dataset: str


def select(runs: pd.DataFrame) -> Selection:
    """Choose what to show of these runs."""
    images = runs[runs["distribution"] == ""]
    pictured = images if len(images) else runs
    cells = table_views.cells_in(pictured)
    # Weights from elsewhere say less about the effects of training.
    model = focus_model(table_views.cells_in(pictured[table_views.trained_here(pictured)]) or cells)
    of_model = [dataset for dataset, other in cells if other == model]
    by = pictured[pictured["model"] == model].groupby("dataset")
    noise, losses = by["noise"].max(), by["loss"].nunique()
    dataset = max(of_model, key=lambda name: (noise[name], losses[name]))  # the most label noise, then the most losses
    datasets = of_model[:MOST_DATASETS]
    datasets = datasets if dataset in datasets else [*datasets[:-1], dataset]
    return Selection(table_views.losses_in(pictured), model, of_model, datasets, dataset)


def focus_model(cells: Sequence[tuple[str, str]]) -> str:
    """Return the model with the most data sets; on a tie, the first in the order of panels."""
    models = labels.ordered((model for _, model in cells), labels.MODELS)
    return max(models, key=lambda model: sum(model == other for _, other in cells))


def part_of(shown: int, total: int, what: str) -> str:
    """Say how many are shown, unless all are, e.g. ``; 4 of 9 losses``."""
    return f"; {shown} of {total} {what}" if shown < total else ""
