"""The verdict on what an implementation returns, by the certified optimum of `halobench.testing.optimum`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from halobench.testing.logit_sets import FEW, MASKED, SOFT, TYPES
from halobench.testing.optimum import EXACT, Optimum, excess

CLOSE = 1e-2
"""How far above the optimum, in nats, an NLL that is close may lie."""
SPECIAL = (FEW, TYPES, MASKED, SOFT)
"""Kinds of sets that an implementation needn't support, so an error is no failure."""
RIGHT, NEAR, WRONG, FAILED, UNSUPPORTED = "right", "close", "wrong", "failed", "not supported"
WARNS = re.compile(r"converg|separab|negative|infinit|diverg|overflow|nan\b", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """A verdict with its reason, and how far above the optimum the NLL lies, in nats (None if there is no NLL)."""

    name: str
    reason: str = ""
    excess: float | None = None


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
    at_T = above = excess(z, y, T, best)
    if above < -1e-9 * max(1.0, abs(best.nll)):
        raise RuntimeError(f"the referee is beaten: T = {T!r} has a lower NLL than {best}")
    if found.get("nll") is not None:  # of its own probabilities, which clipping may have improved
        above = min(above, found["nll"] - best.nll)
    if not above <= CLOSE:
        return Verdict(off, "claims to have converged" if found.get("converged") else "", above)
    if best.beta == math.inf and T > 0 and not admits:
        return Verdict(NEAR, "without a word on that there is no best T", above)
    for name in ("permuted", "shifted"):
        other = found.get(name, T)
        if other is None or not other > 0 or abs(excess(z, y, other, best) - at_T) > EXACT:
            instead = "an error" if other is None else f"{other:.4g}"
            return Verdict(NEAR, f"but {instead} for {name} rows", above)
    if found.get("changed"):
        return Verdict(NEAR, "changes its arguments", above)
    return Verdict(RIGHT if above <= best.tolerance else NEAR, excess=above)
