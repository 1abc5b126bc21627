"""Show which scores separate optimal temperature scaling from a map that knows which pairs of classes are confused."""

from __future__ import annotations

import pandas as pd

from halobench.reporting import labels
from halobench.reporting.print_tables.by_cell import by_cell
from halobench.reporting.print_tables.layout import Table
from halobench.storage.columns import REFERENCE

SHORT = "What could repair it, other metrics"
CAPTION = """\
This table shows which scores can distinguish temperature scaling from partner scaling. Both calibrators are fitted to
the same validation labels and are scored in expectation under the known posterior. ECE looks only at the probability of
the top class, so ECE may rise even if KL falls. KL, NLL and the Brier score look at all classes, so they show whether a
calibrator's doubt falls on likely classes. Classwise ECE also looks at all classes, but it is a mean over classes, so
it gets smaller as their number grows.
"""

SHOWS = ()  # made only if an experiment lists it
TITLE = "Which score sees what temperature scaling leaves"
PART_CAPTION = (
    "Scores on test data in expectation under the known posterior, after temperature scaling and after partner scaling,"
    " both fitted to the same validation labels. ECE looks at the top class alone, so it may rise where KL falls by"
    " half a nat. KL, NLL, Brier score and classwise ECE look at all classes."
)
COMPARED = ("exact", "partner")
COMPARED_METRICS = ("kl", "nll", "brier", "classwise_ece", "ece")


def make(metrics: pd.DataFrame) -> Table:
    """Return the cells' scores after optimal TS and after partner scaling, as means over seeds."""
    rows = metrics[
        (metrics["split"] == "test")
        & (metrics["labels"] == "noisy")
        & metrics["calibrator"].isin(COMPARED)
        & metrics["metric"].isin(COMPARED_METRICS)
        & (metrics["loss"] != REFERENCE)
    ]
    values = rows.assign(column=rows["metric"] + " " + rows["calibrator"])
    heads = {
        labels.metric_axis(metric): [(f"{metric} {name}", labels.calibrator_label(name)) for name in COMPARED]
        for metric in COMPARED_METRICS
    }
    numbers, parts = by_cell("repair_metrics", PART_CAPTION, values, heads)
    return Table(TITLE, numbers, tuple(parts))
