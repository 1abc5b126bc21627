"""Show the training loss by epoch, and whether each model interpolates its training labels in the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.analysis.names import Style
from halobench.reporting import table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import INK, styled
from halobench.reporting.styles import loss_styles

SHORT = "Training"
CATEGORY = "4 Training"
CAPTION = """\
The figure shows the training loss by epoch for every data set and model. Each loss is plotted as its own objective, so
compare heights within a loss but not between losses. The objective of Mixup can't reach 0. The mark at the end shows
whether the models of all seeds interpolate, that is, predict at least 99% of their training labels, including the noisy
ones. The package's claims leave out cross-entropy cells that don't interpolate.
"""

TITLE = "Training loss, and which models fit all their training labels"
NOTE = (
    "Each loss is plotted as its own objective, so compare heights only within a loss. Thin: single seeds; thick: "
    "their mean. The final mark is filled if every seed fits at least 99% of the labels trained on, noise included."
)
MOST_POINTS = 200  # per line; with more, a noisy loss would be a solid block


@styled
def draw(history: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw each loss's objective: a thin line per seed, a thick line for the mean, and a mark for interpolation."""
    cell = ["dataset", "model", "loss"]
    table = history.dropna(subset=["train_loss"])
    if table.empty:
        return empty_page(TITLE, "No training history was kept.")
    styles = loss_styles(table_views.losses_in(table))
    groups = {key: rows for key, rows in table.groupby(cell)}
    long = table.groupby(cell)["epoch"].nunique().gt(MOST_POINTS).any()
    note = NOTE + (f" Beyond {MOST_POINTS} epochs, means over equal windows are drawn." if long else "")
    keys = artists.loss_keys(styles)
    fits = {"every seed fits its labels": INK, "some seed doesn't": "white"}
    keys += [artists.key(word, INK, marker="o", ls="", ms=5, mfc=face) for word, face in fits.items()]
    rows, columns = table_views.dataset_and_model_headings(table)
    text = PageText(TITLE, note, keys, "epoch", "training loss")
    figure, axes = draw_grid(text, rows, columns, table_views.cells_in(table), (2.6, 2.0))
    share = runs.groupby(cell)["interpolates"].mean()
    ends = table.groupby(["dataset", "model"])["epoch"].max()
    for (dataset, model), ax in axes.items():
        for loss, style in styles.items():
            key = dataset, model, loss
            if key in groups:
                _draw_loss(ax, groups[key], style, share.get(key, 0.0))
        if (table["train_loss"] > 0).all():
            ax.set_yscale("log")
        ax.set_xlim(0, ends[dataset, model] * 1.03)
    return figure


def _draw_loss(ax: Axes, rows: pd.DataFrame, style: Style, share: float) -> None:
    """Draw the training loss per seed and its mean, with a final mark that is filled if all seeds interpolate."""
    seeds = rows.pivot_table("train_loss", "epoch", "seed")
    left = np.arange(len(seeds))[::-1] // -(-len(seeds) // MOST_POINTS)  # windows are aligned at the end of the lines
    seeds = seeds.groupby([-left]).mean().set_axis(seeds.index[np.append(np.diff(left) < 0, True)])
    mean = seeds.mean(axis=1)
    ax.plot(seeds.index, seeds, color=style.color, lw=0.5, alpha=0.5, zorder=2)
    ax.plot(mean.index, mean, color=style.color, lw=1.3, zorder=3)
    mark: dict[str, Any] = {"mfc": style.color if share == 1 else "white", "mew": 1, "ms": 6, "ls": ""}
    mark |= {"color": style.color, "marker": style.marker}
    ax.plot(mean.index[-1:], mean.iloc[-1:], zorder=4, clip_on=False, **mark)
