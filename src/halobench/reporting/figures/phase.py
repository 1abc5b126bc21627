"""Show a phase diagram of KL / log k after temperature scaling, over the number of classes k and rho."""

from __future__ import annotations

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
from halobench.reporting.plotting.panel_grid import PageText, draw_panels, empty_page
from halobench.reporting.plotting.style import styled
from halobench.reporting.styles import loss_styles, model_markers
from halobench.storage.columns import REFERENCE

SHORT = "Where TS fails like log k"
CATEGORY = "5 Theory"
CAPTION = """\
Colours show the KL from the known posterior to a model at its best temperature, divided by log k. The background is
what a formula predicts, by the number of classes k and by rho, for a classifier whose logits, on shared regions, have
two levels above all others: the top class's and its partners'. Rho is how far the logits of the top class's partners
lie above those of all remaining classes, divided by how far the top class's own logit lies above them. At the bottom,
partners are like any other class, and KL / log k stays away from 0 as k grows. At the top, partners are level with the
top class, and KL / log k is 0. Each point is a measured mean over seeds for one model, loss and k.
"""

SHOWS = ("overlap", "image_overlap", "collage")
TITLE = "Temperature scaling fails like log k where the logits hide which classes overlap"
NOTE = (
    "Height: rho, how far a model's logits show which classes share a region. At 0, the partners of the top class look "
    "like any other class; at 1, they are level with the top class. Colour: KL / log k at the best temperature, as a "
    "formula predicts (background) and as measured (fill of a point: the mean over seeds of a model and loss). Where a "
    "point blends in, the two agree."
)

Law = tuple[str, float, float]  # family, shared mass, group size
LAW = ["family", "beta", "group"]


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw KL / log k after optimal TS as colours over k and rho: two-level logits as background, models as points."""
    measures = {"rho": ("rho", "none"), "share": ("kl_per_log_k", "exact")}
    table = class_families.scores(metrics, runs, measures).dropna(subset=["rho", "share"])
    table = table[(table["loss"] != REFERENCE) & (table["group"] < table["classes"])]
    if table.empty:
        return empty_page(TITLE, "No model was trained on a distribution of overlapping classes.")
    styles, markers = loss_styles(table_views.losses_in(table)), model_markers(table["model"])
    cells = table.groupby([*LAW, "model", "loss", "classes"])[["rho", "share"]].mean().reset_index()
    panels = table_views.groups_of(cells, LAW)
    colors = Normalize(0, max(cells["share"].max(), *(beta * (1 - 1 / group) for _, beta, group in panels)))
    keys = artists.model_keys(markers) + artists.loss_keys(styles, marker="_", ms=9, mew=2.5, ls="")
    headings = {
        law: f"{labels.dataset_label(law[0])} (shared mass {law[1]:g}, groups of {int(law[2])})"
        for law in sorted(panels, key=lambda law: class_families.families(table).index(law[0]))
    }
    text = PageText(TITLE, NOTE, keys, "classes k (logarithmic)", "rho (0: partners hidden, 1: partners level)")
    figure, axes = draw_panels(text, headings, (6.4, 4.4))
    for law, ax in axes.items():
        background = _draw_background(ax, law, panels[law]["classes"].max(), colors)
        for model, loss, k, rho, share in panels[law][["model", "loss", "classes", "rho", "share"]].to_numpy():
            face, y = background.cmap(background.norm(share)), np.clip(rho, -0.12, 1.06)
            look: dict[str, Any] = {"mfc": face, "mec": styles[loss].color, "mew": 1.6, "ms": 6.5}
            ax.plot([k], [y], marker=markers[model], ls="", zorder=3, clip_on=False, **look)
        figure.colorbar(background, ax=ax, label="KL / log k (a ratio, without unit)", aspect=28, pad=0.02).ax.grid(
            visible=False
        )
    return figure


def _draw_background(ax: Axes, law: Law, most_classes: float, colors: Normalize) -> QuadMesh:
    """Draw KL / log k after optimal TS over k and rho, for own and shared regions of equal certainty."""
    _, beta, group = law
    most, least = 2 * most_classes, group * 2
    k, rho = np.unique(group * np.round(np.geomspace(least, most, 80) / group)), np.linspace(0, 1, 81)
    value = two_level_kl(k[None, :], beta, group, 1.0, 1.0, rho[:, None]) / np.log(k)
    mesh = ax.pcolormesh(k, rho, value, cmap="YlGnBu", norm=colors, shading="nearest", rasterized=True, zorder=0)
    lines = ax.contour(k, rho, value, levels=[0.05, 0.1, 0.15, 0.2], colors="#222222", linewidths=0.6, zorder=1)
    ax.clabel(lines, fontsize=7, fmt="%g")
    artists.log_ticks(ax, [2**i for i in range(1, 16) if least <= 2**i <= most])
    ax.set(xlim=(least * 0.86, most), ylim=(-0.14, 1.08))
    ax.grid(visible=False)
    return mesh
