"""Show reliability after calibrators more flexible than a temperature, next to the exact temperature."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting.panel_grid import empty_page
from halobench.reporting.plotting.reliability_diagrams import draw_diagrams
from halobench.reporting.plotting.style import styled
from halobench.reporting.styles import loss_styles
from halobench.results.leaders import preferred_labels

SHORT = "Reliability after other calibrations"
CATEGORY = "3 Calibration"
CAPTION = """\
Accuracy against confidence on test data, after calibrators with more freedom than a single temperature. Those with
many parameters can fit the noise of the validation data, and their lines then leave the diagonal. Some can change the
predicted class, so accuracies may differ between panels.
"""

TITLE = "Reliability after calibrators other than temperature scaling"
BEYOND = ("none", "paper", "exact", "oracle")  # the figure is drawn if there are calibrators other than these
REMARKS = (
    "; the first column, after the optimal temperature, is for comparison",
    f"Bins of fewer than {labels.FEW} points are faint.",
)


@styled
def draw(reliability: pd.DataFrame) -> Figure:
    """Draw accuracy against confidence, with a column per calibrator and a line per loss."""
    table = preferred_labels(reliability)
    others = [name for name in labels.ordered(table["calibrator"], labels.CALIBRATORS) if name not in BEYOND]
    table = table[table["calibrator"].isin(["exact", *others])]
    counted = table[table["count"] > 0]
    if not others or counted.empty:
        return empty_page(TITLE, "No bins were counted after calibrators other than temperature scaling.")
    headings = {name: labels.calibrator_label(name) for name in ("exact", *others)}
    styles = loss_styles(table_views.losses_in(counted))
    return draw_diagrams(table, TITLE, "calibrator", headings, styles, REMARKS)
