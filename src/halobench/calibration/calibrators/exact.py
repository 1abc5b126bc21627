"""Temperature scaling (TS) at its optimum, which is proved by the sign of the NLL's slope on both sides."""

from __future__ import annotations

import numpy as np

from halobench.calibration.calibrator import Calibrator
from halobench.calibration.temperature.temperature_scaling import fit_exactly, scaling

TITLE = "TS (optimal)"
ABOUT = "temperature scaling at the certified optimum on validation data"
SOURCE = (
    "C. Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017, "
    "[arXiv 1706.04599](https://arxiv.org/abs/1706.04599); certified by the sign of the NLL's slope on both sides of "
    "the optimum"
)
ORDER = 2
STYLE = ("#7A3DB8", "D")
MASKED = True
VOTES = True


def fit(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Divide logits by the temperature with the lowest NLL; there is no map if no optimum is finite."""
    return scaling(fit_exactly(logits, targets))
