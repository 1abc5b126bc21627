"""Temperature scaling (TS) as the paper's released code fits it, which may stop short of the optimum."""

from __future__ import annotations

import numpy as np

from halobench.calibration.calibrator import Calibrator
from halobench.calibration.temperature.paper_fit import fit_as_paper
from halobench.calibration.temperature.temperature_scaling import scaling

TITLE = "TS (paper's code)"
ABOUT = "temperature scaling fitted by the paper's published code, which may stop short of the optimum"
SOURCE = "the code released with arXiv 2306.00740"
ORDER = 1
STYLE = ("#E69F00", "s", (0, (4, 1.5)))
MASKED = True
VOTES = True


def fit(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Divide logits by the temperature at which the paper's code stops, even if it is negative."""
    return scaling(fit_as_paper(logits, targets))
