"""Define the style that all figures share: seaborn's for papers, with thinner lines, and shades of grey."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import seaborn
from matplotlib.figure import Figure

RC: dict[Any, Any] = {
    **seaborn.axes_style("ticks"),
    **seaborn.plotting_context("paper"),
    "patch.force_edgecolor": False,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#444444",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "text.hinting": "none",  # keeps text in a PDF as wide as in the page's layout
    "svg.hashsalt": "halobench",
}
INK, GREY, FAINT = "#222222", "#777777", "#bbbbbb"


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Return a function that runs `draw` with the settings `RC`, leaving matplotlib's own settings unchanged."""

    @functools.wraps(draw)
    def inner(*tables: Any, **options: Any) -> Figure:
        with mpl.rc_context(RC):
            return draw(*tables, **options)

    return inner
