"""Compare families of networks: what each shows, their mean, and what a new family would show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.core.formatting import count
from halobench.reporting import labels, table_views
from halobench.reporting.answers.answer import base_label, excess_nll, means_of, mixup_losses, of_base, with_base
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import FAINT, GREY, INK, styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.results.t_intervals import prediction_interval, t_interval
from halobench.storage.columns import KEYS, PAIRED

SHORT = "Families of networks"
CATEGORY = "1 Answers"
CAPTION = """\
Each row is a family of networks, with the mean over seeds of a paired difference and its 95% t interval. *Mean* has the
95% t interval of the mean over families, in which families count equally. *A new family* has the 95% prediction
interval for the effect in another family, if the families in the figure were drawn at random from those that it
comes from. If it includes 0, the sign of the effect depends on the family. Only models that interpolate with the base
loss are shown.
"""
SHOWS = ()  # only in experiments that name it, since it needs several families
TITLE = "Does it depend on the family of networks?"
FEWEST = 3  # families
CHANGE = "difference in test NLL (nats)"
Effects = Mapping[str, pd.DataFrame]  # by question: rows with dataset, model, mean, low and high


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per data set and question, with a row per family, their mean and a new family."""
    effects = _effects(metrics, runs)
    shown = {
        (dataset, question): rows
        for question, values in effects.items()
        for (dataset,), rows in table_views.groups_of(values.dropna(subset=["mean"]), ["dataset"]).items()
        if len(rows) >= FEWEST
    }
    if not shown:
        return empty_page(TITLE, f"No data set has {FEWEST} models that interpolate and differ in the loss or the fit.")
    models = labels.ordered({m for rows in shown.values() for m in rows["model"]}, labels.MODELS)
    names = [*map(labels.model_label, models), "mean", "a new family"]
    left_out = sorted(_base_models(runs, {dataset for dataset, _ in shown}) - {*models})
    without = (
        f" Left out, since they don't interpolate: {', '.join(map(labels.model_label, left_out))}." if left_out else ""
    )
    note = (
        f"To the left of 0, what is named first has the lower NLL; {seeds_note(runs)}. "
        f"Mean: over {count(len(models), 'family', 'families')}. A new family: its 95% prediction interval.{without}"
    )
    look = {"marker": "o", "ls": ""}
    legend = [artists.key("family", INK, **look), artists.key("mean of families", GREY, marker="D", ls="")]
    figure, axes = draw_grid(
        PageText(TITLE, note, legend, CHANGE, shared=True),
        {dataset: labels.dataset_label(dataset) for dataset in labels.ordered({d for d, _ in shown}, labels.DATASETS)},
        {question: question for question in effects},
        shown,
        (2.1, 0.7 + 0.2 * len(names)),
    )
    for key, ax in axes.items():
        _draw_rows(ax, shown[key], models)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
    return figure


def _base_models(runs: pd.DataFrame, datasets: set[str]) -> set[str]:
    """Return the models that were trained with the base loss on some of these data sets."""
    cells = with_base(runs)
    return {*cells.loc[(cells["loss"] == cells["base"]) & cells["dataset"].isin(datasets), "model"]}


def _effects(metrics: pd.DataFrame, runs: pd.DataFrame) -> Effects:
    """Return each question's effect per data set and model, over seeds in which the base loss's model interpolates."""
    scores = excess_nll(metrics)
    cells = runs.set_index(KEYS)["interpolates"].astype(bool)
    base = of_base(scores)
    fitted = cells.reindex(pd.MultiIndex.from_frame(base.reset_index()[KEYS])).fillna(False).to_numpy(bool)
    base = base[fitted]
    of_pair: pd.DataFrame = base.reset_index().set_index(PAIRED)
    named = base_label(scores) if len(base) else ""
    found: dict[str, pd.DataFrame] = {}

    def add(question: str, difference: pd.Series) -> None:
        if difference.notna().any():
            found[question] = means_of(difference, runs).drop(columns="loss")

    for loss in sorted(mixup_losses(runs)):
        mixed = scores[scores.index.get_level_values("loss") == loss].reset_index().set_index(PAIRED)
        title = labels.loss_label(loss)
        for fit, how in (("none", "uncalibrated"), ("exact", "with TS")):
            if fit in mixed and "exact" in of_pair:
                gap = (mixed[fit] - of_pair["exact"]).dropna()
                add(f"{title} {how}\nagainst {named} with TS", _by_cell(gap, loss))
    for fit in ("partner", "auto"):
        if fit in base and "exact" in base:
            gap = (of_pair[fit] - of_pair["exact"]).dropna()
            add(f"{labels.calibrator_label(fit)}\nagainst TS ({named})", _by_cell(gap, "base"))
    return found


def _by_cell(values: pd.Series, loss: str) -> pd.Series:
    """Return values by data set, model and seed with the index of cells."""
    return values.rename("value").reset_index().assign(loss=loss).set_index(KEYS)["value"]


def _draw_rows(ax: Axes, rows: pd.DataFrame, models: Sequence[str]) -> None:
    """Draw the families' dots and intervals, then their mean and the prediction interval."""
    ax.axvline(0, color="#8a8a8a", lw=0.8, zorder=1)
    y = rows["model"].map(models.index).to_numpy(float)
    ax.hlines(y, rows["low"], rows["high"], color=INK, lw=1, zorder=2)
    ax.plot(rows["mean"], y, "o", color=INK, ms=4.5, zorder=3)
    means = rows["mean"].to_numpy(float)
    ax.axhline(len(models) - 0.5, color=FAINT, lw=0.8)
    mean, low, high = t_interval(means)
    ax.hlines(len(models), low, high, color=GREY, lw=1.5, zorder=2)
    ax.plot(mean, len(models), "D", color=GREY, ms=5, zorder=3)
    ends = prediction_interval(means)
    ax.hlines(len(models) + 1, *ends, color=GREY, lw=4, alpha=0.6, zorder=2)
    if np.isfinite(ends).all():
        ax.set_xlim(*_limits([*rows["low"], *rows["high"], *means, *ends, 0.0]))


def _limits(values: Sequence[float]) -> tuple[float, float]:
    present = [value for value in values if np.isfinite(value)]
    pad = 0.05 * (max(present) - min(present)) or 0.01
    return min(present) - pad, max(present) + pad
