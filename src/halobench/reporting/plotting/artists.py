"""Draw what figures share: lines, bands, marks, reliability bars."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.transforms import IdentityTransform

from halobench.reporting.labels import FEW, loss_label
from halobench.reporting.plotting.page_layout import grid, set_ticks
from halobench.reporting.plotting.style import BAND, FAINT, INK
from halobench.reporting.styles import Style
from halobench.reporting.table_views import bars_of


def key(label: str, color: str = INK, **options: Any) -> Line2D:
    """A legend entry: a line, a marker, or both."""
    return Line2D([], [], color=color, label=label, **options)


def loss_keys(losses: Iterable[str], styles: Mapping[str, Style], **options: Any) -> list[Line2D]:
    """Legend entries of losses: their colour, marker and (unless given) a solid line."""
    return [key(loss_label(x), styles[x].color, marker=styles[x].marker, **options) for x in losses]


def dodge(count: int, spread: float) -> np.ndarray:
    """Offsets of `count` items side by side, `spread` wide in all, centred on 0."""
    return (np.arange(count) - (count - 1) / 2) * (spread / max(count, 1))


def nothing(title: str, why: str) -> Figure:
    """A page that says that there is nothing to draw, and why."""
    return grid(title, why, {}, {}, ()).figure


class _Line(Line2D):
    """A line that is clipped to its axes' box itself, where matplotlib makes another box of the same size for each."""

    def set_clip_path(self, path: Any, transform: Any = None) -> None:
        if self.axes is not None and path is self.axes.patch:
            self.set_clip_box(self.axes.bbox)
        else:
            super().set_clip_path(path, transform)


def add_line(ax: Axes, x: Any, y: Any, **look: Any) -> Line2D:
    """A line through points, as `Axes.plot` draws it, but that limits of axes are left as they are."""
    line = _Line(np.asarray(x, dtype=float), np.asarray(y, dtype=float), **look)
    ax.add_artist(line)
    return line


def upright(ax: Axes, x: float, **look: Any) -> None:
    """A line all the way up at `x`, as `Axes.axvline` draws it."""
    ax.add_artist(Line2D([x, x], [0, 1], transform=ax.get_xaxis_transform(), **look))


def add_bands(ax: Axes, bands: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], colors: Sequence[Any]) -> None:
    """Fill between two lines (x, low, high), wherever both are finite: all of a panel's bands as one artist."""
    corners, faces = [], []
    for (x, low, high), color in zip(bands, colors, strict=True):
        known = np.isfinite(low) & np.isfinite(high)
        edges = np.flatnonzero(np.diff(np.r_[False, known, False])).reshape(-1, 2)
        corners += [np.r_[np.c_[x[i:j], low[i:j]], np.c_[x[i:j], high[i:j]][::-1]] for i, j in edges]
        faces += [color] * len(edges)
    if corners:
        ax.add_artist(PolyCollection(corners, facecolors=faces, alpha=BAND, lw=0, zorder=2))
        ax.update_datalim(np.concatenate(corners))


def add_marks(
    ax: Axes, x: np.ndarray, y: np.ndarray, marker: str, size: float, colors: Sequence[Any], **look: Any
) -> None:
    """Marks of one shape without a face, each in its colour, `size` points high, as one artist."""
    if len(x):
        shape = MarkerStyle(marker)
        outline = shape.get_path().transformed(shape.get_transform())
        offsets = {"offsets": np.column_stack([x, y]), "offset_transform": ax.transData}
        marks = PathCollection([outline], [size**2], facecolors="none", edgecolors=colors, **offsets, **look)
        marks.set_transform(IdentityTransform())
        ax.add_artist(marks)


def add_segments(ax: Axes, segments: Any, colors: Sequence[Any], **look: Any) -> None:
    """Lines, each from one point to another and in its colour, as one artist."""
    if len(segments):
        ax.add_artist(LineCollection(segments, colors=colors, capstyle="projecting", **look))


def draw_lines(
    ax: Axes,
    means: pd.DataFrame,
    x: str,
    losses: Sequence[str],
    styles: Mapping[str, Style],
    size: float = 2.6,
    dash: Any = "-",
) -> None:
    """One line a loss from the rows of `over_seeds`: training points by `dash` with a band, held-out dashed."""
    means = means.sort_values(x, kind="stable")
    columns = {name: means[name].to_numpy() for name in (x, "mean", "low", "high")}
    of = {name: means[name].to_numpy(dtype=object) for name in ("loss", "points")}
    found = {}
    for loss, points in itertools.product(losses, ("heldout", "train")):
        rows = np.flatnonzero((of["loss"] == loss) & (of["points"] == points))
        if len(rows):
            found[loss, points] = [values[rows] for values in columns.values()]
    bands = {loss: (at, low, high) for (loss, points), (at, _, low, high) in found.items() if points == "train"}
    add_bands(ax, list(bands.values()), [styles[loss].color for loss in bands])
    for (loss, points), (at, mean, *_) in found.items():
        color, marker = styles[loss].color, styles[loss].marker
        if points == "heldout":
            add_line(ax, at, mean, color=color, lw=0.9, ls=(0, (3, 2)), zorder=2)
        else:
            add_line(ax, at, mean, color=color, ls=dash, marker=marker, ms=size, mew=0, zorder=3)
    if found:
        ax.update_datalim(np.concatenate([np.column_stack(columns[:2]) for columns in found.values()]))
    ax.autoscale_view()


def noise_caps(reliability: pd.DataFrame) -> str:
    """A sentence on how accurate any answer can be under label noise, where bins are scored in expectation of it."""
    against = reliability.loc[reliability["labels"] == "noisy", "dataset"].drop_duplicates()
    found = against.str.extract(r"-noise(\d+)$")[0].dropna().astype(int).sort_values().unique()
    # Beyond one half the label that replaces the true one may be the likelier.
    caps = [f"{1 - p / 100:.2g} under {p}% label noise" for p in found if 0 < p <= 50]
    return f"No answer is more accurate than {', '.join(caps)}. " if caps else ""


def draw_reliability(
    ax: Axes,
    bars: Axes | None,
    pooled: pd.DataFrame,
    styles: Mapping[str, Style],
    size: float = 3,
    by: str = "calibrator",
) -> None:
    """Accuracy against confidence over the diagonal, a line for each of `styles`; in `bars` the points a bin.

    Parameters
    ----------
    by : str
        The column that tells lines apart.
    """
    add_line(ax, [0, 1], [0, 1], color=FAINT, lw=0.8, zorder=1)
    columns = {name: pooled[name].to_numpy() for name in ("confidence", "accuracy", "count", "lower", "upper")}
    of = pooled[by].to_numpy(dtype=object)
    found = {name: {column: values[of == name] for column, values in columns.items()} for name in styles}
    for name, style in styles.items():
        line = found[name]
        confidence, accuracy, few = line["confidence"], line["accuracy"], line["count"] < FEW
        if not len(few):
            continue
        look = {"color": style.color, "marker": style.marker, "mew": 0, "ls": "", "zorder": 3}
        # Where TS changes little, the line without it lies beneath: its larger marks still show.
        size_here = size + (name == "none")
        # Few points say little: their bins are drawn faint, and no line leads the eye there.
        known = np.where(few, np.nan, accuracy)
        add_line(ax, confidence, known, color=style.color, ls=style.dash, lw=1, zorder=2)
        add_line(ax, confidence[~few], accuracy[~few], ms=size_here, **look)
        if few.any():
            add_line(ax, confidence[few], accuracy[few], ms=size_here - 0.6, alpha=0.3, **look)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04))
    for axis in (ax.xaxis, ax.yaxis):
        set_ticks(axis, (0, 0.5, 1))
    if bars is None:
        return
    for i, (name, style) in enumerate(styles.items()):
        line = found[name]
        width = (line["upper"] - line["lower"]) / (len(styles) + 0.5)
        middle = (line["upper"] + line["lower"]) / 2 + (i - (len(styles) - 1) / 2) * width
        if len(middle):
            bars.add_artist(bars_of(middle, width, line["count"], color=style.color, lw=0))
    bars.set_xlim(-0.02, 1.02)
    set_ticks(bars.xaxis, (0, 0.5, 1))
