"""Reliability diagrams after calibrators with more freedom than a temperature, beside the exact temperature's."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.figures.calibration import label_note
from halobench.reporting.plotting import artists, page_layout, style
from halobench.reporting.styles import loss_styles

TITLE = "Reliability after other calibrators than a temperature"
BEYOND = ("none", "released", "exact", "oracle")  # drawn where calibrators besides these are asked for


@style.styled
def draw(reliability: pd.DataFrame) -> Figure:
    """Draw accuracy against confidence a bin, pooled over seeds: a row a data set and model, a column a calibrator.

    Parameters
    ----------
    reliability : DataFrame
        As aggregated; test rows, against noisy labels where a data set has them.

    Returns
    -------
    Figure
    """
    table = table_views.preferred_labels(reliability)
    others = [c for c in labels.ordered(table["calibrator"], labels.CALIBRATORS) if c not in BEYOND]
    table = table[table["calibrator"].isin(["exact", *others])]
    if not others or not (table["count"] > 0).any():
        return artists.nothing(TITLE, "No bins were counted after calibrators other than a temperature.")
    pooled = table_views.pooled_bins(table, ["dataset", "model", "loss", "calibrator"])
    losses, cells = table_views.losses_in(pooled), table_views.cells_in(pooled)
    groups = {(key[:2], key[2]): group for key, group in pooled.groupby(["dataset", "model", "calibrator"])}
    styles = loss_styles(losses)
    grid = page_layout.grid(
        TITLE,
        "Accuracy against mean confidence of the points in each bin of confidence, on "
        f"{label_note(table)}, pooled over "
        f"{table['seed'].nunique()} seed{'s' * (table['seed'].nunique() > 1)}; first after the exact temperature, to "
        f"compare with. Below the diagonal a model is more confident than it is right. {artists.noise_caps(table)}"
        f"Bins of fewer than {labels.FEW} points are faint.",
        {cell: labels.cell_label(*cell) for cell in cells},
        {c: labels.calibrator_label(c) for c in ("exact", *others)},
        groups,
        panel=(1.35, 1.35),
        gap=(0.25, 0.55),
        legend=artists.loss_keys(losses, styles),
        xlabel="confidence",
    )
    for (cell, calibrator), ax in grid.axes.items():
        artists.draw_reliability(ax, None, groups[cell, calibrator], styles, by="loss")
        if grid.left(cell, calibrator):
            ax.set_ylabel("accuracy")
        else:
            ax.tick_params(labelleft=False)
    return grid.figure
