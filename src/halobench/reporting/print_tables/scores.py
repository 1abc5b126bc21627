"""Lay out tables of NLL, ECE and ACE: means over seeds by data set, model, loss and calibrator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from halobench.reporting import labels, styles, table_views
from halobench.reporting.print_tables.layout import Part, Row, Table, Value

METRICS = {"nll": "NLL", "ece": "ECE", "ace_average": "ACE"}
JUDGED = {
    "clean": "against clean test labels",
    "noisy": "against the known posterior of the labels trained on, in expectation",
    "drawn": "against the test labels drawn",
    "as they are": "against the test labels, to which no noise was added",
}
COLUMNS = ("model", "loss", "interpolates", "labels", "calibrator", "metric", "mean", "sd", "n", "seeds")
FAILURES = ("failed", "below_0")
CELL = ["dataset", "model", "loss"]


@dataclass(frozen=True)
class Columns:
    """The columns that are printed; the CSV has all.

    Attributes
    ----------
    metrics : tuple of str
    calibrators : mapping of str to str
        The calibrators shown for each metric, and their headings.
    plug_ins : bool
        Whether calibrators from outside the package are shown too.
    """

    metrics: tuple[str, ...]
    calibrators: Mapping[str, str]
    plug_ins: bool = False

    def shown(self, numbers: pd.DataFrame) -> list[str]:
        """Return the calibrators that some cell has."""
        present = set(numbers["calibrator"])
        listed = [name for name in self.calibrators if name in present]
        return listed + (sorted(present - set(labels.CALIBRATORS)) if self.plug_ins else [])

    def heading(self, calibrator: str) -> str:
        """Return the heading of a calibrator's column."""
        return self.calibrators.get(calibrator, labels.calibrator_label(calibrator))


PAPER = Columns(tuple(METRICS), {"none": "no TS", "released": "released", "exact": "exact"})
OTHERS = Columns(
    ("nll", "ece"),
    {name: label for name, label in labels.CALIBRATORS.items() if name not in ("released", "oracle")},
    plug_ins=True,
)


def images(metrics: pd.DataFrame, runs: pd.DataFrame, judge: str, columns: Columns = PAPER) -> Table:
    """Return scores on images: a part per data set and noise level, a block per model, a line per loss.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.
    judge : {"clean", "noisy"}
        The labels that test samples are scored against, a key of `JUDGED`.
    columns : Columns
    """
    rows = runs[runs["distribution"].fillna("") == ""]
    datasets = labels.ordered(rows["dataset"], labels.DATASETS)
    numbers = summarise(metrics, rows, datasets, judge, "noise")
    noisy = set(rows.loc[rows["noise"] != 0, "dataset"])
    what = " and ".join(", ".join(METRICS[name] for name in columns.metrics).rsplit(", ", 1))
    title = f"{what} on images, {JUDGED[_judge(judge, bool(noisy) or not datasets)]}"
    # Without noise the posterior is the label itself, and its scores are all 0.
    bayes = {name: row for name, row in reference_rows(numbers, columns).items() if name in noisy}
    parts = []
    for dataset in datasets:
        trained = numbers[(numbers["dataset"] == dataset) & (numbers["loss"] != "reference")]
        models = labels.ordered(trained["model"], labels.MODELS)
        blocks = [(labels.model_label(m), lines(trained[trained["model"] == m], numbers, columns)) for m in models]
        if blocks and columns.shown(numbers):
            blocks += [("", (bayes[dataset],))] if dataset in bayes else []
            judged = JUDGED[_judge(judge, dataset in noisy)]
            shows = f"{labels.dataset_label(dataset)}: scores on test data {judged}"
            parts.append(_part(dataset, shows, blocks, trained, columns.shown(numbers), columns))
    return Table(title, numbers, tuple(parts))


def _judge(judge: str, noise: bool) -> str:
    """Return the key in `JUDGED` of a data set: without noise, the posterior of the labels is the labels."""
    return "as they are" if judge == "noisy" and not noise else judge


def gaussians(metrics: pd.DataFrame, runs: pd.DataFrame, judge: str) -> Table:
    """Return scores on Gaussian classes: a part per model, a block per separation, a line per loss.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.
    judge : {"clean", "noisy"}
        The labels that test samples are scored against, a key of `JUDGED`.
    """
    rows = runs[runs["separation"].notna()]
    separation = rows.drop_duplicates("dataset").set_index("dataset")["separation"]
    datasets = sorted(separation.index, key=lambda name: (separation[name], name))
    numbers = summarise(metrics, rows, datasets, judge, "separation")
    title = f"NLL, ECE and ACE on Gaussian classes by their separation, {JUDGED[judge]}"
    bayes = reference_rows(numbers, PAPER)
    trained = numbers[numbers["loss"] != "reference"]
    parts = []
    for model in labels.ordered(trained["model"], labels.MODELS):
        blocks = []
        of_model = trained[trained["model"] == model]
        for dataset in datasets:
            cells = of_model[of_model["dataset"] == dataset]
            if len(cells):
                heading = f"{dataset}: means {separation[dataset]:.3g} standard deviations apart"
                closing = (bayes[dataset],) if dataset in bayes else ()
                blocks.append((heading, (*lines(cells, numbers, PAPER), *closing)))
        if calibrators := PAPER.shown(numbers):
            what = f"{labels.model_label(model)} on Gaussian classes: scores on test data {JUDGED[judge]}"
            parts.append(_part(model, what, blocks, of_model, calibrators, PAPER))
    return Table(title, numbers, tuple(parts))


def summarise(
    metrics: pd.DataFrame, runs: pd.DataFrame, datasets: Sequence[str], judge: str, fact: str
) -> pd.DataFrame:
    """Return means and standard deviations over seeds, a row per data set, model, loss, calibrator and metric.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.
    datasets : sequence of str
        The data sets to summarise, in order.
    judge : str
        The labels that test samples are scored against; for the posterior (``noisy``) its own scores are included, as
        model ``bayes`` and loss ``reference``.
    fact : str
        The column of `runs` that distinguishes the data sets.

    Returns
    -------
    DataFrame
        dataset, `fact`, `COLUMNS` and `FAILURES`: `interpolates` is the share of seeds that do (NaN if not trained
        here), `sd` has n - 1 (NaN for fewer than two values), `n` counts seeds with a value and `seeds` all: a
        temperature may have no finite optimum. `failed` counts the seeds whose fit did: of the paper's fit, those that
        end farther than 5% from the optimum, and of these `below_0`, which are scored all the same; of others, those
        without a value.
    """
    table = metrics[
        (metrics["split"] == "test")
        & (metrics["labels"] == judge)
        & metrics["metric"].isin(METRICS)
        & metrics["dataset"].isin(datasets)
        & ((metrics["loss"] != "reference") | ((metrics["model"] == "bayes") & (judge == "noisy")))
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
    # The posterior's own scores follow the models'.
    table = table.assign(reference=table["loss"] == "reference").sort_values("seed")
    table = table.assign(**{key: pd.Categorical(table[key], order) for key, order in orders.items()})
    rows = []
    groups: Iterable[tuple[Any, pd.DataFrame]] = table.groupby([*orders], observed=True)
    for (dataset, _, model, loss, calibrator, metric), group in groups:
        share_of = float(interpolates.get((dataset, model, loss), math.nan))
        lead = (dataset, facts[dataset], model, loss, share_of, judge)
        mean, sd, n = mean_and_sd(group["value"].to_numpy())
        failed = failures.get((dataset, model, loss), (0, 0)) if calibrator == "released" else (len(group) - n, 0)
        rows.append((*lead, calibrator, metric, mean, sd, n, len(group), *failed))
    return pd.DataFrame(rows, columns=["dataset", fact, *COLUMNS, *FAILURES])


def paper_fit_failures(runs: pd.DataFrame) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Return in how many seeds of each data set, model and loss the paper's fit isn't near the optimum, or is below 0.

    Below 0 is a failure too where there is no optimum to be near to.
    """
    below = runs["temperature_released"] < 0
    marks = runs[CELL].assign(failed=below | runs["released_near_exact"].eq(0), below=below)
    sums = marks.groupby(CELL)[["failed", "below"]].sum()
    return dict(zip(sums.index, zip(sums["failed"].tolist(), sums["below"].tolist(), strict=True), strict=True))


def mean_and_sd(values: np.ndarray) -> tuple[float, float, int]:
    """Return mean and standard deviation (n - 1) of the values that aren't NaN, and their number.

    Examples
    --------
    >>> mean_and_sd(np.array([1.0, 3.0, np.nan]))
    (2.0, 1.4142135623730951, 2)
    """
    present = values[~np.isnan(values)]
    mean = float(present.mean()) if len(present) else math.nan
    sd = float(present.std(ddof=1)) if len(present) > 1 and math.isfinite(mean) else math.nan
    return mean, sd, len(present)


def lines(cells: pd.DataFrame, numbers: pd.DataFrame, columns: Columns) -> tuple[Row, ...]:
    """Return a line per loss, with each column's best in bold if it is clearly so.

    Parameters
    ----------
    cells : DataFrame
        The rows of `numbers` on one data set and model.
    numbers : DataFrame
        As `summarise` returns them.
    columns : Columns
    """
    by = cells.set_index(["loss", "metric", "calibrator"])
    losses = labels.ordered(cells["loss"], styles.KNOWN_LOSSES)
    values = [
        _with_best([_value(by, loss, metric, calibrator) for loss in losses])
        for metric in columns.metrics
        for calibrator in columns.shown(numbers)
    ]
    interpolates = cells.groupby("loss")["interpolates"].first()
    place = tuple((kind, str(cells[kind].iloc[0])) for kind in ("dataset", "model"))
    return tuple(
        Row(
            labels.loss_label(loss),
            tuple(column[i] for column in values),
            bool(interpolates[loss] < 1),
            (*place, ("loss", loss)),
        )
        for i, loss in enumerate(losses)
    )


def reference_rows(numbers: pd.DataFrame, columns: Columns) -> dict[str, Row]:
    """Return a line for the posterior itself, which needs no calibrator, by data set, if it was scored."""
    calibrators, lines_of = columns.shown(numbers), {}
    groups: Iterable[tuple[Any, pd.DataFrame]] = numbers[numbers["loss"] == "reference"].groupby("dataset", sort=False)
    for dataset, rows in groups:
        by = rows.set_index(["loss", "metric", "calibrator"])
        values = [
            None if i else _value(by, "reference", metric, "none")
            for metric in columns.metrics
            for i, _ in enumerate(calibrators)
        ]
        # It stays whichever model or loss is chosen: it is what they are compared with.
        lines_of[dataset] = Row("The posterior itself", tuple(values), keys=(("dataset", str(dataset)),))
    return lines_of


def _value(by: pd.DataFrame, loss: str, metric: str, calibrator: str) -> Value:
    """Return one value; NaN if it wasn't computed."""
    if (loss, metric, calibrator) not in by.index:
        return Value(math.nan, n=0, seeds=0)
    key: Any = (loss, metric, calibrator)
    row = by.loc[key]
    return Value(float(row["mean"]), float(row["sd"]), int(row["n"]), int(row["seeds"]))


def _with_best(column: list[Value]) -> list[Value]:
    """Mark a column's least mean, if all others lie above it by more than their and its standard deviation."""
    complete = [i for i, value in enumerate(column) if math.isfinite(value.sd) and value.n == value.seeds]
    if len(complete) < 2 or len(complete) < sum(not math.isnan(value.mean) for value in column):
        return column
    first, *others = sorted(complete, key=lambda i: column[i].mean)
    best = column[first]
    if all(column[i].mean - best.mean > max(column[i].sd, best.sd) for i in others):
        column = list(column)
        column[first] = Value(best.mean, best.sd, best.n, best.seeds, best=True)
    return column


def _part(
    key: str,
    what: str,
    blocks: Sequence[tuple[str, tuple[Row, ...]]],
    cells: pd.DataFrame,
    calibrators: Sequence[str],
    columns: Columns,
) -> Part:
    """Return a part with the caption that its rows ask for; `what` opens it, and `cells` are its rows of numbers."""
    rows = [row for _, block in blocks for row in block]
    values = [value for row in rows for value in row.values if value is not None]
    heads = tuple(map(columns.heading, calibrators))
    groups = tuple((METRICS[name] + " (nats)" * (name == "nll"), heads) for name in columns.metrics)
    text = caption(what, columns.metrics, calibrators, values, any(row.dagger for row in rows))
    return Part(key, text + failures_note(cells, calibrators), groups, tuple(blocks))


def failures_note(cells: pd.DataFrame, calibrators: Iterable[str]) -> str:
    """Return a sentence on how often the paper's fit failed; empty if it isn't shown, or never did.

    `cells` are rows of `summarise`, of one part.
    """
    fits = cells[(cells["calibrator"] == "released") & (cells["metric"] == "nll")]
    failed, below, models = (int(fits[column].sum()) for column in (*FAILURES, "seeds"))
    if not failed or "released" not in calibrators:
        return ""
    text = f" In {failed} of {models} models the released fit failed: it is farther than 5% from the optimum"
    return text + (f", and in {below} below 0; it is scored all the same." if below else ".")


FITS = {
    "none": "no TS, without temperature scaling",
    "released": "released, the fit of the paper's code",
    "exact": "exact, the optimum on the validation data",
    "ensemble": "ensemble TS, which mixes in the model as it was and a uniform guess",
    "vector": "vector scaling, a scale and a bias a class",
    "matrix": "matrix scaling, an affine map of the logits",
    "isotonic": "isotonic, a monotone map of each class's probability",
    "histogram": "histogram, frequencies in bins of each class's probability",
    "ts_mix": "TS mixed with a little of a uniform guess",
    "gap": "gap scaling, a temperature that depends on the gap of the two largest logits",
    "partner": "partner scaling, which knows from validation confusions which classes are taken for which",
}


def fitted(calibrator: str) -> str:
    """Return in words how a calibrator is fitted."""
    return FITS.get(calibrator, f"{labels.calibrator_label(calibrator)}: fitted to validation labels")


def caption(
    what: str, metrics: Iterable[str], calibrators: Iterable[str], values: Sequence[Value], dagger: bool
) -> str:
    """Return a caption: `what` the table shows, and each sign that it uses."""
    seeds = max((value.seeds for value in values), default=0)
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    text = f"{what}, {spread}. "
    if "ace_average" in metrics:
        text += "ACE is the average calibration error: the mean gap over bins, whatever their size. "
    text += f"Columns: {'; '.join(map(fitted, calibrators))}. "
    if any(value.best for value in values):
        text += "Bold: the lowest of its column and block, if each other is above it by more than either's deviation. "
    if any(0 < value.n < value.seeds for value in values):
        text += "Raised: seeds whose fit is finite, of all; the others can't be scored and are left out. "
    if any(math.isinf(value.mean) for value in values):
        text += "∞: a class that occurs was given a probability of 0. "
    if any(math.isnan(value.mean) for value in values):
        text += "--: no finite fit, or not computed. "
    if dagger:
        text += "†: in some seed fewer than 99% of the labels trained on are fitted. "
    return text.strip()
