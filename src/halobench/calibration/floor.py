"""Add a floor to probabilities that may be 0, such as a random forest's, before taking their logarithms.

If c of a forest's n trees vote for a class, its probability is c / n. A class without votes gets 0, so a sample of this
class has an infinite NLL. With a floor f and a scale s, a logit is s log(p + f). If votes are drawn from class
probabilities with a symmetric Dirichlet prior of strength a, f = a / n and s = 1 give the posterior mean (Laplace's
rule for a = 1).

The size of f decides how much of the NLL a calibrator seems to remove, so if there are probabilities of 0, f is stated
by the user or fitted. A fitted f has the lowest NLL after temperature scaling, on N validation labels that are smoothed
by 1 / (N + 1). The smoothing keeps f above 0 even if no label has a probability of 0. For large f, log(p + f) is nearly
linear in p. In `halobench.diagnose`, the scale s of a fitted f keeps the model's mean confidence at T = 1 where it can;
otherwise, s is 1. Without calibration, a fitted floor is only added if a label has a probability of 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from halobench.calibration.calibrator import Map
from halobench.calibration.saved import savable
from halobench.calibration.scores.sample_scores import cross_entropy, mass_of, softmax
from halobench.calibration.temperature.rescaling import rescale
from halobench.calibration.temperature.search import finite_beta, smoothed_nll
from halobench.core.errors import require

USUAL_FLOOR = 1e-12  # what others add, as scikit-learn does; also the smallest floor that is tried
GRID = np.geomspace(USUAL_FLOOR, 10.0, 14)
SCALES, SUREST = (1e-3, 1e6), 1 - 1e-6  # the range of s, and the largest mean confidence that it keeps
DIGITS = 1e-3  # relative precision of a fitted floor
MOST_PROBABILITIES = 1 << 20  # the floor is fitted to about this number of probabilities


@dataclass(frozen=True)
class Floor:
    """A floor, numbers of validation samples with zeros, and the NLLs of all validation samples with the usual floor.

    Attributes
    ----------
    value, scale : float
        f and s of the module's formula.
    fitted : bool
        False if the user stated the floor.
    zeros, labels : int
        The number of validation samples with any probability of 0, and the number whose label (or a class with votes)
        has a probability of 0.
    before, least : float
        NLL in nats with a floor of `USUAL_FLOOR`: at T = 1, and at the best temperature.
    added : bool
        False if the floor isn't part of the calibrator, which leaves probabilities as they are.
    """

    value: float
    scale: float
    fitted: bool
    zeros: int
    labels: int
    before: float
    least: float
    added: bool = True

    @property
    def always(self) -> bool:
        """Return whether even uncalibrated probabilities get the floor: it was stated, or their NLL is infinite."""
        return bool(self.labels) or not self.fitted

    @property
    def formula(self) -> str:
        """Return what a probability p becomes, before its row is divided by its sum, as text."""
        raised = f"p + {self.value:.4g}"
        return raised if self.scale == 1 else f"({raised})^{self.scale:.4g}"

    @classmethod
    def of(cls, probabilities: np.ndarray, targets: np.ndarray, stated: float | None = None) -> Floor:
        """Return the floor `stated`, or one fitted to checked probabilities (n, k) and labels or shares of votes."""
        value = fit_floor(probabilities, targets) if stated is None else stated
        scale = _same_confidence(probabilities, value) if stated is None else 1.0
        none, usual = probabilities == 0, floored(probabilities, USUAL_FLOOR)
        before, least = (
            float(cross_entropy(rescale(usual, beta), targets).mean()) for beta in (1.0, finite_beta(usual, targets))
        )
        lost = int((none & (mass_of(targets, none.shape[1]) > 0)).any(axis=1).sum())
        return cls(value, scale, stated is None, int(none.any(axis=1).sum()), lost, before, least)


@savable("floored")
@dataclass(frozen=True)
class Floored:
    """The map `transform`, applied to scale * log(p + floor), where p is the softmax of logits that may be -inf."""

    floor: float
    scale: float
    transform: Map

    MASKED: ClassVar[bool] = True

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Map logits (n, k), which may be -inf, to calibrated logits (n, k)."""
        return self.transform(floored(softmax(logits), self.floor, self.scale))


def floored(probabilities: np.ndarray, floor: float, scale: float = 1.0) -> np.ndarray:
    """Return scale * log(p + floor), float64 (n, k), for probabilities p (n, k)."""
    return scale * np.log(probabilities.astype(np.float64) + floor)


def fit_floor(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the floor, from 1e-12 to 10, with the lowest NLL after TS for n labels smoothed by 1 / (n + 1)."""
    from scipy.optimize import minimize_scalar

    stride = max(1, probabilities.size // MOST_PROBABILITIES)
    p, y = probabilities[::stride], targets[::stride]

    def nll(log_floor: float) -> float:
        return smoothed_nll(floored(p, math.exp(log_floor)), y)

    grid = np.log(GRID)
    place = int(np.argmin([nll(at) for at in grid]))
    ends = grid[max(place - 1, 0)], grid[min(place + 1, len(grid) - 1)]
    return math.exp(minimize_scalar(nll, bounds=ends, method="bounded", options={"xatol": DIGITS}).x)


def _same_confidence(probabilities: np.ndarray, floor: float) -> float:
    """Return the scale at which a floor leaves the mean confidence as it is, or 1 if no scale in `SCALES` does.

    A mean confidence above `SUREST` counts as `SUREST`.
    """
    from scipy.optimize import brentq

    logits, (low, high) = floored(probabilities, floor), SCALES
    wanted = min(float(probabilities.max(axis=1).mean()), SUREST)

    def excess(scale: float) -> float:
        return float(softmax(rescale(logits, scale)).max(axis=1).mean()) - wanted

    return float(brentq(excess, low, high)) if excess(low) < 0 < excess(high) else 1.0


def check_floor(floor: float | None) -> None:
    """Raise SpecError unless a floor is None (to be fitted) or a number in [0, 1)."""
    number = isinstance(floor, int | float) and not isinstance(floor, bool)
    require(floor is None or (number and 0 <= floor < 1), "floor", floor, "a number from 0 to below 1, such as 1e-6")
