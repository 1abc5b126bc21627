"""Confidence and logit gap against distance in normalised pixels, along random directions (the paper's probe)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.figures import theme

TITLE = "Confidence and logit gap at a distance in normalised pixels, in random directions"


@theme.styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw mean label confidence (top) and logit gap (below) with t bands over seeds, held-out control dashed.

    Parameters
    ----------
    neighbourhood : DataFrame
        As aggregated; the rows of the absolute grid are drawn, of the sphere probe (or the first there is).

    Returns
    -------
    Figure
    """
    table = neighbourhood.dropna(subset=["radius", "confidence"])
    if table.empty:
        return theme.nothing(TITLE, "No probe visited absolute distances.")
    probe = theme.ordered(table["probe"], theme.PROBES)[0]
    table = table[table["probe"] == probe]
    losses, cells = theme.losses_in(table), theme.cells_in(table)
    styles = theme.loss_styles(losses)
    values = ("confidence", "logit_gap")
    rows = {
        (dataset, value): theme.dataset_label(dataset) if value == "confidence" else ""
        for dataset in dict.fromkeys(d for d, _ in cells)
        for value in values
    }
    by = ["dataset", "model", "loss", "points", "radius"]
    means = {value: theme.over_seeds(table, by, value).set_index(["dataset", "model"]) for value in values}
    where = theme.PROBES.get(probe, probe).replace("\n", " ").lower()
    grid = theme.grid(
        TITLE if probe == "sphere" else "Confidence and logit gap at a distance in normalised pixels",
        f"Probe: {where}. Solid: around training points, in the label trained on. Dashed: the same around held-out "
        f"points, the control. Lines: {theme.seeds_note(table)}. The logit gap is the label's logit minus the largest "
        "other: below 0 the prediction has left the label.",
        rows,
        {model: theme.model_label(model) for model in theme.ordered((m for _, m in cells), theme.MODELS)},
        {((d, value), m) for d, m in cells for value in values},
        panel=(2.3, 1.15),
        gap=(0.5, 0.5),
        legend=[
            *theme.loss_keys(losses, styles),
            theme.key("held-out control", theme.GREY, ls=(0, (3, 2)), lw=1),
        ],
        xlabel=theme.ABSOLUTE,
    )
    for ((dataset, value), model), ax in grid.axes.items():
        theme.draw_lines(ax, means[value].loc[[(dataset, model)]], "radius", losses, styles)
        ax.set_xlim(0, table.loc[table["dataset"] == dataset, "radius"].max())
        if value == "confidence":
            ax.set(ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))
            ax.set_xticklabels([])
        else:
            ax.axhline(0, color=theme.GREY, lw=0.8, zorder=1)
        if grid.left((dataset, value), model):
            ax.set_ylabel(value.replace("_", " "))
            ax.yaxis.set_label_coords(-0.17, 0.5)
    return grid.figure
