"""Show what could repair each model, with its NLL split into noise, training, a richer map and a temperature."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page, wrapped
from halobench.reporting.plotting.style import GREY, INK, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.results.names import NO_LOSS, REPAIRS

SHOWS = ()  # drawn only if an experiment lists it, in which case cells get their ladders
TITLE = "What could repair it? Each model's test NLL, by what it would take"
CELL = ["dataset", "model", "loss"]
BAR, HEAD, WIDE = 0.24, 0.7, 2.8  # inches: height of a bar, height around a panel, width of a panel
LABEL = 1.7  # width of a data set's name, in inches
ROOM = 1.15  # length of the horizontal axis over the longest bar without the temperature's part


@styled
def draw(metrics: pd.DataFrame) -> Figure:
    """Draw a panel per model with a stacked bar per data set, for cross-entropy or else the first loss."""
    parts = ladders(metrics)
    if parts.empty:
        return empty_page(TITLE, "No cell has a repair ladder.")
    losses = table_views.losses_in(parts)
    loss = next((name for name in ("cross_entropy", *losses) if name in losses and name != NO_LOSS), NO_LOSS)
    parts = parts[parts["loss"].isin((loss, NO_LOSS))]
    datasets = labels.ordered(parts["dataset"], labels.DATASETS)
    models = labels.ordered(parts["model"], dict.fromkeys(("nearest", "attention", *labels.MODELS)))
    keys = [
        artists.key(name.label, name.style.color, marker="s", ls="", ms=8) for name in REPAIRS.values() if name.style
    ]
    note = (
        f"From left to right: grey, what no classifier gets below; then what {labels.within(labels.loss_label(loss))} "
        "training left that no map of the logits repairs, that a map which knows the classes does, and that a "
        f"temperature does. Black: where orange ends, {seeds_note(parts)}. At the edge: the NLL of longer bars. "
        "Other losses are in the table."
    )
    figure, axes = draw_grid(
        PageText(TITLE, note, keys, "test NLL (nats)", shared=True),
        {"": ""},
        {name: labels.model_label(name) for name in models},
        {("", name) for name in models},
        (WIDE, HEAD + BAR * len(datasets)),
    )
    means = parts.groupby(["dataset", "model"])[list(REPAIRS)[:-1]].mean().clip(lower=0).sum(axis=1)
    for (_, model), ax in axes.items():
        draw_panel(ax, parts[parts["model"] == model], datasets, ROOM * float(means.max()))
    return figure


def ladders(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell's ladder: dataset, model, loss, seed, `nll` and its parts in nats (NaN if absent).

    `metrics` is the aggregated table; without ladders in it, there are no rows.
    """
    rows = metrics[metrics["metric"].astype(str).str.startswith("repair_")]
    wide = rows.assign(part=rows["metric"].str.removeprefix("repair_")).pivot_table("value", [*CELL, "seed"], "part")
    return wide.reindex(columns=["nll", *REPAIRS]).reset_index()


def draw_panel(ax: Axes, parts: pd.DataFrame, datasets: list[str], end: float) -> None:
    """Draw the bars of a model from its rows of `ladders`, with the first of `datasets` on top.

    The axis ends at `end` nats; the NLL of longer bars is printed next to it.
    """
    means = parts.groupby("dataset")[["nll", *REPAIRS]].mean().reindex(datasets).fillna({part: 0.0 for part in REPAIRS})
    at = pd.Series(np.arange(len(datasets)), datasets)
    left = np.zeros(len(means))
    for part, name in REPAIRS.items():
        width = means[part].clip(lower=0).to_numpy()  # one that is slightly below 0 by chance is drawn as 0
        if name.style:
            ax.barh(at, width, left=left, height=0.72, color=name.style.color, lw=0, zorder=2)
        left = left + width
    ends = over_seeds(parts.assign(end=parts["noise"].fillna(0) + parts["training"]), ["dataset"], "end")
    ax.hlines(at[ends["dataset"]], ends["low"], ends["high"].clip(upper=end), color=INK, lw=1.2, zorder=3)
    ax.vlines(ends["mean"], at[ends["dataset"]] - 0.2, at[ends["dataset"]] + 0.2, color=INK, lw=1.2, zorder=3)
    for place, nll in zip(at, means["nll"], strict=True):
        if nll > end:
            ax.text(1.01 * end, place, f"→ {nll:.1f}", va="center", size=7, color=GREY)
    ax.set(xlim=(0, end), ylim=(len(datasets) - 0.5, -0.5))
    ax.set_yticks(at, [wrapped(labels.dataset_label(name), LABEL, 7) for name in datasets])
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
