"""Show NLL, ECE and ACE on data sets against clean test labels, as in the paper."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

TITLE = "Scores against clean labels"
CAPTION = """\
The paper's tables of results on data sets. They show NLL, ECE and ACE on test data by data set, label noise, model
and loss. As in the paper, the scores are computed against clean labels. Scores without temperature scaling, after the
fit of the paper's code, and after TS (optimal) are side by side, so the effect of the paper's fit is visible. A
temperature is fitted to noisy validation labels, so it can make the scores against clean labels worse. ACE is the
*average* calibration error that the paper reports, an unweighted mean over bins. The CSV file has all numbers at full
precision, for all calibrators. It also counts the seeds whose fit failed. A fit of the paper's code counts as failed
if it ends more than 5% from the optimum or below 0. Those below 0 are also counted separately, and are scored as they
are. The LaTeX at the end of the page needs booktabs and graphicx. How to read it: lower is always better. Compare
rows only within a block, because the best possible score differs between blocks. Bold marks the lowest value in each
column of a block if it is clearly the lowest, and ± gives the standard deviation over seeds.
"""

SHOWS = ("any images",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores by data set, noise, model and loss, before and after TS; see `scores.images`."""
    return scores.images(metrics, runs, "clean")
