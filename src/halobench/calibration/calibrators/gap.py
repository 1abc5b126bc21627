"""Fit gap scaling: a temperature that depends on the gap between the two largest logits.

The inverse temperature is b0 (1 - f) + b1 f, where f = gap / (gap + mean gap), so it changes from b0 at a gap of 0
towards b1 at large gaps. Since b0 and b1 are at least 0, the order of the classes doesn't change. The NLL is convex in
(b0, b1), and TS is the case b0 = b1.

References
----------
H. Guo et al., "Sample Margin-Aware Recalibration of Temperature", arXiv 2506.23492 (SMART): a small network on the gap,
fitted to a smooth ECE instead of the NLL. C. Tomani, D. Cremers, F. Buettner, "Parameterized Temperature Scaling for
Boosting the Expressive Power in Post-Hoc Uncertainty Calibration", ECCV 2022: a network on the largest logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halobench.calibration.arrays import ELEMENTS_PER_BLOCK, blocks
from halobench.calibration.calibrator import GRADIENT, Calibrator, scored
from halobench.calibration.repair.newton import RIDGE, Objective, minimise
from halobench.calibration.saved import savable
from halobench.calibration.temperature.rescaling import FLAT, rescale
from halobench.calibration.temperature.search import finite_beta

TITLE = "gap scaling"
ABOUT = "a temperature that depends on the gap between the two largest logits"
SOURCE = "halobench; see [related methods](references.md#related-methods)"
ORDER = 14
STYLE = ("#B8860B", "X", (0, (5, 1, 1, 1)))


@savable("gap")
@dataclass(frozen=True, eq=False)
class Gap:
    """The map: b0 and b1 (`weights`, in units of `scale`) and the mean gap of the module's formulas."""

    weights: np.ndarray
    scale: float
    mean_gap: float

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Map logits (n, k) to calibrated logits (n, k)."""
        shifted = rescale(z, 1.0)
        spread = np.maximum(-shifted.min(axis=1), np.finfo(float).tiny)
        # Never flatter than `FLAT`, so that rounding creates no ties.
        factors = _basis(_gaps(z), self.mean_gap) @ self.weights * self.scale
        return shifted * np.maximum(factors, FLAT / spread)[:, None]


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit b0 and b1 to minimise the NLL plus a small ridge towards TS.

    The fit is finite even on separable data. On the data used for fitting, gap scaling's NLL never exceeds TS's NLL if
    TS has an optimum. The reported gradient is the largest violation of the Karush-Kuhn-Tucker conditions of an optimum
    with b0, b1 >= 0.
    """
    beta = finite_beta(logits, labels)
    gaps = _gaps(logits)
    mean_gap = float(gaps.mean()) or 1.0
    scale = beta or 1 / (float(-rescale(logits, 1.0).min()) or 1.0)

    def objective(w: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        value, gradient, hessian = 0.0, np.zeros(2), np.zeros((2, 2))
        for rows in blocks(*logits.shape):
            s, basis, y = rescale(logits[rows], scale), _basis(gaps[rows], mean_gap), labels[rows]
            u = s * (basis @ w)[:, None]
            u -= u.max(axis=1, keepdims=True)
            p = np.exp(u)
            total = p.sum(axis=1)
            labelled = np.arange(len(y)), y
            value += float((np.log(total) - u[labelled]).sum())
            p /= total[:, None]
            mean = np.einsum("ij,ij->i", p, s)
            variance = np.einsum("ij,ij,ij->i", p, s, s) - mean**2
            gradient += (mean - s[labelled]) @ basis
            hessian += (basis * variance[:, None]).T @ basis
        return value, gradient, hessian

    centre = np.full(2, beta / scale)
    weights = minimise(objective, centre).weights
    if weights.min() < 0:  # the negative weight is 0 at the constrained optimum
        other = 1 - int(weights.argmin())
        weights = np.zeros(2)
        weights[other] = max(0.0, minimise(_along(objective, other), centre[:1]).weights[0])
    slopes = (objective(weights)[1] + RIDGE * (weights - centre)) / len(labels)
    gradient = float(np.where(weights > 0, np.abs(slopes), np.maximum(-slopes, 0)).max())
    return scored(Gap(weights, scale, mean_gap), logits, labels, gradient, gradient <= GRADIENT, ELEMENTS_PER_BLOCK)


def _along(objective: Objective, axis: int) -> Objective:
    """Return `objective` as a function of one of its two weights, with the other fixed at 0."""

    def restricted(weight: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        value, gradient, hessian = objective(np.eye(2)[axis] * weight)
        return value, gradient[[axis]], hessian[[axis]][:, [axis]]

    return restricted


def _gaps(logits: np.ndarray) -> np.ndarray:
    """Return the gap between each row's two largest logits, (n,)."""
    gaps = np.empty(len(logits))
    for rows in blocks(*logits.shape):
        highest = np.partition(logits[rows], -2, axis=1)
        gaps[rows] = highest[:, -1] - highest[:, -2]
    return gaps


def _basis(gaps: np.ndarray, mean_gap: float) -> np.ndarray:
    """Return 1 - f and f of the module's formula for each row, (n, 2)."""
    f = gaps / (gaps + mean_gap)
    return np.stack([1 - f, f], axis=1)
