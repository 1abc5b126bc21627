"""Show NLL and ECE on data sets after calibrators other than temperature scaling, next to optimal TS."""

from __future__ import annotations

import pandas as pd

from halobench.reporting import labels
from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

TITLE = "Scores of all calibrations"
CAPTION = """\
This table shows how calibrators other than temperature scaling change the NLL and ECE of models. Scores are
expectations under the known posterior or, if labels are certain, are computed against the test labels. Calibrators such
as isotonic regression and histogram binning can give a probability of 0 to a class that occurs in the test data; the
NLL is then infinite. If labels are uncertain, the posterior's own scores are at the bottom of each part. Lower is
always better. Compare only rows of the same data set, because the best possible score differs between data sets.
"""

SHOWS = ("any images",)
BEYOND = ("none", "paper", "exact", "oracle")  # the table is made if there are calibrators other than these


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return NLL and ECE by data set, model, loss and calibrator; see `scores.images`."""
    calibrators = labels.ordered({*metrics["calibrator"]} - {"paper", "oracle"}, labels.CALIBRATORS)
    return scores.images(metrics, runs, "noisy", ("nll", "ece"), calibrators)
