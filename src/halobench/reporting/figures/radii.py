"""Certainty, half-level and decision radii by probe and loss, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from halobench.reporting import labels, seed_statistics, table_views
from halobench.reporting.plotting import artists, page_layout
from halobench.reporting.plotting.style import FAINT, GREY, styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import Style, loss_styles

TITLE = "How far out from a point its certainty, half its confidence and its decision last"
COLUMNS = {
    ("certainty", "none"): "Certainty radius\nwithout TS",
    ("certainty", "exact"): "Certainty radius\nafter exact TS",
    ("half_level", "none"): "Half-level radius\nwithout TS",
    ("half_level", "exact"): "Half-level radius\nafter exact TS",
    ("decision", "none"): "Decision radius\n(TS can't change it)",
}
PROBES = labels.PROBES | {
    "sphere": "random direction",
    "manifold": "principal comp.",
    "nearest_other": "nearest other",
    "mixup_line": "random other",
}


@styled
def draw(radii: pd.DataFrame) -> Figure:
    """Draw each cell's median relative radius: mean over seeds with its t interval, open where a median is censored.

    Parameters
    ----------
    radii : DataFrame
        As aggregated: quantiles per cell, points, probe, quantity and calibrator.

    Returns
    -------
    Figure
    """
    table = radii.dropna(subset=["relative_median"])
    table = table[pd.MultiIndex.from_frame(table[["quantity", "calibrator"]]).isin(list(COLUMNS))]
    if table.empty:
        return artists.nothing(TITLE, "No radii were measured.")
    table, own = table_views.own_points(table)
    losses, cells = table_views.losses_in(table), table_views.cells_in(table)
    styles = loss_styles(losses)
    probes = labels.ordered(table["probe"], labels.PROBES)
    means = summarise(table)
    keys = ["dataset", "model", "quantity", "calibrator"]
    groups = table_views.groups_of(means, keys)
    thresholds = sorted(table.loc[table["quantity"] == "certainty", "threshold"].dropna().unique())
    below = " or ".join(f"{t:g}" for t in thresholds)
    grid = page_layout.grid(
        TITLE,
        f"Median over rays {own}; {seeds_note(table)}. Certainty radius: where confidence in the label falls "
        f"below {below or 'the threshold'} (0 where it starts below); half-level: below half of its value at the "
        "point; decision: where another label wins. Open with a ›: in some seed more than half of the rays never got "
        "there, so the radius is larger.",
        {cell: labels.cell_label(*cell) for cell in cells},
        COLUMNS,
        {(key[:2], key[2:]) for key in groups},
        panel=(1.3, len(probes) * max(0.26, 0.085 * len(losses) + 0.04)),
        left=1.2,
        legend=[
            *artists.loss_keys(losses, styles, ls=""),
            artists.key("more than", GREY, marker="o", mfc="white", ls=""),
            artists.key("held-out control", GREY, marker="|", ms=6, ls=""),
        ],
        xlabel=labels.RELATIVE,
    )
    largest = means["mean"].max()
    for (cell, column), ax in grid.axes.items():
        panel = groups[(*cell, *column)]
        there = [loss for loss in losses if loss in set(panel["loss"])]
        _dots(ax, panel, probes, dict(zip(there, artists.dodge(len(there), 0.78), strict=True)), styles)
        dividers = [((0, i - 0.5), (1, i - 0.5)) for i in range(1, len(probes))]
        if dividers:
            across = ax.get_yaxis_transform()
            ax.add_artist(LineCollection(dividers, colors="#dddddd", lw=0.6, zorder=1, transform=across))
        artists.upright(ax, 1, color=FAINT, lw=0.8, zorder=1)
        ax.grid(axis="y", visible=False)
        ax.set(xlim=(-0.05 * largest, 1.12 * largest), ylim=(len(probes) - 0.5, -0.5))
        ax.tick_params(axis="y", length=0, labelleft=grid.left(cell, column))
        page_layout.set_ticks(ax.yaxis, range(len(probes)), [PROBES.get(p, p) for p in probes])
    return grid.figure


def summarise(radii: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds of the median relative radius; `open` where the median is censored in some seed."""
    keys = ["dataset", "model", "quantity", "calibrator", "points", "probe", "loss"]
    means = seed_statistics.over_seeds(radii, keys, "relative_median")
    # The median lies on censored rays when fewer than half of the rays are known.
    return means.merge(radii.groupby(keys)["censored"].max().gt(0.5).rename("open").reset_index(), on=keys)


def _dots(
    ax: Axes,
    panel: pd.DataFrame,
    probes: Sequence[str],
    offsets: Mapping[str, float],
    styles: Mapping[str, Style],
) -> None:
    """Each loss at each probe: the control as a tick, then interval and dot."""
    place = {probe: i for i, probe in enumerate(probes)}
    panel = panel.assign(y=panel["probe"].map(place).astype(float) + panel["loss"].map(offsets).astype(float))
    columns = {name: panel[name].to_numpy() for name in ("mean", "y", "open", "low", "high")}
    of = {name: panel[name].to_numpy(dtype=object) for name in ("loss", "points")}
    held, spread = of["points"] == "heldout", ~np.isnan(columns["low"]) & (of["points"] == "train")
    low, high, y = (columns[name][spread] for name in ("low", "high", "y"))
    segments = np.stack([np.c_[low, y], np.c_[high, y]], axis=1)
    artists.add_segments(ax, segments, [styles[loss].color for loss in of["loss"][spread]], lw=1, zorder=2)
    colors = [styles[loss].color for loss in of["loss"][held]]
    artists.add_marks(ax, columns["mean"][held], columns["y"][held], "|", 4.5, colors, lw=1, alpha=0.65, zorder=2)
    for loss in offsets:
        style, own = styles[loss], of["loss"] == loss
        kinds: tuple[tuple[np.ndarray, dict[str, Any]], ...] = (
            (~held & ~columns["open"], {"mfc": style.color}),
            (~held & columns["open"], {"mfc": "white"}),
        )
        for kind, look in kinds:
            rows = own & kind
            if not rows.any():
                continue
            look |= {"marker": style.marker, "ms": 4, "mec": style.color, "mew": 1, "zorder": 4}
            artists.add_line(ax, columns["mean"][rows], columns["y"][rows], ls="", **look)
        for x, at in zip(*(columns[name][own & ~held & columns["open"]] for name in ("mean", "y")), strict=True):
            # A caret just right of the marker, whatever the scale of the axis.
            ax.annotate(
                "›",
                (x, at),
                (3.5, -0.4),
                textcoords="offset points",
                color=style.color,
                size=9,
                weight="bold",
                va="center_baseline",
                annotation_clip=False,
            )
