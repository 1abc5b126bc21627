"""Confidence and logit gap against distance in normalised pixels, along random directions (the paper's probe)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.figures import names, theme

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
    probe = names.ordered(table["probe"], names.PROBES)[0]
    table = table[table["probe"] == probe]
    losses, cells = names.losses_in(table), names.cells_in(table)
    styles = names.loss_styles(losses)
    values = ("confidence", "logit_gap")
    rows = {
        (dataset, value): names.dataset_label(dataset) if value == "confidence" else ""
        for dataset in dict.fromkeys(d for d, _ in cells)
        for value in values
    }
    by = ["dataset", "model", "loss", "points", "radius"]
    means = {value: names.over_seeds(table, by, value).set_index(["dataset", "model"]) for value in values}
    where = names.PROBES.get(probe, probe).replace("\n", " ").lower()
    grid = theme.grid(
        TITLE if probe == "sphere" else "Confidence and logit gap at a distance in normalised pixels",
        f"Probe: {where}. Solid: around training points, in the label trained on. Dashed: the same around held-out "
        f"points, the control. Lines: {names.seeds_note(table)}. The logit gap is the label's logit minus the largest "
        "other: below 0 the prediction has left the label.",
        rows,
        {model: names.model_label(model) for model in names.ordered((m for _, m in cells), names.MODELS)},
        {((d, value), m) for d, m in cells for value in values},
        panel=(2.3, 1.15),
        gap=(0.5, 0.5),
        legend=[
            *theme.loss_keys(losses, styles),
            theme.key("held-out control", theme.GREY, ls=(0, (3, 2)), lw=1),
        ],
        xlabel=names.ABSOLUTE,
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
