"""Show logit gaps around training samples against Euclidean distance, by data set (the paper's Figure 3)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, draw_panels, empty_page
from halobench.reporting.plotting.style import GREY, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import loss_styles, model_dashes

SHORT = "Logit gaps"
CATEGORY = "2 Neighbourhoods"
CAPTION = """\
The paper's Figure 3: the logit gap in random directions around training points, against distance in normalised inputs.
The gap is the label's logit minus the largest other logit; below 0 the decision has changed. Unlike confidence, it
still distinguishes models whose confidence is rounded to 1.
"""

TITLE = "Logit gap against Euclidean distance"
MOST_LINES = 6  # the most that can be distinguished in one panel


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw mean logit gaps with t bands over seeds: a panel per data set, a line per model and loss.

    If a panel would have too many lines, each model gets its own column and each data set its own row.
    The lines show the aggregated table's rows for the sphere probe (or else the first in order) on the absolute grid
    around training samples.
    """
    table, around = table_views.with_evaluation_as_train(table_views.absolute_rows(table_views.by_kind(neighbourhood)))
    table = table[table["points"] == "train"].dropna(subset=["logit_gap"])
    if table.empty:
        return empty_page(TITLE, "No probe visited absolute distances.")
    styles = loss_styles(table_views.losses_in(table))
    rows, columns = table_views.dataset_and_model_headings(table)
    lines = table[["dataset", "model", "loss"]].drop_duplicates().groupby("dataset").size()
    together = lines.max() <= MOST_LINES
    dashes = model_dashes(columns) if together else dict.fromkeys(columns, "-")
    keys = artists.loss_keys(styles)
    if together and len(columns) > 1:
        keys += [artists.key(labels.model_label(model), GREY, ls=dash) for model, dash in dashes.items()]
    note = (
        f"Logit of the label minus the largest other logit, {around}; below 0, the prediction has left "
        f"the label. {labels.probe_sentence(table['probe'].iloc[0])}Lines: {seeds_note(table)}."
    )
    text, size = PageText(TITLE, note, keys, f"Euclidean {labels.ABSOLUTE}", "logit gap"), (2.4, 2.0)
    if together:
        figure, axes = draw_panels(text, {(dataset, ""): label for dataset, label in rows.items()}, size)
    else:
        figure, axes = draw_grid(text, rows, columns, table_views.cells_in(table), size)
    means = over_seeds(table, ["dataset", "model", "loss", "points", "radius"], "logit_gap")
    ends = table.groupby("dataset")["radius"].max()
    for (dataset, column), ax in axes.items():
        ax.axhline(0, color=GREY, lw=0.8, zorder=1)
        for model in columns if together else [column]:
            of_cell = means[(means["dataset"] == dataset) & (means["model"] == model)]
            artists.draw_lines(ax, of_cell, "radius", styles, dashes[model])
        ax.set_xlim(0, ends[dataset])
    return figure
