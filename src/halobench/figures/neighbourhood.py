"""Label confidence against relative distance: a row a data set and model, a column a probe, a line a loss."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.figures import names, theme

TITLE = "Confidence in a point's own label on the way out from it"


@theme.styled
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
    table = theme.relative_rows(neighbourhood)
    if table.empty:
        return theme.nothing(TITLE, "No probe visited relative distances.")
    table, own = names.own_points(table)
    losses, cells = names.losses_in(table), names.cells_in(table)
    styles = names.loss_styles(losses)
    means = names.over_seeds(table, ["dataset", "model", "probe", "loss", "points", "relative_radius"], "confidence")
    panels = theme.groups_of(means, ["dataset", "model", "probe"])
    probes = names.ordered(table["probe"], names.PROBES)
    grid = theme.grid(
        TITLE,
        f"Solid: {own}. Dashed: the same around held-out points, the control. "
        f"Lines: {names.seeds_note(table)}. Columns: where the probe goes. Grey line: as far out as the nearest "
        "training point of another label.",
        {cell: names.cell_label(*cell) for cell in cells},
        {probe: names.PROBES.get(probe, probe) for probe in probes},
        {(key[:2], key[2]) for key in panels},
        legend=[
            *theme.loss_keys(losses, styles),
            theme.key("held-out control", theme.GREY, ls=(0, (3, 2)), lw=1),
        ],
        xlabel=names.RELATIVE,
    )
    end = table["relative_radius"].max()
    for (cell, probe), ax in grid.axes.items():
        theme.upright(ax, 1, color=theme.FAINT, lw=0.8, zorder=1)
        theme.draw_lines(ax, panels[(*cell, probe)], "relative_radius", losses, styles)
        ax.set(xlim=(0, end), ylim=(-0.03, 1.03))
        theme.set_ticks(ax.yaxis, (0, 0.5, 1))
        if grid.left(cell, probe):
            ax.set_ylabel("confidence")
        else:
            ax.tick_params(labelleft=False)
    return grid.figure
