"""Fit matrix scaling, an affine map of the logits, with a ridge penalty.

The map adds V x + b to the logits of TS, where x is the centred logits scaled to unit spread. The ridge penalty on V
and b has the strength with the lowest 4-fold cross-validated NLL. ``probmetrics/SMSCalibrator`` (structured matrix
scaling) derives the strength from the numbers of samples and classes instead. `dirichlet` has a weaker ridge on the
diagonal than off it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halobench.calibration.calibrator import Calibrator, Map
from halobench.calibration.repair.tuned import fit_tuned, weights_along
from halobench.calibration.saved import savable
from halobench.calibration.temperature.rescaling import rescale, spread
from halobench.calibration.temperature.search import finite_beta
from halobench.core.errors import require

TITLE = "matrix scaling"
ABOUT = "an affine map of the logits, with a penalty chosen by cross-validation"
SOURCE = (
    "halobench, based on M. Kull et al., *Beyond temperature scaling*, NeurIPS 2019, [arXiv "
    "1910.12656](https://arxiv.org/abs/1910.12656)"
)
ORDER = 7
STYLE = ("#B03A6B", "8", (0, (6, 1, 2, 1)))

LIBRARIES = ("scipy",)
VOTES = True


@savable("matrix")
@dataclass(frozen=True, eq=False)
class Matrix:
    """The map: beta z + [x, 1] @ `weights` (k + 1, k), where x is the centred logits / `unit`."""

    weights: np.ndarray
    beta: float
    unit: float

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Map logits (n, k) to calibrated logits (n, k)."""
        return rescale(z, self.beta) + _features(z, self.unit) @ self.weights


def fit(
    logits: np.ndarray, targets: np.ndarray, *, strengths: Sequence[float] = (1000.0, 100.0, 10.0, 3.0, 1.0, 0.1)
) -> Calibrator:
    """Fit matrix scaling with the best of the ridge's `strengths`; the fit is finite even on separable data."""
    positive = len(strengths) > 0 and all(strength > 0 for strength in strengths)
    require(positive, "strengths", strengths, "at least one strength above 0")
    # The name only seeds the folds; the numbers in docs/calibrate.md were computed with these folds.
    return fit_tuned(_path, sorted(strengths, reverse=True), logits, targets, "matrix_cv")


def _path(
    logits: np.ndarray, targets: np.ndarray, strengths: Sequence[float], tolerance: float
) -> list[tuple[Map, float]]:
    """Return, for each strength, the map and the largest absolute entry of its objective's gradient."""
    k, beta, unit = logits.shape[1], finite_beta(logits, targets), spread(logits)
    ridges = [np.full((k + 1, k), strength) for strength in strengths]
    fits = weights_along(rescale(logits, beta), _features(logits, unit), targets, ridges, tolerance)
    return [(Matrix(weights, beta, unit), gradient) for weights, gradient in fits]


def _features(logits: np.ndarray, unit: float) -> np.ndarray:
    """Return centred logits, divided by `unit`, and a column of ones, (n, k + 1)."""
    centred = logits - logits.mean(axis=1, keepdims=True)
    return np.hstack([centred / unit, np.ones((len(logits), 1))])
