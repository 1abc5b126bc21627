"""Show KL after temperature scaling against the number of classes: which models grow like log k."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import class_families, kl_by_classes
from halobench.reporting.plotting.panel_grid import PageText, Sizes, draw_grid, empty_page
from halobench.reporting.plotting.style import styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import loss_styles

SHOWS = ("overlap", "image_overlap")
TITLE = "Does temperature scaling fail like log k?"


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per family of distributions and model, a line per loss, next to the closed form of 1-NN.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated; cells on distributions with regions are shown.
    """
    table = class_families.scores(metrics, runs, {"kl": ("kl", "exact")})
    trained = table[(table["loss"] != "reference") & (table["model"] != "nearest")]
    if trained.empty:
        return empty_page(TITLE, "No model was trained on a distribution of overlapping classes.")
    styles = loss_styles(table_views.losses_in(trained))
    note = (
        "KL from the exact posterior to the model after exact temperature scaling, against the number of classes k "
        f"({seeds_note(trained)}). A straight rising line is growth like log k. Hollow: fewer than all seeds "
        "interpolate the training labels."
    )
    grid = draw_grid(
        PageText(TITLE, note, kl_by_classes.legend_keys(styles, styles), "classes k (logarithmic)"),
        {name: class_families.family_label(name) for name in class_families.families(trained)},
        {name: labels.model_label(name) for name in labels.ordered(trained["model"], labels.MODELS)},
        set(trained[["family", "model"]].itertuples(index=False, name=None)),
        Sizes(panel=(1.9, 1.7), gap=(0.3, 0.62)),
    )
    for (family, model), ax in grid.axes.items():
        rows = table[table["family"] == family]
        kl_by_classes.draw_panel(ax, rows[rows["model"].isin((model, "nearest"))], model, styles)
        if grid.left(family, model):
            ax.set_ylabel("KL (nats)")
    return grid.figure
