"""Show predicted against measured KL: how well the two-level formula predicts what temperature scaling leaves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families
from halobench.reporting.plotting.panel_grid import PageText, Sizes, draw_grid, empty_page
from halobench.reporting.plotting.style import FAINT, GREY, INK, styled
from halobench.reporting.styles import loss_styles, model_markers

SHOWS = ("overlap", "image_overlap")
TITLE = "A formula of three mean gaps predicts what temperature scaling leaves"
LEAST = 1e-4  # nats, below which a KL is drawn at the border


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a point per cell: the measured KL after exact TS against that of two-level logits with its mean gaps.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.
    """
    wanted = {"predicted": ("kl_two_level", "none"), "measured": ("kl", "exact")}
    table = class_families.scores(metrics, runs, wanted).dropna(subset=list(wanted))
    table = table[table["loss"] != "reference"]
    if table.empty:
        return empty_page(TITLE, "No model was trained on a distribution of overlapping classes.")
    styles, markers = loss_styles(table_views.losses_in(table)), model_markers(table["model"])
    keys = [artists.key(labels.model_label(m), INK, marker=mark, mfc="white", ls="") for m, mark in markers.items()]
    keys += [artists.key(labels.loss_label(x), style.color, marker="o", ls="") for x, style in styles.items()]
    text = PageText(TITLE, _note(table), keys, "predicted KL (nats)")
    grid = draw_grid(text, {"": ""}, {"": ""}, [("", "")], Sizes(panel=(4.2, 4.0), left=1.3))
    ax = grid.axes["", ""]
    groups: Iterable[tuple[Any, pd.DataFrame]] = table.groupby(["model", "loss"])
    for (model, loss), rows in groups:
        _draw_cells(ax, rows, styles[loss].color, markers[model])
    both = table[["predicted", "measured"]].clip(lower=LEAST)
    ends = np.array([both.min().min() / 1.5, both.max().max() * 1.5])
    ax.plot(ends, ends, color=FAINT, lw=1, zorder=1)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, ylabel="measured KL after exact TS (nats)")
    ax.text(0.02, 0.98, "hollow: does not interpolate", transform=ax.transAxes, va="top", color=GREY)
    return grid.figure


def _note(table: pd.DataFrame) -> str:
    """Return the sentences under the title: how close predictions are, and what they are."""
    trained = table[table["model"] != "nearest"]
    rank = spearmanr(trained["predicted"], trained["measured"])[0] if len(trained) > 2 else float("nan")
    ratio = (trained["measured"] / trained["predicted"].clip(lower=1e-12)).median()
    return (
        f"A point a cell: {len(trained)} trained models, Spearman correlation {rank:.3f}; measured KL is "
        f"{ratio:.2f} times the predicted one (median). The prediction is two_level_kl(k, beta, m, g0, g1, g2) of the "
        "mean gaps that a model's logits have on test points; on the diagonal it is exact."
    )


def _draw_cells(ax: Axes, rows: pd.DataFrame, color: str, marker: str) -> None:
    """Draw the cells of one model and loss, hollow if they don't interpolate."""
    look: dict[str, Any] = {"color": color, "marker": marker, "ms": 4, "mew": 0.8, "ls": ""}
    full = rows["interpolates"].astype(bool)
    for chosen, face in ((rows[full], color), (rows[~full], "white")):
        ax.plot(chosen["predicted"].clip(lower=LEAST), chosen["measured"].clip(lower=LEAST), mfc=face, **look)
