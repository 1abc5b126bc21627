"""Select, order and pool the rows of an experiment's tables for figures and pages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from halobench.reporting.labels import (
    DATASETS,
    MODELS,
    around,
    dataset_label,
    model_label,
    ordered,
)
from halobench.reporting.styles import KNOWN_LOSSES
from halobench.storage.columns import KEYS, REFERENCE

CERTAIN = 1e-9  # nats; more than the rounding error of an entropy of 0


def with_evaluation_as_train(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the table with the samples ``evaluation`` renamed to ``train``, and a description of the samples."""
    kinds = set(table["points"].unique()) - {"heldout"}
    kind = "both" if len(kinds) > 1 else kinds.pop() if kinds else "train"
    return table.assign(points=table["points"].replace("evaluation", "train")), around(kind)


def by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with probes named after their kinds, so that figures recognise them.

    If there are several probes of a kind, only one is named after it: the one that already has this name, or else the
    first in alphabetical order.
    """
    probes = table.loc[table["kind"] != "", ["probe", "kind"]].drop_duplicates().astype(str)
    probes = probes.assign(other=probes["probe"] != probes["kind"]).sort_values(["other", "probe"])
    first = probes.drop_duplicates("kind")
    return table.assign(probe=table["probe"].replace(dict(zip(first["probe"], first["kind"], strict=True))))


def trained_here(runs: pd.DataFrame) -> pd.Series:
    """Return, for each run, whether halobench trained its model."""
    return runs["steps"].ne(0) & runs["fitted_here"].ne(False)


def given_models(runs: pd.DataFrame) -> str:
    """State in words how many models in `runs` halobench didn't train, and which; return "" if it trained all."""
    untrained = runs[~trained_here(runs)]
    names = ", ".join(model_label(name) for name in ordered(untrained["model"], MODELS))
    return f"{len(untrained)} not trained here ({names})" if names else ""


def losses_in(table: pd.DataFrame) -> list[str]:
    """Return the losses in a table, without references, in the order of legends."""
    return ordered(set(table["loss"].unique()) - {REFERENCE}, KNOWN_LOSSES)


def cells_in(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the (data set, model) pairs in a table, without references, in the order of a figure's panels."""
    rows = table.loc[table["loss"] != REFERENCE, ["dataset", "model"]].drop_duplicates()
    pairs = set(rows.itertuples(index=False, name=None))
    datasets, models = ordered((d for d, _ in pairs), DATASETS), ordered((m for _, m in pairs), MODELS)
    return [(d, m) for d in datasets for m in models if (d, m) in pairs]


def noisiest_cells(
    table: pd.DataFrame, columns: Sequence[str], others: str, most: int = 12
) -> tuple[pd.DataFrame, str]:
    """Return the rows of as many (data set, model) pairs as fit into `most` panels, and a sentence if some don't fit.

    Data sets with more label noise come first. Among data sets with equal noise, the first model of each comes before
    any second model. At least one pair and all reference rows are kept.
    """
    cells = cells_in(table)
    rank = {cell: [model for dataset, model in cells if dataset == cell[0]].index(cell[1]) for cell in cells}
    panels = table[["dataset", "model", *columns]].drop_duplicates().groupby(["dataset", "model"]).size()
    noise = table.groupby("dataset")["noise"].max()
    first = sorted(cells, key=lambda cell: (-noise[cell[0]], rank[cell]))
    filled = itertools.accumulate(int(panels[cell]) for cell in first)
    shown = [cell for cell, number in zip(first, filled, strict=True) if number <= most] or first[:1]
    if len(shown) == len(cells):
        return table, ""
    kept = pd.MultiIndex.from_frame(table[["dataset", "model"]]).isin(shown) | (table["loss"] == REFERENCE)
    what = f"{len(shown)} of {len(cells)} pairs of data set and model"
    rule = "those with the most label noise first, then each data set's models in turn"
    return table[kept], f"Shown: {what}, {rule}; the others are in {others}. "


def dataset_and_model_headings(table: pd.DataFrame) -> tuple[dict[Any, str], dict[Any, str]]:
    """Return the ordered headings, by key, of a grid with a row per data set and a column per model."""
    datasets = {dataset: dataset_label(dataset) for dataset, _ in cells_in(table)}
    models = ordered((model for _, model in cells_in(table)), MODELS)
    return datasets, {model: model_label(model) for model in models}


def groups_of(table: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[Any, ...], pd.DataFrame]:
    """Return the rows of each combination of `keys`, in order of appearance."""
    return {key: rows for key, rows in table.groupby(list(keys), sort=False)}


def posterior_entropies(metrics: pd.DataFrame) -> dict[str, float]:
    """Return the mean entropy, in nats, of the known posterior of test labels, for each data set with uncertain labels.

    The entropy is the difference between any prediction's NLL and its KL, so `metrics` needs no reference rows.
    """
    rows = metrics[(metrics["split"] == "test") & (metrics["labels"] == "noisy")]
    index = [key for key in (*KEYS, "calibrator") if key in rows]
    scores = rows[rows["metric"].isin(("nll", "kl"))].pivot_table("value", index, "metric")
    if not {"nll", "kl"} <= set(scores):
        return {}
    excess = scores["nll"] - scores["kl"]  # NaN if both are infinite
    means = excess[np.isfinite(excess)].groupby("dataset").mean()
    return {str(name): float(mean) for name, mean in means.items() if mean > CERTAIN}


def without_void_floors(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return metrics without ``ece_floor`` where the ECE is an expectation, which no draw of labels raises above 0."""
    expected = (metrics["labels"] == "noisy") & metrics["dataset"].isin(posterior_entropies(metrics))
    return metrics[~expected | (metrics["metric"] != "ece_floor")]


def pooled_bins(reliability: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return bins pooled over rows that share `by`: counts added, means weighted by count, empty bins dropped."""
    table = reliability[reliability["count"] > 0]
    sums = table.assign(confidence=table["confidence"] * table["count"], accuracy=table["accuracy"] * table["count"])
    groups = sums.groupby([*by, "bin"], sort=True)
    pooled = groups[["count", "confidence", "accuracy"]].sum()
    pooled[["lower", "upper"]] = groups[["lower", "upper"]].first()
    for column in ("confidence", "accuracy"):
        pooled[column] /= pooled["count"]
    return pooled.reset_index()


def binned_ece(reliability: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Return the mean ECE over seeds for each combination of `by`, computed from bins."""
    gap = (reliability["confidence"] - reliability["accuracy"]).abs() * reliability["count"]
    sums = reliability.assign(gap=gap).groupby([*by, "seed"])[["gap", "count"]].sum()
    return (sums["gap"] / sums["count"]).groupby(list(by)).mean()


def label_note(table: pd.DataFrame) -> str:
    """State in words against which labels the rows of `table` are scored."""
    words = {
        "noisy": "test labels, in expectation if their posterior is known",
        "drawn": "test labels with noise drawn",
        "clean": "clean test labels",
    }
    return " or ".join(words.get(kind, kind) for kind in ordered(table["labels"], words))
