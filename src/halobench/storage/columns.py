"""List the columns of the tables, on which readers of results rely."""

from __future__ import annotations

from collections.abc import Mapping

CHANGES_NUMBERS = True  # see `halobench.experiment.code_version`
# These tables are empty if no cell is probed, nothing is trained, or nothing is fitted.
MAY_BE_EMPTY = ("neighbourhood", "radii", "history", "fits")

KEYS = ["dataset", "model", "loss", "seed"]  # the columns that identify a cell
PAIRED = ["dataset", "model", "seed"]  # losses are compared for equal values of these
NO_LOSS = "untrained"  # the loss of models without weights or with weights from elsewhere; it isn't counted as a loss
REFERENCE = "reference"  # the loss that marks rows of untrained reference predictors
METRICS_COLUMNS = ("split", "labels", "calibrator", "metric", "value", "low", "high")
RELIABILITY_COLUMNS = ("split", "labels", "calibrator", "bin", "lower", "upper", "count", "confidence", "accuracy")
# Each row describes a job, as in its record; spec, hardware and versions are JSON.
JOB_COLUMNS = (
    *("stage", "key", "seed", "device", "seconds", "peak_memory_mib"),
    *("started", "finished", "commit", "spec", "hardware", "versions"),
)
FIT_COLUMNS = (*KEYS, "calibrator", "split", "labels", "T", "beta", "nll", "gradient", "separable", "converged")
# Columns of `runs` that describe the data set and are the same in all its cells.
DATASET = ("noise", "classes", "train_points", "distribution", "beta", "group", "separation", "seed_correction")
CLAIM_COLUMNS = (
    *("claim", "label", "statement", "theme", "kind", "scope", "fit", "loss"),
    *("table", "measure", "statistic", "formula", "estimate", "low", "high"),
    *("margin", "direction", "n", "excluded", "seed_correction", "verdict"),
    *("pairs", "hold", "fail", "left_out", "least", "most", "p", "holm", "adjusted"),
    *("registered", "note"),
)
# The share of radii beyond each multiple of the distance to the nearest training sample with a different label.
SURVIVAL = (0.0, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
SURVIVAL_COLUMNS = tuple(f"survival_{radius:g}" for radius in SURVIVAL)
# The columns that each table must have.
TABLE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "metrics": (*KEYS, *METRICS_COLUMNS, "noise"),
    "neighbourhood": (
        *(*KEYS, "points", "probe", "kind", "radius", "relative_radius"),
        *("confidence", "confidence_se", "logit_gap", "logit_gap_se", "noise"),
    ),
    "radii": (
        *(*KEYS, "points", "probe", "kind", "quantity", "calibrator", "threshold", "n", "censored"),
        *(f"{scale}_{level}" for scale in ("radius", "relative", "fraction") for level in ("q25", "median", "q75")),
        *(*SURVIVAL_COLUMNS, "noise"),
    ),
    "reliability": (*KEYS, *RELIABILITY_COLUMNS, "noise"),
    "history": (*KEYS, "epoch", "step", "lr", "train_loss"),
    "runs": (
        *(*KEYS, *DATASET, "train_accuracy", "interpolates", "steps", "seconds", "device", "parameters"),
        *(f"temperature_{name}" for name in ("exact", "paper", "oracle", "oracle_clean")),
        *("paper_near_exact", "loss_family"),
    ),
    "claims": CLAIM_COLUMNS,
    "jobs": JOB_COLUMNS,
    "fits": FIT_COLUMNS,
}
