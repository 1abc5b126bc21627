"""Show NLL, ECE and ACE before and after calibration, against clean labels and under the known posterior."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from halobench.analysis import names
from halobench.reporting import labels, styles, table_views
from halobench.reporting.print_tables.layout import Part, Table, Value, grid
from halobench.storage.columns import REFERENCE

TITLE = "Scores before and after calibration"
CAPTION = """\
The parts against clean labels have the form of the paper's tables for images and for two Gaussian classes, whose rows
are grouped by separation, the distance between the means in standard deviations. Under label noise, a temperature is
fitted to noisy validation labels, so TS can make scores on clean labels worse. If labels are uncertain, further parts
show expectations under the known posterior, which follows from the label noise or came with the data. The posterior's
own scores are at the bottom of these; no model can have a lower NLL. A model that sees only images may not reach this
NLL, since the posterior of flipped labels is conditional on the official label. If there are calibrators other than
temperature scaling, the last parts compare them with optimal TS; those such as isotonic regression and histogram
binning can give a probability of 0 to a class that occurs in the test data, and the NLL is then infinite. ACE is the
*average* calibration error, whose bins have equal weights. The captions count the models for which the paper's fit
failed, i.e. ended more than 5% from the optimum or below 0. The LaTeX at the end of the page needs booktabs and
graphicx. Lower is always better. Compare only rows of the same data set, because the best possible score differs
between data sets.
"""

SHOWS = ("any images", "gaussians")

METRICS = ("nll", "ece", "ace_average")
CALIBRATORS = ("none", "paper", "exact")
JUDGED = {
    "clean": "against clean test labels",
    "noisy": "in expectation under the known posterior",
    "certain": "against the test labels, to which no noise was added",
}
NUMBERS = [
    *("dataset", "noise", "separation", "model", "loss", "interpolates", "labels", "calibrator", "metric"),
    *("mean", "sd", "n", "seeds"),
]
CELL = ["dataset", "model", "loss"]


class View(NamedTuple):
    """A kind of part: the labels that test samples are scored against, and the columns."""

    name: str
    judge: str  # clean or noisy, of `JUDGED`
    metrics: Sequence[str] = METRICS
    calibrators: Sequence[str] = CALIBRATORS

    def heads(self, present: Collection[str]) -> dict[Any, tuple[str, str]]:
        """Return headings of columns by metric and calibrator, without calibrators that aren't `present`."""
        pairs = itertools.product(self.metrics, [name for name in self.calibrators if name in present])
        return {pair: (labels.metric_axis(pair[0]), labels.calibrator_label(pair[1])) for pair in pairs}


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return test scores, with the parts of a view after those of another.

    An image data set has a part with a block per model, and a model on Gaussians has a part with a block per data set.
    Each loss has a line. Data sets of other distributions are left out.
    """
    images = runs[runs["distribution"].fillna("") == ""]
    gaussians = runs[runs["separation"].notna()]
    numbers = summarise(metrics, pd.concat([images, gaussians]))
    uncertain = table_views.posterior_entropies(metrics).keys()
    present = {*numbers["calibrator"]}
    parts: list[Part] = []
    for view in (View("clean", "clean"), View("posterior", "noisy")):
        rows = numbers[numbers["labels"] == view.judge]
        # If labels are certain, the posterior is these labels, so the scores are the same.
        shown = images if view.judge == "clean" else images[images["dataset"].isin(uncertain)]
        parts += _images(view, rows, shown, uncertain, view.heads(present))
        parts += _gaussians(view, rows, gaussians, view.heads(present))
    if others := present - {"paper", "exact", "none", "oracle"}:
        calibrators = labels.ordered({"none", "exact", *others}, labels.CALIBRATORS)
        view = View("all", "noisy", ("nll", "ece"), calibrators)
        parts += _images(view, numbers[numbers["labels"] == "noisy"], images, uncertain, view.heads(present))
    return Table(TITLE, numbers, tuple(parts))


def _images(
    view: View,
    numbers: pd.DataFrame,
    runs: pd.DataFrame,
    uncertain: Collection[str],
    heads: Mapping[Any, tuple[str, str]],
) -> Iterator[Part]:
    """Yield a part per data set, with a block per model and, for those that are `uncertain`, the posterior's line."""
    for dataset in labels.ordered(runs["dataset"], labels.DATASETS):
        cells = numbers[numbers["dataset"] == dataset]
        trained, posterior = cells[cells["loss"] != REFERENCE], cells[cells["loss"] == REFERENCE]
        models = labels.ordered(trained["model"], labels.MODELS)
        blocks = [(labels.model_label(model), trained[trained["model"] == model]) for model in models]
        blocks.append(("", posterior[posterior["dataset"].isin(uncertain)]))
        judged = JUDGED["certain" if view.judge == "noisy" and dataset not in uncertain else view.judge]
        subject = f"{labels.dataset_label(dataset)}: scores on test data {judged}"
        failed = failures_note(runs[runs["dataset"] == dataset]) if "paper" in view.calibrators else ""
        yield from _part(f"{dataset}-{view.name}", subject, blocks, heads, failed)


def _gaussians(
    view: View, numbers: pd.DataFrame, runs: pd.DataFrame, heads: Mapping[Any, tuple[str, str]]
) -> Iterator[Part]:
    """Yield a part per model on Gaussian classes, with a block per data set, by separation."""
    separation = runs.drop_duplicates("dataset").set_index("dataset")["separation"]
    numbers = numbers[numbers["dataset"].isin(separation.index)]
    trained, references = numbers[numbers["loss"] != REFERENCE], numbers[numbers["loss"] == REFERENCE]
    for model in labels.ordered(trained["model"], labels.MODELS):
        of_model = trained[trained["model"] == model]
        blocks = [
            (
                f"{dataset}: means {separation[dataset]:.3g} standard deviations apart",
                pd.concat([cells[cells["dataset"] == dataset] for cells in (of_model, references)]),
            )
            for dataset in sorted({*of_model["dataset"]}, key=lambda name: (separation[name], name))
        ]
        subject = f"{labels.model_label(model)} on Gaussian classes: scores on test data {JUDGED[view.judge]}"
        failed = failures_note(runs[runs["model"] == model])
        yield from _part(f"gaussians-{model}-{view.name}", subject, blocks, heads, failed)


def summarise(metrics: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the scores' means and standard deviations over seeds by data set, labels, cell, calibrator and metric."""
    reference = metrics["loss"] == REFERENCE
    table = metrics.assign(reference=reference)[
        (metrics["split"] == "test")
        & metrics["labels"].isin(["clean", "noisy"])
        & metrics["metric"].isin(METRICS)
        & metrics["dataset"].isin(runs["dataset"])
        & (~reference | ((metrics["model"] == "bayes") & (metrics["labels"] == "noisy")))
    ]
    orders: dict[str, Any] = {
        "dataset": labels.ordered(table["dataset"], labels.DATASETS),
        "labels": ["clean", "noisy"],
        "reference": [False, True],
        "model": labels.ordered(table["model"], labels.MODELS),
        "loss": labels.ordered(table["loss"], styles.KNOWN_LOSSES),
        "calibrator": labels.ordered(table["calibrator"], labels.CALIBRATORS),
        "metric": list(METRICS),
    }
    # The posterior's own scores come after the models' scores.
    table = table.sort_values("seed")
    table = table.assign(**{key: pd.Categorical(table[key], order) for key, order in orders.items()})
    values = table.groupby([*orders], observed=True)["value"]
    numbers = values.agg(mean=_mean, sd=_deviation, n="count", seeds="size").reset_index()
    numbers = numbers.astype({key: object for key in orders if key != "reference"})
    facts = runs.drop_duplicates("dataset")[["dataset", "noise", "separation"]]
    # Weights from elsewhere were trained on other labels, or on these labels without the noise added here.
    interpolates = runs[table_views.trained_here(runs)].groupby(CELL)["interpolates"].mean().reset_index()
    numbers = numbers.merge(facts, "left").merge(interpolates, "left", CELL)
    return numbers[NUMBERS]


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
