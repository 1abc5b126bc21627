"""Show training loss against epochs, and whether each model ends up interpolating its training labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, Sizes, draw_grid, empty_page
from halobench.reporting.plotting.style import INK, styled
from halobench.reporting.styles import Style, loss_styles

TITLE = "Training loss, and who interpolates the training labels"
NOTE = (
    "Each loss in its own objective, so heights compare within a loss only. Thin: single seeds; thick: their mean. "
    "The mark at the end is full where every seed fits at least 99% of the labels trained on, noise included, half "
    "full where some do, and open where none does."
)
MOST_POINTS = 200  # per line: more of a noisy loss are a solid block
FILLS = {"all": "full", "some": "left", "no": "none"}


@styled
def draw(history: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw each loss's own training objective: a thin line per seed, a thick mean, a final mark for interpolation.

    Parameters
    ----------
    history : DataFrame
        As aggregated, a row per epoch.
    runs : DataFrame
        As aggregated, for `interpolates` (training accuracy of at least 0.99).
    """
    table = history.dropna(subset=["train_loss"])
    if table.empty:
        return empty_page(TITLE, "No training history was kept.")
    cells, styles = table_views.cells_in(table), loss_styles(table_views.losses_in(table))
    groups = {key: windowed(group) for key, group in table.groupby(["dataset", "model", "loss"])}
    long = table.groupby(["dataset", "model", "loss"])["epoch"].nunique().gt(MOST_POINTS).any()
    note = NOTE + (f" Of more than {MOST_POINTS} epochs, means over equal windows are drawn." if long else "")
    keys = [
        artists.key(labels.loss_label(loss), style.color, ls=style.dash, marker=style.marker)
        for loss, style in styles.items()
    ]
    mark: dict[str, Any] = {"marker": "o", "ls": "", "ms": 5, "markerfacecoloralt": "white"}
    keys += [artists.key(f"interpolates: {word}", INK, fillstyle=fill, **mark) for word, fill in FILLS.items()]
    grid = draw_grid(
        PageText(TITLE, note, keys, "epoch"),
        {dataset: labels.dataset_label(dataset) for dataset in dict.fromkeys(dataset for dataset, _ in cells)},
        {model: labels.model_label(model) for model in labels.ordered((m for _, m in cells), labels.MODELS)},
        cells,
        Sizes(panel=(2.1, 1.5), gap=(0.6, 0.55), left=0.8),
    )
    share = runs.groupby(["dataset", "model", "loss"])["interpolates"].mean()
    positive, ends = (table["train_loss"] > 0).all(), table.groupby(["dataset", "model"])["epoch"].max()
    for (dataset, model), ax in grid.axes.items():
        for loss, style in styles.items():
            key = dataset, model, loss
            if key in groups:
                _draw_loss(ax, groups[key], style, FILLS[_how_many(share.get(key, float("nan")))])
        if positive:
            ax.set_yscale("log")
        ax.autoscale_view()
        ax.set_xlim(0, ends[dataset, model] * 1.03)
        if grid.left(dataset, model):
            ax.set_ylabel("training loss")
    return grid.figure


def _draw_loss(ax: Axes, rows: pd.DataFrame, style: Style, fill: str) -> None:
    """Draw the seeds of one cell, their mean, and a mark at its end with this fill style."""
    import seaborn  # half a second, and this figure alone needs it

    single, epochs, mean = seeds_and_mean(rows)
    ax.add_artist(LineCollection(single, colors=style.color, lw=0.4, alpha=0.5, zorder=2, capstyle="projecting"))
    ax.update_datalim(np.concatenate(single))
    line = {"color": style.color, "ls": style.dash, "lw": 1.3, "zorder": 3, "legend": False}
    seaborn.lineplot(x=epochs, y=mean, estimator=None, ax=ax, **line)
    mark: dict[str, Any] = {"fillstyle": fill, "markerfacecoloralt": "white"} if fill != "none" else {"mfc": "white"}
    mark |= {"mec": style.color, "mew": 1, "color": style.color, "marker": style.marker, "ms": 5.5, "ls": ""}
    artists.add_line(ax, epochs[-1:], mean[-1:], zorder=4, clip_on=False, **mark)


def seeds_and_mean(rows: pd.DataFrame) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return the lines of a cell's seeds and their mean.

    Parameters
    ----------
    rows : DataFrame
        Columns epoch, seed and train_loss.

    Returns
    -------
    single : list of ndarray, each (epochs, 2)
        Epoch and loss, per seed.
    epochs, mean : ndarray, shape (n,)
        All epochs, and the mean over the seeds that have each.
    """
    seed, epoch, loss = (rows[name].to_numpy() for name in ("seed", "epoch", "train_loss"))
    order = np.lexsort((epoch, seed))
    points = np.column_stack([epoch, loss])[order]
    single = np.split(points, np.flatnonzero(np.diff(seed[order])) + 1)
    epochs, place = np.unique(epoch, return_inverse=True)
    return single, epochs, np.bincount(place, weights=loss) / np.bincount(place)


def windowed(rows: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """Return the epochs of one cell as they are, or, if they are more than `most`, means over windows per seed.

    Parameters
    ----------
    rows : DataFrame
        Columns epoch, seed and train_loss.
    most : int
        Most points of a line.

    Returns
    -------
    DataFrame
        The same columns; `epoch` is the last of a window, so that a line ends where training does.
    """
    window = -(-rows["epoch"].nunique() // most)
    if window <= 1:
        return rows
    # Counted from the end: if the windows don't divide the epochs, the first one is short.
    number = (rows["epoch"].max() - rows["epoch"]) // window
    means = rows.groupby(["seed", number.rename("window")]).agg(
        epoch=("epoch", "max"), train_loss=("train_loss", "mean")
    )
    return means.reset_index().sort_values(["seed", "epoch"], ignore_index=True)


def _how_many(share: float) -> str:
    """Return whether all, some or no seeds interpolate, by their share; NaN counts as none."""
    return "all" if share == 1 else "some" if share > 0 else "no"
