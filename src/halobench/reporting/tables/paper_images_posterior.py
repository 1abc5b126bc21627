"""Show NLL, ECE and ACE on data sets in expectation under the known posterior."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

TITLE = "Scores under the known posterior"
CAPTION = """\
The paper's tables of results on data sets, scored against the known posterior of the labels. The posterior results
from the label noise or came with the data. NLL, ECE and ACE are expectations under it, so they don't depend on which
test labels were drawn. The posterior's own scores are at the bottom; no model can have a lower NLL. If every label is
certain, these scores equal those against the labels, and the posterior has no row because its own scores are 0. The
columns are those of ``paper_images``: without temperature scaling, after TS (paper's code), and after TS (optimal).
How to read it: lower is always better. Compare rows only within a block, because the best possible score differs
between blocks. Bold marks the lowest value in each column of a block if it is clearly the lowest, and ± gives the
standard deviation over seeds.
"""

SHOWS = ("any images",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores by data set, noise, model and loss, before and after TS; see `scores.images`."""
    return scores.images(metrics, runs, "noisy")
