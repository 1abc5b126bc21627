"""Draw forest plots over families of networks: each family's effect, and their mean."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from halobench.analysis.t_intervals import t_interval
from halobench.core.formatting import count
from halobench.reporting import labels, table_views
from halobench.reporting.answers.answer import base_label, excess_nll, means_of, with_base
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, draw_panels, empty_page, wrapped
from halobench.reporting.plotting.style import FAINT, GREY, INK
from halobench.reporting.seed_statistics import seeds_note
from halobench.storage.columns import KEYS, PAIRED

FEWEST = 3  # families
WIDTH = 3.0  # of a panel, in inches
Effects = Mapping[str, pd.Series]  # by the heading of a column of panels: values by data set, model and seed


def draw_forest(title: str, note: str, axis: str, effects: Effects, runs: pd.DataFrame) -> Figure:
    """Draw a panel per data set and effect, with a row per family and their mean."""
    shown = {
        (dataset, heading): rows
        for heading, values in effects.items()
        for (dataset,), rows in table_views.groups_of(means_by_family(values, runs), ["dataset"]).items()
        if len(rows) >= FEWEST
    }
    if not shown:
        return empty_page(title, f"No data set has {FEWEST} models that interpolate and differ in the loss or the fit.")
    models = labels.ordered({m for rows in shown.values() for m in rows["model"]}, labels.MODELS)
    names = [*map(labels.model_label, models), "mean"]
    datasets = labels.ordered({dataset for dataset, _ in shown}, labels.DATASETS)
    left_out = sorted(_base_models(runs, datasets) - {*models})
    without = (
        f" Left out, since they don't interpolate: {', '.join(map(labels.model_label, left_out))}." if left_out else ""
    )
    said = f"{note}; {seeds_note(runs)}. Mean: over {count(len(models), 'family', 'families')}.{without}"
    look = {"marker": "o", "ls": ""}
    legend = [artists.key("family", INK, **look), artists.key("mean of families", GREY, marker="D", ls="")]
    page, size = PageText(title, said, legend, axis, shared=True), (WIDTH, 0.7 + 0.2 * len(names))
    rows = {dataset: labels.dataset_label(dataset) for dataset in datasets}
    columns = {heading: wrapped(heading, 0.95 * WIDTH) for heading in effects}
    if len({heading for _, heading in shown}) < FEWEST:  # data sets side by side need their whole headings
        keys = [key for key in itertools.product(rows, columns) if key in shown]
        figure, axes = draw_panels(page, {key: f"{rows[key[0]]}\n{columns[key[1]]}" for key in keys}, size)
    else:
        figure, axes = draw_grid(page, rows, columns, shown, size)
    for (dataset, heading), ax in axes.items():
        _draw_rows(ax, shown[dataset, heading], models)
        ax.set_xlim(*_limits([rows for (other, _), rows in shown.items() if other == dataset]))  # of a data set, alike
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
    return figure


def scored(metrics: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Return `excess_nll`, those of its rows that `fitted` finds for the base loss, and that loss's name.

    There are no rows of the base loss if it has no TS.
    """
    scores = excess_nll(metrics)
    base = fitted(scores, runs, "")
    return scores, base if "exact" in base else base.iloc[:0], base_label(scores)


def fitted(scores: pd.DataFrame, runs: pd.DataFrame, loss: str) -> pd.DataFrame:
    """Return rows of a loss ("" for each pair's base loss), indexed by `PAIRED`, whose pair's base model interpolates.

    `scores` are indexed by `KEYS` and perhaps further levels.
    """
    cells = with_base(runs)
    cells = cells[(cells["loss"] == cells["base"]) & cells["interpolates"].astype(bool)]
    rows = scores.reset_index().drop(columns="base", errors="ignore").merge(cells[[*PAIRED, "base"]], on=PAIRED)
    return rows[rows["loss"] == (loss or rows["base"])].set_index(PAIRED).drop(columns=["loss", "base"])


def means_by_family(values: pd.Series, runs: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds with their t intervals of values by data set, model and seed."""
    cells = values.dropna().rename("value").reset_index().assign(loss="").set_index(KEYS)["value"]
    return means_of(cells, runs).drop(columns="loss").dropna(subset=["mean"])


def _base_models(runs: pd.DataFrame, datasets: Iterable[str]) -> set[str]:
    """Return the models that were trained with the base loss on some of these data sets."""
    cells = with_base(runs)
    return {*cells.loc[(cells["loss"] == cells["base"]) & cells["dataset"].isin(list(datasets)), "model"]}


def _draw_rows(ax: Axes, rows: pd.DataFrame, models: Sequence[str]) -> None:
    """Draw the families' dots and intervals, then their mean."""
    ax.axvline(0, color="#8a8a8a", lw=0.8, zorder=1)
    ax.xaxis.set_major_locator(MaxNLocator(4))  # more numbers would overlap
    y = rows["model"].map(models.index).to_numpy(float)
    ax.hlines(y, rows["low"], rows["high"], color=INK, lw=1, zorder=2)
    ax.plot(rows["mean"], y, "o", color=INK, ms=4.5, zorder=3)
    means = rows["mean"].to_numpy(float)
    ax.axhline(len(models) - 0.5, color=FAINT, lw=0.8)
    mean, low, high = t_interval(means)
    ax.hlines(len(models), low, high, color=GREY, lw=1.5, zorder=2)
    ax.plot(mean, len(models), "D", color=GREY, ms=5, zorder=3)


def _limits(shown: Sequence[pd.DataFrame]) -> tuple[float, float]:
    means = [t_interval(rows["mean"].to_numpy(float)) for rows in shown]
    ends = [value for rows in shown for name in ("low", "high") for value in rows[name]] + [*itertools.chain(*means)]
    present = [value for value in (*ends, 0.0) if np.isfinite(value)]
    pad = 0.05 * (max(present) - min(present)) or 0.01
    return min(present) - pad, max(present) + pad
