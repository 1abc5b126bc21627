"""Show reliability after calibrators with more freedom than a temperature, next to the exact temperature."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting.panel_grid import empty_page
from halobench.reporting.plotting.reliability_grid import Diagrams, draw_diagrams
from halobench.reporting.plotting.style import styled
from halobench.reporting.styles import loss_styles

TITLE = "Reliability after other calibrators than a temperature"
BEYOND = ("none", "released", "exact", "oracle")  # the figure is drawn if there are calibrators besides these


@styled
def draw(reliability: pd.DataFrame) -> Figure:
    """Draw accuracy against confidence: a column per calibrator, a line per loss.

    Parameters
    ----------
    reliability : DataFrame
        As aggregated; test rows, against noisy labels if a data set has them.
    """
    table = table_views.preferred_labels(reliability)
    others = [name for name in labels.ordered(table["calibrator"], labels.CALIBRATORS) if name not in BEYOND]
    table = table[table["calibrator"].isin(["exact", *others])]
    counted = table[table["count"] > 0]
    if not others or counted.empty:
        return empty_page(TITLE, "No bins were counted after calibrators other than a temperature.")
    diagrams = Diagrams(
        "calibrator",
        {name: labels.calibrator_label(name) for name in ("exact", *others)},
        loss_styles(table_views.losses_in(counted)),
        remark="; first after the exact temperature, to compare with",
        ending=f"Bins of fewer than {labels.FEW} points are faint.",
    )
    return draw_diagrams(table, TITLE, diagrams)
