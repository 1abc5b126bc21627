"""Show confidence and logit gaps around samples by distance in random directions (the paper's Figure 3)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import GREY, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import loss_styles

SHORT = "Confidence and logit gaps by distance"
CATEGORY = "2 Neighbourhoods"
CAPTION = """\
The figure shows the mean softmax confidence in a point's training label, and the label's mean logit gap, by distance
from the point. Directions are random, as in the paper's Figure 3; if random directions weren't probed, the note names
the directions shown. The gap is the label's logit minus the largest other logit. If the gap is below 0 at a point, the
model predicts another class there. The gap still distinguishes models whose confidence rounds to 1. Unless the axis
says otherwise, distances are in units of the normalised inputs, so compare them only within a data set. Even if a curve
is flat, the confidence may fall in other directions: in many dimensions, a random direction is nearly orthogonal to any
given one. Dashed lines show the mean confidence in the labels of held-out points.
"""

TITLE = "What happens to a point's own label as one moves away from it?"
QUANTITIES = {"confidence": "Confidence", "logit_gap": "Logit gap"}
SCALES = {"radius": labels.ABSOLUTE, "relative_radius": labels.RELATIVE}

GAP = "Logit gap: the logit of the label minus the largest other one; below 0, another label wins. "


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw confidence and logit gap around samples with a row per data set and model: means over seeds with t bands.

    The curves are those of the sphere probe or, if it wasn't run, of the first probe in the order of `labels.PROBES`.
    """
    table, around = table_views.with_evaluation_as_train(table_views.by_kind(neighbourhood))
    scale = next((name for name in SCALES if table[name].gt(0).any()), "")
    if not scale:
        return empty_page(TITLE, "No probe recorded confidence by distance.")
    table = table.assign(**{scale: table[scale].mask(table["radius"] == 0, 0.0)}).dropna(subset=[scale])
    moving = table[table[scale] > 0]
    table = table[table["probe"] == labels.ordered(moving["probe"], labels.PROBES)[0]]
    table, chosen = table_views.noisiest_cells(table, [], "the explorer", 6)
    styles = loss_styles(table_views.losses_in(table))
    control = [artists.held_out_key()] if "heldout" in set(table["points"]) else []
    probe = f"Direction: {labels.probe_label(table['probe'].iloc[0]).lower()}. " if table["probe"].iloc[0] else ""
    dashed = f" Dashed: {labels.around('heldout')}." if control else ""
    note = f"Solid: {around}.{dashed} {probe}Lines: {seeds_note(table)}. {GAP}{chosen}"
    keys = ["dataset", "model", "loss", "points", scale]
    curves = {
        "confidence": over_seeds(table, keys, "confidence", (0, 1)),
        "logit_gap": over_seeds(table[table["points"] == "train"], keys, "logit_gap", (-np.inf, np.inf)),
    }
    cells = table_views.cells_in(table)
    figure, axes = draw_grid(
        PageText(TITLE, note, artists.loss_keys(styles) + control, SCALES[scale]),
        {cell: labels.cell_label(*cell) for cell in cells},
        QUANTITIES,
        [(cell, quantity) for cell in cells for quantity in QUANTITIES],
        (2.9, 1.75),
    )
    ends = table.groupby("dataset")[scale].max()
    for ((dataset, model), quantity), ax in axes.items():
        means = curves[quantity]
        artists.draw_lines(ax, means[(means["dataset"] == dataset) & (means["model"] == model)], scale, styles)
        ax.set_xlim(0, ends[dataset])
        if quantity == "confidence":
            artists.set_confidence_axes(ax)
        else:
            ax.axhline(0, color=GREY, lw=0.8, zorder=1)
    return figure
