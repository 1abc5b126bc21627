"""Show NLL, ECE and ACE on Gaussian classes against drawn test labels, as in the paper."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

SHOWS = ("gaussians",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores by separation and loss, before and after TS; see `scores.gaussians`."""
    return scores.gaussians(metrics, runs, "clean")
