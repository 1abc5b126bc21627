"""The phase diagram: where temperature scaling fails like log k, by the number of classes and rho."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from halobench.calibration.overlap_theory import two_level_kl
from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families, page_layout, style
from halobench.reporting.styles import loss_styles

SHOWS = ("overlap", "image_overlap")
TITLE = "Where temperature scaling fails like log k, and where it doesn't"
SHAPES = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "*", "h")
MAP = "YlGnBu"


@style.styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw KL* / log k of two-level logits as colour over k and rho, and trained models as points in the same colours.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated; cells on distributions with regions shared by part of the classes are shown.

    Returns
    -------
    Figure
    """
    wanted = {"rho": ("rho", "none"), "share": ("kl_per_log_k", "exact")}
    table = class_families.scores(metrics, runs, wanted).dropna(subset=["rho", "share"])
    table = table[(table["loss"] != "reference") & (table["group"] < table["classes"])]
    if table.empty:
        return artists.nothing(TITLE, "No model was trained on a distribution of overlapping classes.")
    laws = {
        (family, beta, group): f"{class_families.family_label(family)} (shared mass {beta:g}, groups of {int(group)})"
        for family in class_families.families(table)
        for beta, group in dict.fromkeys(
            table.loc[table["family"] == family, ["beta", "group"]].itertuples(index=False, name=None)
        )
    }
    models, losses = labels.ordered(table["model"], labels.MODELS), table_views.losses_in(table)
    styles = loss_styles(losses)
    cells = (
        table.groupby(["beta", "group", "model", "loss", "classes", "family"])[["rho", "share"]].mean().reset_index()
    )
    limit = Normalize(0, max(cells["share"].max(), *(b * (1 - 1 / m) for _, b, m in laws)))
    shapes = {model: SHAPES[i % len(SHAPES)] for i, model in enumerate(models)}
    grid = page_layout.grid(
        TITLE,
        "Background: KL* / log k of a classifier with two-level logits, as certain on own regions as on shared ones, "
        "at its best temperature; rho is how far the "
        "partners (the other classes of a shared region) stand above the rest, relative to the top class. Points: "
        "trained models, mean over seeds, filled with their measured KL / log k in the same colours: a point that "
        "melts into the background is where the formula puts it.",
        laws,
        {"": ""},
        [(law, "") for law in laws],
        panel=(4.3, 3.6),
        gap=(0.45, 0.5),
        right=1.0,
        legend=[
            *(artists.key(labels.model_label(m), style.INK, marker=shapes[m], mfc="white", ls="") for m in models),
            *(artists.key(labels.loss_label(x), styles[x].color, marker="_", ms=9, mew=2.5, ls="") for x in losses),
        ],
        xlabel="classes k (logarithmic)",
        least=6.8,
    )
    for (law, _), ax in grid.axes.items():
        family, beta, group = law
        rows = cells[(cells["family"] == family) & (cells["beta"] == beta) & (cells["group"] == group)]
        drawn = _background(ax, (beta, group), rows, limit)
        row: Any
        for row in rows.itertuples():
            look = {"mfc": drawn.cmap(limit(row.share)), "mec": styles[row.loss].color, "mew": 1.6, "ms": 6.5}
            y = np.clip(row.rho, -0.12, 1.06)
            ax.plot([row.classes], [y], marker=shapes[row.model], ls="", zorder=3, clip_on=False, **look)
        ax.set_ylabel("rho = partner gap / top gap")
        width = grid.figure.get_size_inches()[0]
        box = ax.get_position()
        bar = grid.figure.add_axes((box.x1 + 0.15 / width, box.y0, 0.13 / width, box.height))
        grid.figure.colorbar(drawn, cax=bar, label="KL / log k (nats)")
        bar.grid(visible=False)
    return grid.figure


def _background(ax, law: tuple[float, float], rows: pd.DataFrame, limit: Normalize):
    """KL* / log k over k and rho, for own and shared regions that are as certain as one another."""
    most = max(1024, 2 * rows["classes"].max())
    least = law[1] * 2
    k = law[1] * np.round(np.geomspace(least, most, 80) / law[1])
    k = np.unique(k)
    rho = np.linspace(0, 1, 81)
    value = two_level_kl(k[None, :], law[0], law[1], 1.0, 1.0, rho[:, None]) / np.log(k)
    drawn = ax.pcolormesh(k, rho, value, cmap=MAP, norm=limit, shading="nearest", rasterized=True, zorder=0)
    lines = ax.contour(k, rho, value, levels=[0.05, 0.1, 0.15, 0.2], colors="#222222", linewidths=0.6, zorder=1)
    ax.clabel(lines, fontsize=7, fmt="%g")
    ax.set_xscale("log")
    ticks = [2**i for i in range(1, 16) if least <= 2**i <= most]
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlim=(least * 0.86, most), ylim=(-0.14, 1.08))
    ax.grid(visible=False)
    return drawn
