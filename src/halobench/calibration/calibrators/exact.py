"""Fit temperature scaling (TS) to its optimum, which is proved by the signs of the NLL's slope on both sides.

`halobench.calibration.temperature.search` finds the optimum. For comparison, `halobench.calibration.calibrators.paper`
fits TS as the code of arXiv 2306.00740 does.

References
----------
C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"On the Limitations of Temperature Scaling for Distributions with Overlaps", arXiv 2306.00740.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from halobench.calibration.arrays import check_labels_or_votes, check_logits, check_targets, check_unscaled, weighted
from halobench.calibration.calibrator import Calibrator
from halobench.calibration.logit_tables import aligned
from halobench.calibration.saved import Savable, savable
from halobench.calibration.temperature import search
from halobench.calibration.temperature.rescaling import rescale, temper
from halobench.core.errors import require

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


@savable("temperature_fit")
@dataclass(frozen=True)
class TemperatureFit(Savable):
    """A fitted temperature and the diagnostics of its fit.

    Attributes
    ----------
    T : float
        The temperature. For `fit_temperature`, T is inf if beta = 0 is optimal, and NaN if no finite beta is optimal.
    beta : float
        The inverse temperature, 1 / T. For `fit_temperature`, beta is inf if the NLL keeps falling as beta grows.
    nll : float
        Mean NLL at beta, in nats (its limit if beta is inf).
    gradient : float
        d NLL / d beta at beta; for the exact fit, computed by a Taylor series about the last point evaluated, which is
        close to beta.
    converged : bool
        For `fit_temperature`, True if the gradient changes sign within beta (1 +- 1e-7), as proved by bounds on the
        curvature or by the gradient at both ends, or if beta = 0 is the constrained optimum. For `fit_paper`, True if
        abs(d NLL / d T) is at most the optimiser's own tolerance, 1e-7.
    separable : bool
        True if all mass of each target is on its row's largest logits (and some logits are smaller), so that no finite
        beta is optimal.
    """

    T: float
    beta: float
    nll: float
    gradient: float
    converged: bool
    separable: bool

    @property
    def calibrator(self) -> Calibrator:
        """Return the map as a calibrator; at T = inf, calibrated logits are nearly equal, but keep the predictions."""
        return scaling(self)

    def fit(self, logits: np.ndarray, targets: np.ndarray) -> TemperatureFit:
        """Fit the optimal temperature to other samples, as `fit_temperature` does."""
        return fit_temperature(logits, targets)


@savable("temperature")
@dataclass(frozen=True)
class Tempering:
    """The map that divides logits by a temperature, 1 / `beta`.

    If the paper's fit ends at a negative T, users of the paper's code would still divide logits by T. The map therefore
    also divides by a negative T, which reverses the ranking of the classes.
    """

    beta: float

    MASKED: ClassVar[bool] = True

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Map logits (n, k), which may be -inf, to calibrated logits (n, k)."""
        if self.beta < 0:  # a class that is ruled out stays so
            return temper(np.where(np.isfinite(logits), -logits, -np.inf), -self.beta)
        return temper(logits, self.beta)


def fit(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Return the calibrator that divides logits by the best temperature; it has no map if the data are separable."""
    return scaling(fit_exactly(logits, targets))


def fit_temperature(
    logits: np.ndarray,
    targets: np.ndarray | None = None,
    *,
    votes: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
) -> TemperatureFit:
    """Return the temperature with the lowest mean NLL, and the diagnostics of its fit.

    The search uses Halley's method on beta = 1 / T within a bracket. If there are many rows, the search starts from a
    fit to a subsample.

    Parameters
    ----------
    logits : (n, k) array
        Finite, or -inf for a class that the model rules out. A class that is ruled out has probability 0 at every
        temperature, so no target may have mass on it. float32 is used as is.
    targets : (n,) integers or (n, k) array
        Labels in [0, k), or one row of probabilities per sample. With rows, the objective is the expected NLL under
        these probabilities.
    votes : (n, k) array, optional
        In place of targets: how many labels of each class a sample has, for example from several annotators. The
        objective is then the mean, over samples, of the mean NLL of a sample's labels.
    sample_weight : (n,) array, optional
        At least 0, and not all 0. The objective is then the weighted mean over samples.

    Returns
    -------
    TemperatureFit
        Separable data yield ``separable=True``, T = NaN and beta = inf, never a number that depends on when the
        optimiser stopped. If no positive beta beats the uniform prediction, T = inf and beta = 0.

    Raises
    ------
    SpecError
        If probabilities are passed instead of logits; logits are NaN, inf, not (n, k) with n >= 1 and k >= 2, or -inf
        where a target has mass; logits are so close to each other that the optimal temperature is too small for
        float64; targets have the wrong shape, are out of range, or are rows that don't sum to 1; votes aren't whole
        numbers of at least 0, or all 0 for a sample; there are both targets and votes, or neither; or weights are
        negative, not finite, all 0 or not (n,).

    Examples
    --------
    Three of four labels belong to the larger logit, 1 against 0, so the best confidence is 3/4 and beta = log 3.

    >>> fit = fit_temperature(np.array([[1.0, 0.0]] * 4), np.array([0, 0, 0, 1]))
    >>> round(fit.beta, 12), fit.converged, fit.separable
    (1.098612288668, True, False)
    """
    votes = aligned(votes, logits)
    logits = check_logits(logits, masked=True)
    check_unscaled(logits)
    if votes is None and targets is not None:
        targets = check_targets(targets, logits.shape)
    else:
        targets, _ = check_labels_or_votes(targets, votes, logits.shape, "targets")
    kept, targets = weighted(targets, sample_weight, logits.shape[1])
    return fit_exactly(logits[kept], targets)


def fit_exactly(logits: np.ndarray, targets: np.ndarray) -> TemperatureFit:
    """Fit the temperature as `fit_temperature` does, to arrays that have already been checked."""
    return TemperatureFit(*search.solve(logits, targets))


def scaling(fit: TemperatureFit) -> Calibrator:
    """Return the calibrator that divides logits by a fitted temperature; it has no map unless beta is finite."""
    transform = Tempering(fit.beta) if math.isfinite(fit.beta) else None
    return Calibrator(transform, fit.nll, fit.gradient, fit.converged, T=fit.T, beta=fit.beta, separable=fit.separable)


def scale(logits: np.ndarray, beta: float) -> np.ndarray:
    """Return logits at inverse temperature `beta`, shifted to make each row's largest 0; float64 (n, k).

    The shift doesn't change the softmax. The largest logit stays largest and ties stay ties, however the product is
    rounded. At beta = 0 all finite logits become 0 (the uniform prediction).

    Parameters
    ----------
    logits : (n, k) array
        Finite, or -inf for a class without mass, which stays -inf; SpecError is raised if a row is all -inf.
    beta : float
        At least 0 and finite; otherwise, SpecError is raised.
    """
    _check_beta(beta)
    return rescale(check_logits(logits, masked=True), beta)


def tempered(logits: np.ndarray, beta: float) -> np.ndarray:
    """Return logits at inverse temperature `beta` as `scale` does, but keep predictions even in the limit T = infinity.

    If beta = 0, or if every row's range would be below `FLAT`, all rows are scaled to a range of `FLAT` instead.
    Confidences are then about 1/k if all logits are finite. The errors raised are those of `scale`.

    Examples
    --------
    >>> tempered(np.array([[2.0, 1.0]]), 0.0).argmax(axis=1).tolist()
    [0]
    """
    _check_beta(beta)
    return temper(check_logits(logits, masked=True), beta)


def _check_beta(beta: float) -> None:
    require(0 <= beta < math.inf, "beta", beta, "a finite inverse temperature of at least 0")
