"""Define the error: the share of wrong predictions, in [0, 1]."""

from __future__ import annotations

import numpy as np

TITLE = "Error"
ABOUT = "share of wrong predictions"
RANGE = (0, 1)
LOWER_IS_BETTER = True
ORDER = 1


def score(correct: np.ndarray) -> np.ndarray:
    """Return the probability that the predicted class of each sample is wrong, (n,)."""
    return 1.0 - correct
