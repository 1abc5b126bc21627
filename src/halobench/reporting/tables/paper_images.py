"""Show NLL, ECE and ACE on data sets against clean test labels, as in the paper."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

SHOWS = ("any images",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores by data set, noise, model and loss, before and after TS; see `scores.images`."""
    return scores.images(metrics, runs, "clean")
