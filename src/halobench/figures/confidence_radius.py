"""Mean label confidence against distance in normalised pixels, a panel for each model x data set pair.

The figure of the paper's first version; how logit gaps go, which tell more where confidence is 1, shows ``logit_gaps``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.figures import names, theme

TITLE = "Mean label confidence against radius"


@theme.styled
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
    table = theme.absolute_rows(neighbourhood)
    if table.empty:
        return theme.nothing(TITLE, "No probe visited absolute distances.")
    table, own = names.own_points(table)
    losses, cells = names.losses_in(table), names.cells_in(table)
    styles = names.loss_styles(losses)
    by = ["dataset", "model", "loss", "points", "radius"]
    means = theme.groups_of(names.over_seeds(table, by, "confidence"), ["dataset", "model"])
    ends = table.groupby("dataset")["radius"].max()
    grid = theme.grid(
        TITLE,
        f"Solid: {own}. Dashed: {names.around('heldout')}. "
        f"Probe: {names.probe_label(table['probe'].iloc[0]).lower()}. Lines: {names.seeds_note(table)}.",
        {dataset: names.dataset_label(dataset) for dataset in dict.fromkeys(d for d, _ in cells)},
        {model: names.model_label(model) for model in names.ordered((m for _, m in cells), names.MODELS)},
        cells,
        panel=(2.0, 1.3),
        legend=[
            *theme.loss_keys(losses, styles),
            theme.key("held-out control", theme.GREY, ls=(0, (3, 2)), lw=1),
        ],
        xlabel=f"radius: {names.ABSOLUTE}",
    )
    for (dataset, model), ax in grid.axes.items():
        theme.draw_lines(ax, means[dataset, model], "radius", losses, styles)
        ax.set_xlim(0, ends[dataset])
        ax.set(ylim=(-0.03, 1.03))
        theme.set_ticks(ax.yaxis, (0, 0.5, 1))
        if grid.left(dataset, model):
            ax.set_ylabel("confidence")
        else:
            ax.tick_params(labelleft=False)
    return grid.figure
