"""Show NLL, ECE and ACE on data sets in expectation under the known posterior."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

TITLE = "Scores under the known posterior"
CAPTION = """\
The table shows the scores of ``paper_images`` in expectation under the known posterior, which follows from the label
noise or came with the data. If labels are uncertain, the posterior's own scores are at the bottom of each part; no
model can have a lower NLL. A model that sees only images may not reach this NLL, since the posterior of flipped labels
is conditional on the official label. Lower is always better. Compare only rows of the same data set, because the best
possible score differs between data sets.
"""

SHOWS = ("any images",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores by data set, model and loss, before and after TS; see `scores.images`."""
    return scores.images(metrics, runs, "noisy")
