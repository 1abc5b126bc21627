"""Score candidates on samples that they weren't fitted to, fold by fold, and choose one if it clearly gains.

The base is a temperature that is shrunk towards 1 (`halobench.calibration.calibrators.shrunk`) with a weight that all
samples determine. For each fold, the base is fitted to the other folds, like all candidates. A candidate's gain is the
mean, over samples, of the base's NLL minus the candidate's. The gain's standard error, over groups, is either the
observed one or, if larger, the one expected if the base were the truth. The expected standard error accounts for rare
labels that haven't been drawn yet.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from halobench.calibration.arrays import weights_of
from halobench.calibration.calibrator import fit_checked
from halobench.calibration.repair.groups import Groups
from halobench.calibration.saved import savable
from halobench.calibration.scores.binning import bin_edges, bin_index
from halobench.calibration.scores.sample_scores import correctness, cross_entropy, predictions, softmax
from halobench.calibration.temperature.rescaling import rescale
from halobench.core.errors import SpecError
from halobench.core.seeding import generator

log = logging.getLogger(__name__)

BASE = "base"
FOLDS = 5
# Factor by which intervals are widened, since folds share samples, and candidates are chosen for their gains. In draws
# of `studies/harm/kinds.py`, intervals of chosen maps hold the true gain in 92% with 1, 95% with 1.25 and 98% with
# 1.5, by C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003.
WIDENING = 1.25
NORMAL = 1.96  # 95% of a normal distribution lies within this many standard deviations
SAME = 0.005  # nats: gains that differ by less count as equal
BINS = 15  # of the ECE


@savable("gain")
@dataclass(frozen=True)
class Gain:
    """A gain in nats per sample, with its 95% interval.

    Attributes
    ----------
    name : str
        The calibrator's name in configurations.
    value, low, high : float
        The gain, which is negative if the calibrator makes the NLL worse, and the ends of its interval; NaN if the
        calibrator wasn't tried or its fit failed.
    reason : str
        Why the calibrator wasn't tried, or why its fit failed.
    """

    name: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""

    @classmethod
    def of(cls, name: str, mean: float, error: float) -> Gain:
        """Return a gain of `mean` whose interval extends by `NORMAL` * `WIDENING` * `error` to either side."""
        half = NORMAL * WIDENING * float(error)
        return cls(name, float(mean), float(mean) - half, float(mean) + half)


@savable("confidence")
@dataclass(frozen=True)
class Confidence:
    """The mean confidence, accuracy and ECE of a calibrator on out-of-fold samples, each in [0, 1].

    Attributes
    ----------
    mean : float
        The mean confidence.
    accuracy : float
    ece : float
        The expected calibration error.
    """

    mean: float
    accuracy: float
    ece: float

    @classmethod
    def of(cls, confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> Confidence:
        """Compute the means and the ECE from confidences, correctness times weights, and weights, (n,) each."""
        expected = weights * confidence
        gaps = np.bincount(bin_index(confidence, bin_edges(BINS)), weights=correct - expected)
        return cls(float(expected.mean()), float(correct.mean()), float(np.abs(gaps).sum() / len(weights)))


class Trials(NamedTuple):
    """Out-of-fold results of the candidates `names`; `reasons` says why other candidates have no results.

    `gains` and `variances`, (n, m), hold each sample's gain over the base, and its variance if the base were the truth.
    `base` (n, 2) holds the base's gain over uncalibrated logits, and its variance if these were the truth. `confidence`
    has the `Confidence` of the base and of each candidate. `nll` is the NLL of the uncalibrated logits.
    """

    names: tuple[str, ...]
    groups: Groups
    gains: np.ndarray
    variances: np.ndarray
    base: np.ndarray
    confidence: dict[str, Confidence]
    reasons: dict[str, str]
    nll: float

    @property
    def errors(self) -> np.ndarray:
        """Return the standard error (m,) of each candidate's mean gain, in nats.

        If samples may be copies, the errors are those of independent samples, since folds that keep near neighbours
        together judge the choice, too (`halobench.calibration.calibrators.auto`).
        """
        groups = Groups.single(len(self.gains)) if self.groups.kind == "copies" else self.groups
        return standard_errors(groups, self.gains, self.variances)

    def choice(self) -> str | None:
        """Return the candidate with the largest gain among candidates with an interval above 0; None if there is none.

        Candidates with gains within `SAME` of the largest count as equal, and the first of them is returned.
        """
        clear = [gain for gain in self.over_base() if gain.low > 0]
        return next((gain.name for gain in clear if gain.value > max(each.value for each in clear) - SAME), None)

    def over_base(self) -> tuple[Gain, ...]:
        """Return each candidate's gain over the base, or the reason why it has none."""
        tried = [Gain.of(*row) for row in zip(self.names, self.gains.mean(axis=0), self.errors, strict=True)]
        return (*tried, *(Gain(name, reason=reason) for name, reason in self.reasons.items()))

    def over_none(self) -> tuple[Gain, ...]:
        """Return the base's gain over uncalibrated logits, followed by each candidate's."""
        gains = np.column_stack([self.base[:, 0], self.base[:, :1] + self.gains])
        # Of a candidate's variance if uncalibrated logits were the truth, only the base's part is known.
        errors = standard_errors(self.groups, gains, np.column_stack([self.base[:, 1]] * gains.shape[1]))
        return tuple(Gain.of(*row) for row in zip((BASE, *self.names), gains.mean(axis=0), errors, strict=True))

    def of_choice(self, name: str) -> Gain:
        """Return the gain of `name`, whose interval is above 0, with the value reduced to correct for the choice."""
        raw = next(gain for gain in self.over_base() if gain.name == name)
        return dataclasses.replace(raw, value=raw.value - (raw.value - raw.low) ** 2 / raw.value)


def standard_errors(groups: Groups, gains: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return the standard errors (m,) of mean gains: observed or, if larger, as `variances` (n, m) imply."""
    with np.errstate(invalid="ignore"):  # a candidate that rules out a label has a gain of -inf
        observed = groups.squared_error(gains)
    # Labels of a group may depend on each other in any way; they then vary most if all are alike.
    expected = groups.factor * (groups.sums(np.sqrt(variances)) ** 2).sum(axis=0) / len(gains) ** 2
    return np.sqrt(np.maximum(observed, expected))


def cross_fitted(
    logits: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    seed: int,
    groups: Groups,
    fit_base: Callable[[np.ndarray, np.ndarray], float],
    reasons: Mapping[str, str],
    votes: np.ndarray | None = None,
    uncalibrated: np.ndarray | None = None,
) -> Trials:
    """Return the results of the base and the candidates on each fold, after fitting them to the other folds.

    `targets` are labels (n,), or rows (n, k), one-hot or shares of votes, times any weights; `votes` (n,) counts votes.
    `fit_base` fits the base's beta to logits and targets. `reasons` says why some candidates aren't tried.
    `uncalibrated` (n, k) are the logits without calibration, which may be -inf; by default, `logits`.
    """
    n = len(logits)
    drawn, weights = np.ones(n) if votes is None else votes, weights_of(targets)
    # Not stratified: folds with equal shares of each label would reveal its frequency on the held-out fold to the maps.
    fold = groups.folds(FOLDS, generator(seed, "auto", "folds"))
    reasons = dict(reasons)
    # For each sample: the gain, its variance, the confidence, and the probability that the prediction is right.
    results = {name: np.zeros((4, n)) for name in (BASE, *names) if name not in reasons}
    plain, start = np.empty(n), logits if uncalibrated is None else uncalibrated
    for number in range(FOLDS):
        log.info("fold %d of %d: fitting %s", number + 1, FOLDS, ", ".join([*results][1:]) or "the temperature")
        out = fold == number
        inside, held_out = (logits[~out], targets[~out]), (logits[out], targets[out])
        base = rescale(held_out[0], fit_base(*inside))
        plain[out] = cross_entropy(start[out], held_out[1])
        results[BASE][:, out] = _compared(rescale(start[out], 1.0), base, held_out[1])
        for name in [name for name in results if name != BASE]:
            try:
                scores = fit_checked(name, *inside, {}).logits(held_out[0], probabilities=False)
            except SpecError as error:
                reasons[name] = error.sentence
                del results[name]
                continue
            results[name][:, out] = _compared(base, scores, held_out[1])
    confidence = {name: Confidence.of(rows[2], rows[3], weights) for name, rows in results.items()}
    compared = np.stack([rows[:2] for rows in results.values()], axis=-1)  # (2, n, 1 + m)
    compared[1] *= (weights**2 / drawn)[:, None]
    gains, variances = compared[:, :, 1:]
    tried = tuple(results)[1:]
    return Trials(tried, groups, gains, variances, compared[:, :, 0].T, confidence, reasons, float(plain.mean()))


def _compared(base: np.ndarray, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return, for each sample: the gain of `scores` over `base`, its variance, the confidence, and the correctness."""
    gains = cross_entropy(base, targets) - cross_entropy(scores, targets)
    predicted, confidence = predictions(softmax(scores))
    return gains, variance(base, scores), confidence, correctness(predicted, targets)


def variance(base: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the variance (n,) of the gain of `scores` (n, k) over `base` (n, k) if labels are drawn from the base."""
    p = softmax(base)
    log_p, log_q = _log_softmax(base), _log_softmax(scores)
    ratio = np.where(p > 0, np.where(np.isfinite(log_q), log_q, -np.inf) - log_p, 0.0)
    with np.errstate(invalid="ignore"):
        mean = np.einsum("ij,ij->i", p, ratio)
        return np.einsum("ij,ij->i", p, (ratio - mean[:, None]) ** 2)


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted: Any = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
