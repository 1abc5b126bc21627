"""Draw parts A and D of the summary page: confidence against distance, and reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, page_layout, reliability_panel
from halobench.reporting.plotting.style import FAINT, GREY
from halobench.reporting.seed_statistics import over_seeds
from halobench.reporting.styles import Style, calibrator_style
from halobench.reporting.summary_page.page import LEFT, PROBES, SPLIT, UNPROBED
from halobench.reporting.summary_page.selection import MOST_DATASETS, Selection

HIGH, SLIT = 1.15, 0.12  # of a panel, and between two rows, inches


def draw_curves(
    figure: Figure, neighbourhood: pd.DataFrame, selection: Selection, styles: Mapping[str, Style], top: float
) -> None:
    """Draw part A: a column per data set, a row per probe; or write why there is none."""
    relative = table_views.relative_rows(neighbourhood)
    table = relative[(relative["model"] == selection.model) & relative["dataset"].isin(selection.datasets)]
    if table.empty:
        page_layout.write(figure, 0.32, top, "This model was not probed." if len(relative) else UNPROBED, color=GREY)
        return
    probed = set(table["probe"].unique())
    probes = [probe for probe in ("sphere", "nearest_other", "manifold", "mixup_line") if probe in probed][:2]
    means = over_seeds(table, ["dataset", "probe", "loss", "points", "relative_radius"], "confidence")
    end = table["relative_radius"].max()
    start, gap = 0.75, 0.2
    wide = (LEFT - start - gap * (MOST_DATASETS - 1)) / MOST_DATASETS
    wide = min(wide * MOST_DATASETS / max(len(selection.datasets), 1), 2.6)
    for j, dataset in enumerate(selection.datasets):
        left = start + j * (wide + gap)
        name = page_layout.shortened(labels.dataset_label(dataset), wide)
        page_layout.write(figure, left + wide / 2, top - 0.06, name, ha="center", va="bottom")
        for i, probe in enumerate(probes):
            rows = means[(means["dataset"] == dataset) & (means["probe"] == probe)]
            if rows.empty:
                continue
            ax = page_layout.place(figure, left, top + i * (HIGH + SLIT), wide, HIGH)
            artists.draw_lines(ax, rows, "relative_radius", styles, size=2.4)
            _set_axes(ax, end)
            if i < len(probes) - 1:
                ax.set_xticklabels([])
            if j:
                ax.set_yticklabels([])
            else:
                ax.set_ylabel(f"confidence,\n{PROBES.get(probe, probe)}")
    foot = top + len(probes) * (HIGH + SLIT) + 0.17
    page_layout.write(figure, start, foot, labels.RELATIVE + "; dashed: held-out points")


def _set_axes(ax: Axes, end: float) -> None:
    """Set limits and ticks of a panel of curves, and mark the nearest training sample of another label."""
    ax.axvline(1, color=FAINT, lw=0.8, zorder=1)
    ax.set(xlim=(0, end), xticks=np.arange(0, end + 1e-9, 0.5 if end <= 1.5 else 1.0))
    ax.set(ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))


def draw_reliability(figure: Figure, table: pd.DataFrame, losses: Sequence[str], top: float) -> None:
    """Draw part D: a panel per loss of one data set and model, a line per calibrator."""
    calibrators = set(table["calibrator"].unique())
    styles = {name: calibrator_style(name) for name in ("none", "released", "exact") if name in calibrators}
    pooled = table_views.pooled_bins(table[table["calibrator"].isin(styles)], ["loss", "calibrator"])
    counted = set(pooled["loss"])
    chosen = [loss for loss in losses if loss in counted]
    page_layout.draw_legend(figure, [artists.calibrator_keys(styles)], SPLIT, 0.72)
    start, gap, wide = SPLIT + 0.5, 0.25, 1.4
    for number, loss in enumerate(chosen):
        i, j = divmod(number, 2)
        ax = page_layout.place(figure, start + j * (wide + gap), top + i * (HIGH + SLIT), wide, HIGH)
        reliability_panel.draw_reliability(ax, pooled[pooled["loss"] == loss], styles, size=2.6)
        ax.text(0.04, 0.97, labels.loss_label(loss), transform=ax.transAxes, va="top", size=7.5)
        if number + 2 < len(chosen):
            ax.set_xticklabels([])
        if j:
            ax.set_yticklabels([])
        else:
            ax.set_ylabel("accuracy")
    rows, columns = (len(chosen) + 1) // 2, min(len(chosen), 2)
    middle, foot = start + (columns * (wide + gap) - gap) / 2, top + rows * (HIGH + SLIT) + 0.17
    text = f"confidence (below the line: too sure; faint: under {labels.FEW} points)"
    page_layout.write(figure, middle, foot, text, ha="center")
