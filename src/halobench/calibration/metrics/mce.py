"""Define the maximum calibration error, in [0, 1]."""

from __future__ import annotations

import numpy as np

from halobench.calibration.scores.binning import bin_by_confidence

TITLE = "MCE"
ABOUT = "the largest gap between confidence and accuracy in any bin"
RANGE = (0, 1)
LOWER_IS_BETTER = True
SOURCE = "Naeini et al. 2015: the largest gap in any bin"
ORDER = 8


def score(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> float:
    """Return the largest abs(accuracy - confidence) of any non-empty equal-width bin."""
    return float(bin_by_confidence(confidence, correct, bins).gaps()[1].max())
