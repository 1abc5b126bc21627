"""Fit Dirichlet calibration with off-diagonal and intercept regularisation (ODIR), tuned by cross-validation.

The map is softmax(W x + b), where x is the log of the model's own probabilities, so shifting a row of logits changes
nothing. The off-diagonal entries of W and the intercepts each have a ridge penalty; the pair of strengths is the one
with the lowest 4-fold cross-validated NLL. This penalty differs from the authors' in two details. The authors leave the
diagonal of W free, whereas this fit has a slight ridge towards TS, which makes the optimum finite and unique on any
data. This fit's ridge also draws to 0 the intercepts at the mean of x. Those at x = 0 depend strongly on W, so a ridge
on them would slow the search.

References
----------
M. Kull et al., "Beyond temperature scaling: Obtaining well-calibrated multi-class probabilities with Dirichlet
calibration", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halobench.calibration.calibrator import Calibrator, Map
from halobench.calibration.repair.newton import RIDGE
from halobench.calibration.repair.tuned import fit_tuned, weights_along
from halobench.calibration.saved import savable
from halobench.calibration.temperature.rescaling import rescale, spread
from halobench.calibration.temperature.search import finite_beta

TITLE = "Dirichlet calibration"
ABOUT = "an affine map of the log-probabilities, with penalties off the diagonal and on the intercepts"
SOURCE = "Kull et al. 2019, with ODIR; the search and its grid are halobench's own"
ORDER = 10
STYLE = ("#A0522D", (4, 1, 0), (0, (3, 1, 1, 1, 1, 1)))

LIBRARIES = ("scipy",)
VOTES = True

# Strengths to try for the ridges off the diagonal and on the intercepts, which are added to a sum over samples.
# Successive pairs differ in one strength, because each search starts where the previous one ended.
STRENGTHS: tuple[tuple[float, float], ...] = ((1000.0, 100.0), (1000.0, 1.0), (100.0, 1.0), (100.0, 100.0))
STRENGTHS += ((10.0, 100.0), (10.0, 1.0), (1.0, 1.0), (1.0, 100.0))
ROUGH = 5e-4  # the largest gradient at which a search on the folds ends


@savable("dirichlet")
@dataclass(frozen=True, eq=False)
class Dirichlet:
    """The map: beta z + [x, 1] @ `weights` (k + 1, k), where x is the log-probabilities / `unit` - `centre`."""

    weights: np.ndarray
    beta: float
    unit: float
    centre: np.ndarray

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Map logits (n, k) to calibrated logits (n, k)."""
        x = _log_probabilities(z, self.unit) - self.centre
        return rescale(z, self.beta) + x @ self.weights[:-1] + self.weights[-1]


def fit(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Fit Dirichlet calibration with tuned ridges; the fit is finite even on separable data."""
    return fit_tuned(_path, STRENGTHS, logits, targets, "dirichlet", ROUGH)


def _path(
    logits: np.ndarray, targets: np.ndarray, strengths: Sequence[tuple[float, float]], tolerance: float
) -> list[tuple[Map, float]]:
    """Return, for each pair of strengths, the map and the largest absolute entry of its objective's gradient."""
    beta = finite_beta(logits, targets)
    unit = max(1.0, spread(logits))  # at least 1, because nearly equal logits have log-probabilities near -log k
    x = _log_probabilities(logits, unit)
    centre = x.mean(axis=0)
    x = np.hstack([x - centre, np.ones((len(x), 1))])
    ridges = [_ridge(logits.shape[1], *each) for each in strengths]
    fits = weights_along(rescale(logits, beta), x, targets, ridges, tolerance)
    return [(Dirichlet(weights, beta, unit, centre), gradient) for weights, gradient in fits]


def _ridge(k: int, off: float, intercept: float) -> np.ndarray:
    """Return the strength of the ridge for each weight, (k + 1, k)."""
    ridge = np.full((k + 1, k), off)
    np.fill_diagonal(ridge, RIDGE)
    ridge[k] = intercept
    return ridge


def _log_probabilities(logits: np.ndarray, unit: float) -> np.ndarray:
    """Return the model's own log-probabilities in units of `unit`, (n, k)."""
    shifted = rescale(logits, 1.0)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted / unit
