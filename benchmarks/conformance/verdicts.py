"""The referee: the certified optimum of each set, and the verdict on what an implementation returns.

The optimum is halobench's, and counts only if plain code in extended precision, which shares none with it, sees the
slope of the NLL change its sign around it. The NLL is convex in 1 / T, so that is a proof.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from sets import FEW, MASKED, SOFT, TYPES

from halobench import fit_temperature

EXACT, CLOSE = 1e-3, 1e-2
"""How far above the optimum, in nats, an NLL may lie: to be right, and to be close."""
SHARE = 0.01
"""The share of what temperature scaling can gain that a right fit may miss, if that is more than `ROUNDING`."""
ROUNDING = 1e-6  # nats: what float32 can't tell apart
WITHIN = 1e-6  # relative half-width of the interval of 1 / T in which the slope must change its sign
SPECIAL = (FEW, TYPES, MASKED, SOFT)
"""Kinds of sets that an implementation needn't support, so an error is no failure."""
RIGHT, NEAR, WRONG, FAILED, UNSUPPORTED = "right", "close", "wrong", "failed", "not supported"
WARNS = re.compile(r"converg|separab|negative|infinit|diverg|overflow|nan\b", re.IGNORECASE)


@dataclass(frozen=True)
class Optimum:
    """The optimum of a set.

    beta : 1 / T; 0 if no positive one beats the uniform prediction, inf if the NLL falls for ever.
    nll : the NLL there, or its limit, in nats.
    gain : how much lower that is than the uncalibrated NLL.
    """

    beta: float
    nll: float
    gain: float

    @property
    def finite(self) -> bool:
        return 0 < self.beta < math.inf


@dataclass(frozen=True)
class Verdict:
    """A verdict with its reason, and how far above the optimum the NLL lies, in nats (None if there is no NLL)."""

    name: str
    reason: str = ""
    excess: float | None = None


def plain(z: np.ndarray, y: np.ndarray, beta: float, number: type = np.float64) -> tuple[float, float]:
    """Return the mean NLL of softmax(beta z), and its derivative in beta, by plain code; inf where beta z is."""
    nll = slope = number(0)
    step = max(1, 10**6 // z.shape[1])
    with np.errstate(all="ignore"):
        for start in range(0, len(z), step):
            s = z[start : start + step].astype(number)
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
    """Return the certified optimum of a set; raise RuntimeError if plain code contradicts halobench's certificate."""
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


def judge(found: dict, best: Optimum, kind: str, z: np.ndarray, y: np.ndarray) -> Verdict:
    """Return the verdict on what a worker wrote about one fit: on softmax(z / T), or on its probabilities if better.

    Raises RuntimeError if T has a lower NLL than the optimum.
    """
    if "failure" in found:
        return Verdict(FAILED, found["failure"])
    if "error" in found:
        if not best.finite and WARNS.search(found["error"]):
            return Verdict(RIGHT, found["error"])
        return Verdict(UNSUPPORTED if kind in SPECIAL or not best.finite else FAILED, found["error"])
    T = found["T"]
    admits = found.get("converged") is False or found.get("separable") or bool(WARNS.search(found.get("said", "")))
    if math.isnan(T):
        return Verdict(FAILED if best.finite else RIGHT, "NaN")
    off = FAILED if admits else WRONG
    if T < 0:
        return Verdict(off, f"reverses the ranking of the classes{', and says so' if admits else ''}")
    beta = 1 / T if T else math.inf
    excess = _excess(z, y, beta, best)
    if excess < -1e-9 * max(1.0, abs(best.nll)):
        raise RuntimeError(f"the referee is beaten: T = {T!r} has a lower NLL than {best}")
    if found.get("nll") is not None:  # of its own probabilities, which clipping may have improved
        excess = min(excess, found["nll"] - best.nll)
    if not excess <= CLOSE:
        return Verdict(off, "claims to have converged" if found.get("converged") else "", excess)
    if best.beta == math.inf and T > 0 and not admits:
        return Verdict(NEAR, "without a word on that there is no best T", excess)
    at_T = _excess(z, y, beta, best)
    for name in ("permuted", "shifted"):
        other = found.get(name, T)
        if other is None or not other > 0 or abs(_excess(z, y, 1 / other, best) - at_T) > EXACT:
            instead = "an error" if other is None else f"{other:.4g}"
            return Verdict(NEAR, f"but {instead} for {name} rows", excess)
    if found.get("changed"):
        return Verdict(NEAR, "changes its arguments", excess)
    exact = excess <= ROUNDING or (excess <= EXACT and excess <= SHARE * best.gain)
    return Verdict(RIGHT if exact else NEAR, excess=excess)


def _excess(z: np.ndarray, y: np.ndarray, beta: float, best: Optimum) -> float:
    """Return how far the NLL at `beta` lies above the optimum."""
    if beta == math.inf:
        return 0.0 if best.beta == math.inf else math.inf
    return plain(z, y, beta)[0] - best.nll
