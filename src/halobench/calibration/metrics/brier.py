"""Define the Brier score, summed over classes, in [0, 2]."""

from __future__ import annotations

import numpy as np

from halobench.calibration.arrays import blocks

TITLE = "Brier score"
ABOUT = "squared error of the probabilities, summed over classes"
RANGE = (0, 2)
LOWER_IS_BETTER = True
SOURCE = "G. W. Brier, *Verification of Forecasts Expressed in Terms of Probability*, Monthly Weather Review 78, 1950"
ORDER = 3


def score(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return sum over k of E (p_k - 1{y = k})^2 = p.p - 2 p.t + 1 for each sample, (n,).

    Under a target row t, the score's minimum is 1 - t.t, at p = t, so the score includes label noise.
    """
    values = np.empty(len(probabilities))
    for rows in blocks(*probabilities.shape):
        block = probabilities[rows].astype(np.float64, copy=False)
        if targets.ndim == 1:
            agreement = block[np.arange(len(block)), targets[rows]]
        else:
            agreement = np.einsum("ij,ij->i", block, targets[rows])
        values[rows] = np.einsum("ij,ij->i", block, block) - 2 * agreement + 1
    return np.maximum(values, 0, out=values)
