"""Lay out tables of scores by data set, model, loss and calibrator, as means over seeds."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from halobench.analysis import names
from halobench.core.formatting import within
from halobench.reporting import labels, styles, table_views
from halobench.reporting.print_tables.layout import Part, Table, Value, grid
from halobench.reporting.seed_statistics import over_seeds
from halobench.storage.columns import REFERENCE

PAPER_METRICS = {name: labels.metric_label(name) for name in ("nll", "ece", "ace_average")}
JUDGED = {
    "clean": "against clean test labels",
    "noisy": "in expectation under the known posterior",
    "drawn": "against the test labels drawn",
    "as they are": "against the test labels, to which no noise was added",
}
NUMBER_COLUMNS = ("model", "loss", "interpolates", "labels", "calibrator", "metric", "mean", "sd", "n", "seeds")
PAPER_CALIBRATORS = ("none", "paper", "exact")
CELL = ["dataset", "model", "loss"]
SIGNS = " Means over seeds, ± half the width of their 95% t interval, which is wider where seeds share samples."
KNOWN_NAMES = (labels.DATASETS, labels.MODELS, styles.KNOWN_LOSSES)  # the names of a cell, in order


def images(
    metrics: pd.DataFrame,
    runs: pd.DataFrame,
    judge: str,
    printed: Sequence[str] = tuple(PAPER_METRICS),
    calibrators: Sequence[str] = PAPER_CALIBRATORS,
) -> Table:
    """Return scores on data sets, with a part per data set, a block per model and a line per loss.

    Data sets that are drawn from a distribution are left out. `judge` is the kind of label that test samples are scored
    against, as a key of `JUDGED`. Each of the metrics in `printed` has a column for each of the `calibrators` that any
    cell has. The CSV contains all `PAPER_METRICS` and calibrators.
    """
    rows = runs[runs["distribution"].fillna("") == ""]
    datasets = labels.ordered(rows["dataset"], labels.DATASETS)
    numbers = summarise(metrics, rows, datasets, judge, "noise")
    heads = _heads(printed, calibrators, numbers)
    uncertain = table_views.posterior_entropies(metrics).keys()
    # If a data set's labels are certain, its posterior equals them, and the posterior's own scores are all 0.
    certain = JUDGED["as they are" if judge == "noisy" else judge]
    title = " and ".join(", ".join(PAPER_METRICS[name] for name in printed).rsplit(", ", 1))
    title += f" on data sets, {certain if datasets and uncertain.isdisjoint(datasets) else JUDGED[judge]}"
    parts = []
    for dataset in datasets:
        cells = numbers[numbers["dataset"] == dataset]
        trained, posterior = cells[cells["loss"] != REFERENCE], cells[cells["loss"] == REFERENCE]
        models = labels.ordered(trained["model"], labels.MODELS)
        blocks = [(labels.model_label(model), trained[trained["model"] == model]) for model in models]
        judged = JUDGED[judge] if dataset in uncertain else certain
        subject = f"{labels.dataset_label(dataset)}: scores on test data {judged}"
        blocks.append(("", posterior[posterior["dataset"].isin(uncertain)]))
        failed = failures_note(rows[rows["dataset"] == dataset]) if "paper" in calibrators else ""
        parts += _part(dataset, subject, blocks, heads, failed)
    return Table(title, numbers, tuple(parts))


def gaussians(metrics: pd.DataFrame, runs: pd.DataFrame, judge: str) -> Table:
    """Return scores on Gaussian classes: a part per model, a block per data set (by separation), a line per loss."""
    rows = runs[runs["separation"].notna()]
    separation = rows.drop_duplicates("dataset").set_index("dataset")["separation"]
    datasets = sorted(separation.index, key=lambda name: (separation[name], name))
    numbers = summarise(metrics, rows, datasets, judge, "separation")
    heads = _heads(PAPER_METRICS, PAPER_CALIBRATORS, numbers)
    trained, references = numbers[numbers["loss"] != REFERENCE], numbers[numbers["loss"] == REFERENCE]
    parts = []
    for model in labels.ordered(trained["model"], labels.MODELS):
        of_model = trained[trained["model"] == model]
        blocks = [
            (
                f"{dataset}: means {separation[dataset]:.3g} standard deviations apart",
                pd.concat([cells[cells["dataset"] == dataset] for cells in (of_model, references)]),
            )
            for dataset in datasets
            if dataset in set(of_model["dataset"])
        ]
        subject = f"{labels.model_label(model)} on Gaussian classes: scores on test data {JUDGED[judge]}"
        parts += _part(model, subject, blocks, heads, failures_note(rows[rows["model"] == model]))
    return Table(f"NLL, ECE and ACE on Gaussian classes by their separation, {JUDGED[judge]}", numbers, tuple(parts))


def summarise(
    metrics: pd.DataFrame, runs: pd.DataFrame, datasets: Sequence[str], judge: str, fact: str
) -> pd.DataFrame:
    """Return test scores' means and standard deviations over seeds by data set, model, loss, calibrator and metric."""
    table = metrics[
        (metrics["split"] == "test")
        & (metrics["labels"] == judge)
        & metrics["metric"].isin(PAPER_METRICS)
        & metrics["dataset"].isin(datasets)
        & ((metrics["loss"] != REFERENCE) | ((metrics["model"] == "bayes") & (judge == "noisy")))
    ]
    orders: dict[str, Any] = {
        **{"dataset": datasets, "reference": [False, True], "model": labels.ordered(table["model"], labels.MODELS)},
        "loss": labels.ordered(table["loss"], styles.KNOWN_LOSSES),
        **{"calibrator": labels.ordered(table["calibrator"], labels.CALIBRATORS), "metric": list(PAPER_METRICS)},
    }
    # The posterior's own scores come after the models' scores.
    table = table.assign(reference=table["loss"] == REFERENCE).sort_values("seed")
    table = table.assign(**{key: pd.Categorical(table[key], order) for key, order in orders.items()})
    values = table.groupby([*orders], observed=True)["value"]
    numbers = values.agg(mean=_mean, sd=_deviation, n="count", seeds="size").reset_index()
    numbers = numbers.astype({key: object for key in orders if key != "reference"})
    facts = runs.drop_duplicates("dataset")[["dataset", fact]]
    # Weights from elsewhere were trained on other labels, or on these labels without the noise added here.
    interpolates = runs[table_views.trained_here(runs)].groupby(CELL)["interpolates"].mean().reset_index()
    numbers = numbers.merge(facts, "left").merge(interpolates, "left", CELL).assign(labels=judge)
    return numbers[["dataset", fact, *NUMBER_COLUMNS]]


def _mean(values: pd.Series) -> float:
    return float(values.dropna().to_numpy().mean()) if values.notna().any() else math.nan


def _deviation(values: pd.Series) -> float:
    present = values.dropna().to_numpy()
    return float(present.std(ddof=1)) if len(present) > 1 and np.isfinite(present).all() else math.nan


def failures_note(runs: pd.DataFrame) -> str:
    """Return a sentence on how many of the paper's fits failed; "" if none did.

    A fit fails if its T is more than 5% from the optimum or below 0.
    """
    below = runs["temperature_paper"] < 0
    failed = int((below | runs["paper_near_exact"].eq(0)).sum())
    lead = f" In {failed} of {len(runs)} models the fit of the paper's code failed: it is farther than 5% from"
    ends = f", and in {below.sum()} below 0; such fits are scored too." if below.any() else "."
    return f"{lead} the optimum{ends}" if failed else ""


def _heads(printed: Iterable[str], calibrators: Iterable[str], numbers: pd.DataFrame) -> dict[Any, tuple[str, str]]:
    """Return headings of columns by metric and calibrator, without calibrators that no cell has."""
    pairs = itertools.product(printed, [name for name in calibrators if name in set(numbers["calibrator"])])
    return {pair: (labels.metric_axis(pair[0]), labels.calibrator_label(pair[1])) for pair in pairs}


def _part(
    key: str,
    subject: str,
    blocks: Sequence[tuple[str, pd.DataFrame]],
    heads: Mapping[Any, tuple[str, str]],
    failed: str,
) -> list[Part]:
    """Return a list with a part of a table, or [] if the part would be empty.

    `blocks` has headings and rows of numbers. Each loss of a block gets a line, as does the posterior if it has rows.
    """
    rows: dict[Any, tuple[str, str]] = {}
    values: dict[Any, Value | None] = {}
    for block, cells in blocks:
        losses = table_views.losses_in(cells)
        for loss in losses:
            dagger = "†" if (cells.loc[cells["loss"] == loss, "interpolates"] < 1).any() else ""
            rows[block, loss] = (block, labels.loss_label(loss) + dagger)
        if REFERENCE in set(cells["loss"]):  # the posterior needs no calibrator
            rows[block, REFERENCE] = (block, "The posterior itself")
            values |= {((block, REFERENCE), head): None for head in heads if head[1] != "none"}
        row: Any
        for row in cells.itertuples():
            value = Value(row.mean, row.sd, row.n, row.seeds)
            values.setdefault(((block, row.loss), (row.metric, row.calibrator)), value)
        for metric in dict.fromkeys(metric for metric, _ in heads):
            columns = [head for head in heads if head[0] == metric]
            mark_best(values, [((block, loss), head) for loss, head in itertools.product(losses, columns)])
    if not rows or not heads:
        return []
    shown = grid(values, rows, heads)
    return [Part(key, caption(subject, heads, shown) + failed, shown)]


def mark_best(values: dict[Any, Value | None], keys: Iterable[Any]) -> None:
    """Mark the lowest mean at `keys` as best if every other exceeds it by more than either's standard deviation.

    No mean is marked if any value is missing a seed or a finite standard deviation.
    """
    present = {key: value for key in keys if (value := values.get(key)) and not math.isnan(value.mean)}
    if len(present) < 2 or not all(math.isfinite(value.sd) and value.n == value.seeds for value in present.values()):
        return
    (first, best), *others = sorted(present.items(), key=lambda item: item[1].mean)
    if all(other.mean - best.mean > max(other.sd, best.sd) for _, other in others):
        values[first] = dataclasses.replace(best, best=True)


def caption(subject: str, heads: Iterable[tuple[str, str]], cells: pd.DataFrame) -> str:
    """Return a caption that names the table's `subject` and explains its calibrations and signs."""
    values: list[Value] = [value for value in cells.to_numpy().flat if value]
    seeds = max((value.seeds for value in values), default=0)
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    plug_in = names.Name("", "fitted to validation labels")
    fits = [
        f"{labels.calibrator_label(name)}, {names.CALIBRATIONS.get(name, plug_in).sentence}"
        for name in dict.fromkeys(name for _, name in heads)
    ]
    signs = {
        f"ACE is the {names.METRICS['ace_average'].sentence}.": "ace_average" in {metric for metric, _ in heads},
        f"Columns: {'; '.join(fits)}.": True,
        "Bold: a block's lowest value of a metric, if all others exceed it by more than either's standard "
        "deviation.": any(value.best for value in values),
        "Raised: seeds whose fit is finite, of all; the others can't be scored and are left out.": any(
            0 < value.n < value.seeds for value in values
        ),
        "∞: a class that occurs was given a probability of 0.": any(math.isinf(value.mean) for value in values),
        "--: no finite fit, or not computed.": any(math.isnan(value.mean) for value in values),
        "†: for some seed, fewer than 99% of the training labels are fitted.": any(
            label.endswith("†") for _, label in cells.index
        ),
    }
    return " ".join([f"{subject}, {spread}.", *(sentence for sentence, used in signs.items() if used)])


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
