"""Show NLL, ECE and ACE on Gaussian classes in expectation under the exact posterior."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

CAPTION = """\
The table shows the scores of ``paper_gaussians`` in expectation under the known posterior. The last row for each
separation shows the posterior's own scores; no model can have a lower NLL. Lower is always better. Compare only rows of
the same data set, because the best possible score differs between data sets.
"""

SHOWS = ("gaussians",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores by separation and loss, before and after TS; see `scores.gaussians`."""
    return scores.gaussians(metrics, runs, "noisy")
