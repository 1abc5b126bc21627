"""Fit a temperature that is shrunk towards 1; see `halobench.calibration.repair.shrunk` for the rule."""

from __future__ import annotations

import dataclasses

import numpy as np

from halobench.calibration.calibrator import Calibrator, scored
from halobench.calibration.repair.shrunk import fit_shrunk
from halobench.calibration.temperature.temperature_scaling import Tempering

TITLE = "TS, shrunk towards 1"
ABOUT = "temperature scaling whose temperature stays at 1 unless validation samples clearly show that it should not"
SOURCE = "halobench, based on H.-Y. Gao and A. Bruce, *WaveShrink with firm shrinkage*, Statistica Sinica 7, 1997"
ORDER = 4
STYLE = ("#B58900", "d", (0, (4, 1)))
MASKED = True
VOTES = True


def fit(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Divide logits by the shrunk temperature, which is finite even on separable data."""
    fitted = fit_shrunk(logits, targets)
    return dataclasses.replace(scored(Tempering(fitted.beta), logits, targets), T=fitted.T, beta=fitted.beta)
