"""Reliability diagrams before and after temperature scaling, with the number of points in each bin.

Other calibrators have a figure of their own, ``reliability_posthoc``: more than three lines can't be told apart here.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.figures.calibration import label_note
from halobench.reporting.plotting import artists, page_layout
from halobench.reporting.plotting.style import styled
from halobench.reporting.styles import calibrator_style

TITLE = "Reliability before and after temperature scaling"
CALIBRATORS = ("none", "released", "exact")


@styled
def draw(reliability: pd.DataFrame) -> Figure:
    """Draw accuracy against confidence a bin, pooled over seeds, over bars that count the points; no empty bins.

    Parameters
    ----------
    reliability : DataFrame
        As aggregated; test rows, against noisy labels where a data set has them.

    Returns
    -------
    Figure
    """
    table = table_views.preferred_labels(reliability)
    table = table[table["calibrator"].isin(CALIBRATORS)]
    if table.empty or not (table["count"] > 0).any():
        return artists.nothing(TITLE, "No bins were counted on a test set.")
    pooled = table_views.pooled_bins(table, ["dataset", "model", "loss", "calibrator"])
    losses, cells = table_views.losses_in(pooled), table_views.cells_in(pooled)
    styles = {c: calibrator_style(c) for c in CALIBRATORS if c in set(pooled["calibrator"].unique())}
    groups = {
        (key[:2], key[2]): group for key, group in table_views.groups_of(pooled, ["dataset", "model", "loss"]).items()
    }
    grid = page_layout.grid(
        TITLE,
        "Accuracy against mean confidence of the points in each bin of confidence, on "
        f"{label_note(table)}, pooled over "
        f"{table['seed'].nunique()} seed{'s' * (table['seed'].nunique() > 1)}. Below the diagonal a model is more "
        f"confident than it is right. {artists.noise_caps(table)}Bars: how many test points each bin holds; "
        f"those of fewer than {labels.FEW} are faint, empty ones not drawn.",
        {cell: labels.cell_label(*cell) for cell in cells},
        {loss: labels.loss_label(loss) for loss in losses},
        groups,
        panel=(1.35, 1.35),
        gap=(0.6, 0.95),  # room for a count left of the bars
        bottom=0.85,
        legend=[
            artists.key(labels.calibrator_label(c), style.color, ls=style.dash, marker=style.marker, lw=1)
            for c, style in styles.items()
        ],
        xlabel="confidence",
    )
    for (cell, loss), ax in grid.axes.items():
        bars = ax.inset_axes((0, -0.3, 1, 0.22))
        artists.draw_reliability(ax, bars, groups[cell, loss], styles)
        ax.tick_params(labelbottom=False)
        top = int(groups[cell, loss]["count"].max())
        bars.set_ylim(0, top * 1.05)
        page_layout.set_ticks(bars.yaxis, (0, top), ["0", short_count(top)])
        bars.grid(visible=False)
        if grid.left(cell, loss):
            ax.set_ylabel("accuracy")
            bars.set_ylabel("points", labelpad=4)
        else:
            ax.tick_params(labelleft=False)
    return grid.figure


def short_count(count: int) -> str:
    """A number of points in at most four letters below ten million.

    Examples
    --------
    >>> short_count(9999), short_count(12345), short_count(1234567)
    ('9999', '12k', '1.2M')
    """
    if count < 10_000:
        return str(count)
    return f"{count // 1000}k" if count < 1_000_000 else f"{count / 1e6:.1f}M"
