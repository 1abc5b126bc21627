"""Choose a calibrator by cross-fitting: the best candidate, or temperature scaling (TS) if none gains clearly.

The validation samples are randomly divided into `FOLDS` folds; groups of samples that belong together stay in one fold.
On each fold, TS and the candidates are scored after being fitted to the other folds, so each sample has an NLL under
maps that weren't fitted to it. A candidate's gain is the mean, over samples, of TS's NLL minus the candidate's. The
gain's standard error, over groups, is either the observed one or, if larger, the one expected if TS were the truth. The
expected standard error accounts for rare labels that haven't been drawn yet. Among the candidates whose gain exceeds
`MARGIN` standard errors, the one with the largest gain is chosen and fitted to all samples. TS is kept if no candidate
passes this gate, or if every prediction is right. TS is also kept if a class has no label although some are expected,
since other maps could rule that class out.

The measured gain of a candidate that has passed the gate is larger than its true gain on average. The reported gain is
therefore reduced by the non-negative garrote: from g to g - c^2 / g if the gate is at c. The reported gain is thus 0 at
the gate, and hardly reduced far above the gate. The lower end of the gain's 95% interval is reduced in the same way.
The interval's upper end isn't reduced, since the gate hardly affects large gains. Standard errors are multiplied by
1.5: Nadeau and Bengio's correction accounts for folds whose maps share samples. The gain is for samples like the
validation samples; a shift of the distribution isn't detected. `benchmarks/auto_gain.py` compares reported and true
gains.

References
----------
M. Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions", JRSS B 1974. M. van der Laan, E. Polley,
A. Hubbard, "Super Learner", 2007: the choice of the best candidate by cross-validation. L. Breiman et al.,
"Classification and Regression Trees", 1984: a margin in standard errors. L. Breiman, "Better Subset Regression Using
the Nonnegative Garrote", Technometrics 37, 1995; H.-Y. Gao, "Wavelet Shrinkage Denoising Using the Non-Negative
Garrote", Journal of Computational and Graphical Statistics 7, 1998: the reduction of an estimate that passed a
threshold. C. Nadeau, Y. Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003: the variance times
1 + 5 / 4 for five folds.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from halobench.calibration.arrays import as_rows, check_labels, check_logits, check_unscaled, check_whole
from halobench.calibration.calibrator import Calibrator, fit_checked, scored
from halobench.calibration.logit_tables import numbered
from halobench.calibration.metrics import ece
from halobench.calibration.repair.copies import find_copies
from halobench.calibration.repair.groups import Groups, check_groups
from halobench.calibration.saved import Savable, savable
from halobench.calibration.scores.sample_scores import correctness, cross_entropy, predictions, softmax
from halobench.calibration.temperature.rescaling import rescale, temper
from halobench.calibration.temperature.temperature_scaling import Tempering, finite_beta
from halobench.core import plugins
from halobench.core.errors import SpecError, refuse, require
from halobench.core.seeding import generator

log = logging.getLogger(__name__)

TS = "exact"  # its name in configurations
OWN = ("top_rest", "partner", "matrix")
LIBRARY = ("probmetrics/SMSCalibrator", "probmetrics/SVSCalibrator")

FOLDS = 5
FEWEST = 4 * FOLDS  # with fewer samples or groups, TS is kept without a trial
MARGIN = 1.5  # in standard errors
WIDENING = math.sqrt(1 + FOLDS / (FOLDS - 1))  # factor by which intervals are widened
NORMAL = 1.96  # 95% of a normal distribution lies within this many standard deviations
# Candidates with a weight for each pair of classes take minutes beyond this number of samples times classes^2, and are
# then skipped.
WORK, BY_PAIR = 1e8, ("matrix", "probmetrics/SMSCalibrator")
LARGEST = 4_000_000  # candidates are compared on at most about this number of logits, and the chosen one fitted to all
# A class without labels is missing rather than rare if every other class has at least `PLENTY` labels, or if the
# probability of drawing none is below `UNLIKELY` according to TS, after Bonferroni's correction.
PLENTY, UNLIKELY = 5, 0.01


@savable("gain")
@dataclass(frozen=True)
class Gain:
    """A gain over TS in nats per sample, with its 95% interval.

    Attributes
    ----------
    name : str
        The calibrator's name in configurations.
    value, low, high : float
        The gain and the ends of its interval, which isn't a bound; negative if the calibrator is worse than TS, and NaN
        if it wasn't tried.
    reason : str
        Why the calibrator wasn't tried, or why its fit failed.
    """

    name: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""


@savable("confidence")
@dataclass(frozen=True)
class Confidence:
    """The mean confidence, accuracy and ECE of a calibrator on samples out of fold, each in [0, 1].

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
    def of(cls, confidence: np.ndarray, correct: np.ndarray) -> Confidence:
        """Compute the three numbers from confidences (n,) and `correct` (n,), which marks the right predictions."""
        return cls(float(confidence.mean()), float(correct.mean()), ece.score(confidence, correct))


@savable("auto")
@dataclass(frozen=True, eq=False)
class AutoFit(Savable):
    """A calibrator that was chosen by cross-fitting.

    Attributes
    ----------
    chosen : str
        The calibrator's name in configurations; ``exact`` if TS is kept.
    gain : Gain
        The calibrator's gain over TS on samples like the validation samples, reduced to correct for the choice; 0 if TS
        is kept.
    candidates : tuple of Gain
        The out-of-fold gain of each candidate, before the reduction for the choice, for comparing candidates.
    reason : str
        Why TS is kept; "" if another calibrator is chosen.
    confidence : dict of str to Confidence
        Confidence and accuracy of TS (``exact``) and of the chosen calibrator, out of fold; empty if TS is kept.
    groups : Groups
        The groups of samples that were kept in one fold: those passed, or copies that were found.
    calibrator : Calibrator
        The chosen calibrator, fitted to all samples.
    classes : int
        The number of classes.
    compared : int
        The number of samples, drawn at random if there are too many, on which the candidates were compared.
    """

    chosen: str
    gain: Gain
    candidates: tuple[Gain, ...]
    reason: str
    confidence: dict[str, Confidence]
    groups: Groups
    calibrator: Calibrator
    classes: int
    compared: int = 0

    def fit(self, logits: np.ndarray, labels: np.ndarray) -> AutoFit:
        """Choose among the same candidates for other samples, as `fit_auto` does."""
        candidates, names = [candidate.name for candidate in self.candidates], self.calibrator.names or None
        return fit_auto(logits, labels, names=names, candidates=candidates)

    def libraries(self) -> list[str]:
        """List the Python packages, except numpy, that determine the map."""
        return self.calibrator.libraries()


def default_candidates() -> tuple[str, ...]:
    """Return the names of the package's own candidates, and of those from probmetrics if it is installed."""
    try:
        plugins.check_installed([("calibrators", name) for name in LIBRARY])
    except SpecError:
        return OWN
    return OWN + LIBRARY


def fit_auto(
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    groups: Any = None,
    names: Sequence[str] | None = None,
    candidates: Sequence[str] | None = None,
    seed: int = 0,
) -> AutoFit:
    """Choose between temperature scaling and richer calibrators by cross-fitting, and fit the chosen one.

    Parameters
    ----------
    logits : (n, k) array
        Finite.
    labels : (n,) integers or str
        In [0, k), or names of classes, as in `halobench.diagnose`.
    names : list or array of str, optional
        Names of the classes, in the order of the columns.
    groups : (n,) numbers or names, optional
        Equal for samples that belong together, such as versions of one image or images of one patient. Without groups,
        samples must be independent draws; copies among them are found by `halobench.calibration.repair.copies`, and
        grouped.
    candidates : sequence of str, optional
        Names of calibrators in configurations; by default ``top_rest``, ``partner``, ``matrix`` and, if probmetrics is
        installed, its ``SMSCalibrator`` and ``SVSCalibrator``.
    seed : int
        Determines the folds.

    Raises
    ------
    SpecError
        If probabilities are passed instead of logits; logits are not finite or not (n, k) with n >= 1 and k >= 2;
        labels or groups have the wrong shape, type or range; there is only one group; or a candidate doesn't exist or
        isn't installed.

    Examples
    --------
    A third of the samples predicted as class 0 belong to class 1, which no temperature can account for:

    >>> z = np.repeat([[5.0, 0.0, 0.0], [0.0, 0.0, 5.0]], 300, axis=0)
    >>> fit = fit_auto(z, np.r_[np.tile([0, 0, 1], 100), np.full(300, 2)], candidates=("top_rest", "partner"))
    >>> fit.chosen, fit.gain.low > 0
    ('partner', True)
    """
    logits = check_logits(as_rows(logits))
    check_unscaled(logits)
    labels, classes = numbered(labels, names, logits.shape[1], "labels")
    labels = check_labels(as_rows(labels), logits.shape)
    check_whole("seed", seed, 0)
    tried = default_candidates() if candidates is None else check_candidates(candidates)
    together = None if groups is None else check_groups(groups, len(labels))
    logits = logits.astype(np.float64, copy=False)
    fitted = fit_auto_checked(logits, labels, tried, seed, WORK, grouped(logits, labels, together), classes)
    named = dataclasses.replace(fitted.calibrator, names=tuple(map(str, () if classes is None else classes)))
    return dataclasses.replace(fitted, calibrator=named)


def grouped(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None) -> Groups:
    """Return the groups (n,) that were given, or else the copies among samples with finite logits (n, k)."""
    if groups is not None:
        return Groups(groups, "given")
    found = find_copies(logits, labels)
    return Groups(np.arange(len(labels)), "") if found is None else Groups(found, "copies")


def check_candidates(candidates: Sequence[str]) -> tuple[str, ...]:
    """Return the names of candidates; raise SpecError unless all exist, are installed and differ."""
    names = (candidates,) if isinstance(candidates, str) else tuple(candidates)
    for name in names:
        plugins.check_known("calibrators", "candidates", name, ())
        refuse(name == "auto", "candidates", "auto chooses among the candidates, so it can't be one of them")
    require(len(set(names)) == len(names), "candidates", list(names), "each name only once")
    plugins.check_installed([("calibrators", name) for name in names])
    return names


def fit_auto_checked(
    logits: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    seed: int = 0,
    work: float = WORK,
    groups: Groups | None = None,
    classes: Sequence[str] | None = None,
) -> AutoFit:
    """Choose and fit a calibrator as `fit_auto` does; float64 logits and labels must already have been checked.

    By default, groups are the copies that are found, and the names of the `classes` are their numbers.
    """
    groups = grouped(logits, labels, None) if groups is None else groups
    if not names:
        return kept(logits, labels, names, "no candidate was given", groups)
    if groups.count < FEWEST:
        return kept(logits, labels, names, f"there are fewer than {FEWEST} {groups.noun}", groups)
    if (logits.argmax(axis=1) == labels).all():
        return kept(logits, labels, names, "every prediction is right, so there are no errors to learn from", groups)
    if missing := missing_classes(logits, labels):
        which = listed([str(j) if classes is None else classes[j] for j in missing])
        reason = f"no label is of {which}, and a map that is fitted without such labels can rule them out"
        return kept(logits, labels, names, reason, groups)
    some = _some(logits, groups, seed)
    trials = _cross_fitted(logits[some], labels[some], names, seed, work, groups.numbered(some))
    name, candidates = trials.choice(), trials.by_candidate()
    if name is None:
        reason = "no candidate gains clearly" if trials.names else "no candidate could be tried"
        return dataclasses.replace(kept(logits, labels, candidates, reason, groups), compared=len(some))
    log.info("fitting %s to all samples", name)
    fitted = fit_checked(name, logits, labels, {})
    if fitted.transform is None:
        reason = f"the fit of {name} to all samples failed: {fitted.reason}"
        return kept(logits, labels, candidates, reason, groups)
    confidence = {each: trials.confidence[each] for each in (TS, name)}
    gain, k = trials.of_choice(name), logits.shape[1]
    return AutoFit(name, gain, candidates, "", confidence, groups, fitted, k, len(some))


def _some(logits: np.ndarray, groups: Groups, seed: int) -> np.ndarray:
    """Return the samples on which candidates are compared: all or, of very many logits, whole groups at random."""
    n, k = logits.shape
    if n * k <= LARGEST:
        return np.arange(n)
    order = generator(seed, "auto", "samples").permutation(groups.count)
    return np.flatnonzero(np.isin(groups.of, order[: math.ceil(groups.count * LARGEST / (n * k))]))


def missing_classes(logits: np.ndarray, labels: np.ndarray) -> list[int]:
    """Return the classes without a label that aren't just rare: TS expects labels of them, or others have many."""
    counts = np.bincount(labels, minlength=logits.shape[1])
    absent = counts == 0
    if not absent.any():
        return []
    p = softmax(temper(logits, finite_beta(logits, labels)))
    with np.errstate(divide="ignore"):
        none_drawn = np.log1p(-p[:, absent]).sum(axis=0)
    plenty = (counts[~absent].min() >= PLENTY) & (
        p[:, absent].sum(axis=0) > UNLIKELY
    )  # not an output that is never used
    return np.flatnonzero(absent)[plenty | (none_drawn < math.log(UNLIKELY / len(counts)))].tolist()


def listed(names: Sequence[str]) -> str:
    """Name at most three classes; "" if there are none."""
    if len(names) > 3:
        return f"{len(names)} of the classes"
    return " ".join(["class" if len(names) == 1 else "the classes", " and ".join(names)]) if names else ""


def kept(
    logits: np.ndarray, labels: np.ndarray, candidates: Sequence[str | Gain], reason: str, groups: Groups
) -> AutoFit:
    """Return TS as the choice, for `reason`, which is also why candidates passed only as names weren't tried."""
    gains = tuple(each if isinstance(each, Gain) else Gain(each, reason=reason) for each in candidates)
    beta = finite_beta(logits, labels)
    n, k = logits.shape
    ts = scored(Tempering(beta), logits, labels)
    ts = dataclasses.replace(ts, T=1 / beta if beta else math.inf, beta=beta, name=TS, classes=k, samples=n)
    return AutoFit(TS, Gain(TS, 0.0, 0.0, 0.0), gains, reason, {}, groups, ts, k)


class _Trials(NamedTuple):
    """Out-of-fold results of the candidates `names`, which were fitted on all folds; `reasons` says why others failed.

    `gains` and `variances`, (n, m), hold each sample's gain, and its variance if TS were the truth. `confidence` has
    the `Confidence` of TS and of each candidate.
    """

    names: tuple[str, ...]
    groups: Groups
    gains: np.ndarray
    variances: np.ndarray
    confidence: dict[str, Confidence]
    reasons: dict[str, str]

    @property
    def errors(self) -> np.ndarray:
        """The standard error (m,) of each candidate's mean gain."""
        with np.errstate(invalid="ignore"):  # a candidate that rules out a label has a gain of -inf
            observed = self.groups.squared_error(self.gains)
        # Labels of a group may depend on each other in any way; they then vary most if all are alike.
        expected = (self.groups.sums(np.sqrt(self.variances)) ** 2).sum(axis=0) / len(self.gains) ** 2
        return np.sqrt(np.maximum(observed, expected))

    def choice(self) -> str | None:
        """Return the candidate with the largest gain among those with a clear gain, or None if there is none."""
        means = self.gains.mean(axis=0)
        clear = np.flatnonzero(means > MARGIN * self.errors)
        return self.names[clear[means[clear].argmax()]] if len(clear) else None

    def by_candidate(self) -> tuple[Gain, ...]:
        """Return each candidate's gain, or the reason why it failed."""
        tried = [_interval(*row) for row in zip(self.names, self.gains.mean(axis=0), self.errors, strict=True)]
        return (*tried, *(Gain(name, reason=reason) for name, reason in self.reasons.items()))

    def of_choice(self, name: str) -> Gain:
        """Return the gain of `name`, with its value and lower end reduced since it has passed the gate."""
        place = self.names.index(name)
        raw, error = self.by_candidate()[place], float(self.errors[place])
        reduced = _interval(name, raw.value - (MARGIN * error) ** 2 / raw.value, error)
        return dataclasses.replace(reduced, high=raw.high)


def _cross_fitted(
    logits: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int, work: float, groups: Groups
) -> _Trials:
    """Fit all candidates to all folds but one, and score them on that fold, for each fold in turn."""
    n, k = logits.shape
    # Not stratified: folds with equal shares of each label would reveal its frequency on the held-out fold to the maps.
    fold = groups.folds(FOLDS, generator(seed, "auto", "folds"))
    slow = [name for name in names if name in BY_PAIR and n * k**2 > work]
    reasons = {name: f"too slow for {k} classes and {n} samples" for name in slow}
    # For each sample: the gain, its variance, the confidence, and whether the prediction is right.
    results = {name: np.zeros((4, n)) for name in (TS, *names) if name not in reasons}
    for number in range(FOLDS):
        log.info("fold %d of %d: fitting %s", number + 1, FOLDS, ", ".join(results))
        out = fold == number
        inside, held_out = (logits[~out], labels[~out]), logits[out]
        ts = rescale(held_out, finite_beta(*inside))
        p, loss = softmax(ts), cross_entropy(ts, labels[out])
        ts -= np.log(np.exp(ts).sum(axis=1, keepdims=True))
        results[TS][2:, out] = _confidence(ts, labels[out])
        for name in [name for name in results if name != TS]:
            try:
                scores = fit_checked(name, *inside, {}).logits(held_out, probabilities=False)
            except SpecError as error:
                reasons[name] = error.sentence
                del results[name]
                continue
            gains = loss - cross_entropy(scores, labels[out])
            results[name][:, out] = gains, _variance(p, ts, scores), *_confidence(scores, labels[out])
    confidence = {name: Confidence.of(*rows[2:]) for name, rows in results.items()}
    del results[TS]
    gains, variances, *_ = np.stack(list(results.values()), axis=-1) if results else np.empty((4, n, 0))
    return _Trials(tuple(results), groups, gains, variances, confidence, reasons)


def _confidence(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence (n,) in each prediction, and whether it is right."""
    predicted, confidence = predictions(softmax(scores))
    return confidence, correctness(predicted, labels)


def _interval(name: str, mean: float, error: float) -> Gain:
    half = NORMAL * WIDENING * float(error)
    return Gain(name, float(mean), float(mean) - half, float(mean) + half)


def _variance(p: np.ndarray, log_p: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the variance (n,) of the gain of `scores` (n, k) over TS if labels are drawn from TS's p (n, k)."""
    highest = scores.max(axis=1, keepdims=True)
    log_q = scores - highest - np.log(np.exp(scores - highest).sum(axis=1, keepdims=True))
    ratio = np.where(p > 0, np.where(np.isfinite(log_q), log_q, -np.inf) - log_p, 0.0)
    with np.errstate(invalid="ignore"):
        mean = np.einsum("ij,ij->i", p, ratio)
        return np.einsum("ij,ij->i", p, (ratio - mean[:, None]) ** 2)
