"""Show certainty, half-level and decision radii by probe and loss, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, page_layout
from halobench.reporting.plotting.panel_grid import PageText, Sizes, draw_grid, empty_page
from halobench.reporting.plotting.style import FAINT, GREY, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
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
    """Draw each cell's median relative radius: mean over seeds with its t interval, open if a median is censored.

    Parameters
    ----------
    radii : DataFrame
        As aggregated: quantiles per cell, points, probe, quantity and calibrator.
    """
    table = radii.dropna(subset=["relative_median"])
    table = table[pd.MultiIndex.from_frame(table[["quantity", "calibrator"]]).isin(list(COLUMNS))]
    if table.empty:
        return empty_page(TITLE, "No radii were measured.")
    table, around = table_views.with_evaluation_as_train(table)
    styles = loss_styles(table_views.losses_in(table))
    probes = labels.ordered(table["probe"], labels.PROBES)
    means = summarise(table)
    groups = table_views.groups_of(means, ["dataset", "model", "quantity", "calibrator"])
    keys = [
        *artists.loss_keys(styles, styles, ls=""),
        artists.key("more than", GREY, marker="o", mfc="white", ls=""),
        artists.key("held-out control", GREY, marker="|", ms=6, ls=""),
    ]
    grid = draw_grid(
        PageText(TITLE, _note(table, around), keys, labels.RELATIVE),
        {cell: labels.cell_label(*cell) for cell in table_views.cells_in(table)},
        COLUMNS,
        {(key[:2], key[2:]) for key in groups},
        Sizes(panel=(1.3, len(probes) * max(0.26, 0.085 * len(styles) + 0.04)), left=1.2),
    )
    largest = means["mean"].max()
    for (cell, column), ax in grid.axes.items():
        _draw_dots(ax, groups[(*cell, *column)], probes, styles)
        _divide(ax, len(probes))
        artists.add_vertical(ax, 1, color=FAINT, lw=0.8, zorder=1)
        ax.grid(axis="y", visible=False)
        ax.set(xlim=(-0.05 * largest, 1.12 * largest), ylim=(len(probes) - 0.5, -0.5))
        ax.tick_params(axis="y", length=0, labelleft=grid.left(cell, column))
        page_layout.set_ticks(ax.yaxis, range(len(probes)), [PROBES.get(p, p) for p in probes])
    return grid.figure


def _note(table: pd.DataFrame, around: str) -> str:
    """Return the sentences under the title; `around` says which samples the rays start from."""
    thresholds = sorted(table.loc[table["quantity"] == "certainty", "threshold"].dropna().unique())
    below = " or ".join(f"{threshold:g}" for threshold in thresholds)
    return (
        f"Median over rays {around}; {seeds_note(table)}. Certainty radius: where confidence in the label falls "
        f"below {below or 'the threshold'} (0 where it starts below); half-level: below half of its value at the "
        "point; decision: where another label wins. Open with a ›: in some seed more than half of the rays never got "
        "there, so the radius is larger."
    )


def summarise(radii: pd.DataFrame) -> pd.DataFrame:
    """Return means and intervals over seeds of the median relative radius.

    The column ``open`` says whether the median is censored in some seed.
    """
    keys = ["dataset", "model", "quantity", "calibrator", "points", "probe", "loss"]
    means = over_seeds(radii, keys, "relative_median")
    # The median lies on censored rays when fewer than half of the rays are known.
    return means.merge(radii.groupby(keys)["censored"].max().gt(0.5).rename("open").reset_index(), on=keys)


def _divide(ax: Axes, rows: int) -> None:
    """Draw a thin line between every two of the rows."""
    dividers = [((0, i - 0.5), (1, i - 0.5)) for i in range(1, rows)]
    if dividers:
        across = ax.get_yaxis_transform()
        ax.add_artist(LineCollection(dividers, colors="#dddddd", lw=0.6, zorder=1, transform=across))


def _draw_dots(ax: Axes, panel: pd.DataFrame, probes: Sequence[str], styles: Mapping[str, Style]) -> None:
    """Draw each loss at each probe: the control as a tick, then interval and dot."""
    present = set(panel["loss"])
    losses = [loss for loss in styles if loss in present]
    offsets = dict(zip(losses, artists.dodge(len(losses), 0.78), strict=True))
    place = {probe: i for i, probe in enumerate(probes)}
    panel = panel.assign(y=panel["probe"].map(place).astype(float) + panel["loss"].map(offsets).astype(float))
    columns = {name: panel[name].to_numpy() for name in ("mean", "y", "open", "low", "high")}
    loss_of, points_of = (panel[name].to_numpy(dtype=object) for name in ("loss", "points"))
    held_out, spread = points_of == "heldout", ~np.isnan(columns["low"]) & (points_of == "train")
    low, high, y = (columns[name][spread] for name in ("low", "high", "y"))
    segments = np.stack([np.c_[low, y], np.c_[high, y]], axis=1)
    artists.add_segments(ax, segments, [styles[loss].color for loss in loss_of[spread]], lw=1, zorder=2)
    colors = [styles[loss].color for loss in loss_of[held_out]]
    marks = columns["mean"][held_out], columns["y"][held_out]
    artists.add_marks(ax, *marks, "|", 4.5, colors, lw=1, alpha=0.65, zorder=2)
    for loss in losses:
        dots = (loss_of == loss) & ~held_out
        for is_open in (False, True):
            rows = dots & (columns["open"] if is_open else ~columns["open"])
            _draw_medians(ax, columns["mean"][rows], columns["y"][rows], styles[loss], is_open)


def _draw_medians(ax: Axes, x: np.ndarray, y: np.ndarray, style: Style, is_open: bool) -> None:
    """Draw the dots of one loss; open ones have a caret to their right."""
    if not len(x):
        return
    face = "white" if is_open else style.color
    artists.add_line(ax, x, y, ls="", marker=style.marker, ms=4, mfc=face, mec=style.color, mew=1, zorder=4)
    if is_open:
        caret: dict[str, Any] = {"color": style.color, "size": 9, "weight": "bold", "va": "center_baseline"}
        for place in zip(x, y, strict=True):
            # Just right of the marker, whatever the scale of the axis.
            ax.annotate("›", place, (3.5, -0.4), textcoords="offset points", annotation_clip=False, **caret)
