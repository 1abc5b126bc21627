"""Show NLL, ECE and ACE on Gaussian classes in expectation under the exact posterior."""

from __future__ import annotations

import pandas as pd

from halobench.reporting.print_tables import scores
from halobench.reporting.print_tables.layout import Table

CAPTION = """\
The paper's table of results on two Gaussian classes, scored against the known posterior. NLL, ECE and ACE are
expectations, so they don't depend on which test labels were drawn. The last row for each separation shows the
posterior's own scores; no model can have a lower NLL. The columns are those of ``paper_gaussians``: without
temperature scaling, after TS (paper's code), and after TS (optimal). How to read it: lower is always better. Compare
rows only within a block, because the best possible score differs between blocks. Bold marks the lowest value in each
column of a block if it is clearly the lowest, and ± gives the standard deviation over seeds.
"""

SHOWS = ("gaussians",)


def make(metrics: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Return scores by separation and loss, before and after TS; see `scores.gaussians`."""
    return scores.gaussians(metrics, runs, "noisy")
