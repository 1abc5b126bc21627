"""Compare Mixup with the base loss trained for fewer epochs, at the same accuracy on training labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from halobench.analysis.names import Style
from halobench.core.formatting import count
from halobench.reporting import labels, table_views
from halobench.reporting.answers.answer import base_label, excess_nll, mixup_losses
from halobench.reporting.answers.takeaways import MOST
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_panels, empty_page
from halobench.reporting.plotting.style import GREY, INK, styled
from halobench.reporting.styles import loss_styles
from halobench.storage.columns import KEYS

SHORT = "Mixing, or fitting less"
CATEGORY = "1 Answers"
CAPTION = """\
Test NLL above that of the known posterior (the NLL itself, if no posterior is known) against the accuracy on training
labels, noise included. The lines are the base loss trained for fewer and more epochs. A form of Mixup below a line has
the lower NLL of the two at the same fit, so its advantage isn't that it fits less. Means over seeds; small dots are
single seeds. A model that is trained for N epochs has the name of the other one with `-eN` at its end.
"""
SHOWS = ()  # only in experiments that name it, since it needs models that were trained for fewer epochs
TITLE = "Is it mixing, or fitting less?"
TITLE_IF_BEATEN = (
    "At the same fit, {} with TS beats uncalibrated Mixup"  # on most pairs, each form of Mixup, in all seeds
)
EPOCHS = r"-e\d+$"
FITS = ("none", "exact")
COMPARED = (*FITS, "partner")  # by `differences`
MARGIN = 1.2  # of the axis of NLL, as a factor
LOOKS: dict[str, dict[str, Any]] = {"none": {"color": GREY, "ls": "--"}, "exact": {"color": INK, "ls": "-"}}


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per data set and model, with a line per fit of the base loss and marks for each form of Mixup."""
    scores = _scores(metrics, runs)
    if scores.empty:
        return empty_page(TITLE, "No model has another that was trained with the base loss for fewer epochs (NAME-eN).")
    styles = loss_styles(mixup_losses(scores))
    named = {fit: labels.calibrator_label(fit) for fit in FITS}
    base = base_label(scores.set_index("base"))
    legend = [artists.key(f"{base}, {named[fit]}", lw=1.2, **look) for fit, look in LOOKS.items()]
    for fit, face in (("none", {"mfc": "white"}), ("exact", {})):
        for loss, style in styles.items():
            word = f"{labels.loss_label(loss)}, {named[fit]}"
            legend.append(artists.key(word, style.color, marker=style.marker, ls="", **face))
    cells = table_views.cells_in(scores)
    datasets = list(dict.fromkeys(dataset for dataset, _ in cells))
    where = f"{labels.dataset_label(datasets[0])}. " if len(datasets) == 1 else ""
    headings = {(d, m): labels.model_label(m) if where else labels.cell_label(d, m) for d, m in cells}
    axis = "test NLL above\nthe posterior's (nats)" if metrics["metric"].eq("kl").any() else "test NLL (nats)"
    note = (
        f"{where}A mark below a line has the lower NLL than the base loss that fits as much. Mean over "
        f"{count(scores['seed'].nunique(), 'seed')}; small dots: single seeds."
    )
    of_fits = differences(metrics, runs).query("calibrator == 'none' and base_calibrator == 'exact'")
    beaten = of_fits.groupby(["loss", "dataset", "model"])["value"].min() > 0  # by all seeds
    title = TITLE_IF_BEATEN.format(base) if beaten.groupby("loss").mean().ge(MOST).all() else TITLE
    text = PageText(title, note, legend, "accuracy on training labels", axis, shared=True)
    figure, axes = draw_panels(text, headings, (2.1, 1.9))
    drawn = scores[[*FITS]].to_numpy(float)
    low, high = np.nanmin(drawn) / MARGIN, np.nanmax(drawn[np.isfinite(drawn)]) * MARGIN
    for (dataset, model), ax in axes.items():
        _draw_cell(ax, scores[(scores["dataset"] == dataset) & (scores["model"] == model)], styles)
        ax.set_ylim(low, high)
        ax.yaxis.set(major_locator=LogLocator(10, (1, 2, 5)), major_formatter=StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    return figure


def differences(metrics: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the test NLL with Mixup minus that of the base loss at the same training accuracy, for each cell.

    Returns
    -------
    DataFrame
        dataset, model, loss and seed of a model trained with Mixup; `calibrator`, its fit; `base_calibrator`, that of
        the base loss; `base`, the base loss's NLL in nats, interpolated linearly between the two models of the same
        data set, architecture and seed whose training accuracies enclose Mixup's (NaN if none do); and `value`, the
        difference.
    """
    scores = _scores(metrics, runs)
    mixed = scores[scores["loss"].isin(mixup_losses(scores))]
    base = table_views.groups_of(scores[scores["loss"] == scores["base"]], ["dataset", "model", "seed"])
    fits = [fit for fit in COMPARED if scores[fit].notna().any()]
    rows = []
    for cell in mixed.to_dict("records"):
        path = base.get((cell["dataset"], cell["model"], cell["seed"]), scores.iloc[:0]).sort_values("train_accuracy")
        for fit in fits if len(path) else ():
            accuracies, values = path["train_accuracy"].to_numpy(float), path[fit].to_numpy(float)
            other = np.interp(cell["train_accuracy"], accuracies, values, left=np.nan, right=np.nan)
            rows += [(*(cell[key] for key in KEYS), own, fit, other, cell[own] - other) for own in fits]
    return pd.DataFrame(rows, columns=[*KEYS, "calibrator", "base_calibrator", "base", "value"])


def _scores(metrics: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return scores by `COMPARED`, with training accuracies, of models that were trained for several numbers of epochs.

    All that differ in their epochs only have the same `model`.
    """
    scores = excess_nll(metrics).reindex(columns=[*COMPARED]).reset_index()
    scores = scores.merge(runs[[*KEYS, "train_accuracy", "loss_family", "steps"]], on=KEYS)
    own = scores["loss"] == scores["base"]
    shorter = own & scores["model"].str.contains(EPOCHS)
    family = scores["model"].str.replace(EPOCHS, "", regex=True)
    has_shorter = shorter.groupby([scores["dataset"], family]).transform("any")
    kept = has_shorter & (shorter | (scores["model"] == family))
    return scores.assign(model=family)[kept].reset_index(drop=True)


def _draw_cell(ax: Axes, scores: pd.DataFrame, styles: dict[str, Style]) -> None:
    """Draw a cell's lines of the base loss, through the means of each number of epochs, and Mixup's marks."""
    base = scores[scores["loss"] == scores["base"]]
    for fit, look in LOOKS.items():
        ax.plot(base["train_accuracy"], base[fit], ".", color=look["color"], ms=2.5, mew=0, alpha=0.5)
        means = base.groupby("steps")[["train_accuracy", fit]].mean()
        ax.plot(means["train_accuracy"], means[fit], lw=1.2, zorder=2, **look)
    for loss, style in styles.items():
        mixed = scores[scores["loss"] == loss]
        for fit, face in (("none", "white"), ("exact", style.color)):
            x, y = mixed["train_accuracy"], mixed[fit]
            ax.plot(x, y, ".", color=style.color, ms=2.5, mew=0, alpha=0.5)
            mark: dict[str, Any] = {"color": style.color, "marker": style.marker, "mfc": face, "ms": 5, "zorder": 4}
            ax.plot([x.mean()], [y.mean()], ls="", **mark)
    ax.set_yscale("log")
    ax.xaxis.set(major_locator=MaxNLocator(3), major_formatter=PercentFormatter(1, decimals=0))
