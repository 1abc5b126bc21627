"""Define the adaptive calibration error of the predicted class, in [0, 1]."""

from __future__ import annotations

import numpy as np

TITLE = "ACE, equal mass"
ABOUT = "calibration error over bins with equal numbers of samples"
RANGE = (0, 1)
LOWER_IS_BETTER = True
SOURCE = (
    "J. Nixon et al., *Measuring Calibration in Deep Learning*, CVPR workshops 2019, [arXiv "
    "1904.01685](https://arxiv.org/abs/1904.01685), who also average over classes"
)
ORDER = 7


def score(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> float:
    """Return the mean of abs(accuracy - confidence) over `bins` groups, of sizes that differ by at most 1.

    Groups hold consecutive samples in order of confidence. If there are fewer samples than `bins`, each sample is a
    group. Samples with equal confidence are assigned their mean correctness, so their order doesn't matter.
    """
    levels, group, size = np.unique(confidence, return_inverse=True, return_counts=True)
    confidence = np.repeat(levels, size)
    correct = np.repeat(np.bincount(group, weights=correct) / size, size)
    parts = np.array_split(confidence - correct, min(bins, len(confidence)))
    return float(np.mean([abs(part.mean()) for part in parts]))
