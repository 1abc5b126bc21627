"""Show NLL, ECE and ACE on Gaussian classes against drawn test labels, as in the paper."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

CAPTION = """\
This table has the form of the paper's table for two Gaussian classes. It shows this experiment's NLL, ECE and ACE
against the labels that were drawn with the test points. Rows are grouped by separation, the distance between the means
in standard deviations. Lower is always better. Compare only rows of the same data set, because the best possible score
differs between data sets.
"""

SHOWS = ("gaussians",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores by separation and loss, before and after TS; see `scores.gaussians`."""
    return scores.gaussians(metrics, runs, "clean")
