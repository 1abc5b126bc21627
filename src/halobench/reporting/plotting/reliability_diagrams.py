"""Draw reliability diagrams: binned accuracy against confidence, with the diagonal, singly or in a grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.analysis.names import Style
from halobench.reporting import labels, table_views
from halobench.reporting.labels import FEW
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid
from halobench.reporting.plotting.style import FAINT, INK
from halobench.reporting.seed_statistics import named


def draw_diagrams(
    table: pd.DataFrame,
    title: str,
    column: str,
    headings: Mapping[str, str],
    styles: Mapping[str, Style],
    sentences: tuple[str, str] = ("", ""),
) -> Figure:
    """Draw accuracy against confidence per bin, pooled over seeds, with a row per data set and model."""
    counts, by = column == "loss", "calibrator" if column == "loss" else "loss"
    pooled = table_views.pooled_bins(table, ["dataset", "model", "loss", "calibrator"])
    groups = table_views.groups_of(pooled, ["dataset", "model", column])
    panels = {((dataset, model), heading): rows for (dataset, model, heading), rows in groups.items()}
    keys = artists.calibrator_keys(styles) if counts else artists.loss_keys(styles)
    seeds = table["seed"].nunique()
    pooling = f", pooled over {seeds} seed{'s' * (seeds > 1)}" if seeds > 1 or named(table) else ""
    note = (
        "Accuracy against mean confidence of the points in each bin of confidence, on "
        f"{table_views.label_note(table)}{pooling}{sentences[0]}. "
        f"Below the diagonal, a model is more confident than accurate. {_noise_caps(table)}{sentences[1]}"
    )
    rows = {cell: labels.cell_label(*cell) for cell in table_views.cells_in(pooled)}
    text = PageText(title, note, keys, "confidence", "accuracy", shared=True)
    figure, axes = draw_grid(text, rows, headings, panels, (2.0, 2.7) if counts else (1.75, 1.85))
    errors = table_views.binned_ece(table, ["dataset", "model", "loss", "calibrator"])
    for key, ax in axes.items():
        draw_reliability(ax, panels[key], styles, by)
        if counts:
            _draw_counts(ax, panels[key], styles)
            _print_ece(ax, errors.loc[(*key[0], key[1])].to_dict(), styles)
    return figure


def draw_reliability(ax: Axes, pooled: pd.DataFrame, styles: Mapping[str, Style], by: str = "calibrator") -> None:
    """Draw the diagonal and, for each of `styles`, a line of accuracy against confidence."""
    ax.axline((0, 0), (1, 1), color=FAINT, lw=0.8, zorder=1)
    for name, style in styles.items():
        line = pooled[pooled[by] == name]
        x, y, few = line["confidence"], line["accuracy"], line["count"] < FEW
        look: dict[str, Any] = {"color": style.color, "marker": style.marker, "mew": 0, "ls": "", "zorder": 3}
        # If TS changes little, its line hides the uncalibrated one, whose larger marks still show.
        size = 3 + (name == "none")
        # Bins with few samples say little, so they are drawn faintly and no line leads to them.
        ax.plot(x, y.mask(few), color=style.color, ls=style.dash, lw=1, zorder=2)
        ax.plot(x[~few], y[~few], ms=size, **look)
        if few.any():
            ax.plot(x[few], y[few], ms=size - 0.6, alpha=0.3, **look)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))


def _draw_counts(ax: Axes, pooled: pd.DataFrame, styles: Mapping[str, Style]) -> None:
    """Draw a row of bars per calibrator below a diagram: test samples per bin, relative to the largest bin."""
    for row, (name, style) in enumerate(styles.items(), 1):
        line = pooled[pooled["calibrator"] == name]
        heights, widths = 0.14 * line["count"] / line["count"].max(), line["upper"] - line["lower"]
        ax.bar(line["lower"], heights, widths, bottom=-0.06 - 0.18 * row, align="edge", color=style.color)
    ax.set_ylim(-0.09 - 0.18 * len(styles), 1.04)
    ax.spines["left"].set_bounds(0, 1)


def _print_ece(ax: Axes, errors: Mapping[str, float], styles: Mapping[str, Style]) -> None:
    """Print each calibrator's ECE, in its colour, in the upper left corner of a diagram."""
    lines = [("ECE", INK), *((f"{errors[name]:.3f}", style.color) for name, style in styles.items() if name in errors)]
    look: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top", "zorder": 4}
    look["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
    for i, (text, color) in enumerate(lines):
        ax.annotate(text, (0.03, 1), (0, -2 - 8.5 * i), size=7, weight="bold", color=color, **look)


def _noise_caps(reliability: pd.DataFrame) -> str:
    """Return a sentence on the highest possible accuracy if bins are scored in expectation under label noise."""
    percents = sorted({round(100 * p) for p in reliability.loc[reliability["labels"] == "noisy", "noise"].unique()})
    # Above one half, the replacement may be more likely than the true label.
    caps = [f"{1 - p / 100:.2g} under {p}% label noise" for p in percents if 0 < p <= 50]
    return f"No answer is more accurate than {', '.join(caps)}. " if caps else ""
