"""Draw a score by calibrator and loss, next to the scores of untrained predictors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from halobench.analysis.names import Style
from halobench.reporting import labels
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.style import INK
from halobench.reporting.seed_statistics import over_seeds

FAR = 3  # times the largest other mean: the paper's fit isn't drawn beyond this
REFERENCE_DASHES = {"bayes": "-", "nearest": (0, (4, 2)), "uniform": (0, (1, 1.5))}


def means_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the mean and t interval over seeds of each score."""
    return over_seeds(scores, ["dataset", "model", "loss", "calibrator", "metric"], "value", (0, np.inf))


def draw_panel(
    ax: Axes,
    shown: pd.DataFrame,
    references: pd.DataFrame,
    styles: Mapping[str, Style],
    calibrators: Sequence[str],
    floor: pd.DataFrame | None = None,
) -> list[str]:
    """Draw a score by calibrator and loss, from one pair's rows of `means_of`; return remarks on omitted values."""
    # The paper's fit may end below 0, and its score is then far from all others.
    paper, place = shown["calibrator"] == "paper", {name: i for i, name in enumerate(calibrators)}
    far = shown[paper & (shown["mean"] > FAR * shown.loc[np.isfinite(shown["mean"]) & ~paper, "mean"].max())]
    ends = [f"{value:.2f}" for value in sorted({far["mean"].min(), far["mean"].max()})] if len(far) else []
    shown, floor = (
        rows.assign(x=rows["calibrator"].map(place)).sort_values("x")
        for rows in (shown.drop(far.index), shown.iloc[:0] if floor is None else floor)
    )
    _draw_losses(ax, shown, floor, styles)
    ax.set_xlim(-0.5, max(len(calibrators), 1) - 0.5)
    ticks = [labels.calibrator_label(name) for name in calibrators]
    ax.set_xticks(range(len(calibrators)), ticks, rotation=30, ha="right", rotation_mode="anchor")
    ax.grid(axis="x", visible=False)
    ax.tick_params(axis="x", length=0)
    remarks = _limit(ax, pd.concat([shown, floor]), reference_values(references))
    return remarks + ([_beyond(labels.calibrator_label("paper"), " to ".join(ends))] if ends else [])


def reference_keys(names: Collection[str]) -> list[Line2D]:
    """Return legend entries for untrained predictors."""
    return [artists.key(labels.REFERENCES[n], ls=d, lw=1) for n, d in REFERENCE_DASHES.items() if n in names]


def reference_values(rows: pd.DataFrame) -> dict[str, float]:
    """Return the mean scores of a data set's untrained predictors, with ``nearest`` after optimal TS if possible."""
    values = {}
    for name in labels.REFERENCES:
        means = rows[rows["model"] == name].set_index("calibrator")["mean"]
        order = ("exact", "none") if name == "nearest" else ("none", "exact")
        fits = [fit for fit in (*order, *means.index) if fit in means.index]
        if fits:
            values[name] = float(means[fits[0]])
    return values


def _beyond(name: str, value: str) -> str:
    return f"beyond this panel: {name}\N{NO-BREAK SPACE}" + value.replace(" ", "\N{NO-BREAK SPACE}")


def _draw_losses(ax: Axes, shown: pd.DataFrame, floor: pd.DataFrame, styles: Mapping[str, Style]) -> None:
    """Draw the means and intervals of all losses side by side for each calibrator, and ticks at the ECE floors."""
    losses = [loss for loss in styles if loss in set(shown["loss"])]
    for offset, loss in zip(artists.dodge(len(losses), 0.62), losses, strict=True):
        rows, ticks, color = shown[shown["loss"] == loss], floor[floor["loss"] == loss], styles[loss].color
        x = rows["x"] + offset
        ax.plot(x, rows["mean"], color=color, marker=styles[loss].marker, ms=4, mew=0, ls="", zorder=3)
        finite = np.isfinite(rows["low"])
        ax.vlines(x[finite], rows["low"][finite], rows["high"][finite], color=color, lw=1, zorder=2)
        look: dict[str, Any] = {"ms": 6, "mew": 1.4, "ls": "", "alpha": 0.7, "zorder": 2}
        if len(ticks):
            ax.plot(ticks["x"] + offset, ticks["mean"], marker="_", color=color, **look)


def _limit(ax: Axes, shown: pd.DataFrame, references: Mapping[str, float]) -> list[str]:
    """Set the vertical limits and draw the references within them; return references beyond them as text.

    The limits include the means and the Bayes posterior. Intervals, which may be wide with few seeds, extend the limits
    on each side by at most 30% of the limits' span. Other references extend them by at most 25% of the span.
    """
    means = [*shown["mean"][np.isfinite(shown["mean"])], *(v for name, v in references.items() if name == "bayes")]
    if not means:  # all are infinite, as the remarks say
        return []
    low, high = min(means), max(means)
    span = max(high - low, 1e-3 * max(abs(high), 1e-6), 1e-9)
    low = min(low, max(shown["low"].min(), low - 0.3 * span, min(low, 0)))
    high = max(high, min(shown["high"].replace(np.inf, np.nan).max(), high + 0.3 * span))
    beyond = []
    for name, value in references.items():
        if low - 0.25 * span <= value <= high + 0.25 * span:
            ax.axhline(value, color=INK, ls=REFERENCE_DASHES[name], lw=0.9, zorder=1)
            low, high = min(low, value), max(high, value)
        else:
            beyond.append(_beyond(labels.REFERENCES[name], f"{value:.2f}" if np.isfinite(value) else "∞"))
    pad = 0.06 * (high - low) or 0.01
    ax.set_ylim(low - pad, high + pad)
    return beyond
