"""Show reliability before and after temperature scaling, with ECE and the number of points in each bin."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.leaders import preferred_labels
from halobench.reporting.plotting.panel_grid import empty_page
from halobench.reporting.plotting.reliability_diagrams import draw_diagrams
from halobench.reporting.plotting.style import styled
from halobench.reporting.styles import calibrator_styles

SHORT = "Reliability"
CATEGORY = "3 Calibration"
CAPTION = """\
The figure shows reliability diagrams on test data without calibration, after TS (paper's code) and after TS (optimal).
Below the diagonal, a model is overconfident. If the posterior is known, accuracy is an expectation under it. Bins are
pooled over seeds. Bins of fewer than 10 points have faint marks. A positive temperature moves points between bins but
doesn't change the predicted class; the paper's code may fit a negative temperature.
"""

TITLE = "Reliability before and after temperature scaling"
CALIBRATORS = ("none", "paper", "exact")
ENDING = f"Bars: test points per bin; bins of fewer than {labels.FEW} are faint. ECE: expected calibration error. "


@styled
def draw(reliability: pd.DataFrame) -> Figure:
    """Draw accuracy against confidence above bars that count samples: a column per loss, a line per calibrator."""
    return compare(reliability, CALIBRATORS)


def compare(reliability: pd.DataFrame, calibrators: Sequence[str]) -> Figure:
    """Draw the reliability diagrams of `calibrators`, which may have custom names."""
    table = preferred_labels(reliability)
    table = table[table["calibrator"].isin(calibrators)]
    if not table["count"].any():
        return empty_page(TITLE, "No bins were counted on a test set.")
    table, chosen = table_views.noisiest_cells(table, ["loss"], "the explorer")
    counted = table[table["count"] > 0]
    headings = {loss: labels.loss_label(loss) for loss in table_views.losses_in(counted)}
    styles = calibrator_styles([name for name in calibrators if name in set(counted["calibrator"])])
    return draw_diagrams(table, TITLE, "loss", headings, styles, ("", ENDING + chosen))
