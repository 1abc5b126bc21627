"""Show certainty and decision radii by probe and loss, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.analysis.names import Style
from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import FAINT, GREY, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import loss_styles

SHORT = "Radii of certainty and decision"
CATEGORY = "2 Neighbourhoods"
CAPTION = """\
The figure shows the median distances at which certainty ends and the decision changes, as multiples of the distance to
the nearest training point with a different label. A positive temperature can change the certainty radius, but not the
decision radius. A certainty radius of 0 means that, for at least half of the points, the model isn't certain of the
label even at the point itself.
"""

TITLE = "How far from a point do certainty and the decision last?"
COLUMN_TITLES = {("certainty", fit): f"Certainty radius\n{labels.calibrator_label(fit)}" for fit in ("none", "exact")}
COLUMN_TITLES["decision", "none"] = "Decision radius\n(TS can't change it)"
LINEAR = 0.01  # radii below it are on a linear scale, which has a 0


@styled
def draw(radii: pd.DataFrame) -> Figure:
    """Draw median relative radii as means over seeds with t intervals; open marks if a seed's median is censored."""
    table = table_views.by_kind(radii.dropna(subset=["relative_median"]))
    table = table[pd.MultiIndex.from_frame(table[["quantity", "calibrator"]]).isin(list(COLUMN_TITLES))]
    if table.empty:
        return empty_page(TITLE, "No radii were measured.")
    table, chosen = table_views.noisiest_cells(table, ["quantity", "calibrator"], "radii.csv")
    table, around = table_views.with_evaluation_as_train(table)
    styles = loss_styles(table_views.losses_in(table))
    probes = labels.ordered(table["probe"], labels.PROBES)
    keys = ["dataset", "model", "quantity", "calibrator", "points", "probe", "loss"]
    # A median is censored if more than half of the rays are.
    censored = table.groupby(keys)["censored"].max().gt(0.5).rename("open").reset_index()
    means = over_seeds(table, keys, "relative_median", (0, np.inf)).merge(censored, on=keys)
    after = (means["quantity"] == "certainty") & (means["calibrator"] == "exact")
    vanished = after.any() and not means.loc[after, "mean"].any()
    lost = f"After {labels.calibrator_label('exact')}, all are 0. " if vanished else ""
    means = means[~after] if vanished else means
    groups = table_views.groups_of(means, ["dataset", "model", "quantity", "calibrator"])
    thresholds = sorted(table.loc[table["quantity"] == "certainty", "threshold"].dropna().unique())
    below = " or ".join(f"{threshold:g}" for threshold in thresholds)
    note = (
        f"Median over rays {around}; {seeds_note(table)}. Certainty radius: where confidence in the label falls "
        f"below {below or 'the threshold'} (0 where it starts below). {lost}Decision radius: where another label wins. "
        f"Open: for some seed, more than half of the rays never got there. {chosen}"
    )
    legend = [
        *artists.loss_keys(styles, ls=""),
        artists.key("open: larger than shown", GREY, marker="o", mfc="white", ls=""),
    ]
    if "heldout" in set(table["points"]):
        legend.append(artists.key("held-out control", GREY, marker="|", ms=6, ls=""))
    figure, axes = draw_grid(
        PageText(TITLE, note, legend, labels.RELATIVE, shared=True),
        {cell: labels.cell_label(*cell) for cell in table_views.cells_in(table)},
        COLUMN_TITLES,
        {(key[:2], key[2:]) for key in groups},
        (2.1, max(1.3, 0.6 + len(probes) * max(0.3, 0.1 * len(styles) + 0.06))),
    )
    largest = 1.6 * means["mean"].max() or 1.0
    for (cell, column), ax in axes.items():
        ax.axvline(1, color=FAINT, lw=0.8, zorder=1)
        panel = groups[(*cell, *column)]
        _draw_dots(ax, panel, probes, styles)
        ax.set_xscale("symlog", linthresh=LINEAR, linscale=0.5)
        ticks = [0.0, *(value for value in (0.01, 0.1, 1, 10) if value < largest)]
        ax.set_xticks(ticks, [f"{value:g}" for value in ticks])
        ax.set_xticks([], minor=True)
        ax.set(xlim=(-LINEAR / 3, largest), ylim=(len(probes) - 0.5, -0.5))
        ax.set_yticks(range(len(probes)), [labels.probe_label(probe).replace(" other", "\nother") for probe in probes])
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
    return figure


def _draw_dots(ax: Axes, panel: pd.DataFrame, probes: Sequence[str], styles: Mapping[str, Style]) -> None:
    """Draw, for each loss and probe, a tick for the held-out control, an interval and a dot."""
    for y in range(1, len(probes)):
        ax.axhline(y - 0.5, color="#dddddd", lw=0.6, zorder=1)
    losses = [loss for loss in styles if loss in set(panel["loss"])]
    for loss, offset in zip(losses, artists.dodge(len(losses), 0.78), strict=True):
        rows, color = panel[panel["loss"] == loss], styles[loss].color
        rows = rows.assign(y=rows["probe"].map(probes.index) + offset)
        control, rows = rows[rows["points"] == "heldout"], rows[rows["points"] == "train"]
        ax.plot(control["mean"], control["y"], "|", color=color, ms=4.5, mew=1, alpha=0.65, zorder=2)
        ax.hlines(rows["y"], rows["low"], rows["high"], color=color, lw=1, zorder=2)
        look: dict[str, Any] = {"color": color, "marker": styles[loss].marker, "ms": 4.5, "mew": 1, "zorder": 4}
        look["clip_on"] = False  # don't cut off marks at the edge
        for part, face in ((rows[~rows["open"]], color), (rows[rows["open"]], "white")):
            if len(part):
                ax.plot(part["mean"], part["y"], ls="", mfc=face, **look)
