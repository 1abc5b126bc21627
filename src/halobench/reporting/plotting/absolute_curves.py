"""Draw confidence in a sample's label, or its logit gap, against distance from the sample in normalised inputs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import GREY
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import loss_styles


def draw_absolute(neighbourhood: pd.DataFrame, title: str, value: str) -> Figure:
    """Draw ``confidence``, with its held-out control, or ``logit_gap``: a row per data set, a column per model.

    The values come from the sphere probe or, without it, from the first probe in order.
    """
    gap = value == "logit_gap"
    table = table_views.by_kind(neighbourhood.dropna(subset=["radius", value]))
    if table.empty:
        return empty_page(title, "No probe visited absolute distances.")
    table = table[table["probe"] == labels.ordered(table["probe"], labels.PROBES)[0]]
    table, around = table_views.with_evaluation_as_train(table)
    table = table[table["points"] == "train"] if gap else table
    styles = loss_styles(table_views.losses_in(table))
    control = [artists.held_out_key()] if "heldout" in set(table["points"]) else []
    dashed = f" Dashed: {labels.around('heldout')}." if control else ""
    what = "Logit of the label minus the largest other logit, {}; below 0, the prediction has left the label."
    lead = what.format(around) if gap else f"Solid: {around}.{dashed}"
    probe = f"Probe: {labels.probe_label(table['probe'].iloc[0]).lower()}. " if table["probe"].iloc[0] else ""
    note = f"{lead} {probe}Lines: {seeds_note(table)}."
    text = PageText(
        title,
        note,
        artists.loss_keys(styles) + control,
        f"Euclidean {labels.ABSOLUTE}" if gap else labels.ABSOLUTE,
        value.replace("_", " "),
        shared=not gap,
    )
    rows, columns = table_views.dataset_and_model_headings(table)
    figure, axes = draw_grid(text, rows, columns, table_views.cells_in(table), (2.4, 2.0) if gap else (2.3, 1.85))
    means = over_seeds(
        table, ["dataset", "model", "loss", "points", "radius"], value, (-np.inf, np.inf) if gap else (0, 1)
    )
    ends = table.groupby("dataset")["radius"].max()
    for (dataset, model), ax in axes.items():
        artists.draw_lines(ax, means[(means["dataset"] == dataset) & (means["model"] == model)], "radius", styles)
        ax.set_xlim(0, ends[dataset])
        if gap:
            ax.axhline(0, color=GREY, lw=0.8, zorder=1)
        else:
            artists.set_confidence_axes(ax)
    return figure
