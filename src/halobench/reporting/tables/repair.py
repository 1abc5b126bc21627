"""Show each model's NLL, split by what could repair it (`halobench.repair_ladder`), and its KL after calibration."""

from __future__ import annotations

import pandas as pd

from halobench.analysis.names import REPAIRS
from halobench.reporting import labels
from halobench.reporting.print_tables.by_cell import by_cell
from halobench.reporting.print_tables.layout import Part, Table
from halobench.storage.columns import REFERENCE

SHORT = "What could repair it"
CAPTION = """\
The table splits each model's NLL on test samples by what could repair it. From left to right, the parts are noise,
which no classifier can get below; what only different training can repair; what a richer map of the logits can repair;
and what a temperature can repair. The figure of the same name explains how to read the parts.
"""

SHOWS = ()  # made only if an experiment lists it; its cells then get repair ladders
TITLE = "Test NLL by what could repair it"
PART_CAPTION = (
    "Test NLL by what could repair it: the parts add up to the NLL of the model as it is. Where the posterior isn't"
    " known, the part that only training "
    "repairs includes the noise. The upper estimate of the best map's NLL is the lowest that a map reached on samples "
    "that it wasn't fitted to, with its sampling error, so the part for training is, if anything, too large. The lower "
    "estimate comes from learning curves, and is the noise (or 0) where samples are too few."
)

LEFT = (
    "KL from the known posterior to the model after each calibration. It excludes the noise, which no classifier can"
    " remove. All calibrators except the oracle are fitted to validation labels."
)


def make(metrics: pd.DataFrame) -> Table:
    """Return the parts of each cell's NLL and the KL after each calibration, as means over seeds."""
    (ladders, shown), (left, further) = _ladders(metrics), _left(metrics)
    return Table(TITLE, pd.concat([ladders, left], ignore_index=True), (*shown, *further))


def _ladders(metrics: pd.DataFrame) -> tuple[pd.DataFrame, list[Part]]:
    rows = metrics[metrics["metric"].astype(str).str.startswith("repair_")]
    values = rows.assign(column=rows["metric"].str.removeprefix("repair_"))
    best = values[values["column"] == "best_map"]
    values = pd.concat([values, *(best.assign(column=f"best_map_{end}", value=best[end]) for end in ("low", "high"))])
    columns = {
        "NLL": [("nll", "as it is")],
        "of which repairs it": [(part, name.label) for part, name in REPAIRS.items()],
        "NLL of the best map": [("best_map_low", "lower estimate"), ("best_map_high", "upper estimate")],
    }
    return by_cell("repair", PART_CAPTION, values, columns)


def _left(metrics: pd.DataFrame) -> tuple[pd.DataFrame, list[Part]]:
    rows = metrics[(metrics["split"] == "test") & (metrics["labels"] == "noisy") & (metrics["metric"] == "kl")]
    values = rows[rows["loss"] != REFERENCE].rename(columns={"calibrator": "column"})
    names = labels.ordered(values["column"], labels.CALIBRATORS)
    columns = {"KL (nats)": [(name, labels.calibrator_label(name)) for name in names]}
    return by_cell("kl", LEFT, values, columns)
