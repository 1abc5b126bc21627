"""Draw legend entries, lines, bands, marks and segments.

Panels of large grids hold thousands of points: what shares a look is one artist, and limits of axes are computed once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.transforms import IdentityTransform

from halobench.reporting.labels import calibrator_label, loss_label
from halobench.reporting.plotting.style import GREY, INK
from halobench.reporting.styles import Style

BAND = 0.18  # opacity of a band
HELD_OUT = (0, (3, 2))  # the dashes of lines around held-out samples


def key(label: str, color: str = INK, **options: Any) -> Line2D:
    """Return a legend entry: a line, a marker, or both; `options` are those of `Line2D`."""
    return Line2D([], [], color=color, label=label, **options)


def loss_keys(losses: Iterable[str], styles: Mapping[str, Style], **options: Any) -> list[Line2D]:
    """Return legend entries of losses: colour, marker and, unless `options` say otherwise, a solid line."""
    return [key(loss_label(x), styles[x].color, marker=styles[x].marker, **options) for x in losses]


def calibrator_keys(styles: Mapping[str, Style]) -> list[Line2D]:
    """Return legend entries of calibrators: colour, dashes and marker."""
    return [
        key(calibrator_label(name), style.color, ls=style.dash, marker=style.marker, lw=1)
        for name, style in styles.items()
    ]


def held_out_key() -> Line2D:
    """Return the legend entry of lines around held-out samples."""
    return key("held-out control", GREY, ls=HELD_OUT, lw=1)


def dodge(count: int, spread: float) -> np.ndarray:
    """Return offsets (count,) of items side by side, `spread` wide in all, centred on 0."""
    return (np.arange(count) - (count - 1) / 2) * (spread / max(count, 1))


class _Line(Line2D):
    """A line that shares the clip box of its axes; matplotlib makes an equal box for each line."""

    def set_clip_path(self, path: Any, transform: Any = None) -> None:
        if self.axes is not None and path is self.axes.patch:
            self.set_clip_box(self.axes.bbox)
        else:
            super().set_clip_path(path, transform)


def add_line(ax: Axes, x: Any, y: Any, **look: Any) -> Line2D:
    """Draw a line through points like `Axes.plot`, but leave the limits of the axes as they are."""
    line = _Line(np.asarray(x, dtype=float), np.asarray(y, dtype=float), **look)
    ax.add_artist(line)
    return line


def add_vertical(ax: Axes, x: float, **look: Any) -> None:
    """Draw a line from the bottom to the top of the axes at `x` like `Axes.axvline`, but leave their limits."""
    ax.add_artist(Line2D([x, x], [0, 1], transform=ax.get_xaxis_transform(), **look))


def add_bands(ax: Axes, bands: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], colors: Sequence[Any]) -> None:
    """Fill bands (x, low, high) wherever both ends are finite, all as one artist."""
    corners, faces = [], []
    for (x, low, high), color in zip(bands, colors, strict=True):
        finite = np.isfinite(low) & np.isfinite(high)
        edges = np.flatnonzero(np.diff(np.r_[False, finite, False])).reshape(-1, 2)
        corners += [np.r_[np.c_[x[i:j], low[i:j]], np.c_[x[i:j], high[i:j]][::-1]] for i, j in edges]
        faces += [color] * len(edges)
    if corners:
        ax.add_artist(PolyCollection(corners, facecolors=faces, alpha=BAND, lw=0, zorder=2))
        ax.update_datalim(np.concatenate(corners))


def add_marks(
    ax: Axes, x: np.ndarray, y: np.ndarray, marker: str, size: float, colors: Sequence[Any], **look: Any
) -> None:
    """Draw marks of one shape without a face, each in its colour, `size` points high, as one artist."""
    if len(x):
        shape = MarkerStyle(marker)
        outline = shape.get_path().transformed(shape.get_transform())
        offsets = {"offsets": np.column_stack([x, y]), "offset_transform": ax.transData}
        marks = PathCollection([outline], [size**2], facecolors="none", edgecolors=colors, **offsets, **look)
        marks.set_transform(IdentityTransform())
        ax.add_artist(marks)


def add_segments(ax: Axes, segments: Any, colors: Sequence[Any], **look: Any) -> None:
    """Draw straight lines, each from one point to another in its colour, as one artist.

    Parameters
    ----------
    segments : array-like, shape (n, 2, 2)
    """
    if len(segments):
        ax.add_artist(LineCollection(segments, colors=colors, capstyle="projecting", **look))


def draw_lines(
    ax: Axes,
    means: pd.DataFrame,
    x: str,
    styles: Mapping[str, Style],
    size: float = 2.6,
    dash: Any = "-",
) -> None:
    """Draw a line per loss: around training samples with a band, around held-out samples dashed.

    Parameters
    ----------
    means : DataFrame
        As `over_seeds` returns it, with columns ``loss``, ``points`` and `x`.
    x : str
        The column of the horizontal axis.
    styles : mapping of str to Style
        The losses to draw, in order.
    size : float
        Of the marks, in points.
    dash : matplotlib line style
        Of the lines around training samples.
    """
    means = means.sort_values(x, kind="stable")
    columns = {name: means[name].to_numpy() for name in (x, "mean", "low", "high")}
    loss_of, points_of = (means[name].to_numpy(dtype=object) for name in ("loss", "points"))
    lines = {}
    for loss, points in itertools.product(styles, ("heldout", "train")):
        rows = np.flatnonzero((loss_of == loss) & (points_of == points))
        if len(rows):
            lines[loss, points] = [values[rows] for values in columns.values()]
    bands = {loss: (at, low, high) for (loss, points), (at, _, low, high) in lines.items() if points == "train"}
    add_bands(ax, list(bands.values()), [styles[loss].color for loss in bands])
    for (loss, points), (at, mean, *_) in lines.items():
        color, marker = styles[loss].color, styles[loss].marker
        if points == "heldout":
            add_line(ax, at, mean, color=color, lw=0.9, ls=HELD_OUT, zorder=2)
        else:
            add_line(ax, at, mean, color=color, ls=dash, marker=marker, ms=size, mew=0, zorder=3)
    if lines:
        ax.update_datalim(np.concatenate([np.column_stack(columns[:2]) for columns in lines.values()]))
    ax.autoscale_view()
