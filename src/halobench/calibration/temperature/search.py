"""Find the inverse temperature with the lowest NLL, with a certificate of optimality.

The mean NLL of softmax(beta * logits) is convex in the inverse temperature beta = 1 / T. A sign change of its slope
close around a beta (within `CERTIFICATE`) therefore proves that the optimum lies there. Arrays must already have been
checked; `halobench.calibration.calibrators.exact` is the calibrator that uses this search.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from halobench.calibration.arrays import weights_of
from halobench.calibration.temperature.nll_curve import (
    Curve,
    Derivatives,
    derivatives,
    limit_of_separable,
    slope_rounding,
    summarise,
)
from halobench.core.errors import refuse

CERTIFICATE = 1e-7  # relative half-width of the interval around beta in which the gradient must change sign


class Solution(NamedTuple):
    """The optimum; its fields are those of `halobench.calibration.calibrators.exact.TemperatureFit`."""

    T: float
    beta: float
    nll: float
    gradient: float
    converged: bool
    separable: bool


def solve(logits: np.ndarray, targets: np.ndarray) -> Solution:
    """Return the optimum for labels (n,) or rows of probabilities (n, k); logits may be -inf."""
    curve = Curve.of(logits, targets)
    found = _solve(curve, 1.0 if curve.masked else _first_guess(logits, targets))
    unit = curve.unit
    return found._replace(T=found.T * unit, beta=found.beta / unit, gradient=found.gradient * unit)


def _solve(curve: Curve, guess: float) -> Solution:
    """Return the optimum for the logits of a curve, starting from a guess of beta."""
    logits, weights, (linear, slope, spread), k = curve.logits, curve.weights, curve.summary, curve.logits.shape[1]
    if not curve.falls:
        return Solution(math.inf, 0.0, curve.nll_at_zero, slope, True, False)
    if curve.separable:
        return Solution(math.nan, math.inf, limit_of_separable(logits, weights), 0.0, False, True)
    start, x, at_start = _minimise(logits, weights, linear, guess)
    beta, optimum = start * (1 + x), at_start.after_step(x)
    refuse(
        beta == math.inf,
        "logits",
        f"too close together (at most {spread:.3g} apart); multiply all by one number, since 1/T exceeds float64",
    )
    noise = slope_rounding(k, at_start.slope, start * linear)
    proved = _changes_sign(at_start, x, start * spread, noise) or _ends_differ(logits, weights, linear, beta)
    return Solution(1 / beta, beta, optimum.nll, optimum.slope / beta, proved, False)


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
    ts = solve(logits, labels)
    return fit_smoothed(logits, labels) if ts.separable else ts.beta


def _minimise(
    logits: np.ndarray, weights: np.ndarray, linear: float, beta: float, tolerance: float = 1e-13
) -> tuple[float, float, Derivatives]:
    """Return the slope's root b (1 + x) > 0, known to exist, as (b, x, derivatives at b), where x is a small step.

    Halley's method is used within a bracket, which is bisected if a step leaves it or is more than half the previous
    step. Without bisection, steps far left of the optimum would stay constant. The relative error of the last step is
    about `tolerance`.
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
    """Return whether derivatives at b (`curve`) prove that the slope changes sign within b (1 + x) (1 +- CERTIFICATE).

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
    """Return whether the slopes at beta (1 -+ CERTIFICATE) have opposite signs."""
    ends = [beta * (1 + sign * CERTIFICATE) for sign in (-1, 1)]
    below, above = (derivatives(logits, weights, linear, end).slope for end in ends)
    noise = [slope_rounding(logits.shape[1], s, end * linear) for s, end in zip((below, above), ends, strict=True)]
    return below < -noise[0] and noise[1] < above


def minimise_slope(curve: Curve, linear: float) -> float:
    """Return the beta, in the curve's units, at which the mean of E[s] over samples is `linear`; it must exist.

    E[s] is the expectation of the logits s under softmax(beta s).
    """
    beta, x, _ = _minimise(curve.logits, curve.weights, linear, curve.unit)
    return beta * (1 + x)


def _first_guess(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return 1 or, if there are many rows, the beta fitted to a 16th of them or to about 1,024, whichever is more."""
    stride = min(16, len(logits) // 1024)
    if stride < 4:
        return 1.0
    sample, of_sample = logits[::stride], targets[::stride]
    summary = summarise(sample, of_sample)
    if summary.linear == 0 or summary.slope_at_zero >= 0:
        return 1.0
    beta, x, _ = _minimise(sample, weights_of(of_sample), summary.linear, 1.0, tolerance=1e-6)
    return beta * (1 + x)
