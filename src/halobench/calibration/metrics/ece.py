"""Define the expected calibration error, in [0, 1]."""

from __future__ import annotations

import numpy as np

from halobench.calibration.scores.binning import bin_by_confidence

TITLE = "ECE"
ABOUT = "expected calibration error: the gap between confidence and accuracy in bins, weighted by count"
RANGE = (0, 1)
LOWER_IS_BETTER = True
SOURCE = (
    "M. P. Naeini, G. F. Cooper and M. Hauskrecht, *Obtaining Well Calibrated Probabilities Using Bayesian Binning*, "
    "AAAI 2015; Guo et al. 2017"
)
ORDER = 5


def score(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> float:
    """Return the mean over samples of abs(accuracy - confidence) in each sample's equal-width bin.

    Examples
    --------
    A confidence of exactly 1 lies in the last bin.

    >>> from halobench import ece
    >>> round(ece(np.array([[0.95, 0.05], [1.0, 0.0]]), np.array([0, 1])), 12)
    0.475
    """
    count, gaps = bin_by_confidence(confidence, correct, bins).gaps()
    return float(count @ gaps / count.sum())
