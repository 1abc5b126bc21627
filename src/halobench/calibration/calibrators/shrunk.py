"""Fit a temperature that is shrunk towards 1 to the extent that the samples leave open whether 1 is right.

The temperature with the lowest NLL (`exact`) fits noise, too. On 20 to 50 samples, or if only a few predictions are
wrong, leaving calibrated logits as they are is often better than dividing them by this temperature. The evidence
against T = 1, called z, is the score at T = 1 divided by its standard error. The score is the sum over samples of the
expected logit under the model's own probabilities minus the label's logit. The standard error is the larger of the
observed one and the one expected if labels were drawn from the model's probabilities. A single error, however large,
gives a z of at most 1, too little to raise T; m errors give a z of at most the square root of m.

T is then fitted to labels mixed with the model's own probabilities, (1 - w) label + w softmax(logits). Up to |z| =
`CLEAR_SCORE`, the weight w is 1, so T = 1. From there, w falls to 0 at |z| = `FULL_SCORE`. Beyond that, T is the best
temperature (firm shrinkage). With 0 < w <= 1, the best 1 / T is finite on any data, even separable data.

If the samples favour a T below 1, a single further label may cost much, since its logit may be very low, e.g. if the
model is a forest. Labels are then smoothed by 1 / (n + 1), both for z and for T.

References
----------
C. R. Rao, "Large sample tests of statistical hypotheses concerning several parameters", 1948: the test by the score.
H.-Y. Gao, A. Bruce, "WaveShrink with firm shrinkage", Statistica Sinica 7, 1997: no shrinkage of what is clearly not 0.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from halobench.calibration.arrays import blocks, weights_of
from halobench.calibration.calibrator import Calibrator, scored
from halobench.calibration.calibrators.exact import Tempering
from halobench.calibration.repair.groups import Groups
from halobench.calibration.saved import savable
from halobench.calibration.scores.sample_scores import mass_of, softmax
from halobench.calibration.temperature.nll_curve import Curve, derivatives
from halobench.calibration.temperature.rescaling import rescale
from halobench.calibration.temperature.search import finite_beta, fit_smoothed, minimise_slope

TITLE = "TS, shrunk towards 1"
ABOUT = "temperature scaling whose temperature stays at or near 1 unless validation samples clearly show another"
SOURCE = "halobench, based on H.-Y. Gao and A. Bruce, *WaveShrink with firm shrinkage*, Statistica Sinica 7, 1997"
ORDER = 4
STYLE = ("#B58900", "d", (0, (4, 1)))
MASKED = True
VOTES = True

# In simulations of calibrated logits (2 to 100 classes, 20 to 100 samples), T is worse than 1 by more than .005 nats in
# at most 6% of the draws with 1.645, in 8% with 1.5, and in up to 77% without shrinkage.
CLEAR_SCORE, FULL_SCORE = 1.645, 4.0


@savable("shrunk_fit")
@dataclass(frozen=True)
class ShrunkFit:
    """A temperature that is shrunk towards 1.

    Attributes
    ----------
    beta : float
        The inverse temperature, finite and at least 0.
    weight : float
        w, the weight of the model's own probabilities, in [0, 1]. T is 1 if w = 1. If w = 0, T is the best temperature
        or, if z < 0, the best one for smoothed labels.
    z : float
        The evidence against T = 1 in standard errors; negative if logits are too small.
    """

    beta: float
    weight: float
    z: float

    @property
    def T(self) -> float:
        """Return the temperature, 1 / beta; inf if beta is 0."""
        return 1 / self.beta if self.beta else math.inf

    def refit(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return the beta of a temperature that is fitted to other samples and shrunk by the same weight."""
        return fit_mixed(logits, targets, self.weight, self.z < 0)


def fit(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Return the calibrator that divides logits by the shrunk temperature, whose inverse is finite on any data."""
    fitted = fit_shrunk(logits, targets)
    return dataclasses.replace(scored(Tempering(fitted.beta), logits, targets), T=fitted.T, beta=fitted.beta)


def fit_shrunk(
    logits: np.ndarray, targets: np.ndarray, groups: Groups | None = None, votes: np.ndarray | None = None
) -> ShrunkFit:
    """Fit the temperature to arrays that have already been checked; logits may be -inf.

    `targets` are labels (n,), or rows (n, k) of shares of votes, multiplied by any weights; `votes` (n,) counts the
    votes. `groups` say which samples depend on each other.
    """
    groups = Groups.single(len(logits)) if groups is None else groups
    z = evidence(logits, targets, groups, np.ones(len(logits)) if votes is None else votes)
    weight = (
        min(1.0, max(0.0, CLEAR_SCORE * (FULL_SCORE - abs(z)) / (abs(z) * (FULL_SCORE - CLEAR_SCORE)))) if z else 1.0
    )
    return ShrunkFit(fit_mixed(logits, targets, weight, z < 0), weight, z)


def fit_mixed(logits: np.ndarray, targets: np.ndarray, weight: float, smoothed: bool) -> float:
    """Return the best beta for targets mixed with the model's own probabilities, which have a `weight` in [0, 1].

    Targets are first smoothed by 1 / (n + 1) if `smoothed` is true, or if no finite beta would otherwise be optimal.
    """
    if weight == 1:
        return 1.0
    if weight == 0:
        return fit_smoothed(logits, targets) if smoothed else finite_beta(logits, targets)
    curve = Curve.of(logits, targets)
    own = (
        derivatives(curve.logits, curve.weights, 0.0, curve.unit).slope / curve.unit
    )  # `linear` of labels that are drawn from p
    of_labels = curve.summary.linear + smoothed * curve.summary.slope_at_zero / (len(logits) + 1)
    linear = (1 - weight) * of_labels + weight * own
    return minimise_slope(curve, linear) / curve.unit


def evidence(logits: np.ndarray, targets: np.ndarray, groups: Groups, votes: np.ndarray) -> float:
    """Return the score at T = 1 in standard errors, positive if logits are too large.

    A negative score is replaced by the score of smoothed labels, or by 0 if this score isn't negative. The result is
    also 0 if every T is equally good.
    """
    scores, smoothed, variances = np.empty((3, len(logits)))
    weights, smoothing = weights_of(targets), 1 / (len(logits) + 1)
    for rows in blocks(*logits.shape):
        u = rescale(logits[rows], 1.0)
        p, finite = softmax(u), np.isfinite(u)
        u = np.where(finite, u, 0.0)
        mean = np.einsum("ij,ij->i", p, u)
        of_label = np.einsum("ij,ij->i", mass_of(targets[rows], u.shape[1]), u)
        scores[rows] = weights[rows] * mean - of_label
        uniform = weights[rows] * u.sum(axis=1) / finite.sum(axis=1)
        smoothed[rows] = weights[rows] * mean - (1 - smoothing) * of_label - smoothing * uniform
        variances[rows] = np.einsum("ij,ij,ij->i", p, u, u) - mean**2
    if scores.sum() < 0:
        scores = smoothed if smoothed.sum() < 0 else np.zeros(len(logits))
    expected = groups.sums(weights * np.sqrt(np.maximum(variances, 0.0) / votes))
    variance = groups.factor * max(float((sums**2).sum()) for sums in (groups.sums(scores), expected))
    return float(scores.sum()) / math.sqrt(variance) if variance > 0 else 0.0
