"""Show NLL, ECE and ACE on Gaussian classes in expectation under the exact posterior."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

SHOWS = ("gaussians",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores by separation and loss, before and after TS; see `scores.gaussians`."""
    return scores.gaussians(metrics, runs, "noisy")
