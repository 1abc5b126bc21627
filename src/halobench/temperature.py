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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from halobench.specs import SpecError, require

CERTIFICATE = 1e-7
"""Relative half-width of the interval of beta over whose ends the gradient must change its sign."""

SUM_TOLERANCE = 1e-4
"""How far the sum of a row of probabilities may lie from 1 (float32 rows of a thousand classes stay within 1e-5)."""

BLOCK = 1 << 16
"""Elements worked on at a time: float64 temporaries of this size stay in a core's cache."""


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
        d NLL / d beta at beta.
    converged : bool
        `fit_temperature`: the gradient's sign changes within beta (1 +- 1e-7), or beta = 0 is the constrained optimum.
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


class Moments(NamedTuple):
    """Mean NLL and its first two derivatives with respect to beta."""

    nll: float
    gradient: float
    curvature: float


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> TemperatureFit:
    """The temperature of least mean NLL, exactly.

    Newton's method on beta = 1 / T, safeguarded by a bracket, started from a fit to a subsample where rows are many.

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
    logits, targets = check_logits(logits), check_targets(targets, np.shape(logits))
    linear = _linear_term(logits, targets)
    at_zero = _moments(logits, linear, 0.0)
    if at_zero.gradient >= 0:
        return TemperatureFit(math.inf, 0.0, at_zero.nll, at_zero.gradient, True, False)
    if linear == 0:
        return TemperatureFit(math.nan, math.inf, _log_ties(logits), 0.0, False, True)
    beta = _minimise(logits, linear, _warm_start(logits, targets))
    found = _moments(logits, linear, beta)
    below, above = (_moments(logits, linear, beta * (1 + sign * CERTIFICATE)).gradient for sign in (-1, 1))
    return TemperatureFit(1 / beta, beta, found.nll, found.gradient, below < 0 < above, False)


def fit_released(logits: np.ndarray, targets: np.ndarray) -> TemperatureFit:
    """The temperature at which the paper's released code stops: a parity variant, rarely near the optimum.

    That code runs one step of torch's LBFGS on T from T = 1: learning rate 0.01, 20 iterations, no line search, history
    100, tolerances 1e-7 (gradient) and 1e-9 (change). For a single parameter the two-loop recursion is the secant step
    through the latest accepted pair, which is what runs here, in float64. T moves by about 1% of a secant step an
    iteration and ends within about 0.9 to 1.1 wherever the optimum is; `converged` is then false.

    Parameters
    ----------
    logits : (n, k) array
    targets : (n,) integers or (n, k) array
        As for `fit_temperature`.

    Returns
    -------
    TemperatureFit
        T as the optimiser left it (nothing in it keeps T above 0). `separable` describes the data, as in the exact fit.

    Raises
    ------
    SpecError
        As for `fit_temperature`.
    """
    logits, targets = check_logits(logits), check_targets(targets, np.shape(logits))
    linear = _linear_term(logits, targets)

    def loss_and_slope(T: float) -> tuple[float, float]:
        found = _moments(logits, linear, 1 / T)
        return found.nll, -found.gradient / T**2

    T = _lbfgs(loss_and_slope, 1.0)
    found = _moments(logits, linear, 1 / T)
    converged = abs(found.gradient) / T**2 <= 1e-7
    separable = linear == 0 and _moments(logits, linear, 0.0).gradient < 0
    return TemperatureFit(T, 1 / T, found.nll, found.gradient, converged, separable)


def _lbfgs(loss_and_slope, x: float, lr: float = 0.01, max_iter: int = 20) -> float:
    """One ``torch.optim.LBFGS.step`` on a scalar, without line search, at torch's default tolerances."""
    loss, slope = loss_and_slope(x)
    if abs(slope) <= 1e-7:
        return x
    inverse_curvature = 1.0
    direction, rate, slope_before = -slope, min(1.0, 1 / abs(slope)) * lr, slope
    for iteration in range(1, max_iter + 1):
        if iteration > 1:
            change, step = slope - slope_before, direction * rate
            if change * step > 1e-10:  # a pair of less curvature is not remembered
                inverse_curvature = step / change
            direction, rate, slope_before = -inverse_curvature * slope, lr, slope
        if slope * direction > -1e-9:
            break
        x += rate * direction
        if iteration == max_iter:
            break
        loss_before = loss
        loss, slope = loss_and_slope(x)
        if abs(slope) <= 1e-7 or abs(rate * direction) <= 1e-9 or abs(loss - loss_before) < 1e-9:
            break
    return x


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
        np.multiply(shifted, beta, out=shifted, where=np.isfinite(shifted))
    return scaled


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices that cut `rows` into blocks of about ``BLOCK`` elements."""
    step = max(1, BLOCK // max(columns, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def check_logits(logits: np.ndarray, masked: bool = False) -> np.ndarray:
    """`logits` as a floating-point array (n, k), float32 uncopied; `masked` allows -inf beside a finite logit.

    Raises
    ------
    SpecError
    """
    logits = np.asarray(logits)
    shaped = logits.ndim == 2 and logits.shape[0] >= 1 and logits.shape[1] >= 2
    require(shaped, "logits", f"shape {logits.shape}", "an array (n, k) of at least one row and two classes")
    require(logits.dtype.kind in "fiu", "logits", f"dtype {logits.dtype}", "real numbers")
    if logits.dtype.kind != "f":
        logits = logits.astype(np.float64)
    for rows in blocks(*logits.shape):
        top = logits[rows].max(axis=1)
        bottom = logits[rows].min(axis=1)
        good = np.isfinite(top) & (np.isfinite(bottom) | (masked & (bottom == -np.inf)))
        if not good.all():
            row = rows.start + int(np.argmin(good))
            expected = "finite numbers" + (", or -inf beside a finite one" if masked else "")
            raise SpecError(f"logits[{row}]", [float(top[row - rows.start]), float(bottom[row - rows.start])], expected)
    return logits


def check_targets(targets: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`targets` for predictions of `shape` (n, k): integer labels (n,) in [0, k), or rows of probabilities (n, k).

    Raises
    ------
    SpecError
    """
    targets, (n, k) = np.asarray(targets), shape
    if targets.shape == (n,):
        require(targets.dtype.kind in "iu", "targets", f"dtype {targets.dtype}", "integer labels")
        low, high = int(targets.min()), int(targets.max())
        require(low >= 0 and high < k, "targets", [low, high], f"labels from 0 to {k - 1}")
        return targets
    require(targets.shape == (n, k), "targets", f"shape {targets.shape}", f"labels ({n},) or probabilities ({n}, {k})")
    return check_rows(targets, "targets")


def check_rows(rows: np.ndarray, key: str) -> np.ndarray:
    """`rows` if each is a distribution: finite, of at least 0, its sum within 1e-4 of 1.

    Raises
    ------
    SpecError
    """
    require(rows.dtype.kind in "fiu", key, f"dtype {rows.dtype}", "real numbers")
    for block in blocks(*rows.shape):
        total = rows[block].sum(axis=1, dtype=np.float64)
        low = rows[block].min(axis=1)
        good = (np.abs(total - 1) <= SUM_TOLERANCE) & (low >= 0)
        if not good.all():
            row = int(np.argmin(good))
            if not low[row] >= 0:
                raise SpecError(f"{key}[{block.start + row}]", float(low[row]), "probabilities of at least 0")
            raise SpecError(f"{key}[{block.start + row}]", float(total[row]), "probabilities that sum to 1")
    return rows


def _shifted(block: np.ndarray) -> np.ndarray:
    """A block of logits in float64, each row's largest subtracted."""
    shifted = block.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return shifted


def _linear_term(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean over rows of the target's mean shifted logit: at most 0, and 0 if and only if the data are separable.

    The mean NLL at beta is then mean(log sum exp(beta s)) - beta * linear: two terms of one sign, so nothing cancels.
    """
    sums = []
    for rows in blocks(*logits.shape):
        shifted = _shifted(logits[rows])
        if targets.ndim == 1:
            sums.append(shifted[np.arange(len(shifted)), targets[rows]].sum())
        else:
            sums.append(np.einsum("ij,ij->", shifted, targets[rows], dtype=np.float64))
    linear = math.fsum(sums) / len(logits)
    require(math.isfinite(linear), "logits", linear, "a spread within the range of float64")
    return linear


def _moments(logits: np.ndarray, linear: float, beta: float) -> Moments:
    """The objective at `beta`: NLL, mean E_p[s] - linear, and mean Var_p[s] under p = softmax(beta s)."""
    nll, mean, variance = [], [], []
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for rows in blocks(*logits.shape):
            shifted = _shifted(logits[rows])
            weights = shifted * beta
            top = weights.max(axis=1, keepdims=True) if beta < 0 else 0.0
            np.exp(weights - top if beta < 0 else weights, out=weights)
            total = weights.sum(axis=1)
            weights *= shifted
            first = weights.sum(axis=1) / total
            second = np.einsum("ij,ij->i", weights, shifted) / total
            nll.append((np.log(total) + np.ravel(top)).sum())
            mean.append(first.sum())
            variance.append(np.maximum(second - first**2, 0).sum())
    n = len(logits)
    nll, mean, variance = (math.fsum(part) / n for part in (nll, mean, variance))
    return Moments(nll - beta * linear, mean - linear, variance)


def _minimise(logits: np.ndarray, linear: float, beta: float) -> float:
    """The root of the gradient in beta > 0, known to exist: Newton's method within a bracket, else bisection of it.

    A Newton step is refused when it leaves the bracket or does not halve the step before it: far left of the optimum
    the gradient is an exponential, along which Newton walks at constant steps.
    """
    low, high, step = 0.0, math.inf, math.inf
    for iteration in range(1000):  # a few are used; logits of 1e150 need some hundred to be reached from beta = 1
        _, gradient, curvature = _moments(logits, linear, beta)
        if gradient == 0:
            return beta
        low, high = (beta, high) if gradient < 0 else (low, beta)
        proposal = beta - gradient / curvature if curvature > 0 else math.nan
        slow = iteration > 2 and not abs(proposal - beta) <= abs(step) / 2
        if slow or not max(low, beta / 16) < proposal < min(high, beta * 16):
            proposal = _bisect(low, high, beta)
        step = proposal - beta
        beta = proposal
        # Newton's error after a step is about the square of the step: 1e-16 relative. Bisection's is the step itself.
        if (abs(step) <= 1e-8 * beta and not slow) or high - low <= 4e-16 * beta:
            return beta
    return beta


def _bisect(low: float, high: float, beta: float) -> float:
    """The geometric middle of the bracket; four times beyond its known end `beta` where the other is unknown."""
    if high == math.inf:
        return beta * 4
    return beta / 4 if low == 0 else math.sqrt(low) * math.sqrt(high)


def _warm_start(logits: np.ndarray, targets: np.ndarray, rows: int = 4096) -> float:
    """A first guess of beta: the optimum of about `rows` evenly spaced rows where there are many more; 1 otherwise."""
    stride = len(logits) // rows
    if stride < 4:
        return 1.0
    sample, sampled = logits[::stride], targets[::stride]
    linear = _linear_term(sample, sampled)
    if linear == 0 or _moments(sample, linear, 0.0).gradient >= 0:
        return 1.0
    return _minimise(sample, linear, 1.0)


def _log_ties(logits: np.ndarray) -> float:
    """The NLL's limit as beta grows on separable data: mean log of how many logits tie for the largest."""
    ties = (np.count_nonzero(logits[b] == logits[b].max(axis=1, keepdims=True), axis=1) for b in blocks(*logits.shape))
    return float(np.log(np.concatenate(list(ties))).mean())
