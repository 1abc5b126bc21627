"""The rows of tables that figures show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from halobench.reporting.labels import DATASETS, MODELS, PROBES, around, ordered
from halobench.reporting.styles import KNOWN_LOSSES


def own_points(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """A probe's rows with those around evaluation points as ``train``, and what all these are around, in words.

    Evaluation points stand in for training points where a model's weights come from elsewhere.
    """
    kinds = set(table["points"].unique()) - {"heldout"}
    kind = "both" if len(kinds) > 1 else kinds.pop() if kinds else "train"
    return table.assign(points=table["points"].replace("evaluation", "train")), around(kind)


def trained_here(runs: pd.DataFrame) -> pd.Series:
    """Of each row of `runs` whether its model was trained here: given weights take no step, and may fit other data.

    Tables of older versions lack a column or both, and hold no given weights.
    """
    found = pd.Series(True, index=runs.index)
    for column, untrained in (("steps", 0), ("fitted_here", False)):
        if column in runs:
            found &= runs[column].ne(untrained)
    return found


def losses_in(table: pd.DataFrame) -> list[str]:
    """The losses of a table, reference rows aside, in the order of the legends."""
    return ordered(set(table["loss"].unique()) - {"reference"}, KNOWN_LOSSES)


def cells_in(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The (data set, model) pairs of a table, reference rows aside, in the order of the panels."""
    rows = table.loc[table["loss"] != "reference", ["dataset", "model"]].drop_duplicates()
    pairs = set(rows.itertuples(index=False, name=None))
    datasets, models = ordered((d for d, _ in pairs), DATASETS), ordered((m for _, m in pairs), MODELS)
    return [(d, m) for d in datasets for m in models if (d, m) in pairs]


def groups_of(table: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[Any, ...], pd.DataFrame]:
    """The rows of each combination of some columns, in their order."""
    return {key: rows for key, rows in table.groupby(list(keys), sort=False)}


def relative_rows(neighbourhood: pd.DataFrame) -> pd.DataFrame:
    """The rows of the relative grid, with those at the point itself (distance 0 on either scale) as its start."""
    at_point = neighbourhood["radius"] == 0
    relative = neighbourhood["relative_radius"].mask(at_point & neighbourhood["relative_radius"].isna(), 0.0)
    return neighbourhood.assign(relative_radius=relative).dropna(subset=["relative_radius", "confidence"])


def absolute_rows(neighbourhood: pd.DataFrame) -> pd.DataFrame:
    """The rows at distances in normalised pixels of one probe: in random directions, or the first there is."""
    table = neighbourhood.dropna(subset=["radius", "confidence"])
    return table[table["probe"] == ordered(table["probe"], PROBES)[0]] if len(table) else table


def preferred_labels(table: pd.DataFrame, order: Sequence[str] = ("noisy", "drawn", "clean")) -> pd.DataFrame:
    """The test rows against one kind of labels for each data set: the first of `order` that it has."""
    table = table[table["split"] == "test"]
    kept = []
    for _, rows in table.groupby("dataset", sort=False):
        kinds = set(rows["labels"].unique())
        kept.append(rows[rows["labels"] == next((k for k in order if k in kinds), None)])
    return pd.concat(kept) if kept else table


def pooled_bins(reliability: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Bins pooled over the rows that share `by`: counts add up, means are weighted by count, empty bins are dropped."""
    table = reliability[reliability["count"] > 0]
    sums = table.assign(confidence=table["confidence"] * table["count"], accuracy=table["accuracy"] * table["count"])
    groups = sums.groupby([*by, "bin"], sort=True)
    pooled = groups[["count", "confidence", "accuracy"]].sum()
    pooled[["lower", "upper"]] = groups[["lower", "upper"]].first()
    for column in ("confidence", "accuracy"):
        pooled[column] /= pooled["count"]
    return pooled.reset_index()


def bars_of(middle: np.ndarray, width: np.ndarray, height: np.ndarray, **look: Any) -> PathPatch:
    """Bars (n,) from 0 up, as one artist: five vertices each."""
    left, right, foot = middle - width / 2, middle + width / 2, np.zeros(len(middle))
    corners = np.stack([left, foot, right, foot, right, height, left, height, left, foot], axis=1).reshape(-1, 2)
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY] * len(middle)
    return PathPatch(Outline(corners, codes), **look)
