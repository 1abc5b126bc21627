"""Show label confidence against relative distance for each probe."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import FAINT, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import loss_styles

TITLE = "Confidence by distance, relative"
CATEGORY = "2 Neighbourhoods"
CAPTION = """\
Mean softmax confidence in a point's training label by relative distance, with a column for each probe. A distance of 1
is the distance to the nearest training point with a different label. Under label noise the training label is often
wrong. Mixup trains on points between training points, so probes that walk towards other points favour it; the probe
along principal components favours no loss. Dashed lines, around held-out points, start at a height that shows how well
the model generalises. For each seed, all models and losses share points and directions, so differences between lines
are known more precisely than each band suggests.
"""

HEADING = "Confidence in a point's own label, by distance from it"


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw mean label confidence with a t band over seeds, with a row per data set and model and a column per probe."""
    table = table_views.by_kind(neighbourhood)
    # The sample itself is at distance 0 on both scales.
    relative = table["relative_radius"].mask((table["radius"] == 0) & table["relative_radius"].isna(), 0.0)
    table = table.assign(relative_radius=relative).dropna(subset=["relative_radius", "confidence"])
    if table.empty:
        return empty_page(HEADING, "No probe visited relative distances.")
    table, chosen = table_views.noisiest_cells(table, ["probe"], "the explorer")
    table, around = table_views.with_evaluation_as_train(table)
    styles = loss_styles(table_views.losses_in(table))
    means = over_seeds(table, ["dataset", "model", "probe", "loss", "points", "relative_radius"], "confidence", (0, 1))
    groups = table_views.groups_of(means, ["dataset", "model", "probe"])
    panels = {((dataset, model), probe): rows for (dataset, model, probe), rows in groups.items()}
    control = [artists.held_out_key()] if "heldout" in set(table["points"]) else []
    note = (
        f"Solid: {around}.{' Dashed: the same around held-out points, the control.' if control else ''} "
        f"Lines: {seeds_note(table)}. Columns: where the probe goes. Grey line: the distance of the nearest "
        f"training point of another label. {chosen}"
    )
    figure, axes = draw_grid(
        PageText(HEADING, note, artists.loss_keys(styles) + control, labels.RELATIVE, "confidence", shared=True),
        {cell: labels.cell_label(*cell) for cell in table_views.cells_in(table)},
        {probe: labels.probe_label(probe) for probe in labels.ordered(table["probe"], labels.PROBES)},
        panels,
        (1.95, 1.75),
    )
    for key, ax in axes.items():
        ax.axvline(1, color=FAINT, lw=0.8, zorder=1)
        artists.draw_lines(ax, panels[key], "relative_radius", styles)
        ax.set_xlim(0, table["relative_radius"].max())
        artists.set_confidence_axes(ax)
    return figure
