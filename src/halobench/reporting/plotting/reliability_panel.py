"""Draw reliability diagrams: accuracy against confidence in bins, over the diagonal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from halobench.reporting.labels import FEW
from halobench.reporting.plotting.artists import add_line
from halobench.reporting.plotting.page_layout import set_ticks
from halobench.reporting.plotting.style import FAINT
from halobench.reporting.styles import Style

TICKS = (0, 0.5, 1)
COLUMNS = ("confidence", "accuracy", "count", "lower", "upper")


def draw_reliability(
    ax: Axes, pooled: pd.DataFrame, styles: Mapping[str, Style], size: float = 3, by: str = "calibrator"
) -> None:
    """Draw accuracy against confidence over the diagonal, a line for each of `styles`.

    Parameters
    ----------
    pooled : DataFrame
        As `pooled_bins` returns it, with the column `by`.
    styles : mapping of str to Style
        The values of `by` to draw, in order.
    size : float
        Of the marks, in points.
    by : str
        The column that separates the lines.
    """
    add_line(ax, [0, 1], [0, 1], color=FAINT, lw=0.8, zorder=1)
    for name, line in _lines(pooled, styles, by).items():
        confidence, accuracy, few = line["confidence"], line["accuracy"], line["count"] < FEW
        if not len(few):
            continue
        style = styles[name]
        look = {"color": style.color, "marker": style.marker, "mew": 0, "ls": "", "zorder": 3}
        # If TS changes little, the line without it lies beneath: its larger marks still show.
        size_here = size + (name == "none")
        # Few points say little: their bins are drawn faint, and no line leads the eye there.
        add_line(ax, confidence, np.where(few, np.nan, accuracy), color=style.color, ls=style.dash, lw=1, zorder=2)
        add_line(ax, confidence[~few], accuracy[~few], ms=size_here, **look)
        if few.any():
            add_line(ax, confidence[few], accuracy[few], ms=size_here - 0.6, alpha=0.3, **look)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04))
    for axis in (ax.xaxis, ax.yaxis):
        set_ticks(axis, TICKS)


def draw_counts(ax: Axes, pooled: pd.DataFrame, styles: Mapping[str, Style], by: str = "calibrator") -> None:
    """Draw the number of test points per bin as bars, side by side for each of `styles`; see `draw_reliability`."""
    for i, (name, line) in enumerate(_lines(pooled, styles, by).items()):
        width = (line["upper"] - line["lower"]) / (len(styles) + 0.5)
        middle = (line["upper"] + line["lower"]) / 2 + (i - (len(styles) - 1) / 2) * width
        if len(middle):
            ax.add_artist(_bars(middle, width, line["count"], color=styles[name].color, lw=0))
    ax.set_xlim(-0.02, 1.02)
    set_ticks(ax.xaxis, TICKS)


def _lines(pooled: pd.DataFrame, names: Mapping[str, Any], by: str) -> dict[str, dict[str, np.ndarray]]:
    """Return the columns of the bins of each name as arrays."""
    columns = {column: pooled[column].to_numpy() for column in COLUMNS}
    name_of = pooled[by].to_numpy(dtype=object)
    return {name: {column: values[name_of == name] for column, values in columns.items()} for name in names}


def _bars(middle: np.ndarray, width: np.ndarray, height: np.ndarray, **look: Any) -> PathPatch:
    """Return bars (n,) from 0 up as one artist, of five vertices each."""
    left, right, foot = middle - width / 2, middle + width / 2, np.zeros(len(middle))
    corners = np.stack([left, foot, right, foot, right, height, left, height, left, foot], axis=1).reshape(-1, 2)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(middle)
    return PathPatch(Path(corners, codes), **look)


def noise_caps(reliability: pd.DataFrame) -> str:
    """Return a sentence on how accurate any answer can be, if bins are scored in expectation under label noise.

    It ends with a space, and is empty without such noise.
    """
    noisy = reliability.loc[reliability["labels"] == "noisy", "dataset"].drop_duplicates()
    percents = noisy.str.extract(r"-noise(\d+)$")[0].dropna().astype(int).sort_values().unique()
    # Beyond one half the label that replaces the true one may be the likelier.
    caps = [f"{1 - p / 100:.2g} under {p}% label noise" for p in percents if 0 < p <= 50]
    return f"No answer is more accurate than {', '.join(caps)}. " if caps else ""
