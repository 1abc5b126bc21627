"""Lay out values by data set, model and loss, as means over seeds with the half-width of their t interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from halobench.core.formatting import within
from halobench.reporting import labels, styles
from halobench.reporting.print_tables.layout import Part, Row, Table, Value
from halobench.reporting.seed_statistics import over_seeds

CELL = ["dataset", "model", "loss"]
SIGNS = " Means over seeds, ± half the width of their 95% t interval."


def part(
    key: str, caption: str, values: pd.DataFrame, columns: Mapping[str, Sequence[tuple[str, str]]]
) -> tuple[pd.DataFrame, tuple[Part, ...]]:
    """Return the numbers and a part that has a block per data set and a line per model and loss, skipping empty ones.

    Parameters
    ----------
    values : DataFrame
        dataset, model, loss, seed, `column` and `value`, with a row per value.
    columns : mapping of heading to (column, its heading) pairs
        Groups of columns. Columns without a value are left out.
    """
    numbers = over_seeds(values, [*CELL, "column"], "value")
    there = set(numbers["column"])
    shown = {group: [pair for pair in pairs if pair[0] in there] for group, pairs in columns.items()}
    groups = tuple((group, tuple(head for _, head in pairs)) for group, pairs in shown.items() if pairs)
    order = [column for pairs in shown.values() for column, _ in pairs]
    blocks = []
    for dataset in labels.ordered(numbers["dataset"], labels.DATASETS):
        rows = numbers[numbers["dataset"] == dataset]
        lines = [
            _line(rows[(rows["model"] == model) & (rows["loss"] == loss)], order)
            for model in labels.ordered(rows["model"], labels.MODELS)
            for loss in labels.ordered(rows.loc[rows["model"] == model, "loss"], styles.KNOWN_LOSSES)
        ]
        blocks.append((labels.dataset_label(dataset), tuple(lines)))
    return numbers, (Part(key, caption + SIGNS, groups, tuple(blocks)),) if blocks else ()


def table(title: str, *parts: tuple[pd.DataFrame, tuple[Part, ...]]) -> Table:
    """Return the table made of these parts, with all their numbers."""
    numbers = pd.concat([numbers for numbers, _ in parts], ignore_index=True)
    return Table(title, numbers, tuple(each for _, shown in parts for each in shown))


def _line(rows: pd.DataFrame, order: Sequence[str]) -> Row:
    """Return the line of one data set, model and loss."""
    names = tuple((kind, str(rows[kind].iloc[0])) for kind in CELL)
    by = rows.set_index("column")
    values = [
        Value(float(by["mean"][c]), float(by["high"][c] - by["mean"][c]), int(by["n"][c]), int(by["n"][c]))
        if c in by.index
        else Value(math.nan, n=0, seeds=0)
        for c in order
    ]
    _, (_, model), (_, loss) = names
    return Row(f"{labels.model_label(model)}, {within(labels.loss_label(loss))}", tuple(values), keys=names)
