"""Logit gaps around training points against Euclidean distance, by data set (the paper's Figure 3)."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, seed_statistics, table_views
from halobench.reporting.plotting import artists, page_layout, style
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import loss_styles, model_dashes

TITLE = "Logit gap against Euclidean distance"
MOST = 6  # lines that can be told apart in a panel
ACROSS = 4  # panels beside each other, where there is one a data set


@style.styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw mean logit gaps with t bands over seeds: a panel a data set, a line a model and loss.

    Where a panel would have too many lines, each model has a column of its own, and each data set a row.

    Parameters
    ----------
    neighbourhood : DataFrame
        As aggregated; the rows of the absolute grid around training points are drawn, of the sphere probe (or the first
        there is).

    Returns
    -------
    Figure
    """
    table, own = table_views.own_points(table_views.absolute_rows(neighbourhood))
    table = table[table["points"] == "train"].dropna(subset=["logit_gap"])
    if table.empty:
        return artists.nothing(TITLE, "No probe visited absolute distances.")
    losses, cells = table_views.losses_in(table), table_views.cells_in(table)
    styles = loss_styles(losses)
    by = ["dataset", "model", "loss", "points", "radius"]
    means = table_views.groups_of(seed_statistics.over_seeds(table, by, "logit_gap"), ["dataset", "model"])
    ends = table.groupby("dataset")["radius"].max()
    datasets = list(dict.fromkeys(d for d, _ in cells))
    models = labels.ordered((m for _, m in cells), labels.MODELS)
    lines = table[["dataset", "model", "loss"]].drop_duplicates().groupby("dataset").size()
    together = lines.max() <= MOST
    dashes = model_dashes(models) if together else dict.fromkeys(models, "-")
    told = dashes if together and len(models) > 1 else {}  # in the legend
    rows: dict[Any, str]
    columns: dict[Any, str]
    held: dict[Any, list[tuple[str, str]]]
    headings: dict[Any, str] | None
    if together:
        places = {dataset: divmod(i, ACROSS) for i, dataset in enumerate(datasets)}
        rows, columns = ({place[i]: "" for place in places.values()} for i in (0, 1))
        held = {places[d]: [(d, m) for m in models if (d, m) in cells] for d in datasets}
        headings = {places[d]: labels.dataset_label(d) for d in datasets}
    else:
        rows = {d: labels.dataset_label(d) for d in datasets}
        columns = {m: labels.model_label(m) for m in models}
        held, headings = {cell: [cell] for cell in cells}, None
    grid = page_layout.grid(
        TITLE,
        f"Logit of the label less the largest other one, {own}; below 0 the prediction has left the "
        f"label. Probe: {labels.probe_label(table['probe'].iloc[0]).lower()}. Lines: {seeds_note(table)}.",
        rows,
        columns,
        held,
        panel=(2.1, 1.5),
        gap=(0.45, 0.5),
        headings=headings,
        legend=[
            *artists.loss_keys(losses, styles),
            *(artists.key(labels.model_label(m), style.GREY, ls=dash) for m, dash in told.items()),
        ],
        xlabel=f"Euclidean {labels.ABSOLUTE}",
    )
    for (row, column), ax in grid.axes.items():
        ax.axhline(0, color=style.GREY, lw=0.8, zorder=1)
        for cell in held[row, column]:
            artists.draw_lines(ax, means[cell], "radius", losses, styles, dash=dashes[cell[1]])
        ax.set_xlim(0, ends[held[row, column][0][0]])
        if grid.left(row, column):
            ax.set_ylabel("logit gap")
    return grid.figure
