"""Lay out values by data set, model and loss, as means over seeds with t intervals."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from halobench.core.formatting import within
from halobench.reporting import labels, styles
from halobench.reporting.print_tables.layout import Part, Value, grid
from halobench.reporting.seed_statistics import over_seeds

CELL = ["dataset", "model", "loss"]
KNOWN_NAMES = (labels.DATASETS, labels.MODELS, styles.KNOWN_LOSSES)  # the names of a cell, in order
SIGNS = " Means over seeds, ± half the width of their 95% t interval, which is wider where seeds share samples."


def by_cell(
    key: str, text: str, values: pd.DataFrame, columns: Mapping[str, Sequence[tuple[str, str]]]
) -> tuple[pd.DataFrame, list[Part]]:
    """Return means over seeds with t intervals, and a list with one part (or none), which has a block per data set."""
    numbers = over_seeds(values, [*CELL, "column"], "value")
    present = set(numbers["column"])
    heads = {name: (group, head) for group, pairs in columns.items() for name, head in pairs if name in present}
    shown: dict[Any, Value | None] = {}
    row: Any
    for row in numbers.itertuples(index=False):
        shown[(row.dataset, row.model, row.loss), row.column] = Value(row.mean, row.high - row.mean, row.n, row.n)
    cells = {cell for cell, _ in shown}
    orders = [labels.ordered(numbers[name], first) for name, first in zip(CELL, KNOWN_NAMES, strict=True)]
    rows = {
        (dataset, model, loss): (
            labels.dataset_label(dataset),
            f"{labels.model_label(model)}, {within(labels.loss_label(loss))}",
        )
        for dataset, model, loss in itertools.product(*orders)
        if (dataset, model, loss) in cells
    }
    return numbers, [Part(key, text + SIGNS, grid(shown, rows, heads))] if heads else []
