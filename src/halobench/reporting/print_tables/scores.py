"""Lay out tables of scores by data set, model, loss and calibrator, as means over seeds."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from halobench.core.formatting import within
from halobench.reporting import labels, styles, table_views
from halobench.reporting.print_tables.layout import Part, Table, Value, grid
from halobench.reporting.seed_statistics import over_seeds
from halobench.results import names
from halobench.storage.columns import REFERENCE

METRICS = {name: labels.metric_label(name) for name in ("nll", "ece", "ace_average")}
JUDGED = {
    "clean": "against clean test labels",
    "noisy": "in expectation under the known posterior",
    "drawn": "against the test labels drawn",
    "as they are": "against the test labels, to which no noise was added",
}
COLUMNS = ("model", "loss", "interpolates", "labels", "calibrator", "metric", "mean", "sd", "n", "seeds")
FAILURES = ("failed", "below_0")
CELL = ["dataset", "model", "loss"]
SIGNS = " Means over seeds, ± half the width of their 95% t interval."
FIRST = (labels.DATASETS, labels.MODELS, styles.KNOWN_LOSSES)  # the names of a cell, in order


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns to print; the CSV has all of them.

    `calibrators` are shown for each of the `metrics`, with plug-ins from outside the package only if `plug_ins`.
    """

    metrics: tuple[str, ...]
    calibrators: tuple[str, ...]
    plug_ins: bool = False

    def shown(self, numbers: pd.DataFrame) -> list[str]:
        """Return the calibrators to show that at least one cell has."""
        present = set(numbers["calibrator"])
        listed = [name for name in self.calibrators if name in present]
        return listed + (sorted(present - set(labels.CALIBRATORS)) if self.plug_ins else [])


PAPER = Columns(tuple(METRICS), ("none", "paper", "exact"))
OTHERS = Columns(("nll", "ece"), tuple(c for c in labels.CALIBRATORS if c not in ("paper", "oracle")), plug_ins=True)


def images(metrics: pd.DataFrame, runs: pd.DataFrame, judge: str, columns: Columns = PAPER) -> Table:
    """Return scores on data sets, with a part per data set and noise level, a block per model and a line per loss.

    `judge` is the kind of label that test samples are scored against, as a key of `JUDGED`.
    """
    rows = runs[runs["distribution"].fillna("") == ""]
    datasets = labels.ordered(rows["dataset"], labels.DATASETS)
    numbers = summarise(metrics, rows, datasets, judge, "noise")
    uncertain = table_views.posterior_entropies(metrics).keys()
    what = " and ".join(", ".join(METRICS[name] for name in columns.metrics).rsplit(", ", 1))
    title = f"{what} on data sets, {JUDGED[_judge(judge, not uncertain.isdisjoint(datasets) or not datasets)]}"
    parts = []
    for dataset in datasets:
        own = numbers[numbers["dataset"] == dataset]
        blocks = [
            (labels.model_label(model), own[(own["model"] == model) & (own["loss"] != REFERENCE)])
            for model in labels.ordered(own.loc[own["loss"] != REFERENCE, "model"], labels.MODELS)
        ]
        if dataset in uncertain:  # otherwise, the posterior's own scores are all 0
            blocks.append(("", own[own["loss"] == REFERENCE]))
        judged = JUDGED[_judge(judge, dataset in uncertain)]
        what = f"{labels.dataset_label(dataset)}: scores on test data {judged}"
        parts += _part(dataset, what, blocks, columns, columns.shown(numbers))
    return Table(title, numbers, tuple(parts))


def _judge(judge: str, uncertain: bool) -> str:
    """Return a data set's key in `JUDGED`, since the posterior equals the labels if these are certain."""
    return "as they are" if judge == "noisy" and not uncertain else judge


def gaussians(metrics: pd.DataFrame, runs: pd.DataFrame, judge: str) -> Table:
    """Return scores on Gaussian classes, with a part per model, a block per separation and a line per loss."""
    rows = runs[runs["separation"].notna()]
    separation = rows.drop_duplicates("dataset").set_index("dataset")["separation"]
    datasets = sorted(separation.index, key=lambda name: (separation[name], name))
    numbers = summarise(metrics, rows, datasets, judge, "separation")
    title = f"NLL, ECE and ACE on Gaussian classes by their separation, {JUDGED[judge]}"
    trained, references = numbers[numbers["loss"] != REFERENCE], numbers[numbers["loss"] == REFERENCE]
    parts = []
    for model in labels.ordered(trained["model"], labels.MODELS):
        blocks = [
            (f"{dataset}: means {separation[dataset]:.3g} standard deviations apart", pd.concat([own, reference]))
            for dataset in datasets
            for own in [trained[(trained["model"] == model) & (trained["dataset"] == dataset)]]
            for reference in [references[references["dataset"] == dataset]]
            if len(own)
        ]
        what = f"{labels.model_label(model)} on Gaussian classes: scores on test data {JUDGED[judge]}"
        parts += _part(model, what, blocks, PAPER, PAPER.shown(numbers))
    return Table(title, numbers, tuple(parts))


def summarise(
    metrics: pd.DataFrame, runs: pd.DataFrame, datasets: Sequence[str], judge: str, fact: str
) -> pd.DataFrame:
    """Return means and standard deviations over seeds by data set, model, loss, calibrator and metric."""
    table = metrics[
        (metrics["split"] == "test")
        & (metrics["labels"] == judge)
        & metrics["metric"].isin(METRICS)
        & metrics["dataset"].isin(datasets)
        & ((metrics["loss"] != REFERENCE) | ((metrics["model"] == "bayes") & (judge == "noisy")))
    ]
    facts = runs.drop_duplicates("dataset").set_index("dataset")[fact]
    # Weights from elsewhere were trained on other labels, or on those before noise was added here.
    interpolates = runs[table_views.trained_here(runs)].groupby(CELL)["interpolates"].mean()
    failures = paper_fit_failures(runs)
    orders: dict[str, Any] = {
        **{"dataset": datasets, "reference": [False, True], "model": labels.ordered(table["model"], labels.MODELS)},
        "loss": labels.ordered(table["loss"], styles.KNOWN_LOSSES),
        **{"calibrator": labels.ordered(table["calibrator"], labels.CALIBRATORS), "metric": list(METRICS)},
    }
    # The posterior's own scores come after those of the models.
    table = table.assign(reference=table["loss"] == REFERENCE).sort_values("seed")
    table = table.assign(**{key: pd.Categorical(table[key], order) for key, order in orders.items()})
    rows = []
    groups: Iterable[tuple[Any, pd.DataFrame]] = table.groupby([*orders], observed=True)
    for (dataset, _, model, loss, calibrator, metric), group in groups:
        share_of = float(interpolates.get((dataset, model, loss), math.nan))
        lead = (dataset, facts[dataset], model, loss, share_of, judge)
        mean, sd, n = mean_and_sd(group["value"].to_numpy())
        failed = failures.get((dataset, model, loss), (0, 0)) if calibrator == "paper" else (len(group) - n, 0)
        rows.append((*lead, calibrator, metric, mean, sd, n, len(group), *failed))
    return pd.DataFrame(rows, columns=["dataset", fact, *COLUMNS, *FAILURES])


def paper_fit_failures(runs: pd.DataFrame) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Count the seeds in which the paper's fit failed and those in which it was below 0, by data set, model and loss.

    A fit fails if it isn't near the optimum or is below 0, which counts as a failure even if there is no optimum.
    """
    below = runs["temperature_paper"] < 0
    marks = runs[CELL].assign(failed=below | runs["paper_near_exact"].eq(0), below=below)
    sums = marks.groupby(CELL)[["failed", "below"]].sum()
    return dict(zip(sums.index, zip(sums["failed"].tolist(), sums["below"].tolist(), strict=True), strict=True))


def mean_and_sd(values: np.ndarray) -> tuple[float, float, int]:
    """Return the mean, standard deviation (n - 1) and number of the values that aren't NaN.

    Examples
    --------
    >>> mean_and_sd(np.array([1.0, 3.0, np.nan]))
    (2.0, 1.4142135623730951, 2)
    """
    present = values[~np.isnan(values)]
    mean = float(present.mean()) if len(present) else math.nan
    sd = float(present.std(ddof=1)) if len(present) > 1 and math.isfinite(mean) else math.nan
    return mean, sd, len(present)


def _part(
    key: str, what: str, blocks: Sequence[tuple[str, pd.DataFrame]], columns: Columns, calibrators: Sequence[str]
) -> list[Part]:
    """Return a part with the caption that its rows need, or none if it would be empty.

    `blocks` has headings and rows of numbers; each loss gets a line, as does the posterior itself.
    """
    heads = {
        (metric, name): (labels.metric_axis(metric), labels.calibrator_label(name))
        for metric in columns.metrics
        for name in calibrators
    }
    rows: dict[Any, tuple[str, str]] = {}
    values: dict[Any, Value | None] = {}
    for block, cells in blocks:
        for loss in table_views.losses_in(cells):
            dagger = "†" if (cells.loc[cells["loss"] == loss, "interpolates"] < 1).any() else ""
            rows[block, loss] = (block, labels.loss_label(loss) + dagger)
        if REFERENCE in set(cells["loss"]):  # the posterior needs no calibrator
            rows[block, REFERENCE] = (block, "The posterior itself")
            values |= {((block, REFERENCE), head): None for head in heads if head[1] != "none"}
        row: Any
        for row in cells.itertuples():
            value = Value(row.mean, row.sd, row.n, row.seeds)
            values.setdefault(((block, row.loss), (row.metric, row.calibrator)), value)
        trained = set(cells["loss"]) - {REFERENCE}
        for metric in columns.metrics:
            keys = itertools.product(trained, calibrators)
            mark_best(values, [((block, loss), (metric, calibrator)) for loss, calibrator in keys])
    if not rows or not heads:
        return []
    shown = grid(values, rows, heads)
    text = caption(what, columns.metrics, calibrators, shown)
    text += failures_note(pd.concat([cells for _, cells in blocks]), calibrators)
    return [Part(key, text, shown)]


def mark_best(values: dict[Any, Value | None], keys: Iterable[Any]) -> None:
    """Mark the lowest of the means with these keys if every other exceeds it by more than either's deviation."""
    present = {key: value for key in keys if (value := values.get(key)) and not math.isnan(value.mean)}
    if len(present) < 2 or not all(math.isfinite(value.sd) and value.n == value.seeds for value in present.values()):
        return
    (first, best), *others = sorted(present.items(), key=lambda item: item[1].mean)
    if all(other.mean - best.mean > max(other.sd, best.sd) for _, other in others):
        values[first] = dataclasses.replace(best, best=True)


def failures_note(cells: pd.DataFrame, calibrators: Iterable[str]) -> str:
    """Return a sentence on how often the paper's fit failed; empty if it isn't shown or never failed."""
    fits = cells[(cells["calibrator"] == "paper") & (cells["metric"] == "nll")]
    failed, below, models = (int(fits[column].sum()) for column in (*FAILURES, "seeds"))
    if not failed or "paper" not in calibrators:
        return ""
    text = f" In {failed} of {models} models the fit of the paper's code failed: it is farther than 5% from the optimum"
    return text + (f", and in {below} below 0; it is scored all the same." if below else ".")


def fitted(calibrator: str) -> str:
    """Say in words how a calibrator is fitted."""
    calibration = names.CALIBRATIONS.get(calibrator)
    how = calibration.sentence if calibration else "fitted to validation labels"
    return f"{labels.calibrator_label(calibrator)}, {how}"


def caption(what: str, metrics: Iterable[str], calibrators: Iterable[str], cells: pd.DataFrame) -> str:
    """Return a caption that says `what` the table shows and explains each sign it uses."""
    values: list[Value] = [value for value in cells.to_numpy().flat if value]
    seeds = max((value.seeds for value in values), default=0)
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    signs = {
        f"ACE is the {names.METRICS['ace_average'].sentence}.": "ace_average" in metrics,
        f"Columns: {'; '.join(map(fitted, calibrators))}.": True,
        "Bold: a block's lowest value of a metric, if all others exceed it by more than either's standard "
        "deviation.": any(value.best for value in values),
        "Raised: seeds whose fit is finite, of all; the others can't be scored and are left out.": any(
            0 < value.n < value.seeds for value in values
        ),
        "∞: a class that occurs was given a probability of 0.": any(math.isinf(value.mean) for value in values),
        "--: no finite fit, or not computed.": any(math.isnan(value.mean) for value in values),
        "†: for some seed, fewer than 99% of the labels trained on are fitted.": any(
            label.endswith("†") for _, label in cells.index
        ),
    }
    return " ".join([f"{what}, {spread}.", *(sentence for sentence, used in signs.items() if used)])


# Other values, by cell ------------------------------------------------------------------------------------------------


def by_cell(
    key: str, text: str, values: pd.DataFrame, columns: Mapping[str, Sequence[tuple[str, str]]]
) -> tuple[pd.DataFrame, list[Part]]:
    """Return means over seeds with half of their t intervals, and a part with a block per data set, if it has any."""
    numbers = over_seeds(values, [*CELL, "column"], "value")
    present = set(numbers["column"])
    heads = {name: (group, head) for group, pairs in columns.items() for name, head in pairs if name in present}
    each: Iterable[Any] = numbers.itertuples(index=False)
    cells: dict[Any, Value | None] = {
        ((row.dataset, row.model, row.loss), row.column): Value(row.mean, row.high - row.mean, row.n, row.n)
        for row in each
    }
    ranks = [labels.ordered(numbers[name], first) for name, first in zip(CELL, FIRST, strict=True)]
    present_cells = {cell for cell, _ in cells}
    ordered = [cell for cell in itertools.product(*ranks) if cell in present_cells]
    rows = {
        (dataset, model, loss): (labels.dataset_label(dataset), f"{labels.model_label(model)}, {loss_label}")
        for dataset, model, loss in ordered
        for loss_label in [within(labels.loss_label(loss))]
    }
    return numbers, [Part(key, text + SIGNS, grid(cells, rows, heads))] if heads else []
