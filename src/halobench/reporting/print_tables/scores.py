"""Lay out tables of NLL, ECE and ACE as means over seeds by data set, model, loss and calibrator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from halobench.reporting import labels, styles, table_views
from halobench.reporting.print_tables.layout import Part, Row, Table, Value
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


@dataclass(frozen=True)
class Columns:
    """The columns to print; the CSV has all of them.

    Attributes
    ----------
    metrics : tuple of str
    calibrators : mapping of str to str
        The calibrators shown for each metric, with their headings.
    plug_ins : bool
        Whether calibrators from outside the package are shown too.
    """

    metrics: tuple[str, ...]
    calibrators: Mapping[str, str]
    plug_ins: bool = False

    def shown(self, numbers: pd.DataFrame) -> list[str]:
        """Return the calibrators to show that at least one cell has."""
        present = set(numbers["calibrator"])
        listed = [name for name in self.calibrators if name in present]
        return listed + (sorted(present - set(labels.CALIBRATORS)) if self.plug_ins else [])

    def heading(self, calibrator: str) -> str:
        """Return the heading of a calibrator's column."""
        return self.calibrators.get(calibrator, labels.calibrator_label(calibrator))


PAPER = Columns(tuple(METRICS), {name: labels.CALIBRATORS[name] for name in ("none", "released", "exact")})
OTHERS = Columns(
    ("nll", "ece"),
    {name: label for name, label in labels.CALIBRATORS.items() if name not in ("released", "oracle")},
    plug_ins=True,
)


def images(metrics: pd.DataFrame, runs: pd.DataFrame, judge: str, columns: Columns = PAPER) -> Table:
    """Return scores on data sets, with a part per data set and noise level, a block per model and a line per loss.

    Parameters
    ----------
    metrics, runs : DataFrame
        The aggregated tables.
    judge : {"clean", "noisy"}
        The labels that test samples are scored against, as a key of `JUDGED`.
    columns : Columns
    """
    rows = runs[runs["distribution"].fillna("") == ""]
    datasets = labels.ordered(rows["dataset"], labels.DATASETS)
    numbers = summarise(metrics, rows, datasets, judge, "noise")
    uncertain = table_views.posterior_entropies(metrics).keys()
    what = " and ".join(", ".join(METRICS[name] for name in columns.metrics).rsplit(", ", 1))
    title = f"{what} on data sets, {JUDGED[_judge(judge, not uncertain.isdisjoint(datasets) or not datasets)]}"
    # If labels are certain, the posterior's own scores are all 0.
    bayes = {name: row for name, row in reference_rows(numbers, columns).items() if name in uncertain}
    parts = []
    for dataset in datasets:
        trained = numbers[(numbers["dataset"] == dataset) & (numbers["loss"] != REFERENCE)]
        models = labels.ordered(trained["model"], labels.MODELS)
        blocks = [(labels.model_label(m), lines(trained[trained["model"] == m], numbers, columns)) for m in models]
        if blocks and columns.shown(numbers):
            blocks += [("", (bayes[dataset],))] if dataset in bayes else []
            judged = JUDGED[_judge(judge, dataset in uncertain)]
            shows = f"{labels.dataset_label(dataset)}: scores on test data {judged}"
            parts.append(_part(dataset, shows, blocks, trained, columns.shown(numbers), columns))
    return Table(title, numbers, tuple(parts))


def _judge(judge: str, uncertain: bool) -> str:
    """Return a data set's key in `JUDGED`, since the posterior equals the labels if these are certain."""
    return "as they are" if judge == "noisy" and not uncertain else judge


def gaussians(metrics: pd.DataFrame, runs: pd.DataFrame, judge: str) -> Table:
    """Return scores on Gaussian classes, with a part per model, a block per separation and a line per loss.

    Parameters
    ----------
    metrics, runs : DataFrame
        The aggregated tables.
    judge : {"clean", "noisy"}
        The labels that test samples are scored against, as a key of `JUDGED`.
    """
    rows = runs[runs["separation"].notna()]
    separation = rows.drop_duplicates("dataset").set_index("dataset")["separation"]
    datasets = sorted(separation.index, key=lambda name: (separation[name], name))
    numbers = summarise(metrics, rows, datasets, judge, "separation")
    title = f"NLL, ECE and ACE on Gaussian classes by their separation, {JUDGED[judge]}"
    bayes = reference_rows(numbers, PAPER)
    trained = numbers[numbers["loss"] != REFERENCE]
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
    """Return means and standard deviations over seeds by data set, model, loss, calibrator and metric.

    Parameters
    ----------
    metrics, runs : DataFrame
        The aggregated tables.
    datasets : sequence of str
        The data sets to summarise, in order.
    judge : str
        The labels that test samples are scored against; with the posterior (``noisy``), its own scores are included as
        model ``bayes`` and loss ``reference``.
    fact : str
        The column of `runs` that distinguishes the data sets.

    Returns
    -------
    DataFrame
        dataset, `fact`, `COLUMNS` and `FAILURES`: `interpolates` is the share of seeds that interpolate (NaN if not
        trained here), and `sd` uses n - 1 (NaN for fewer than two values). `n` counts the seeds with a value and
        `seeds` all seeds, since a temperature may have no finite optimum. `failed` counts the seeds whose fit failed:
        for the paper's fit, those that end farther than 5% from the optimum, of which `below_0` are below 0 and are
        scored all the same; for other fits, those without a value.
    """
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
        failed = failures.get((dataset, model, loss), (0, 0)) if calibrator == "released" else (len(group) - n, 0)
        rows.append((*lead, calibrator, metric, mean, sd, n, len(group), *failed))
    return pd.DataFrame(rows, columns=["dataset", fact, *COLUMNS, *FAILURES])


def paper_fit_failures(runs: pd.DataFrame) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Count the seeds in which the paper's fit failed and those in which it was below 0, by data set, model and loss.

    A fit fails if it isn't near the optimum or is below 0, which counts as a failure even if there is no optimum.
    """
    below = runs["temperature_released"] < 0
    marks = runs[CELL].assign(failed=below | runs["released_near_exact"].eq(0), below=below)
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


def lines(cells: pd.DataFrame, numbers: pd.DataFrame, columns: Columns) -> tuple[Row, ...]:
    """Return a line per loss, with each metric's best value in bold if it is clearly the best.

    Parameters
    ----------
    cells : DataFrame
        The rows of `numbers` for one data set and model.
    numbers : DataFrame
        The rows that `summarise` returns.
    columns : Columns
    """
    by = cells.set_index(["loss", "metric", "calibrator"])
    losses = labels.ordered(cells["loss"], styles.KNOWN_LOSSES)
    values: list[list[Value]] = []
    for metric in columns.metrics:
        each = [_value(by, loss, metric, calibrator) for calibrator in columns.shown(numbers) for loss in losses]
        marked = _with_best(each)
        values += [marked[i : i + len(losses)] for i in range(0, len(marked), len(losses))]
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
    """Return a line for the posterior itself, which needs no calibrator, for each data set where it was scored."""
    calibrators, lines_of = columns.shown(numbers), {}
    groups: Iterable[tuple[Any, pd.DataFrame]] = numbers[numbers["loss"] == REFERENCE].groupby("dataset", sort=False)
    for dataset, rows in groups:
        by = rows.set_index(["loss", "metric", "calibrator"])
        values = [
            None if i else _value(by, REFERENCE, metric, "none")
            for metric in columns.metrics
            for i, _ in enumerate(calibrators)
        ]
        # It is shown whichever model or loss is chosen, since all of them are compared with it.
        lines_of[dataset] = Row("The posterior itself", tuple(values), keys=(("dataset", str(dataset)),))
    return lines_of


def _value(by: pd.DataFrame, loss: str, metric: str, calibrator: str) -> Value:
    """Return one value, which is NaN if it wasn't computed."""
    if (loss, metric, calibrator) not in by.index:
        return Value(math.nan, n=0, seeds=0)
    key: Any = (loss, metric, calibrator)
    row = by.loc[key]
    return Value(float(row["mean"]), float(row["sd"]), int(row["n"]), int(row["seeds"]))


def _with_best(column: list[Value]) -> list[Value]:
    """Mark the lowest mean if every other exceeds it by more than either's standard deviation."""
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
    """Return a part with the caption that its rows need, starting with `what`; `cells` has its rows of numbers."""
    rows = [row for _, block in blocks for row in block]
    values = [value for row in rows for value in row.values if value is not None]
    heads = tuple(map(columns.heading, calibrators))
    groups = tuple((labels.metric_axis(name), heads) for name in columns.metrics)
    text = caption(what, columns.metrics, calibrators, values, any(row.dagger for row in rows))
    return Part(key, text + failures_note(cells, calibrators), groups, tuple(blocks))


def failures_note(cells: pd.DataFrame, calibrators: Iterable[str]) -> str:
    """Return a sentence on how often the paper's fit failed; empty if it isn't shown or never failed.

    `cells` are the rows of `summarise` for one part.
    """
    fits = cells[(cells["calibrator"] == "released") & (cells["metric"] == "nll")]
    failed, below, models = (int(fits[column].sum()) for column in (*FAILURES, "seeds"))
    if not failed or "released" not in calibrators:
        return ""
    text = f" In {failed} of {models} models the fit of the paper's code failed: it is farther than 5% from the optimum"
    return text + (f", and in {below} below 0; it is scored all the same." if below else ".")


def fitted(calibrator: str) -> str:
    """Say in words how a calibrator is fitted."""
    label = labels.calibrator_label(calibrator)
    calibration = names.CALIBRATIONS.get(calibrator)
    return f"{label}, {calibration.sentence if calibration else 'fitted to validation labels'}"


def caption(
    what: str, metrics: Iterable[str], calibrators: Iterable[str], values: Sequence[Value], dagger: bool
) -> str:
    """Return a caption that says `what` the table shows and explains each sign it uses."""
    seeds = max((value.seeds for value in values), default=0)
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    text = f"{what}, {spread}. "
    if "ace_average" in metrics:
        text += f"ACE is the {names.METRICS['ace_average'].sentence}. "
    text += f"Columns: {'; '.join(map(fitted, calibrators))}. "
    if any(value.best for value in values):
        text += (
            "Bold: a block's lowest value of a metric, if all others exceed it by more than either's standard "
            "deviation. "
        )
    if any(0 < value.n < value.seeds for value in values):
        text += "Raised: seeds whose fit is finite, of all; the others can't be scored and are left out. "
    if any(math.isinf(value.mean) for value in values):
        text += "∞: a class that occurs was given a probability of 0. "
    if any(math.isnan(value.mean) for value in values):
        text += "--: no finite fit, or not computed. "
    if dagger:
        text += "†: for some seed, fewer than 99% of the labels trained on are fitted. "
    return text.strip()
