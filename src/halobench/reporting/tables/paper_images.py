"""Show NLL, ECE and ACE on data sets against clean test labels, as in the paper."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

TITLE = "Scores against clean labels"
CAPTION = """\
These tables have the form of the paper's tables for images. They show this experiment's NLL, ECE and ACE on test data,
against clean labels. Under label noise, a temperature is fitted to noisy validation labels, so TS can make scores on
clean labels worse. ACE is the *average* calibration error, whose bins have equal weights. The caption of each part
counts the models for which the paper's fit failed, i.e. ended more than 5% from the optimum or below 0. The LaTeX at
the end of the page needs booktabs and graphicx. Lower is always better. Compare only rows of the same data set, because
the best possible score differs between data sets.
"""

SHOWS = ("any images",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores by data set, model and loss, before and after TS; see `scores.images`."""
    return scores.images(metrics, runs, "clean")
