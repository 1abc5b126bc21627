"""Mix temperature scaling with the confusions of the predicted class on validation samples.

With a as the predicted class, the map is

    P(j) = (1 - w) softmax(z / T)_j + w C_aj,    C_aj = (N_aj + r / k) / (N_a + r)

N_aj counts validation samples with prediction a and label j, N_a is their sum over j, and r is the size of a uniform
prior, in samples. T, w and r minimise the leave-one-out NLL: the counts used for a sample don't include the sample
itself. Both parts of the mixture are fitted together, because T can be lower than TS's if the confusions cover the
errors.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from halobench.calibration.arrays import ELEMENTS_PER_BLOCK, blocks
from halobench.calibration.calibrator import GRADIENT, Calibrator, scored
from halobench.calibration.saved import savable
from halobench.calibration.scores.sample_scores import softmax
from halobench.calibration.temperature.rescaling import rescale
from halobench.calibration.temperature.search import finite_beta

TITLE = "TS mixed with confusions"
ABOUT = "TS mixed with how often each label occurs among validation samples with the same prediction"
SOURCE = (
    "halobench, based on H.-C. Kim and Z. Ghahramani, *Bayesian Classifier Combination*, AISTATS 2012, and on "
    "Kerrigan et al. 2021, [arXiv 2109.14591](https://arxiv.org/abs/2109.14591)"
)
ORDER = 16
STYLE = ("#2F8F46", (5, 0, 180), (0, (2, 1)))

PRIORS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # sizes r of the uniform prior to try, in samples per predicted class
# The grid of inverse temperatures: `STEPS` steps from TS's divided by `REACH` to TS's times `REACH`.
STEPS, REACH = 24, 32.0

HALVINGS = 60


@savable("confusion_mix")
@dataclass(frozen=True, eq=False)
class ConfusionMix:
    """The map: 1 / T, w, and `rows` (k, k), the logarithms of C, in the module's formulas."""

    beta: float
    weight: float
    rows: np.ndarray

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Map logits (n, k) to calibrated logits (n, k)."""
        scaled = rescale(z, self.beta)
        scaled -= np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        if self.weight == 1:
            return self.rows[z.argmax(axis=1)]
        confused = math.log(self.weight) + self.rows[z.argmax(axis=1)]
        return np.logaddexp(math.log1p(-self.weight) + scaled, confused)


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit T, w and r together; the fit is finite even on separable data, since w is at least 1 / (n + 1).

    The reported gradient is the violation of the Karush-Kuhn-Tucker conditions in w and log T. The NLL isn't convex in
    T, so the best value on a grid is refined.
    """
    n, k = logits.shape
    top = logits.argmax(axis=1)
    counts = np.zeros((k, k))
    np.add.at(counts, (top, labels), 1)
    seen, total = counts[top, labels] - 1, counts.sum(axis=1)[top] - 1  # each sample is left out of its own counts
    beta = finite_beta(logits, labels) or 1 / (float(-rescale(logits, 1.0).min()) or 1.0)
    grid = np.linspace(math.log(beta / REACH), math.log(beta * REACH), 2 * STEPS + 1)
    likelihoods = [_likelihood(logits, labels, at)[0] for at in grid]
    least = 1 / (n + 1)
    held_out = {prior: (seen + prior / k) / (total + prior) for prior in PRIORS}
    settings = itertools.product(PRIORS, range(len(grid)))
    prior, i = min(settings, key=lambda setting: _mix(likelihoods[setting[1]], held_out[setting[0]], least).nll)
    confusions = held_out[prior]

    def slope(at: float) -> tuple[float, _Mixture]:
        """Return the derivative of the NLL with respect to log beta at the best w, and the mixture there."""
        likelihood, derivative = _likelihood(logits, labels, at)
        mixture = _mix(likelihood, confusions, least)
        return -float(((1 - mixture.weight) * derivative / mixture.likelihood).mean()), mixture

    low, high = grid[max(i - 1, 0)], grid[min(i + 1, 2 * STEPS)]
    at = grid[i]
    steep, mixture = slope(at)
    for _ in range(HALVINGS):
        low, high = (at, high) if steep < 0 else (low, at)
        if abs(steep) <= GRADIENT / 100 or high - low <= 1e-14 * max(1.0, abs(at)):
            break
        at = (low + high) / 2
        steep, mixture = slope(at)
    outwards = steep < 0 if at >= grid[-1] - 1e-9 else steep > 0 if at <= grid[0] + 1e-9 else False
    gradient = max(mixture.violation, 0.0 if outwards else abs(steep))
    rows = np.log((counts + prior / k) / (counts.sum(axis=1, keepdims=True) + prior))

    return scored(
        ConfusionMix(math.exp(at), mixture.weight, rows),
        logits,
        labels,
        gradient,
        gradient <= GRADIENT,
        ELEMENTS_PER_BLOCK,
    )


def _likelihood(logits: np.ndarray, labels: np.ndarray, log_beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels' probabilities at an inverse temperature beta, and their derivatives in log beta, (n,) each."""
    values = np.empty((2, len(labels)))
    for rows in blocks(*logits.shape):
        scaled = rescale(logits[rows], math.exp(log_beta))
        p, labelled = softmax(scaled), (np.arange(len(scaled)), labels[rows])
        values[0, rows] = p[labelled]
        values[1, rows] = p[labelled] * (scaled[labelled] - np.einsum("ij,ij->i", p, scaled))
    return values[0], values[1]


class _Mixture(NamedTuple):
    """The best weight w of the confusions, the likelihoods (n,) and NLL there, and the violation of optimality in w."""

    weight: float
    likelihood: np.ndarray
    nll: float
    violation: float


def _mix(likelihood: np.ndarray, confusions: np.ndarray, least: float) -> _Mixture:
    """Find the weight of `confusions` (n,), in [least, 1], whose mixture with `likelihood` (n,) has the lowest NLL.

    The NLL is convex in the weight, so Newton's method is used within a bracket.
    """
    difference = confusions - likelihood
    low, high, weight = least, 1.0, max(least, 0.5)
    for _ in range(HALVINGS):
        ratio = difference / (likelihood + weight * difference)
        steep = -float(ratio.mean())
        if abs(steep) <= GRADIENT / 1000:
            break
        low, high = (weight, high) if steep < 0 else (low, weight)
        if high - low <= 1e-15:
            break
        newton = weight - steep / float((ratio**2).mean())
        # A Newton step that leaves the bracket ends at its boundary, which is the optimum if the slope points outwards.
        step = min(max(newton, low), high)
        weight = step if step != weight else (low + high) / 2
    mixed = likelihood + weight * difference
    steep = -float((difference / mixed).mean())
    outwards = steep > 0 if weight <= least else steep < 0 if weight >= 1 else False
    return _Mixture(weight, mixed, -float(np.log(mixed).mean()), 0.0 if outwards else abs(steep))
