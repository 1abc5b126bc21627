"""Training loss against epochs, and whether the model ends up interpolating its training labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, page_layout
from halobench.reporting.plotting.style import INK, styled
from halobench.reporting.styles import loss_styles

TITLE = "Training loss, and who interpolates the training labels"
MOST = 200  # points a line: more of a noisy loss are a solid block
FILLS = {"all": "full", "some": "left", "no": "none"}


@styled
def draw(history: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw each loss's own training objective: thin lines a seed, thick their mean, a final mark for interpolation.

    Parameters
    ----------
    history : DataFrame
        As aggregated, a row an epoch.
    runs : DataFrame
        As aggregated, for `interpolates` (training accuracy of at least 0.99).

    Returns
    -------
    Figure
    """
    import seaborn  # half a second, and this figure alone needs it

    table = history.dropna(subset=["train_loss"])
    if table.empty:
        return artists.nothing(TITLE, "No training history was kept.")
    losses, cells = table_views.losses_in(table), table_views.cells_in(table)
    styles = loss_styles(losses)
    groups = {key: windowed(group) for key, group in table.groupby(["dataset", "model", "loss"])}
    many = table.groupby(["dataset", "model", "loss"])["epoch"].nunique().gt(MOST).any()
    share = runs.groupby(["dataset", "model", "loss"])["interpolates"].mean()
    grid = page_layout.grid(
        TITLE,
        "Each loss in its own objective, so heights compare within a loss only. Thin: single seeds; thick: their mean. "
        "The mark at the end is full where every seed fits at least 99% of the labels trained on, noise included, half "
        "full where some do, and open where none does."
        + (f" Of more than {MOST} epochs, means over equal windows are drawn." if many else ""),
        {d: labels.dataset_label(d) for d in dict.fromkeys(d for d, _ in cells)},
        {m: labels.model_label(m) for m in labels.ordered((m for _, m in cells), labels.MODELS)},
        cells,
        panel=(2.1, 1.5),
        gap=(0.6, 0.55),
        left=0.8,
        legend=[
            artists.key(labels.loss_label(x), styles[x].color, ls=styles[x].dash, marker=styles[x].marker)
            for x in losses
        ]
        + [
            artists.key(
                f"interpolates: {word}",
                INK,
                marker="o",
                ls="",
                ms=5,
                fillstyle=fill,
                markerfacecoloralt="white",
            )
            for word, fill in FILLS.items()
        ],
        xlabel="epoch",
    )
    positive, ends = (table["train_loss"] > 0).all(), table.groupby(["dataset", "model"])["epoch"].max()
    for (dataset, model), ax in grid.axes.items():
        for loss in losses:
            if (dataset, model, loss) not in groups:
                continue
            rows, style = groups[dataset, model, loss], styles[loss]
            single, epochs, mean = seeds_and_mean(rows)
            ax.add_artist(
                LineCollection(single, colors=style.color, lw=0.4, alpha=0.5, zorder=2, capstyle="projecting")
            )
            ax.update_datalim(np.concatenate(single))
            look = {"color": style.color, "ls": style.dash, "lw": 1.3, "zorder": 3, "legend": False}
            seaborn.lineplot(x=epochs, y=mean, estimator=None, ax=ax, **look)
            fill = FILLS[_how_many(share.get((dataset, model, loss), float("nan")))]
            look = {"fillstyle": fill, "markerfacecoloralt": "white", "mec": style.color, "mew": 1}
            if fill == "none":
                look = {"mfc": "white", "mec": style.color, "mew": 1}
            look |= {"color": style.color, "marker": style.marker, "ms": 5.5, "ls": "", "zorder": 4, "clip_on": False}
            artists.add_line(ax, epochs[-1:], mean[-1:], **look)
        if positive:
            ax.set_yscale("log")
        ax.autoscale_view()
        ax.set_xlim(0, ends[dataset, model] * 1.03)
        if grid.left(dataset, model):
            ax.set_ylabel("training loss")
    return grid.figure


def seeds_and_mean(rows: pd.DataFrame) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Lines of a cell's seeds, each (epochs, 2) of epoch and loss; and epochs with the mean over seeds at each.

    Parameters
    ----------
    rows : DataFrame
        Columns epoch, seed and train_loss.
    """
    seed, epoch, loss = (rows[name].to_numpy() for name in ("seed", "epoch", "train_loss"))
    order = np.lexsort((epoch, seed))
    points = np.column_stack([epoch, loss])[order]
    single = np.split(points, np.flatnonzero(np.diff(seed[order])) + 1)
    epochs, place = np.unique(epoch, return_inverse=True)
    return single, epochs, np.bincount(place, weights=loss) / np.bincount(place)


def windowed(rows: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """The epochs of one cell as they are, or, of more than `most`, means over windows, for each seed.

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
    # Counted from the end: where the windows don't divide the epochs, the first one is short.
    number = (rows["epoch"].max() - rows["epoch"]) // window
    means = rows.groupby(["seed", number.rename("window")]).agg(
        epoch=("epoch", "max"), train_loss=("train_loss", "mean")
    )
    return means.reset_index().sort_values(["seed", "epoch"], ignore_index=True)


def _how_many(share: float) -> str:
    """All, some or no seeds (also where it isn't known)."""
    return "all" if share == 1 else "some" if share > 0 else "no"
