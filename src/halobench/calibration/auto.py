"""Choose a calibrator by cross-fitting: the best candidate, or temperature scaling (TS) if none gains clearly.

The validation samples are randomly divided into `FOLDS` folds. On each fold, TS and the candidates are scored after
being fitted to the other folds, so each sample has an NLL under maps that haven't seen it. A candidate's gain is the
mean, over samples, of TS's NLL minus the candidate's. Its standard error is the larger of the observed one and the one
expected if TS were the truth, which accounts for rare labels that haven't been drawn yet. Among the candidates whose
gain exceeds `MARGIN` standard errors, the one with the largest gain is chosen and fitted to all samples. If there is
none, if its reported gain isn't positive, or if every prediction is right, TS is kept.

Choosing the largest gain doesn't bias the reported gain, which on each fold is that of the candidate that is best on
the other folds. Its 95% interval is 1.5 times as wide as for independent samples: Nadeau and Bengio's correction
accounts for folds whose maps share samples. The gain is for samples like the validation samples; a shift isn't
detected.

References
----------
M. Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions", JRSS B 1974. M. van der Laan, E. Polley,
A. Hubbard, "Super Learner", 2007: the choice of the best candidate by cross-validation. L. Breiman et al.,
"Classification and Regression Trees", 1984: a margin in standard errors. C. Nadeau, Y. Bengio, "Inference for the
Generalization Error", Machine Learning 52, 2003: the variance times 1 + 5 / 4 for five folds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from halobench.calibration.arrays import as_rows, check_labels, check_logits, check_unscaled, check_whole
from halobench.calibration.calibrator import Calibrator, fit_checked, scored
from halobench.calibration.rescaling import rescale, temper
from halobench.calibration.sample_scores import cross_entropy, softmax
from halobench.calibration.temperature_scaling import finite_beta
from halobench.core import plugins
from halobench.core.errors import SpecError, require
from halobench.core.seeding import generator

TS = "exact"  # its name in configurations
OWN = ("top_rest", "partner", "matrix")
LIBRARY = ("probmetrics/SMSCalibrator", "probmetrics/SVSCalibrator")

FOLDS = 5
FEWEST = 4 * FOLDS  # with fewer samples, TS is kept without a trial
MARGIN = 1.5  # in standard errors
WIDENING = math.sqrt(1 + FOLDS / (FOLDS - 1))  # factor by which intervals are widened
NORMAL = 1.96  # 95% of a normal distribution lies within this many standard deviations
# Candidates with a weight for each pair of classes take minutes beyond this number of samples times classes^2, and are
# then skipped.
WORK, BY_PAIR = 1e8, ("matrix", "probmetrics/SMSCalibrator")


@dataclass(frozen=True)
class Gain:
    """A gain over TS in nats per sample, with its 95% interval.

    Attributes
    ----------
    name : str
        The calibrator's name in configurations.
    value, low, high : float
        NaN if the calibrator wasn't tried.
    reason : str
        Why it wasn't tried or its fit failed.
    """

    name: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""


@dataclass(frozen=True, eq=False)
class AutoFit:
    """A calibrator that was chosen by cross-fitting.

    Attributes
    ----------
    chosen : str
        Its name in configurations; ``exact`` if TS is kept.
    gain : Gain
        Its gain over TS on samples like these, corrected for the choice; 0 if TS is kept.
    candidates : tuple of Gain
        The out-of-fold gain of each candidate, for comparing candidates; each interval is for that candidate alone.
    reason : str
        Why TS is kept, if it is.
    calibrator : Calibrator
        The chosen calibrator, fitted to all samples.
    classes : int
        The number of classes.
    """

    chosen: str
    gain: Gain
    candidates: tuple[Gain, ...]
    reason: str
    calibrator: Calibrator
    classes: int

    def predict_proba(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (n, k), float64, for logits (n, k), which may be -inf if TS is kept."""
        logits, transform = check_logits(as_rows(logits), masked=self.chosen == TS), self.calibrator.transform
        assert transform is not None
        width = logits.shape[1]
        require(width == self.classes, "logits", f"{width} columns", f"{self.classes}, one for each class in the fit")
        return softmax(transform(logits))


def default_candidates() -> tuple[str, ...]:
    """Return the names of the package's own candidates, and of those from probmetrics if it is installed."""
    try:
        plugins.check_installed([("calibrators", name) for name in LIBRARY])
    except SpecError:
        return OWN
    return OWN + LIBRARY


def fit_auto(
    logits: np.ndarray, labels: np.ndarray, *, candidates: Sequence[str] | None = None, seed: int = 0
) -> AutoFit:
    """Choose between temperature scaling and richer calibrators by cross-fitting, and fit the chosen one.

    Parameters
    ----------
    logits : (n, k) array
        Finite.
    labels : (n,) integers
        In [0, k). Samples must be independent draws, since copies of a sample in several folds favour rich maps.
    candidates : sequence of str, optional
        Names of calibrators in configurations; by default ``top_rest``, ``partner``, ``matrix`` and, if probmetrics is
        installed, its ``SMSCalibrator`` and ``SVSCalibrator``.
    seed : int
        Determines the folds.

    Raises
    ------
    SpecError
        If probabilities are passed instead of logits; logits are not finite or not (n, k) with n >= 1 and k >= 2;
        labels have the wrong shape, type or range; or a candidate doesn't exist or isn't installed.

    Examples
    --------
    A third of the samples predicted as class 0 belong to class 1, which no temperature can account for:

    >>> z = np.repeat([[5.0, 0.0, 0.0], [0.0, 0.0, 5.0]], 300, axis=0)
    >>> fit = fit_auto(z, np.r_[np.tile([0, 0, 1], 100), np.full(300, 2)], candidates=("top_rest", "partner"))
    >>> fit.chosen, fit.gain.low > 0.1
    ('partner', True)
    """
    logits = check_logits(as_rows(logits))
    check_unscaled(logits)
    labels = check_labels(as_rows(labels), logits.shape)
    check_whole("seed", seed, 0)
    names = default_candidates() if candidates is None else check_candidates(candidates)
    return fit_auto_checked(logits.astype(np.float64, copy=False), labels, names, seed, WORK)


def check_candidates(candidates: Sequence[str]) -> tuple[str, ...]:
    """Return the names of candidates; raise SpecError unless all exist, are installed and differ."""
    names = (candidates,) if isinstance(candidates, str) else tuple(candidates)
    for name in names:
        plugins.check_known("calibrators", "candidates", name, ())
        require(name != "auto", "candidates", name, "another calibrator than the one that chooses")
    require(len(set(names)) == len(names), "candidates", list(names), "different names")
    plugins.check_installed([("calibrators", name) for name in names])
    return names


def fit_auto_checked(
    logits: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int = 0, work: float = WORK
) -> AutoFit:
    """Choose and fit a calibrator as `fit_auto` does; float64 logits and labels must already have been checked."""
    if not names:
        return kept(logits, labels, names, "no candidate was given")
    if len(labels) < FEWEST:
        return kept(logits, labels, names, f"there are fewer than {FEWEST} samples")
    if (logits.argmax(axis=1) == labels).all():
        return kept(logits, labels, names, "every prediction is right, so there are no errors to learn from")
    trials = _cross_fitted(logits, labels, names, seed, work)
    name, candidates = trials.choice(), trials.by_candidate()
    gain = trials.of_choice(name) if name else None
    if not (name and gain and gain.value > 0):  # the best candidate on some folds may lose on others
        reason = "no candidate gains clearly" if trials.names else "no candidate could be tried"
        return kept(logits, labels, candidates, reason)
    fitted = fit_checked(name, logits, labels, {})
    if fitted.transform is None:
        return kept(logits, labels, candidates, f"the fit of {name} to all samples failed: {fitted.reason}")
    return AutoFit(name, gain, candidates, "", fitted, logits.shape[1])


def kept(logits: np.ndarray, labels: np.ndarray, candidates: Sequence[str | Gain], reason: str) -> AutoFit:
    """Return TS as the choice; candidates that are only names weren't tried, for the given reason."""
    gains = tuple(each if isinstance(each, Gain) else Gain(each, reason=reason) for each in candidates)
    beta = finite_beta(logits, labels)
    ts = scored(lambda z: temper(z, beta), logits, labels)
    return AutoFit(TS, Gain(TS, 0.0, 0.0, 0.0), gains, reason, ts, logits.shape[1])


class _Trials(NamedTuple):
    """Out-of-fold results of the candidates `names`, which were fitted on all folds; `reasons` says why others failed.

    `gains` and `variances`, (n, m), hold each sample's gain, and its variance if TS were the truth.
    """

    names: tuple[str, ...]
    fold: np.ndarray
    gains: np.ndarray
    variances: np.ndarray
    reasons: dict[str, str]

    @property
    def errors(self) -> np.ndarray:
        """The standard error (m,) of each candidate's mean gain."""
        observed = self.gains.var(axis=0, ddof=1)
        return np.sqrt(np.maximum(observed, self.variances.mean(axis=0)) / len(self.fold))

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
        """Return, as the gain of `name`, the gain on each fold of the candidate that is best on the other folds."""
        values = np.empty(len(self.fold))
        for out in (self.fold == number for number in range(FOLDS)):
            values[out] = self.gains[out, self.gains[~out].mean(axis=0).argmax()]
        error = max(float(values.std(ddof=1)) / math.sqrt(len(values)), float(self.errors[self.names.index(name)]))
        return _interval(name, float(values.mean()), error)


def _cross_fitted(logits: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int, work: float) -> _Trials:
    """For each fold, fit all candidates to the other folds and score them on it."""
    n, k = logits.shape
    # Not stratified: folds with equal shares of each label would reveal its frequency on the held-out fold to the maps.
    fold = generator(seed, "auto", "folds").permutation(n) % FOLDS
    slow = [name for name in names if name in BY_PAIR and n * k**2 > work]
    reasons = {name: f"too slow for {k} classes and {n} samples" for name in slow}
    gains = {name: np.empty((2, n)) for name in names if name not in reasons}  # and their variances
    for out in (fold == number for number in range(FOLDS)):
        inside, held_out = (logits[~out], labels[~out]), logits[out]
        ts = rescale(held_out, finite_beta(*inside))
        p, loss = softmax(ts), cross_entropy(ts, labels[out])
        ts -= np.log(np.exp(ts).sum(axis=1, keepdims=True))
        for name in list(gains):
            try:
                scores = fit_checked(name, *inside, {}).logits(held_out)
            except SpecError as error:
                reasons[name] = str(error.value)
                del gains[name]
                continue
            gains[name][:, out] = loss - cross_entropy(scores, labels[out]), _variance(p, ts, scores)
    by_sample, variances = np.stack(list(gains.values()), axis=-1) if gains else np.empty((2, n, 0))
    return _Trials(tuple(gains), fold, by_sample, variances, reasons)


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
