"""What the tables of NLL, ECE and ACE share: means over seeds, and how they are laid out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from halobench.reporting import labels as names
from halobench.reporting import styles, table_views
from halobench.reporting.print_tables.layout import Part, Row, Table, Value, share

METRICS = {"nll": "NLL", "ece": "ECE", "ace_average": "ACE"}
JUDGED = {
    "clean": "against clean test labels",
    "noisy": "against the known posterior of the labels trained on, in expectation",
    "drawn": "against the test labels drawn",
    "as they are": "against the test labels, to which no noise was added",
}
COLUMNS = ("model", "loss", "interpolates", "labels", "calibrator", "metric", "mean", "sd", "n", "seeds")
CELL = ["dataset", "model", "loss"]


@dataclass(frozen=True)
class Columns:
    """What is printed: metrics, and for each the calibrators and their headings. The CSV has all."""

    metrics: tuple[str, ...]
    calibrators: Mapping[str, str]
    plugged: bool = False  # whether calibrators that have no heading here are shown too

    def shown(self, numbers: pd.DataFrame) -> list[str]:
        """Those of the calibrators that some cell has."""
        there = set(numbers["calibrator"])
        known = [name for name in self.calibrators if name in there]
        return known + (sorted(there - set(names.CALIBRATORS)) if self.plugged else [])

    def heading(self, calibrator: str) -> str:
        """What stands over a calibrator's column."""
        return self.calibrators.get(calibrator, names.calibrator_label(calibrator))


PAPER = Columns(tuple(METRICS), {"none": "no TS", "released": "released", "exact": "exact"})
OTHERS = Columns(
    ("nll", "ece"),
    {name: label for name, label in names.CALIBRATORS.items() if name not in ("released", "oracle")},
    plugged=True,
)


def images(metrics: pd.DataFrame, runs: pd.DataFrame, labels: str, columns: Columns = PAPER) -> Table:
    """Scores on images: a part a data set and noise level, a block a model, a line a loss.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.
    labels : {"clean", "noisy"}
        What the test points are judged by.
    columns : Columns
    """
    rows = runs[runs["distribution"].fillna("") == ""]
    datasets = names.ordered(rows["dataset"], names.DATASETS)
    numbers = summarise(metrics, rows, datasets, labels, "noise")
    noisy = set(rows.loc[rows["noise"] != 0, "dataset"])
    what = " and ".join(", ".join(METRICS[name] for name in columns.metrics).rsplit(", ", 1))
    title = f"{what} on images, {JUDGED[_judge(labels, bool(noisy) or not datasets)]}"
    # Without noise the posterior is the label itself, and its scores are all 0.
    bayes = {name: row for name, row in reference_rows(numbers, columns).items() if name in noisy}
    parts = []
    for dataset in datasets:
        own = numbers[(numbers["dataset"] == dataset) & (numbers["loss"] != "reference")]
        models = names.ordered(own["model"], names.MODELS)
        blocks = [(names.model_label(m), lines(own[own["model"] == m], numbers, columns)) for m in models]
        if blocks:
            blocks += [("", (bayes[dataset],))] if dataset in bayes else []
            judge = _judge(labels, dataset in noisy)
            parts.append(_part(dataset, names.dataset_label(dataset), blocks, numbers, judge, columns))
    return Table(title, numbers, tuple(parts))


def _judge(labels: str, noise: bool) -> str:
    """The key in `JUDGED` of what test points are judged by: the posterior of labels without noise is the labels."""
    return "as they are" if labels == "noisy" and not noise else labels


def gaussians(metrics: pd.DataFrame, runs: pd.DataFrame, labels: str) -> Table:
    """Scores on Gaussian classes: a part a model, a block a separation, a line a loss (as many points as it mixes).

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.
    labels : {"clean", "noisy"}
        What the test points are judged by.
    """
    rows = runs[runs["separation"].notna()]
    separation = rows.drop_duplicates("dataset").set_index("dataset")["separation"]
    datasets = sorted(separation.index, key=lambda name: (separation[name], name))
    numbers = summarise(metrics, rows, datasets, labels, "separation")
    title = f"NLL, ECE and ACE on Gaussian classes by their separation, {JUDGED[labels]}"
    bayes = reference_rows(numbers, PAPER)
    trained = numbers[numbers["loss"] != "reference"]
    parts = []
    for model in names.ordered(trained["model"], names.MODELS):
        blocks = []
        for dataset in datasets:
            own = trained[(trained["model"] == model) & (trained["dataset"] == dataset)]
            if len(own):
                heading = f"{dataset}: means {separation[dataset]:.3g} standard deviations apart"
                closing = (bayes[dataset],) if dataset in bayes else ()
                blocks.append((heading, (*lines(own, numbers, PAPER), *closing)))
        what = f"{names.model_label(model)} on Gaussian classes"
        parts.append(_part(model, what, blocks, numbers, labels, PAPER))
    return Table(title, numbers, tuple(parts))


def summarise(
    metrics: pd.DataFrame, runs: pd.DataFrame, datasets: Iterable[str], labels: str, fact: str
) -> pd.DataFrame:
    """Means and standard deviations over seeds, a row a data set, model, loss, calibrator and metric.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.
    datasets : iterable of str
        Those that count, in order.
    labels : str
        What the test points are judged by; by the posterior (``noisy``) its own scores are given too, as model
        ``bayes`` and loss ``reference``.
    fact : str
        The column of `runs` that tells the data sets apart.

    Returns
    -------
    DataFrame
        dataset, `fact`, and `COLUMNS`: `interpolates` is the share of seeds that do (NaN if not trained here),
        `sd` has n - 1 (NaN for fewer than two values), `n` counts seeds with a value and `seeds` all: a temperature may
        have no finite optimum.
    """
    datasets = list(datasets)
    table = metrics[
        (metrics["split"] == "test")
        & (metrics["labels"] == labels)
        & metrics["metric"].isin(METRICS)
        & metrics["dataset"].isin(datasets)
        & ((metrics["loss"] != "reference") | ((metrics["model"] == "bayes") & (labels == "noisy")))
    ]
    facts = runs.drop_duplicates("dataset").set_index("dataset")[fact]
    # Weights from elsewhere were trained on other labels, or on those before noise was added here.
    interpolates = runs[table_views.trained_here(runs)].groupby(CELL)["interpolates"].mean()
    orders = {
        "dataset": datasets,
        "model": names.ordered(table["model"], names.MODELS),
        "loss": names.ordered(table["loss"], styles.KNOWN_LOSSES),
        "calibrator": names.ordered(table["calibrator"], names.CALIBRATORS),
        "metric": list(METRICS),
    }
    ranks = {column: {name: i for i, name in enumerate(order)} for column, order in orders.items()}
    keys = [*CELL, "calibrator", "metric"]
    groups: dict[Any, np.ndarray] = {
        key: group.sort_values("seed")["value"].to_numpy() for key, group in table.groupby(keys, sort=False)
    }

    def place(key: tuple[str, ...]) -> tuple:
        # The posterior's own scores follow the models'.
        return ranks["dataset"][key[0]], key[2] == "reference", *(ranks[c][n] for c, n in zip(keys, key, strict=True))

    rows = []
    for key in sorted(groups, key=place):
        dataset, model, loss, calibrator, metric = key
        share_of = float(interpolates.get((dataset, model, loss), math.nan))
        mean, sd, n = mean_and_sd(groups[key])
        lead = (dataset, facts[dataset], model, loss, share_of, labels)
        rows.append((*lead, calibrator, metric, mean, sd, n, len(groups[key])))
    return pd.DataFrame(rows, columns=["dataset", fact, *COLUMNS])


def mean_and_sd(values: np.ndarray) -> tuple[float, float, int]:
    """Mean and standard deviation (n - 1) of the values that are there, and how many are.

    Examples
    --------
    >>> mean_and_sd(np.array([1.0, 3.0, np.nan]))
    (2.0, 1.4142135623730951, 2)
    """
    there = values[~np.isnan(values)]
    mean = float(there.mean()) if len(there) else math.nan
    sd = float(there.std(ddof=1)) if len(there) > 1 and math.isfinite(mean) else math.nan
    return mean, sd, len(there)


def lines(own: pd.DataFrame, numbers: pd.DataFrame, columns: Columns) -> tuple[Row, ...]:
    """The rows `own` of one data set and model, a line a loss; each column's best in bold where it is clearly so."""
    by = own.set_index(["loss", "metric", "calibrator"])
    found = names.ordered(own["loss"], styles.KNOWN_LOSSES)
    values = [
        _with_best([_value(by, loss, metric, calibrator) for loss in found])
        for metric in columns.metrics
        for calibrator in columns.shown(numbers)
    ]
    fits = own.groupby("loss")["interpolates"].first()
    place = tuple((kind, str(own[kind].iloc[0])) for kind in ("dataset", "model"))
    return tuple(
        Row(
            names.loss_label(loss),
            tuple(column[i] for column in values),
            bool(fits[loss] < 1),
            (*place, ("loss", loss)),
        )
        for i, loss in enumerate(found)
    )


def reference_rows(numbers: pd.DataFrame, columns: Columns) -> dict[str, Row]:
    """A line for the posterior itself, which needs no calibrator, of each data set where it is known and was scored."""
    calibrators, found = columns.shown(numbers), {}
    groups: Iterable[tuple[Any, pd.DataFrame]] = numbers[numbers["loss"] == "reference"].groupby("dataset", sort=False)
    for dataset, rows in groups:
        by = rows.set_index(["loss", "metric", "calibrator"])
        values = [
            None if i else _value(by, "reference", metric, "none")
            for metric in columns.metrics
            for i, _ in enumerate(calibrators)
        ]
        # It stays whichever model or loss is chosen: it is what they are compared with.
        found[dataset] = Row("The posterior itself", tuple(values), keys=(("dataset", str(dataset)),))
    return found


def _value(by: pd.DataFrame, loss: str, metric: str, calibrator: str) -> Value:
    """One cell; NaN where it wasn't computed."""
    if (loss, metric, calibrator) not in by.index:
        return Value(math.nan, n=0, seeds=0)
    key: Any = (loss, metric, calibrator)
    row = by.loc[key]
    return Value(float(row["mean"]), float(row["sd"]), int(row["n"]), int(row["seeds"]))


def _with_best(column: list[Value]) -> list[Value]:
    """A column whose least mean is marked, if all others lie above it by more than their or its standard deviation."""
    known = [i for i, value in enumerate(column) if math.isfinite(value.sd) and value.n == value.seeds]
    if len(known) < 2 or len(known) < sum(not math.isnan(value.mean) for value in column):
        return column
    first, *others = sorted(known, key=lambda i: column[i].mean)
    best = column[first]
    if all(column[i].mean - best.mean > max(column[i].sd, best.sd) for i in others):
        column = list(column)
        column[first] = Value(best.mean, best.sd, best.n, best.seeds, best=True)
    return column


def _part(
    key: str,
    what: str,
    blocks: list[tuple[str, tuple[Row, ...]]],
    numbers: pd.DataFrame,
    labels: str,
    columns: Columns,
) -> Part:
    """A part with the caption that its rows ask for."""
    calibrators = columns.shown(numbers)
    rows = [row for _, block in blocks for row in block]
    values = [value for row in rows for value in row.values if value is not None]
    heads = tuple(map(columns.heading, calibrators))
    groups = tuple((METRICS[name] + " (nats)" * (name == "nll"), heads) for name in columns.metrics)
    told = caption(what, labels, columns.metrics, calibrators, values, any(row.dagger for row in rows))
    return Part(key, told, groups, tuple(blocks))


FITS = {
    "none": "no TS, without temperature scaling",
    "released": "released, the fit of the paper's code",
    "exact": "exact, the optimum on the validation data",
    "ensemble": "ensemble TS, which mixes in the model as it was and a uniform guess",
    "vector": "vector scaling, a scale and a bias a class",
    "matrix": "matrix scaling, an affine map of the logits",
    "isotonic": "isotonic, a monotone map of each class's probability",
    "histogram": "histogram, frequencies in bins of each class's probability",
}


def fitted(calibrator: str) -> str:
    """How a calibrator is fitted, for a caption."""
    return FITS.get(calibrator, f"{names.calibrator_label(calibrator)}: fitted to validation labels")


def caption(
    what: str,
    labels: str,
    metrics: Iterable[str],
    calibrators: Iterable[str],
    values: Iterable[Value],
    dagger: bool,
) -> str:
    """What the table shows, and each sign that it uses."""
    values = list(values)
    seeds = max((value.seeds for value in values), default=0)
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    text = f"{what}: scores on test data {JUDGED[labels]}, {spread}. "
    if "ace_average" in metrics:
        text += "ACE is the average calibration error: the mean gap over bins, whatever their size. "
    text += f"Columns: {'; '.join(map(fitted, calibrators))}. "
    if any(value.best for value in values):
        text += "Bold: the lowest of its column and block, if each other is above it by more than either's deviation. "
    if any(map(share, values)):
        text += "Raised: seeds with a finite optimum, of all; the others have none and are left out. "
    if any(math.isinf(value.mean) for value in values):
        text += "∞: a class that occurs was given a probability of 0. "
    if any(math.isnan(value.mean) for value in values):
        text += "--: no finite optimum, or not computed. "
    if dagger:
        text += "†: in some seed fewer than 99% of the labels trained on are fitted. "
    return text.strip()
