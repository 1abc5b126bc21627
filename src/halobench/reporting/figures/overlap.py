"""Show the overlap distribution for four classes: its regions, its posterior and the labels that 1-NN predicts."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from halobench.data.distribution import overlap_regions
from halobench.data.loaders.image_overlap import ImageOverlap
from halobench.data.loaders.image_overlap import load as load_images
from halobench.data.loaders.overlap import Overlap
from halobench.reporting.plotting import panel_grid, style

SHORT = "Classes that overlap"
CATEGORY = "5 Theory"
CAPTION = """\
The figure shows the overlap distribution for four classes in two groups. Each class has its own region, and each group
shares another region (A), so the posterior is known exactly (B). The label of the nearest training point (C) is always
right in a class's own region, but only half the time in a shared region. In a shared region, temperature scaling of
this one-hot prediction can only spread the doubt evenly over all other classes, partners or not. The KL that it leaves
therefore grows with the number of classes. D shows image regions, if there are any: each is one MNIST image under small
affine changes.
"""

SHOWS = ("overlap", "image_overlap")
CLASSES, GROUP, BETA, POINTS = 4, 2, 0.5, 20
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
ORDER = (0, 4, 1, 2, 5, 3)  # regions around the circle: own, shared, own for each group
EDGE = 4.4  # edge of the visible part of the plane
TITLE = "Classes that overlap: each has a region of its own and shares one with its partner"
NOTE = (
    f"k = {CLASSES} classes in groups of m = {GROUP}, shared mass beta = {BETA:g}, {POINTS} points per class; "
    "drawn in the plane; the regions of the actual distributions are balls or discs in 64 dimensions."
)
TITLES = ("A  Training points and regions", "B  Posterior P(class | region)", "C  What the nearest training point says")
TITLE_OF_IMAGES = "D  The same on images: a region is one image under small affine changes (three draws of each)"
DOUBT = (
    "where two classes share a region, it is wrong half the time,\n"
    "and a temperature can only spread its doubt over all k - 1 others"
)


@style.styled
def draw(runs: pd.DataFrame) -> Figure:
    """Draw regions, posteriors and nearest-neighbour labels in the plane, and images if a cell was trained on them."""
    images = "image_overlap" in set(runs["distribution"])
    distribution = plane()
    sample = distribution.sample(CLASSES * POINTS, np.random.default_rng(0))
    points, labels = sample.inputs.reshape(-1, 2), sample.labels
    figure = panel_grid.blank_figure(11.0, 5.0 if images else 3.8)
    panel_grid.add_head(figure, TITLE, NOTE)
    places: Any = figure.subfigures(2, 1, height_ratios=(3.8, 1.2)) if images else [figure]
    top, *bottom = places
    axes = top.subplots(1, 3)
    for ax, title in zip(axes, TITLES, strict=True):
        ax.set_title(title, loc="left", weight="bold", size=9.5, pad=20 if title is TITLES[1] else 6)
    _draw_regions(axes[0], distribution, points, labels)
    _draw_posterior(axes[1], distribution)
    _draw_nearest(axes[2], distribution, points, labels)
    for part in bottom:
        part.suptitle(TITLE_OF_IMAGES, x=0.01, ha="left", weight="bold", size=9.5)
        _draw_images(part.subplots(1, len(ORDER)))
    return figure


def plane() -> Overlap:
    """Return an overlap distribution in the plane whose regions are evenly spaced around a circle."""
    regions = overlap_regions(CLASSES, GROUP, BETA)
    angle = np.pi / 2 - 2 * np.pi * np.argsort(ORDER) / len(ORDER)
    return Overlap((1, 1, 2), regions, 3.1 * np.stack([np.cos(angle), np.sin(angle)], axis=1), 1.0, None)


def _name(posterior: np.ndarray) -> str:
    owners = np.flatnonzero(posterior)
    return f"own, class {owners[0]}" if len(owners) == 1 else f"shared, {owners[0]} and {owners[1]}"


def _draw_circles(ax: Axes, distribution: Overlap) -> None:
    for centre in distribution.centres:
        ax.add_patch(Circle(centre, distribution.radius, fill=False, ec=style.GREY, lw=0.6, zorder=2))
    ax.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", xticks=(), yticks=())
    ax.spines[:].set_visible(False)


def _draw_regions(ax: Axes, distribution: Overlap, points: np.ndarray, labels: np.ndarray) -> None:
    """Draw training samples and regions in their classes' colours, mixed if two classes share a region."""
    _draw_circles(ax, distribution)
    for centre, row in zip(distribution.centres, distribution.regions.posterior, strict=True):
        owners = np.flatnonzero(row)
        pale = np.mean([seaborn.light_palette(COLORS[owner], 100)[25] for owner in owners], axis=0)
        ax.add_patch(Circle(centre, distribution.radius, color=pale, lw=0, zorder=1))
        ax.text(centre[0], centre[1] - 1.25, _name(row), ha="center", va="center", fontsize=7, zorder=4)
    for label in range(CLASSES):
        look: dict[str, Any] = {"color": COLORS[label], "marker": MARKERS[label], "ms": 3.4, "mew": 0, "ls": ""}
        ax.plot(*points[labels == label].T, zorder=3, label=f"label {label}", **look)


def _draw_posterior(ax: Axes, distribution: Overlap) -> None:
    mass = distribution.regions.mass
    names = [f"own {i}\nmass {mass[i]:.3g}" for i in range(CLASSES)]
    shared = (np.flatnonzero(row) for row in distribution.regions.posterior[CLASSES:])
    names += [f"shared, {a} and {b}\nmass {share:.3g}" for (a, b), share in zip(shared, mass[CLASSES:], strict=True)]
    rows = pd.DataFrame(distribution.regions.posterior, names, [f"class {j}" for j in range(CLASSES)])
    for column, color in zip(rows, COLORS, strict=True):
        look: dict[str, Any] = {"cmap": seaborn.light_palette(color, as_cmap=True), "vmin": -0.15, "vmax": 2}
        look |= {"annot_kws": {"color": style.INK}, "cbar": False, "linewidths": 2}
        words = rows.map({0.0: "0", 0.5: "½", 1.0: "1"}.get)
        mask = pd.DataFrame(True, rows.index, rows.columns).assign(**{str(column): False})
        seaborn.heatmap(rows, mask=mask, annot=words, fmt="", ax=ax, **look)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, labelrotation=0)


def _draw_nearest(ax: Axes, distribution: Overlap, points: np.ndarray, labels: np.ndarray) -> None:
    """Draw the label of the nearest training sample across each region."""
    _draw_circles(ax, distribution)
    side = np.linspace(-EDGE, EDGE, 500)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    nearest = labels[((points**2).sum(axis=1) - 2 * grid @ points.T).argmin(axis=1)]
    inside = (np.linalg.norm(grid[:, None] - distribution.centres[None], axis=2) <= distribution.radius).any(axis=1)
    colors = np.array([seaborn.light_palette(color, 100)[55] for color in COLORS])[nearest]
    colors[~inside] = 1
    ax.imshow(colors.reshape(500, 500, -1), origin="lower", extent=(-EDGE, EDGE, -EDGE, EDGE), zorder=1)
    ax.plot(*points.T, marker=".", ms=2.2, color=style.INK, ls="", zorder=3)
    ax.set_xlabel(DOUBT, size=7.5, color=style.GREY)


def _draw_images(axes: list[Axes]) -> None:
    distribution = cast("ImageOverlap", load_images(classes=CLASSES, group=GROUP, beta=BETA))
    sample = distribution.sample(600, np.random.default_rng(0))
    for ax, region in zip(axes, ORDER, strict=True):
        chosen = sample.inputs[sample.region == region][:3, 0]
        ax.imshow(np.concatenate(list(chosen), axis=1), cmap="gray_r", aspect="equal")
        ax.set_axis_off()
        ax.set_title(_name(distribution.regions.posterior[region]), fontsize=7.5, pad=3)
