"""Mean label confidence against distance in normalised pixels, a panel for each model x data set pair.

The figure of the paper's first version; how logit gaps go, which tell more where confidence is 1, shows ``logit_gaps``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, seed_statistics, table_views
from halobench.reporting.plotting import artists, page_layout, style
from halobench.reporting.styles import loss_styles

TITLE = "Mean label confidence against radius"


@style.styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw mean label confidence with its t band over seeds: a row a data set, a column a model, a line a loss.

    Parameters
    ----------
    neighbourhood : DataFrame
        As aggregated; the rows of the absolute grid are drawn, of the sphere probe (or the first there is).

    Returns
    -------
    Figure
    """
    table = table_views.absolute_rows(neighbourhood)
    if table.empty:
        return artists.nothing(TITLE, "No probe visited absolute distances.")
    table, own = table_views.own_points(table)
    losses, cells = table_views.losses_in(table), table_views.cells_in(table)
    styles = loss_styles(losses)
    by = ["dataset", "model", "loss", "points", "radius"]
    means = table_views.groups_of(seed_statistics.over_seeds(table, by, "confidence"), ["dataset", "model"])
    ends = table.groupby("dataset")["radius"].max()
    grid = page_layout.grid(
        TITLE,
        f"Solid: {own}. Dashed: {labels.around('heldout')}. "
        f"Probe: {labels.probe_label(table['probe'].iloc[0]).lower()}. Lines: {seed_statistics.seeds_note(table)}.",
        {dataset: labels.dataset_label(dataset) for dataset in dict.fromkeys(d for d, _ in cells)},
        {model: labels.model_label(model) for model in labels.ordered((m for _, m in cells), labels.MODELS)},
        cells,
        panel=(2.0, 1.3),
        legend=[
            *artists.loss_keys(losses, styles),
            artists.key("held-out control", style.GREY, ls=(0, (3, 2)), lw=1),
        ],
        xlabel=f"radius: {labels.ABSOLUTE}",
    )
    for (dataset, model), ax in grid.axes.items():
        artists.draw_lines(ax, means[dataset, model], "radius", losses, styles)
        ax.set_xlim(0, ends[dataset])
        ax.set(ylim=(-0.03, 1.03))
        page_layout.set_ticks(ax.yaxis, (0, 0.5, 1))
        if grid.left(dataset, model):
            ax.set_ylabel("confidence")
        else:
            ax.tick_params(labelleft=False)
    return grid.figure
