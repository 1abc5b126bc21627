"""Fit partner scaling: temperature scaling that learns from validation samples which classes are confused.

See `halobench.calibration.repair.partner_scaling` for its formula, the proven properties of the fit, and the
references.
"""

from __future__ import annotations

import numpy as np

from halobench.calibration.calibrator import Calibrator, scored
from halobench.calibration.repair.partner_scaling import WORK, fit_checked

TITLE = "partner scaling"
ABOUT = "TS that also learns from confusions on validation data which classes are mistaken for which others"
SOURCE = "halobench; see [related methods](calibrate.md#related-methods)"
ORDER = 18
STYLE = ("#00695C", "*")
VOTES = True


def fit(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Fit partner scaling, which is finite even on separable data."""
    fitted = fit_checked(logits, targets)
    return scored(fitted, logits, targets, fitted.gradient, fitted.converged, WORK)
