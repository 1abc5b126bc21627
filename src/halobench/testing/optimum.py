"""Find and prove the best temperature for a set of logits, and compute the excess NLL of any other temperature.

halobench finds the optimum, and independent plain code confirms it. For a finite T above 0, that code must find that
the slope of the NLL changes sign around the optimum. The NLL is convex in 1 / T, so the change of sign is a proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from halobench.calibration.calibrators.exact import fit_temperature

EXACT = 1e-3
"""The largest number of nats by which the NLL of a right fit may exceed that of the optimum."""
SHARE = 0.01
"""The share of temperature scaling's possible gain that a right fit may miss, if this is more than `ROUNDING`."""
ROUNDING = 1e-6  # nats: what float32 can't show apart
WITHIN = 1e-6  # relative half-width of the interval of 1 / T in which the slope must change its sign


@dataclass(frozen=True)
class Optimum:
    """The optimum of temperature scaling on a set of logits.

    Attributes
    ----------
    beta : float
        1 / T; 0 if no positive value beats the uniform prediction, inf if the NLL falls for ever as T goes to 0.
    nll : float
        The mean NLL at the optimum, or its limit, in nats.
    gain : float
        The uncalibrated NLL minus `nll`.
    """

    beta: float
    nll: float
    gain: float

    @property
    def T(self) -> float:
        """Return the best temperature; inf or 0 if no finite T above 0 is best."""
        return 1 / self.beta if self.beta else math.inf

    @property
    def finite(self) -> bool:
        """Return whether a finite temperature above 0 is best."""
        return 0 < self.beta < math.inf

    @property
    def tolerance(self) -> float:
        """Return how many nats above `nll` a right fit may be: .001 or, if less, 1% of `gain`, but at least 1e-6."""
        return max(ROUNDING, min(EXACT, SHARE * self.gain))

    def __str__(self) -> str:
        if self.beta == 0:
            return "the best T is infinite"
        return f"the best T is {self.T:.6g}" if self.finite else "there is no best T: the set is separable"


def plain(z: np.ndarray, y: np.ndarray, beta: float, number: type = np.float64) -> tuple[float, float]:
    """Return the mean NLL of softmax(beta z), and its derivative with respect to beta, by plain code."""
    nll = slope = number(0)
    step = max(1, 10**6 // z.shape[1])
    with np.errstate(all="ignore"):
        for start in range(0, len(z), step):
            s: np.ndarray = z[start : start + step].astype(number)
            t = np.eye(z.shape[1], dtype=bool)[y[start : start + step]] if y.ndim == 1 else y[start : start + step]
            finite = np.isfinite(s)
            s = np.where(finite, s - np.where(finite, s, -np.inf).max(axis=1, keepdims=True), 0)
            u = number(beta) * s
            top = np.where(finite, u, -np.inf).max(axis=1, keepdims=True)
            weights = np.where(finite, np.exp(u - top), 0)
            total = weights.sum(axis=1)
            nll += (np.log(total) + top[:, 0] - (t * u).sum(axis=1)).sum()
            slope += ((weights * s).sum(axis=1) / total - (t * s).sum(axis=1)).sum()
    return float(nll / len(z)), float(slope / len(z))


def optimum(z: np.ndarray, y: np.ndarray) -> Optimum:
    """Return the certified optimum of a set; raise RuntimeError unless plain code confirms halobench's certificate."""
    fit = fit_temperature(z, y)
    uncalibrated = plain(z, y, 1.0)[0]
    if fit.separable:  # no target has mass below its row's largest logit
        below = z < z.max(axis=1, keepdims=True)
        proved = below.any() and not (below[np.arange(len(y)), y] if y.ndim == 1 else below & (y > 0)).any()
    elif fit.beta == 0:
        slope, size = plain(z, y, 0.0, np.longdouble)[1], float(np.ptp(z[np.isfinite(z)]))
        proved = slope >= -1e-15 * size
    else:
        ends = [plain(z, y, fit.beta * (1 + sign * WITHIN), np.longdouble)[1] for sign in (-1, 1)]
        proved = fit.converged and ends[0] < 0 < ends[1]
    if not proved:
        raise RuntimeError(f"the referee's optimum, {fit}, isn't confirmed by plain code")
    return Optimum(fit.beta, fit.nll, uncalibrated - fit.nll)


def excess(z: np.ndarray, y: np.ndarray, T: float, best: Optimum) -> float:
    """Return how far the NLL of softmax(z / T) lies above the optimum, in nats; T >= 0."""
    if T == 0:
        return 0.0 if best.beta == math.inf else math.inf
    return plain(z, y, 1 / T)[0] - best.nll
