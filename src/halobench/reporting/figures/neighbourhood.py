"""Label confidence against relative distance: a row a data set and model, a column a probe, a line a loss."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels
from halobench.reporting.plotting import page_layout

TITLE = "Confidence in a point's own label on the way out from it"


@page_layout.styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw mean label confidence with its t band over seeds, held-out control dashed.

    Parameters
    ----------
    neighbourhood : DataFrame
        As aggregated; the rows of the relative grid and those at the points are drawn.

    Returns
    -------
    Figure
    """
    table = page_layout.relative_rows(neighbourhood)
    if table.empty:
        return page_layout.nothing(TITLE, "No probe visited relative distances.")
    table, own = labels.own_points(table)
    losses, cells = labels.losses_in(table), labels.cells_in(table)
    styles = labels.loss_styles(losses)
    means = labels.over_seeds(table, ["dataset", "model", "probe", "loss", "points", "relative_radius"], "confidence")
    panels = page_layout.groups_of(means, ["dataset", "model", "probe"])
    probes = labels.ordered(table["probe"], labels.PROBES)
    grid = page_layout.grid(
        TITLE,
        f"Solid: {own}. Dashed: the same around held-out points, the control. "
        f"Lines: {labels.seeds_note(table)}. Columns: where the probe goes. Grey line: as far out as the nearest "
        "training point of another label.",
        {cell: labels.cell_label(*cell) for cell in cells},
        {probe: labels.PROBES.get(probe, probe) for probe in probes},
        {(key[:2], key[2]) for key in panels},
        legend=[
            *page_layout.loss_keys(losses, styles),
            page_layout.key("held-out control", page_layout.GREY, ls=(0, (3, 2)), lw=1),
        ],
        xlabel=labels.RELATIVE,
    )
    end = table["relative_radius"].max()
    for (cell, probe), ax in grid.axes.items():
        page_layout.upright(ax, 1, color=page_layout.FAINT, lw=0.8, zorder=1)
        page_layout.draw_lines(ax, panels[(*cell, probe)], "relative_radius", losses, styles)
        ax.set(xlim=(0, end), ylim=(-0.03, 1.03))
        page_layout.set_ticks(ax.yaxis, (0, 0.5, 1))
        if grid.left(cell, probe):
            ax.set_ylabel("confidence")
        else:
            ax.tick_params(labelleft=False)
    return grid.figure
