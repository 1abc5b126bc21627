"""Draw confidence in a sample's label against the distance from it, on either distance scale."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import FAINT
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import loss_styles


def draw_confidence(neighbourhood: pd.DataFrame, title: str, scale: Literal["absolute", "relative"]) -> Figure:
    """Draw mean label confidence with a t band over seeds and a line per loss, with the held-out control dashed."""
    relative = scale == "relative"
    x, table = ("relative_radius" if relative else "radius"), table_views.by_kind(neighbourhood)
    table = table_views.relative_rows(table) if relative else table_views.absolute_rows(table)
    if table.empty:
        return empty_page(title, f"No probe visited {scale} distances.")
    # On the relative scale a cell fills a row; on the absolute scale it takes one panel, so all cells fit.
    table, chosen = table_views.noisiest_cells(table, ["probe"], "the explorer") if relative else (table, "")
    table, around = table_views.with_evaluation_as_train(table)
    styles = loss_styles(table_views.losses_in(table))
    means = over_seeds(table, ["dataset", "model", "probe", "loss", "points", x], "confidence", (0, 1))
    panels = {
        ((dataset, model), probe) if relative else (dataset, model): rows
        for (dataset, model, probe), rows in table_views.groups_of(means, ["dataset", "model", "probe"]).items()
    }
    rows, columns = table_views.dataset_and_model_headings(table)
    if relative:
        rows = {cell: labels.cell_label(*cell) for cell in table_views.cells_in(table)}
        columns = {probe: labels.PROBES.get(probe, probe) for probe in labels.ordered(table["probe"], labels.PROBES)}
    keys = artists.loss_keys(styles)
    keys += [artists.held_out_key()] if "heldout" in set(table["points"]) else []
    xlabel = labels.RELATIVE if relative else labels.ABSOLUTE
    text = PageText(title, f"{_note(table, around, relative)} {chosen}", keys, xlabel, "confidence", shared=True)
    figure, axes = draw_grid(text, rows, columns, panels, (1.95, 1.75) if relative else (2.3, 1.85))
    ends = table.groupby("dataset")[x].max()
    for (row, column), ax in axes.items():
        if relative:
            ax.axvline(1, color=FAINT, lw=0.8, zorder=1)
        artists.draw_lines(ax, panels[row, column], x, styles)
        ax.set(xlim=(0, ends.max() if relative else ends[row]), ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))
        # Otherwise the last label would touch the first one of the next panel.
        ax.xaxis.set(major_locator=MaxNLocator(4, prune="upper"), major_formatter=StrMethodFormatter("{x:g}"))
    return figure


def _note(table: pd.DataFrame, around: str, relative: bool) -> str:
    """Return the note under the title; `around` says which samples the solid lines are around."""
    control = "the same around held-out points, the control" if relative else labels.around("heldout")
    dashed = f" Dashed: {control}." if "heldout" in set(table["points"]) else ""
    if relative:
        return (
            f"Solid: {around}.{dashed} "
            f"Lines: {seeds_note(table)}. Columns: where the probe goes. Grey line: the distance of the nearest "
            "training point of another label."
        )
    probe = labels.probe_sentence(table["probe"].iloc[0])
    return f"Solid: {around}.{dashed} {probe}Lines: {seeds_note(table)}."
