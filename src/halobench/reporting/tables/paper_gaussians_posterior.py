"""NLL, ECE and ACE on Gaussian classes in expectation under the exact posterior: by separation and loss."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

SHOWS = ("gaussians",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Mean and standard deviation over seeds, without temperature scaling, after the released fit and the exact one.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.

    Returns
    -------
    Table
    """
    return scores.gaussians(metrics, runs, "noisy")
