"""Temperature scaling (TS): the exact fit with its certificate, and the fit that the paper released, for parity.

The mean NLL of softmax(beta * logits) is convex in the inverse temperature beta = 1 / T, so its optimum is found to
machine precision and proved by a sign change of its derivative. Numpy alone; sums are float64, a block of rows at a
time, so that float32 logits are never copied whole.

References
----------
C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"On the Limitations of Temperature Scaling for Distributions with Overlaps", arXiv 2306.00740.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from halobench.calibration.arrays import BLOCK, _real_matrix, blocks, check_logits, check_targets
from halobench.core.errors import require

CERTIFICATE = 1e-7
"""Relative half-width of the interval of beta over whose ends the gradient must change its sign."""

"""How far the sum of a row of probabilities may lie from 1 (float32 rows of a thousand classes stay within 1e-5)."""

"""Elements worked on at a time: float64 temporaries of this size stay in a core's cache."""

MANY_CLASSES = 256
"""From how many classes on a block is worked on row by row, as it comes; below, numpy's reductions along the short rows
cost more than turning the block around, so that they run across points."""


@dataclass(frozen=True)
class TemperatureFit:
    """A fitted temperature and what is known about it.

    Attributes
    ----------
    T : float
        The temperature; inf where the optimum is beta = 0, NaN where there is no finite optimum.
    beta : float
        1 / T; inf where the NLL falls for ever as beta grows.
    nll : float
        Mean NLL at beta, in nats (its limit where beta is inf).
    gradient : float
        d NLL / d beta at beta; of the exact fit by the Taylor series about the last point evaluated, next to beta.
    converged : bool
        `fit_temperature`: the gradient's sign changes within beta (1 +- 1e-7), as bounds on the curvature prove or else
        its values at both ends, or beta = 0 is the constrained optimum.
        `fit_released`: abs(d NLL / d T) is at most the optimiser's own tolerance, 1e-7.
    separable : bool
        No target has mass below its row's largest logit (and some logit does lie below), so no finite beta is optimal.
    """

    T: float
    beta: float
    nll: float
    gradient: float
    converged: bool
    separable: bool


class Survey(NamedTuple):
    """What one pass over the data tells of the objective before any exponential is taken.

    linear : mean of the target's logit less its row's largest: at most 0, and 0 if and only if the data are separable.
    slope_at_zero : d NLL / d beta at beta = 0, where the softmax is uniform.
    spread : the largest difference of two logits of a row.
    """

    linear: float
    slope_at_zero: float
    spread: float


class Moments(NamedTuple):
    """Mean NLL at beta (1 + x) and its first three derivatives with respect to the relative step x, at x = 0."""

    nll: float
    slope: float
    curvature: float
    third: float

    def step(self) -> float:
        """The step x to the least NLL by Halley's rule; Newton's where the third derivative misleads, else NaN."""
        if not self.curvature > 0:
            return math.nan
        damping = 1 - self.slope * self.third / self.curvature / (2 * self.curvature)
        return -self.slope / self.curvature / (damping if 0.5 < damping < 2 else 1.0)

    def moved(self, x: float) -> Moments:
        """The Taylor series about here, at a small step x."""
        nll = self.nll + x * (self.slope + x * (self.curvature / 2 + x * self.third / 6))
        slope = self.slope + x * (self.curvature + x * self.third / 2)
        return Moments(nll, slope, self.curvature + x * self.third, self.third)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> TemperatureFit:
    """The temperature of least mean NLL, exactly.

    Halley's method on beta = 1 / T, safeguarded by a bracket, started from a fit to a subsample where rows are many.

    Parameters
    ----------
    logits : (n, k) array
        Finite; float32 is taken as it is.
    targets : (n,) integers or (n, k) array
        Labels in [0, k), or a row of probabilities each: then the objective is the expected NLL under them.

    Returns
    -------
    TemperatureFit
        Separable data give ``separable=True``, T = NaN and beta = inf, never a number that depends on when the
        optimiser stopped. Data on which no positive beta beats the uniform prediction give T = inf, beta = 0.

    Raises
    ------
    SpecError
        Logits that are not finite or not (n, k) with n >= 1 and k >= 2; targets of another shape, out of range, or rows
        that do not sum to 1.

    Examples
    --------
    Three of four labels agree with a logit of 1 against 0; the best confidence is 3/4, so beta = log 3.

    >>> fit = fit_temperature(np.array([[1.0, 0.0]] * 4), np.array([0, 0, 0, 1]))
    >>> round(fit.beta, 12), fit.converged, fit.separable
    (1.098612288668, True, False)
    """
    logits = _real_matrix(logits)
    targets = check_targets(targets, logits.shape)
    known = _survey(logits, targets)
    classes = logits.shape[1]
    if known.slope_at_zero >= -_rounding(classes, known.slope_at_zero, known.linear):
        return TemperatureFit(math.inf, 0.0, math.log(classes), known.slope_at_zero, True, False)
    if known.linear == 0:
        return TemperatureFit(math.nan, math.inf, _log_ties(logits), 0.0, False, True)
    start, x, found = _minimise(logits, known.linear, _warm_start(logits, targets))
    beta, here = start * (1 + x), found.moved(x)
    noise = _rounding(classes, found.slope, start * known.linear)
    proved = _changes_sign(found, x, start * known.spread, noise) or _ends_differ(logits, known.linear, beta)
    return TemperatureFit(1 / beta, beta, here.nll, here.slope / beta, proved, False)


def scale(logits: np.ndarray, beta: float) -> np.ndarray:
    """Logits at inverse temperature `beta`, shifted so that each row's largest is 0; float64 (n, k).

    The shift leaves the softmax as it is and keeps the ranking exact: the largest stays largest and ties stay ties,
    whatever the rounding of the product. At beta = 0 all finite logits become 0 (the uniform prediction).

    Parameters
    ----------
    logits : (n, k) array
        Finite or -inf (a class of no mass, which stays so); no row all -inf.
    beta : float
        At least 0 and finite.

    Raises
    ------
    SpecError
    """
    require(0 <= beta < math.inf, "beta", beta, "a finite inverse temperature of at least 0")
    logits = check_logits(logits, masked=True)
    scaled = np.empty(logits.shape)
    for rows in blocks(*logits.shape):
        shifted = scaled[rows]
        shifted[...] = logits[rows]
        shifted -= shifted.max(axis=1, keepdims=True)
        there: Any = True if np.isfinite(shifted.min()) else np.isfinite(shifted)
        np.multiply(shifted, beta, out=shifted, where=there)
    return scaled


FLAT = 1e-9
"""Range, in logits, that `tempered` leaves to a row at an infinite T: a mean NLL is off by less than this."""


def tempered(logits: np.ndarray, beta: float) -> np.ndarray:
    """Logits at inverse temperature `beta` as `scale` gives them, but at T = infinity as the limit, predictions kept.

    At beta = 0, and where `beta` leaves less than `FLAT` between any two logits of a row, all rows are brought to that
    range instead: confidences are 1/k, and what rounding would tie stays apart.

    Examples
    --------
    >>> tempered(np.array([[2.0, 1.0]]), 0.0).argmax(axis=1).tolist()
    [0]
    """
    scaled = scale(logits, beta)
    lowest = scaled.min()
    if not np.isfinite(lowest):  # a class of no mass
        lowest = scaled[np.isfinite(scaled)].min()
    if -lowest >= FLAT:
        return scaled
    shifted = scale(logits, 1.0)
    for rows in blocks(*shifted.shape):
        block = shifted[rows]
        there = np.isfinite(block)
        spread = -np.where(there, block, 0.0).min(axis=1, keepdims=True)
        factor = np.divide(FLAT, spread, out=np.ones_like(spread), where=spread > 0)
        np.multiply(block, factor, out=block, where=there)
    return shifted


def _parts(logits: np.ndarray) -> Iterator[slice]:
    """The blocks of a fit. Its temporaries take some 26 bytes an element: a fifth of float32 logits, from 2 MiB on.

    (Where classes are few or points are, one number a row or a class is not little beside them.)
    """
    rows, classes = logits.shape
    return blocks(rows, classes, min(BLOCK, max(1 << 14, logits.size // 40)))


def _shifted(block: np.ndarray) -> np.ndarray:
    """A block of logits turned around, float64 (k, points), each point's largest subtracted.

    Its memory is laid out so that reductions over the classes are quick.
    """
    shifted = np.array(block.T, dtype=np.float64, order="C" if len(block.T) < MANY_CLASSES else "F")
    shifted -= shifted.max(axis=0)
    return shifted


def _survey(logits: np.ndarray, targets: np.ndarray) -> Survey:
    """One pass that checks the logits and sums what the fit needs to know first.

    The mean NLL at beta is then mean(log sum exp(beta s)) - beta * linear: two terms of one sign, so nothing cancels.
    """
    picked, total, lowest = [], [], 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in _parts(logits):
            shifted = _shifted(logits[rows])
            if targets.ndim == 1:
                picked.append(shifted[targets[rows], np.arange(shifted.shape[1])].sum())
            else:
                picked.append(np.einsum("ij,ij->", shifted, targets[rows].T, dtype=np.float64))
            total.append(shifted.sum())
            lowest = np.minimum(lowest, shifted.min())
    if not math.isfinite(lowest):
        check_logits(logits)
    linear = _sum(picked) / len(logits)
    slope = _sum(total) / logits.size - linear
    fits = all(map(math.isfinite, (lowest, linear, slope)))
    require(fits, "logits", [float(logits.min()), float(logits.max())], "a spread within the range of float64")
    return Survey(linear, slope, -float(lowest))


def _sum(parts: Sequence[float]) -> float:
    """The exact sum, rounded once; what addition gives where one of `parts` is not finite."""
    return math.fsum(parts) if all(map(math.isfinite, parts)) else float(sum(parts))


def _moments(logits: np.ndarray, linear: float, beta: float) -> Moments:
    """The objective at `beta` (not 0) and its derivatives: cumulants of u = beta s under softmax(u), averaged."""
    parts = []
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for rows in _parts(logits):
            scaled = _shifted(logits[rows])
            scaled *= beta
            top = scaled.max(axis=0) if beta < 0 else 0.0
            weights = np.exp(scaled - top if beta < 0 else scaled)
            total = weights.sum(axis=0)
            weights *= scaled
            first = weights.sum(axis=0) / total
            weights *= scaled
            second = weights.sum(axis=0) / total
            third = np.einsum("ij,ij->j", weights, scaled) / total
            variance = np.maximum(second - first**2, 0)
            skewness = third - first * (3 * second - 2 * first**2)
            parts.append([(np.log(total) + top).sum(), first.sum(), variance.sum(), skewness.sum()])
    nll, mean, variance, skewness = (_sum(part) / len(logits) for part in zip(*parts, strict=True))
    return Moments(nll - beta * linear, mean - beta * linear, variance, skewness)


def _minimise(logits: np.ndarray, linear: float, beta: float, tolerance: float = 1e-13) -> tuple[float, float, Moments]:
    """The root of the slope in beta > 0, known to exist, as (b, x, moments at b): it is b (1 + x), x a last small step.

    Halley's method within a bracket, else bisection of it. A step is refused when it leaves the bracket or does not
    halve the step before it: far left of the optimum the gradient is an exponential, along which such steps stay
    constant. The last step's own relative error, of its third order, is about `tolerance`: it needs no pass of its own.
    """
    low, high, step = 0.0, math.inf, math.inf
    for iteration in range(1000):  # a few are used; logits of 1e150 need some hundred to be reached from beta = 1
        found = _moments(logits, linear, beta)
        if found.slope == 0 or high - low <= 4e-16 * beta:
            break
        low, high = (beta, high) if found.slope < 0 else (low, beta)
        x = found.step()
        proposal = beta * (1 + x)
        slow = iteration > 2 and not abs(proposal - beta) <= abs(step) / 2
        if slow or not max(low, beta / 16) < proposal < min(high, beta * 16):
            proposal = _bisect(low, high, beta)
        elif abs(x) <= 1e-8 or abs(x) ** 3 * max(10.0, (found.third / found.curvature) ** 2) <= tolerance:
            return beta, x, found
        step, beta = proposal - beta, proposal
    return beta, 0.0, _moments(logits, linear, beta)


def _bisect(low: float, high: float, beta: float) -> float:
    """The geometric middle of the bracket; four times beyond its known end `beta` where the other is unknown."""
    if high == math.inf:
        return beta * 4
    return beta / 4 if low == 0 else math.sqrt(low) * math.sqrt(high)


def _rounding(classes: int, slope: float, linear: float) -> float:
    """How far a slope, mean E[u] - `linear`, may be from the true one: both terms are sums of numbers of one sign.

    Each is known to some units in its last place, a sum over classes to as many as it has terms at most.
    """
    return (16 + classes) * 2.0**-53 * (abs(slope + linear) + abs(linear))


def _changes_sign(found: Moments, x: float, spread: float, noise: float) -> bool:
    """Whether `found`, at b, proves that the slope changes its sign within b (1 + x) (1 +- CERTIFICATE).

    `spread` is the largest difference of two entries of a row of u = b s. A row's third cumulant is at most its
    variance times that, so the curvature at b (1 + d) lies between its value at b times exp(+-spread d), and the
    slope there between slope -+ curvature (exp(-+spread d) - 1) / spread. Bounds within `noise` of 0 prove nothing.
    """
    below, above = ((1 + x) * (1 + sign * CERTIFICATE) - 1 for sign in (-1, 1))
    if not 0 < spread * max(-below, above) < 1:
        return False
    most = found.slope + found.curvature * math.expm1(spread * below) / spread
    least = found.slope - found.curvature * math.expm1(-spread * above) / spread
    return most < -noise and noise < least


def _ends_differ(logits: np.ndarray, linear: float, beta: float) -> bool:
    """Whether the slope, evaluated at both, changes its sign between beta (1 - CERTIFICATE) and (1 + CERTIFICATE)."""
    ends = [beta * (1 + sign * CERTIFICATE) for sign in (-1, 1)]
    below, above = (_moments(logits, linear, end).slope for end in ends)
    noise = [_rounding(logits.shape[1], s, end * linear) for s, end in zip((below, above), ends, strict=True)]
    return below < -noise[0] and noise[1] < above


def _warm_start(logits: np.ndarray, targets: np.ndarray) -> float:
    """A first guess of beta: the optimum of evenly spaced rows, a 16th or some thousand, where there are many more."""
    stride = min(16, len(logits) // 1024)
    if stride < 4:
        return 1.0
    sample, sampled = logits[::stride], targets[::stride]
    known = _survey(sample, sampled)
    if known.linear == 0 or known.slope_at_zero >= 0:
        return 1.0
    beta, x, _ = _minimise(sample, known.linear, 1.0, tolerance=1e-6)
    return beta * (1 + x)


def _log_ties(logits: np.ndarray) -> float:
    """The NLL's limit as beta grows on separable data: mean log of how many logits tie for the largest."""
    ties = (np.count_nonzero(logits[b] == logits[b].max(axis=1, keepdims=True), axis=1) for b in blocks(*logits.shape))
    return float(np.log(np.concatenate(list(ties))).mean())
