"""Draw legend entries and lines with bands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from halobench.analysis.names import Style
from halobench.reporting.labels import calibrator_label, loss_label
from halobench.reporting.plotting.style import GREY, INK

BAND = 0.18  # opacity of a band
HELD_OUT = (0, (3, 2))  # dashes of lines around held-out samples


def key(label: str, color: str = INK, **options: Any) -> Line2D:
    """Return a legend entry: a line, a marker, or both; `options` are passed to `Line2D`."""
    return Line2D([], [], color=color, label=label, **options)


def loss_keys(styles: Mapping[str, Style], **options: Any) -> list[Line2D]:
    """Return legend entries with a colour, marker and line for losses with names; `options` override the look."""
    return [key(loss_label(x), s.color, **({"marker": s.marker} | options)) for x, s in styles.items() if x]


def calibrator_keys(styles: Mapping[str, Style]) -> list[Line2D]:
    """Return legend entries for calibrators, with colour, dashes and marker."""
    return [key(calibrator_label(name), s.color, ls=s.dash, marker=s.marker, lw=1) for name, s in styles.items()]


def held_out_key() -> Line2D:
    """Return the legend entry for lines around held-out samples."""
    return key("held-out control", GREY, ls=HELD_OUT, lw=1)


def log_ticks(ax: Axes, values: Iterable[float]) -> None:
    """Make the horizontal axis logarithmic, with ticks only at these values."""
    ticks = sorted(set(values))
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:.3g}" if tick < 1000 else f"{tick:.0f}" for tick in ticks])
    ax.set_xticks([], minor=True)


def set_confidence_axes(ax: Axes) -> None:
    """Set the limits and ticks of confidence against distance, so that the labels of adjacent panels don't touch."""
    ax.set(ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))
    ax.xaxis.set(major_locator=MaxNLocator(4, prune="upper"), major_formatter=StrMethodFormatter("{x:g}"))


def dodge(count: int, spread: float) -> np.ndarray:
    """Return offsets (count,) that put items side by side, centred on 0 and `spread` wide in total."""
    return (np.arange(count) - (count - 1) / 2) * (spread / max(count, 1))


def draw_lines(ax: Axes, means: pd.DataFrame, x: str, styles: Mapping[str, Style]) -> None:
    """Draw a line per loss: solid with a band for training samples, dashed for held-out samples."""
    group: Any
    for group, line in means[means["loss"].isin(styles)].sort_values(x).groupby(["loss", "points"]):
        loss, points = group
        color, at = styles[loss].color, line[x].to_numpy()
        if points == "heldout":
            ax.plot(at, line["mean"], color=color, lw=1.1, ls=HELD_OUT, zorder=2)
        else:
            ax.fill_between(at, line["low"], line["high"], color=color, alpha=BAND, lw=0, zorder=2)
            ax.plot(at, line["mean"], color=color, marker=styles[loss].marker, ms=2.6, mew=0, zorder=3)
