"""NLL and ECE on images after other calibrators than a temperature: by data set, noise, model and loss."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

SHOWS = ("any images",)
BEYOND = ("none", "released", "exact", "oracle")


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Mean and standard deviation over seeds in expectation under the known posterior, beside the exact temperature's.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.

    Returns
    -------
    Table
    """
    return scores.images(metrics, runs, "noisy", scores.OTHERS)
