"""Show the phase diagram: where temperature scaling fails like log k, by the number of classes and rho."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from halobench.calibration.overlap_theory import two_level_kl
from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families
from halobench.reporting.plotting.panel_grid import PageText, Sizes, draw_grid, empty_page
from halobench.reporting.plotting.style import INK, styled
from halobench.reporting.styles import Style, loss_styles, model_markers

SHOWS = ("overlap", "image_overlap")
TITLE = "Where temperature scaling fails like log k, and where it doesn't"
NOTE = (
    "Background: KL* / log k of a classifier with two-level logits, as certain on own regions as on shared ones, "
    "at its best temperature; rho is how far the "
    "partners (the other classes of a shared region) stand above the rest, relative to the top class. Points: "
    "trained models, mean over seeds, filled with their measured KL / log k in the same colours: a point that "
    "melts into the background is where the formula puts it."
)
COLOR_MAP = "YlGnBu"

Law = tuple[str, float, float]  # family, shared mass, size of groups


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw KL* / log k of two-level logits as colour over k and rho, and trained models as points in the same colours.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated; cells on distributions with regions shared by part of the classes are shown.
    """
    wanted = {"rho": ("rho", "none"), "share": ("kl_per_log_k", "exact")}
    table = class_families.scores(metrics, runs, wanted).dropna(subset=["rho", "share"])
    table = table[(table["loss"] != "reference") & (table["group"] < table["classes"])]
    if table.empty:
        return empty_page(TITLE, "No model was trained on a distribution of overlapping classes.")
    laws = _laws(table)
    styles, markers = loss_styles(table_views.losses_in(table)), model_markers(table["model"])
    by = ["beta", "group", "model", "loss", "classes", "family"]
    cells = table.groupby(by)[["rho", "share"]].mean().reset_index()
    colors = Normalize(0, max(cells["share"].max(), *(beta * (1 - 1 / group) for _, beta, group in laws)))
    keys = [artists.key(labels.model_label(m), INK, marker=mark, mfc="white", ls="") for m, mark in markers.items()]
    keys += [
        artists.key(labels.loss_label(loss), style.color, marker="_", ms=9, mew=2.5, ls="")
        for loss, style in styles.items()
    ]
    text = PageText(TITLE, NOTE, keys, "classes k (logarithmic)")
    sizes = Sizes(panel=(4.3, 3.6), gap=(0.45, 0.5), right=1.0, least=6.8)
    grid = draw_grid(text, laws, {"": ""}, [(law, "") for law in laws], sizes)
    for (law, _), ax in grid.axes.items():
        family, beta, group = law
        rows = cells[(cells["family"] == family) & (cells["beta"] == beta) & (cells["group"] == group)]
        background = _draw_background(ax, law, rows["classes"].max(), colors)
        _draw_models(ax, rows, background, styles, markers)
        ax.set_ylabel("rho = partner gap / top gap")
        _draw_color_bar(grid.figure, ax, background)
    return grid.figure


def _laws(table: pd.DataFrame) -> dict[Law, str]:
    """Return the laws of a table's distributions, in order, with their headings."""
    return {
        (family, beta, group): f"{class_families.family_label(family)} (shared mass {beta:g}, groups of {int(group)})"
        for family in class_families.families(table)
        for beta, group in dict.fromkeys(
            table.loc[table["family"] == family, ["beta", "group"]].itertuples(index=False, name=None)
        )
    }


def _draw_background(ax: Axes, law: Law, most_classes: float, colors: Normalize) -> QuadMesh:
    """Draw KL* / log k over k and rho, for own and shared regions that are as certain as one another."""
    _, beta, group = law
    most, least = max(1024, 2 * most_classes), group * 2
    k = group * np.round(np.geomspace(least, most, 80) / group)
    k = np.unique(k)
    rho = np.linspace(0, 1, 81)
    value = two_level_kl(k[None, :], beta, group, 1.0, 1.0, rho[:, None]) / np.log(k)
    mesh = ax.pcolormesh(k, rho, value, cmap=COLOR_MAP, norm=colors, shading="nearest", rasterized=True, zorder=0)
    lines = ax.contour(k, rho, value, levels=[0.05, 0.1, 0.15, 0.2], colors="#222222", linewidths=0.6, zorder=1)
    ax.clabel(lines, fontsize=7, fmt="%g")
    ax.set_xscale("log")
    ticks = [2**i for i in range(1, 16) if least <= 2**i <= most]
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlim=(least * 0.86, most), ylim=(-0.14, 1.08))
    ax.grid(visible=False)
    return mesh


def _draw_models(
    ax: Axes, rows: pd.DataFrame, background: QuadMesh, styles: Mapping[str, Style], markers: Mapping[str, str]
) -> None:
    """Draw trained models at their k and rho, filled with their KL / log k in the colours of the background."""
    row: Any
    for row in rows.itertuples():
        face = background.cmap(background.norm(row.share))
        look: dict[str, Any] = {"mfc": face, "mec": styles[row.loss].color, "mew": 1.6, "ms": 6.5}
        y = np.clip(row.rho, -0.12, 1.06)
        ax.plot([row.classes], [y], marker=markers[row.model], ls="", zorder=3, clip_on=False, **look)


def _draw_color_bar(figure: Figure, ax: Axes, background: QuadMesh) -> None:
    """Draw the scale of the background to the right of a panel."""
    width = figure.get_size_inches()[0]
    box = ax.get_position()
    bar = figure.add_axes((box.x1 + 0.15 / width, box.y0, 0.13 / width, box.height))
    figure.colorbar(background, cax=bar, label="KL / log k (nats)")
    bar.grid(visible=False)
