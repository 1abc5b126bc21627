"""The ``repair`` stage: compute a cell's repair ladder on its test samples.

Neither training nor calibration has seen these samples. If they were drawn from a distribution, the ladder's maps are
fitted to further draws, of which there is no end; otherwise to some of the test samples, and scored on the others.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from halobench.calibration.region_scores import SampleRegions
from halobench.calibration.repair import RepairLadder, ladder
from halobench.calibration.targets import read_array, read_posterior
from halobench.core.errors import require
from halobench.storage.columns import METRICS_COLUMNS

PARTS = ("noise", "training", "richer_map", "temperature")


def cell_ladder(
    arrays: Mapping[str, np.ndarray], seed: int, more: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[RepairLadder, pd.DataFrame]:
    """Compute a cell's repair ladder and its rows for the metrics table.

    Parameters
    ----------
    arrays : mapping of name to array
        The arrays of the test split, as for `halobench.calibration.evaluate.calibrate`.
    seed : int
        The cell's seed.
    more : (array, array), optional
        The model's logits for further draws from the distribution, and the posterior of these draws.

    Returns
    -------
    (RepairLadder, DataFrame)
        Expectations under the posterior, with labels ``noisy``. If the posterior is unknown, these are scores against
        ``clean`` without the noise term, which `training` then includes. The metrics are ``repair_nll``,
        ``repair_noise``, ``repair_training``, ``repair_richer_map`` and ``repair_temperature``, with 95% bootstrap
        intervals over samples, and ``repair_best_map``, the NLL of the best map of the logits. Its low and high are the
        lower and the upper estimate; its value is the lowest NLL that a map reached.

    Raises
    ------
    SpecError
        If an array is missing or has the wrong shape.
    """
    logits = read_array(arrays, "test.logits")
    require(logits.ndim == 2, "test.logits", f"shape {logits.shape}", "an array (n, k)")
    posterior = read_posterior(arrays, "test", logits.shape[1], SampleRegions.read(arrays, ("test",)))
    targets, labels = (read_array(arrays, "test.clean"), "clean") if posterior is None else (posterior, "noisy")
    repairs = ladder(logits, targets, more if targets.ndim == 2 else None, seed=seed)
    rungs = {"nll": repairs.nll, **{part: getattr(repairs, part) for part in PARTS}}
    low, high = repairs.best_map_range
    values = {name: (rung.value, rung.low, rung.high) for name, rung in rungs.items() if rung is not None}
    values["best_map"] = (repairs.families[repairs.map], low, high)
    rows = [("test", labels, "none", f"repair_{name}", *value) for name, value in values.items()]
    return repairs, pd.DataFrame(rows, columns=list(METRICS_COLUMNS))
