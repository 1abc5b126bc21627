"""Fit temperature scaling (TS) exactly, with a certificate of optimality.

The mean NLL of softmax(beta * logits) is convex in the inverse temperature beta = 1 / T. The optimal beta is therefore
found to machine precision, and proved optimal by a sign change of the derivative. For comparison,
`halobench.calibration.temperature.paper_fit` provides the paper's fit.

References
----------
C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"On the Limitations of Temperature Scaling for Distributions with Overlaps", arXiv 2306.00740.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from halobench.calibration.arrays import (
    check_labels_or_votes,
    check_logits,
    check_targets,
    check_unscaled,
    weighted,
    weights_of,
)
from halobench.calibration.calibrator import Calibrator
from halobench.calibration.logit_tables import aligned
from halobench.calibration.saved import Savable, savable
from halobench.calibration.temperature.nll_curve import (
    Curve,
    Derivatives,
    derivatives,
    limit_of_separable,
    slope_rounding,
    summarise,
)
from halobench.calibration.temperature.rescaling import rescale, temper
from halobench.core.errors import refuse, require

CERTIFICATE = 1e-7  # relative half-width of the interval around beta in which the gradient must change sign


@savable("temperature_fit")
@dataclass(frozen=True)
class TemperatureFit(Savable):
    """A fitted temperature and the diagnostics of its fit.

    Attributes
    ----------
    T : float
        The temperature; inf if the optimum is beta = 0, NaN if there is no finite optimum.
    beta : float
        The inverse temperature, 1 / T; inf if the NLL keeps falling as beta grows.
    nll : float
        Mean NLL at beta, in nats (its limit if beta is inf).
    gradient : float
        d NLL / d beta at beta; for the exact fit, by a Taylor series about the last point evaluated, close to beta.
    converged : bool
        For `fit_temperature`, True if the gradient changes sign within beta (1 +- 1e-7), as proved by bounds on the
        curvature or by the gradient at both ends, or if beta = 0 is the constrained optimum. For `fit_paper`, True if
        abs(d NLL / d T) is at most the optimiser's own tolerance, 1e-7.
    separable : bool
        True if no target has mass below its row's largest logit (and some logit is below it), so that no finite beta is
        optimal.
    """

    T: float
    beta: float
    nll: float
    gradient: float
    converged: bool
    separable: bool

    @property
    def calibrator(self) -> Calibrator:
        """The map; at T = infinity, its logits still differ slightly, so that predictions stay the same."""
        return scaling(self)

    def fit(self, logits: np.ndarray, targets: np.ndarray) -> TemperatureFit:
        """Fit the optimal temperature to other samples, as `fit_temperature` does."""
        return fit_temperature(logits, targets)


@savable("temperature")
@dataclass(frozen=True)
class Tempering:
    """The map that divides logits by a temperature, 1 / `beta`.

    If the paper's fit ends at a negative T, its users would still divide by it. The map therefore does so too, with the
    ranking of the classes reversed.
    """

    beta: float

    MASKED: ClassVar[bool] = True

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Map logits (n, k), which may be -inf, to calibrated logits (n, k)."""
        if self.beta < 0:  # a class that is ruled out stays so
            return temper(np.where(np.isfinite(logits), -logits, -np.inf), -self.beta)
        return temper(logits, self.beta)


def fit_temperature(
    logits: np.ndarray,
    targets: np.ndarray | None = None,
    *,
    votes: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
) -> TemperatureFit:
    """Find the temperature with the lowest mean NLL, to machine precision.

    The search uses Halley's method on beta = 1 / T within a bracket. If there are many rows, the search starts from a
    fit to a subsample.

    Parameters
    ----------
    logits : (n, k) array
        Finite, or -inf for a class that the model rules out. A class that is ruled out has probability 0 at every
        temperature, so no target may have mass on it. float32 is used as is.
    targets : (n,) integers or (n, k) array
        Labels in [0, k), or one row of probabilities per sample; the objective is then the expected NLL under them.
    votes : (n, k) array, optional
        In place of targets: how many of a sample's labels, such as those of several annotators, are each class. The
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
    curve = Curve.of(logits, targets)
    fit = _fit(curve, 1.0 if curve.masked else _first_guess(logits, targets))
    return replace(fit, T=fit.T * curve.unit, beta=fit.beta / curve.unit, gradient=fit.gradient * curve.unit)


def scaling(fit: TemperatureFit) -> Calibrator:
    """Return the calibrator that divides logits by a fitted temperature; it has no map if no optimum is finite."""
    transform = Tempering(fit.beta) if math.isfinite(fit.beta) else None
    return Calibrator(transform, fit.nll, fit.gradient, fit.converged, T=fit.T, beta=fit.beta, separable=fit.separable)


def _fit(curve: Curve, guess: float) -> TemperatureFit:
    """Fit the temperature to the logits of a curve, starting from a guess of beta."""
    logits, weights, (linear, slope, spread), k = curve.logits, curve.weights, curve.summary, curve.logits.shape[1]
    if not curve.falls:
        return TemperatureFit(math.inf, 0.0, curve.nll_at_zero, slope, True, False)
    if curve.separable:
        return TemperatureFit(math.nan, math.inf, limit_of_separable(logits, weights), 0.0, False, True)
    start, x, at_start = _minimise(logits, weights, linear, guess)
    beta, optimum = start * (1 + x), at_start.after_step(x)
    refuse(
        beta == math.inf,
        "logits",
        f"too close together (at most {spread:.3g} apart); multiply all by one number, since 1/T exceeds float64",
    )
    noise = slope_rounding(k, at_start.slope, start * linear)
    proved = _changes_sign(at_start, x, start * spread, noise) or _ends_differ(logits, weights, linear, beta)
    return TemperatureFit(1 / beta, beta, optimum.nll, optimum.slope / beta, proved, False)


def fit_smoothed(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the beta with the lowest NLL for labels smoothed by 1 / (n + 1), which is finite even on separable data.

    The smoothing mass is spread over the classes with finite logits. Arrays must already have been checked.
    """
    return _smoothed(logits, labels)[0]


def smoothed_nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the NLL in nats, for labels smoothed by 1 / (n + 1), at the beta of `fit_smoothed`."""
    return _smoothed(logits, labels)[1]


def _smoothed(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return the beta of `fit_smoothed`, and the NLL there."""
    curve = Curve.of(logits, labels)
    if not curve.falls:
        return 0.0, curve.nll_at_zero
    linear = curve.summary.linear + 1 / (len(logits) + 1) * curve.summary.slope_at_zero
    start, x, at_start = _minimise(curve.logits, curve.weights, linear, 1.0)
    return start * (1 + x) / curve.unit, at_start.after_step(x).nll


def finite_beta(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return TS's beta or, on separable data, for which TS has no optimum, the beta of `fit_smoothed`."""
    ts = fit_exactly(logits, labels)
    return fit_smoothed(logits, labels) if ts.separable else ts.beta


def scale(logits: np.ndarray, beta: float) -> np.ndarray:
    """Return logits at inverse temperature `beta`, shifted to make each row's largest 0; float64 (n, k).

    The shift doesn't change the softmax and keeps the ranking exact: the largest stays largest and ties stay ties,
    however the product is rounded. At beta = 0 all finite logits become 0 (the uniform prediction).

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
    """Scale logits to inverse temperature `beta` as `scale` does, but keep predictions even in the limit T = infinity.

    If beta = 0, or if it leaves a range below `FLAT` in every row, all rows are scaled to that range instead.
    Confidences are then 1/k, and logits that rounding would tie stay distinct. The errors raised are those of `scale`.

    Examples
    --------
    >>> tempered(np.array([[2.0, 1.0]]), 0.0).argmax(axis=1).tolist()
    [0]
    """
    _check_beta(beta)
    return temper(check_logits(logits, masked=True), beta)


def _check_beta(beta: float) -> None:
    require(0 <= beta < math.inf, "beta", beta, "a finite inverse temperature of at least 0")


def _minimise(
    logits: np.ndarray, weights: np.ndarray, linear: float, beta: float, tolerance: float = 1e-13
) -> tuple[float, float, Derivatives]:
    """Return the slope's root b (1 + x) > 0, known to exist, as (b, x, derivatives at b), where x is a small step.

    Halley's method is used within a bracket, which is bisected if a step leaves it or is more than half the previous
    step; otherwise, steps far left of the optimum would stay constant. The relative error of the last step is about
    `tolerance`.
    """
    low, high, step = 0.0, math.inf, math.inf
    for iteration in range(1000):  # a few usually suffice; from beta = 1, logits of 1e150 need about a hundred
        curve = derivatives(logits, weights, linear, beta)
        if curve.slope == 0 or high - low <= 4e-16 * beta:
            break
        low, high = (beta, high) if curve.slope < 0 else (low, beta)
        x = curve.halley_step()
        proposal = beta * (1 + x)
        slow = iteration > 2 and not abs(proposal - beta) <= abs(step) / 2
        if slow or not max(low, beta / 16) < proposal < min(high, beta * 16):
            # The geometric mean of the bracket or, if one end is open, a factor of 4 beyond the other.
            middle = beta / 4 if low == 0 else math.sqrt(low) * math.sqrt(high)
            proposal = beta * 4 if high == math.inf else middle
        elif abs(x) <= 1e-8 or abs(x) ** 3 * max(10.0, (curve.third / curve.curvature) ** 2) <= tolerance:
            return beta, x, curve
        step, beta = proposal - beta, proposal
    return beta, 0.0, derivatives(logits, weights, linear, beta)


def _changes_sign(curve: Derivatives, x: float, spread: float, noise: float) -> bool:
    """Return True if `curve`, at b, proves that the slope changes sign within b (1 + x) (1 +- CERTIFICATE).

    A row's third cumulant is at most its variance times `spread`, the largest difference between two entries of u = b
    s. The curvature at b (1 + d) therefore lies between its value at b times exp(+-spread d), and the slope there
    between slope -+ curvature (exp(-+spread d) - 1) / spread. Bounds within `noise` of 0 prove nothing.
    """
    below, above = ((1 + x) * (1 + sign * CERTIFICATE) - 1 for sign in (-1, 1))
    if not 0 < spread * max(-below, above) < 1:
        return False
    most = curve.slope + curve.curvature * math.expm1(spread * below) / spread
    least = curve.slope - curve.curvature * math.expm1(-spread * above) / spread
    return most < -noise and noise < least


def _ends_differ(logits: np.ndarray, weights: np.ndarray, linear: float, beta: float) -> bool:
    """Return True if the slopes at beta (1 -+ CERTIFICATE) have opposite signs."""
    ends = [beta * (1 + sign * CERTIFICATE) for sign in (-1, 1)]
    below, above = (derivatives(logits, weights, linear, end).slope for end in ends)
    noise = [slope_rounding(logits.shape[1], s, end * linear) for s, end in zip((below, above), ends, strict=True)]
    return below < -noise[0] and noise[1] < above


def minimise_slope(curve: Curve, linear: float) -> float:
    """Return the beta at which the mean of E[s] is `linear`, in the curve's units; the root must exist."""
    beta, x, _ = _minimise(curve.logits, curve.weights, linear, curve.unit)
    return beta * (1 + x)


def _first_guess(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return 1 or, if there are many rows, beta fitted to evenly spaced ones (a 16th or about a thousand)."""
    stride = min(16, len(logits) // 1024)
    if stride < 4:
        return 1.0
    sample, of_sample = logits[::stride], targets[::stride]
    summary = summarise(sample, of_sample)
    if summary.linear == 0 or summary.slope_at_zero >= 0:
        return 1.0
    beta, x, _ = _minimise(sample, weights_of(of_sample), summary.linear, 1.0, tolerance=1e-6)
    return beta * (1 + x)
