"""Show the overlap distribution for four classes: its regions, its posterior, and what 1-NN predicts."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge

from halobench.data.distribution import overlap_regions
from halobench.data.loaders.image_overlap import ImageOverlap
from halobench.data.loaders.image_overlap import load as load_images
from halobench.data.loaders.overlap import Overlap
from halobench.reporting.plotting import page_layout, style

SHOWS = ("overlap", "image_overlap")
CLASSES, GROUP, BETA, POINTS = 4, 2, 0.5, 20
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
ORDER = (0, 4, 1, 2, 5, 3)  # regions around the circle: own, shared, own of each group


@style.styled
def draw(runs: pd.DataFrame) -> Figure:
    """Draw regions, posterior and nearest-neighbour labels in the plane; and images, if a cell was trained on such.

    Parameters
    ----------
    runs : DataFrame
        As aggregated.

    Returns
    -------
    Figure
    """
    images = "image_overlap" in set(runs["distribution"])
    distribution = plane()
    sample = distribution.sample(CLASSES * POINTS, np.random.default_rng(0))
    points, labels = sample.inputs.reshape(-1, 2), sample.labels
    figure = page_layout.blank_figure(11.0, 5.5 if images else 4.3)
    title = "Classes that overlap: each has a region of its own and shares one with its partner"
    page_layout.write(figure, 0.15, 0.12, title, size=12, weight="bold")
    note = (
        f"k = {CLASSES} classes in groups of m = {GROUP}, shared mass beta = {BETA:g}, {POINTS} points a class; "
        "drawn in the plane, where the bench's regions are balls or discs in 64 dimensions."
    )
    page_layout.write(figure, 0.15, 0.36, note, color=style.GREY)
    for left, letter, text in (
        (0.15, "A", "Training points and regions"),
        (3.95, "B", "Posterior P(class | region)"),
        (7.35, "C", "What the nearest training point says"),
    ):
        page_layout.write(figure, left, 0.66, letter, weight="bold", size=9.5)
        page_layout.write(figure, left + 0.18, 0.66, text, weight="bold", size=9.5)
    _regions(page_layout.place(figure, 0.25, 0.95, 3.0, 3.0), distribution, points, labels)
    _posterior(page_layout.place(figure, 4.75, 1.1, 2.1, 2.55), distribution)
    _nearest(page_layout.place(figure, 7.5, 0.95, 3.0, 3.0), distribution, points, labels)
    if images:
        _images(figure, 4.25)
    return figure


def plane() -> Overlap:
    """Return the distribution in the plane, its regions evenly around a circle."""
    regions = overlap_regions(CLASSES, GROUP, BETA)
    angle = np.pi / 2 - 2 * np.pi * np.argsort(ORDER) / len(ORDER)
    return Overlap((1, 1, 2), regions, 3.1 * np.stack([np.cos(angle), np.sin(angle)], axis=1), 1.0, None)


def _bare(ax: Axes) -> None:
    ax.set(xlim=(-4.4, 4.4), ylim=(-4.4, 4.4), aspect="equal", xticks=(), yticks=())
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _pale(color: str, share: float = 0.25) -> tuple[float, ...]:
    """Return a colour mixed with white; `share` is that of the colour."""
    return tuple(1 - share * (1 - part) for part in to_rgb(color))


def _regions(ax: Axes, distribution: Overlap, points: np.ndarray, labels: np.ndarray) -> None:
    """Draw regions in their classes' colours, halved if two share one, and training samples."""
    _bare(ax)
    for centre, row in zip(distribution.centres, distribution.regions.posterior, strict=True):
        owners = np.flatnonzero(row)
        for i, owner in enumerate(owners):
            ends = (90 + 360 * i / len(owners), 90 + 360 * (i + 1) / len(owners))
            ax.add_patch(Wedge(centre, distribution.radius, *ends, color=_pale(COLORS[owner]), lw=0, zorder=1))
        ax.add_patch(Circle(centre, distribution.radius, fill=False, ec=style.GREY, lw=0.6, zorder=2))
        name = f"own, class {owners[0]}" if len(owners) == 1 else f"shared, {owners[0]} and {owners[1]}"
        x, y = centre - np.array([0, 1.25])
        ax.text(x, y, name, ha="center", va="center", fontsize=7, zorder=4)
    for label in range(CLASSES):
        mine = points[labels == label]
        look: dict[str, Any] = {"color": COLORS[label], "marker": MARKERS[label], "ms": 3.4, "mew": 0, "ls": ""}
        ax.plot(*mine.T, zorder=3, label=f"label {label}", **look)


def _posterior(ax: Axes, distribution: Overlap) -> None:
    """Draw the posterior as a table: a row per region, a column per class."""
    rows = distribution.regions.posterior
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            ax.add_patch(
                Circle((j, i), 0.36, color=_pale(COLORS[j], 0.25 + 0.55 * value) if value else "#f4f4f4", lw=0)
            )
            ax.text(j, i, {0: "0", 1: "1", 0.5: "½"}[float(value)], ha="center", va="center", fontsize=8)
    names = [f"own {i}\nmass {distribution.regions.mass[i]:.3g}" for i in range(CLASSES)]
    names += [f"shared\nmass {mass:.3g}" for mass in distribution.regions.mass[CLASSES:]]
    ax.set_yticks(range(len(rows)), names)
    ax.set_xticks(range(CLASSES), [f"class {j}" for j in range(CLASSES)])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set(xlim=(-0.5, CLASSES - 0.5), ylim=(len(rows) - 0.5, -0.5), aspect="equal")
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _nearest(ax: Axes, distribution: Overlap, points: np.ndarray, labels: np.ndarray) -> None:
    """Draw the label of the nearest training sample, over each region."""
    _bare(ax)
    side = np.linspace(-4.4, 4.4, 500)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    square = (points**2).sum(axis=1) - 2 * grid @ points.T
    said = labels[square.argmin(axis=1)]
    inside = (np.linalg.norm(grid[:, None] - distribution.centres[None], axis=2) <= distribution.radius).any(axis=1)
    colors = np.array([_pale(color, 0.55) for color in COLORS])[said]
    colors[~inside] = 1
    ax.imshow(colors.reshape(500, 500, 3), origin="lower", extent=(-4.4, 4.4, -4.4, 4.4), zorder=1)
    for centre in distribution.centres:
        ax.add_patch(Circle(centre, distribution.radius, fill=False, ec=style.GREY, lw=0.6, zorder=2))
    ax.plot(*points.T, marker=".", ms=2.2, color=style.INK, ls="", zorder=3)
    text = "where two classes share a region it is wrong half the time,\n"
    text += "and temperature can only spread its doubt over all k - 1 others"
    ax.text(0, -4.45, text, ha="center", va="top", fontsize=7.5, color=style.GREY)


def _images(figure: Figure, top: float) -> None:
    """Draw images of the regions of a distribution on MNIST prototypes."""
    distribution = cast("ImageOverlap", load_images(classes=CLASSES, group=GROUP, beta=BETA))
    sample = distribution.sample(600, np.random.default_rng(0))
    page_layout.write(figure, 0.15, top, "D", weight="bold", size=9.5)
    text = "The same on images: a region is one image under small affine changes (three draws of each)"
    page_layout.write(figure, 0.33, top, text, weight="bold", size=9.5)
    for column, region in enumerate(ORDER):
        chosen = sample.inputs[sample.region == region][:3, 0]
        ax = page_layout.place(figure, 0.3 + 1.78 * column, top + 0.45, 1.62, 0.54)
        ax.imshow(np.concatenate(list(chosen), axis=1), cmap="gray_r", aspect="equal")
        ax.set_axis_off()
        owners = np.flatnonzero(distribution.regions.posterior[region])
        name = f"own, class {owners[0]}" if len(owners) == 1 else f"shared, {owners[0]} and {owners[1]}"
        ax.set_title(name, fontsize=7.5, pad=3)
