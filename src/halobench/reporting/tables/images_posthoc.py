"""Show NLL and ECE on data sets after calibrators other than a temperature, next to the exact temperature."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

SHOWS = ("any images",)
BEYOND = ("none", "released", "exact", "oracle")  # the table is made if there are calibrators other than these


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores under the known posterior by data set, noise, model and loss; see `scores.images`."""
    return scores.images(metrics, runs, "noisy", scores.OTHERS)
