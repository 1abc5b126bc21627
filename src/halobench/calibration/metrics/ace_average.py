"""Define the average calibration error, in [0, 1], which netcal and the paper call ACE."""

from __future__ import annotations

import numpy as np

from halobench.calibration.scores.binning import bin_by_confidence

TITLE = "ACE"
ABOUT = "average calibration error: the unweighted mean over non-empty bins of the gap between confidence and accuracy"
RANGE = (0, 1)
LOWER_IS_BETTER = True
SOURCE = (
    "L. Neumann, A. Zisserman and A. Vedaldi, *Relaxed Softmax*, NIPS workshop MLITS 2018: the mean over bins, as in "
    "the paper's code"
)
ORDER = 6


def score(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> float:
    """Return the unweighted mean of abs(accuracy - confidence) over the non-empty equal-width bins."""
    return float(bin_by_confidence(confidence, correct, bins).gaps()[1].mean())
