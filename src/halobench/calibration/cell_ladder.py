"""Compute a cell's repair ladder on its test samples (the ``repair`` stage).

If test samples were drawn from a distribution, the ladder's maps are fitted to further draws from it. Otherwise, each
fifth of the test samples is scored with maps that are fitted to the other four fifths.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from halobench.calibration.ladder import RepairLadder, ladder
from halobench.calibration.scores.region_scores import SampleRegions
from halobench.calibration.scores.targets import read_array, read_posterior
from halobench.core.errors import Found, require
from halobench.storage.columns import METRICS_COLUMNS

NLL_PARTS = ("noise", "training", "richer_map", "temperature")


def cell_ladder(
    arrays: Mapping[str, np.ndarray], seed: int, more: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[RepairLadder, pd.DataFrame]:
    """Return a cell's repair ladder, and the ladder's rows of the metrics table.

    `more` contains the model's logits for further draws from the distribution, and their posterior. Without a
    posterior, the ladder is scored against ``clean`` labels. The interval of ``repair_best_map`` is the ladder's
    `training_range`, plus the noise if it is known.
    """
    logits = read_array(arrays, "test.logits")
    require(logits.ndim == 2, "test.logits", Found(f"shape {logits.shape}"), "an array (n, k)")
    posterior = read_posterior(arrays, "test", logits.shape[1], SampleRegions.read(arrays, ("test",)))
    targets, labels = (read_array(arrays, "test.clean"), "clean") if posterior is None else (posterior, "noisy")
    repairs = ladder(logits, targets, more if targets.ndim == 2 else None, seed=seed)
    rungs = {"nll": repairs.nll, **{part: getattr(repairs, part) for part in NLL_PARTS}}
    noise = repairs.noise.value if repairs.noise else 0.0
    low, high = (noise + end for end in repairs.training_range)
    values = {name: (rung.value, rung.low, rung.high) for name, rung in rungs.items() if rung is not None}
    values["best_map"] = (repairs.families[repairs.map], low, high)
    rows = [("test", labels, "none", f"repair_{name}", *value) for name, value in values.items()]
    return repairs, pd.DataFrame(rows, columns=list(METRICS_COLUMNS))
