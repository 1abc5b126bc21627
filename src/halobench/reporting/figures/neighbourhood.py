"""Label confidence against relative distance: a row a data set and model, a column a probe, a line a loss."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, seed_statistics, table_views
from halobench.reporting.plotting import artists, page_layout, style
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import loss_styles

TITLE = "Confidence in a point's own label on the way out from it"


@style.styled
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
    table = table_views.relative_rows(neighbourhood)
    if table.empty:
        return artists.nothing(TITLE, "No probe visited relative distances.")
    table, own = table_views.own_points(table)
    losses, cells = table_views.losses_in(table), table_views.cells_in(table)
    styles = loss_styles(losses)
    means = seed_statistics.over_seeds(
        table, ["dataset", "model", "probe", "loss", "points", "relative_radius"], "confidence"
    )
    panels = table_views.groups_of(means, ["dataset", "model", "probe"])
    probes = labels.ordered(table["probe"], labels.PROBES)
    grid = page_layout.grid(
        TITLE,
        f"Solid: {own}. Dashed: the same around held-out points, the control. "
        f"Lines: {seeds_note(table)}. Columns: where the probe goes. Grey line: as far out as the nearest "
        "training point of another label.",
        {cell: labels.cell_label(*cell) for cell in cells},
        {probe: labels.PROBES.get(probe, probe) for probe in probes},
        {(key[:2], key[2]) for key in panels},
        legend=[
            *artists.loss_keys(losses, styles),
            artists.key("held-out control", style.GREY, ls=(0, (3, 2)), lw=1),
        ],
        xlabel=labels.RELATIVE,
    )
    end = table["relative_radius"].max()
    for (cell, probe), ax in grid.axes.items():
        artists.upright(ax, 1, color=style.FAINT, lw=0.8, zorder=1)
        artists.draw_lines(ax, panels[(*cell, probe)], "relative_radius", losses, styles)
        ax.set(xlim=(0, end), ylim=(-0.03, 1.03))
        page_layout.set_ticks(ax.yaxis, (0, 0.5, 1))
        if grid.left(cell, probe):
            ax.set_ylabel("confidence")
        else:
            ax.tick_params(labelleft=False)
    return grid.figure
