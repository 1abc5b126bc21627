"""Choose a calibrator by cross-fitting: the best candidate if it clearly gains, else a temperature or no calibration.

Unless a candidate clearly gains, the choice is a temperature that is shrunk towards 1 to the extent that the samples
leave open whether 1 is right (`halobench.calibration.calibrators.shrunk`). The choice is called ``none`` if this
temperature is 1, ``exact`` if it is the optimum of temperature scaling (TS), and ``shrunk`` otherwise.

The validation samples are randomly divided into five folds; groups of samples that belong together stay in one fold. On
each fold, the shrunk temperature and the candidates are scored after being fitted to the other folds
(`halobench.calibration.repair.trials`), but the strength of the shrinkage is always fitted to all samples. Among the
candidates whose gain over the temperature has a 95% interval above 0, the one with the largest gain is chosen and
fitted to all samples. Gains within .005 nats of the largest count as equal to it; the candidate named first is then
chosen.

No candidate is chosen if there are fewer than 20 samples or groups, or if every prediction is right. Nor is one chosen
if a class has no labels although TS expects several, since other maps could rule the class out. The temperature is also
kept if successive samples seem to belong together although no groups were passed
(`halobench.calibration.repair.dependence`), since folds then leak. If samples seem to be copies, the candidate must
keep more than half of its gain if small groups of near neighbours stay in one fold. If the columns seem to be in
another order than the labels' classes
(`halobench.calibration.repair.columns`), only a temperature is fitted, which moves no prediction.

The measured gain of a candidate that was chosen for its gain is larger than its true gain on average. The reported gain
is therefore reduced by the non-negative garrote: from g to g - c^2 / g, where c is the least gain at which a candidate
is chosen. The reported gain is thus 0 at g = c, and hardly reduced if g is far above c. The gain is for samples from
the same distribution as the validation samples. `studies/harm` compares reported and true gains.

References
----------
M. Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions", JRSS B 1974. M. van der Laan, E. Polley,
A. Hubbard, "Super Learner", 2007: the choice of the best candidate by cross-validation. L. Breiman et al.,
"Classification and Regression Trees", 1984: a margin in standard errors. L. Breiman, "Better Subset Regression Using
the Nonnegative Garrote", Technometrics 37, 1995; H.-Y. Gao, "Wavelet Shrinkage Denoising Using the Non-Negative
Garrote", Journal of Computational and Graphical Statistics 7, 1998: the reduction of an estimate that passed a
threshold.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Candidates are found by name; these imports only make their code part of this calibrator's code version.
from halobench.calibration.adaptors import netcal, probmetrics  # noqa: F401
from halobench.calibration.arrays import (
    as_rows,
    check_labels_or_votes,
    check_logits,
    check_unscaled,
    check_whole,
    weighted,
    weights_of,
)
from halobench.calibration.calibrator import NONE, Calibrator, fit_checked, scored, takes_votes
from halobench.calibration.calibrators import matrix, partner, top_rest  # noqa: F401
from halobench.calibration.calibrators.exact import Tempering
from halobench.calibration.calibrators.shrunk import ShrunkFit, fit_shrunk
from halobench.calibration.logit_tables import aligned, check_names, named_columns, numbered
from halobench.calibration.repair.columns import Mismatch, find_mismatch
from halobench.calibration.repair.dependence import find_dependence, near_groups
from halobench.calibration.repair.groups import Groups, check_groups
from halobench.calibration.repair.trials import BASE, FOLDS, Confidence, Gain, Trials, cross_fitted
from halobench.calibration.saved import Savable, savable
from halobench.calibration.scores.sample_scores import correctness, mass_of, softmax
from halobench.calibration.temperature.rescaling import temper
from halobench.calibration.temperature.search import finite_beta
from halobench.core import plugins
from halobench.core.errors import SpecError, one_of, refuse, require
from halobench.core.seeding import generator

TITLE = "auto"
ABOUT = "the calibrator that cross-fitting on validation samples chooses, or a shrunk temperature if none gains clearly"
SOURCE = (
    "halobench, based on L. Breiman et al., *Classification and Regression Trees*, 1984, and on M. van der Laan, E. "
    "Polley and A. Hubbard, *Super Learner*, 2007"
)
ORDER = 20
STYLE = ("#1F4E9E", "P")

LIBRARIES = ("scipy",)

log = logging.getLogger(__name__)

TS, SHRUNK = "exact", "shrunk"  # names in configurations
TEMPERATURES = (NONE, TS, SHRUNK)  # what is used unless a candidate gains
OWN = ("top_rest", "partner", "matrix")
LIBRARY = ("probmetrics/SVSCalibrator", "probmetrics/SMSCalibrator")

DEPENDENT = {  # how samples without groups seem to depend on each other
    "copies": "samples seem to be copies, or the network is used on other data, and no groups were passed",
    "order": "successive samples seem to belong together, and no groups were passed",
}
MOVED = (
    "the columns seem to be in another order than the labels, or inputs are mirrored, inverted or prepared otherwise"
)
FEWEST = 4 * FOLDS  # with fewer samples or groups, nothing is tried
# Candidates with a weight for each pair of classes take minutes beyond this number of samples times classes^2, and are
# then skipped.
WORK, BY_PAIR = 1e8, ("matrix", "probmetrics/SMSCalibrator")
KEPT = 0.5  # the share of its gain that a candidate must keep if near neighbours stay in one fold
REPEATED = 0.1  # the share of equal rows in different groups from which groups contradict copies
LARGEST = 4_000_000  # candidates are compared on at most about this number of logits, and the chosen one fitted to all
MISSED = 0.05  # the largest chance of no label at which a class counts as missing, after Bonferroni's correction


@savable("auto")
@dataclass(frozen=True, eq=False)
class AutoFit(Savable):
    """A calibrator that was chosen by cross-fitting.

    Attributes
    ----------
    chosen : str
        The calibrator's name in configurations: a candidate's, or ``none``, ``shrunk`` or ``exact`` for a temperature
        that is 1, shrunk towards 1, or TS's.
    gain : Gain
        The gain of the chosen candidate over the temperature on samples like the validation samples, reduced to correct
        for the choice; 0 if no candidate is chosen.
    temperature : ShrunkFit
        The temperature, fitted to all samples.
    temperature_gain : Gain
        The temperature's out-of-fold gain over T = 1; NaN without cross-fitting, e.g. if there are too few samples.
    candidates : tuple of Gain
        The out-of-fold gain of each candidate over the temperature, before the reduction for the choice.
    over_none : tuple of Gain
        The out-of-fold gain of each candidate whose fits succeeded over uncalibrated logits, in the order of
        `candidates`.
    nll : float
        NLL of the uncalibrated logits on the samples used for cross-fitting; NaN without cross-fitting.
    reason : str
        Why no candidate is chosen; "" if a candidate is chosen.
    confidence : dict of str to Confidence
        Out-of-fold confidence, accuracy and ECE of the temperature (``base``) and of the chosen candidate; empty if no
        candidate is chosen.
    groups : Groups
        The groups of samples, each kept in one fold, or how samples without groups depend on each other.
    mismatch : tuple of Mismatch
        Columns that seem to belong to other classes.
    calibrator : Calibrator
        The chosen calibrator, fitted to all samples.
    classes : int
        The number of classes.
    compared : int
        The number of samples, drawn at random if there are too many, on which candidates were compared.
    near : Gain or None
        If samples seem to be copies: the candidate that would be chosen if they were independent draws, with its gain
        over the temperature if near neighbours stay in one fold; None if no candidate would be.
    """

    chosen: str
    gain: Gain
    temperature: ShrunkFit
    temperature_gain: Gain
    candidates: tuple[Gain, ...]
    over_none: tuple[Gain, ...]
    nll: float
    reason: str
    confidence: dict[str, Confidence]
    groups: Groups
    mismatch: tuple[Mismatch, ...]
    calibrator: Calibrator
    classes: int
    compared: int = 0
    near: Gain | None = None

    @property
    def keeps_temperature(self) -> bool:
        """Return whether no candidate is chosen."""
        return self.chosen in TEMPERATURES

    def fit(self, logits: np.ndarray, labels: np.ndarray) -> AutoFit:
        """Choose among the same candidates for other samples, as `fit_auto` does."""
        candidates, names = [candidate.name for candidate in self.candidates], self.calibrator.names or None
        return fit_auto(logits, labels, names=names, candidates=candidates)

    def libraries(self) -> list[str]:
        """List the Python packages, except numpy, that determine the map."""
        return self.calibrator.libraries()


def fit(logits: np.ndarray, labels: np.ndarray, *, candidates: Sequence[str] = OWN) -> Calibrator:
    """Return the choice between a temperature and `candidates`, fitted to all samples.

    The default candidates don't depend on what is installed, unlike those of `halobench.fit_auto`.
    """
    return fit_auto_checked(logits, labels, check_candidates(candidates)).calibrator


def default_candidates() -> tuple[str, ...]:
    """Return the names of the package's own candidates, and of those from probmetrics if it is installed."""
    try:
        plugins.check_installed([("calibrators", name) for name in LIBRARY])
    except SpecError:
        return OWN
    return OWN + LIBRARY


def fit_auto(
    logits: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    votes: np.ndarray | None = None,
    groups: Any = None,
    names: Sequence[str] | None = None,
    candidates: Sequence[str] | None = None,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    independent: bool = False,
) -> AutoFit:
    """Choose between no calibration, a temperature and richer calibrators by cross-fitting, and fit the chosen one.

    Parameters
    ----------
    logits : (n, k) array
        Finite.
    labels : (n,) integers or str
        In [0, k), or names of classes, as in `halobench.diagnose`.
    votes : (n, k) array, optional
        In place of labels: how many labels of each class a sample has, for example from several annotators. Each sample
        counts once, whatever its number of votes; its votes are assumed to be independent draws.
    names : list or array of str, optional
        Names of the classes, in the order of the columns.
    groups : (n,) numbers or names, optional
        Equal for samples that belong together, such as versions of one image or images of one patient. Without groups,
        samples must be independent draws, and candidates must gain more if samples seem to depend on each other.
    candidates : sequence of str, optional
        Names of calibrators in configurations; by default ``top_rest``, ``partner``, ``matrix`` and, if probmetrics is
        installed, its ``SMSCalibrator`` and ``SVSCalibrator``.
    sample_weight : (n,) array, optional
        At least 0, and not all 0: for example, ratios of densities, to calibrate for another distribution of inputs.
        NLLs, gains and their errors are then those of the weighted mean. Candidates that only take labels are left out.
    seed : int
        Determines the folds and, with very many samples, the subset on which candidates are compared.
    independent : bool
        Whether samples are known to be independent draws, so that no dependence is suspected.

    Raises
    ------
    SpecError
        If probabilities are passed instead of logits; logits are not finite or not (n, k) with n >= 1 and k >= 2;
        labels, votes, groups or weights have the wrong shape, type or range; there is only one group, or samples in
        different groups seem to be copies; or a candidate doesn't exist or isn't installed.

    Examples
    --------
    A third of the samples predicted as class 0 belong to class 1, which no temperature can account for:

    >>> z = np.repeat([[5.0, 0.0, 0.0], [0.0, 0.0, 5.0]], 300, axis=0)
    >>> fit = fit_auto(z, np.r_[np.tile([0, 0, 1], 100), np.full(300, 2)], candidates=("top_rest", "partner"))
    >>> fit.chosen, fit.gain.low > 0
    ('partner', True)
    """
    votes, names = aligned(votes, logits), named_columns(logits, labels, names)
    logits = check_logits(as_rows(logits))
    check_unscaled(logits)
    check_names(names, logits.shape[1])
    labels, classes = (None, names) if labels is None else numbered(labels, names, logits.shape[1], "labels")
    labels = None if labels is None else as_rows(labels)
    targets, counts = check_labels_or_votes(labels, votes, logits.shape)
    check_whole("seed", seed, 0)
    tried = default_candidates() if candidates is None else check_candidates(candidates)
    together = None if groups is None else check_groups(groups, len(logits))
    kept, targets = weighted(targets, sample_weight, logits.shape[1])
    logits = logits[kept].astype(np.float64, copy=False)
    counts, together = (None if each is None else each[kept] for each in (counts, together))
    found = grouped(logits, targets, together, independent)
    fitted = fit_auto_checked(logits, targets, tried, seed, found, classes, counts)
    if fitted.mismatch:
        warnings.warn(f"{fitted.reason}; only a temperature is fitted", UserWarning, stacklevel=2)
    named = dataclasses.replace(fitted.calibrator, names=tuple(map(str, () if classes is None else classes)))
    return dataclasses.replace(fitted, calibrator=named)


def grouped(logits: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, independent: bool = False) -> Groups:
    """Return the given groups (n,) or, if there are none, how samples of finite logits (n, k) depend on each other.

    If samples are known to be `independent`, no dependence is suspected. SpecError is raised if there is only one
    group, if copies seem to be in different groups, or if `independent` samples have groups.
    """
    refuse(
        independent and groups is not None,
        "independent",
        "independent samples have no groups; leave one of the two out",
    )
    if independent:
        return Groups.single(len(logits))
    if groups is not None:
        given = Groups(np.unique(groups, return_inverse=True)[1], "given")
        refuse(
            given.count < 2, "groups", "all samples with a weight above 0 are in one group; pass at least two groups"
        )
        one_each = given.one_each(generator(0, "auto", "groups"))
        repeated = 1 - len(np.unique(logits[one_each], axis=0)) / len(one_each)
        if repeated > REPEATED and np.isfinite(logits).all():
            among = find_dependence(logits[one_each], targets[one_each])
            sentence = "samples in different groups seem to be copies of each other; put all copies into one group"
            refuse(among is not None and among.kind == "copies", "groups", sentence)
        return given
    found = find_dependence(logits, targets)
    return Groups.single(len(logits)) if found is None else Groups.single(len(logits), found.kind, found.factor)


def check_candidates(candidates: Sequence[str]) -> tuple[str, ...]:
    """Return the names of candidates; raise SpecError if one is unknown, not installed, repeated or ``auto``."""
    names = (candidates,) if isinstance(candidates, str) else tuple(candidates)
    for name in names:
        plugins.check_known("calibrators", "candidates", name, ())
        refuse(name == "auto", "candidates", "auto chooses among the candidates, so it can't be one of them")
    require(len(set(names)) == len(names), "candidates", list(names), "each name only once")
    plugins.check_installed([("calibrators", name) for name in names])
    return names


def check_calibrator(name: str) -> None:
    """Raise SpecError unless a calibrator exists, isn't ``auto``, and is installed."""
    known = [NONE, *(each for each in plugins.names("calibrators") if each != "auto")]
    outside = "/" in name or ":" in name
    require(outside or name in known, "calibrator", name, one_of(known, name))
    plugins.check_known("calibrators", "calibrator", name, (NONE,))
    plugins.check_installed([("calibrators", name)])


def fit_auto_checked(
    logits: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    seed: int = 0,
    groups: Groups | None = None,
    classes: Sequence[str] | None = None,
    votes: np.ndarray | None = None,
    uncalibrated: np.ndarray | None = None,
) -> AutoFit:
    """Choose and fit a calibrator as `fit_auto` does; float64 logits and targets must already have been checked.

    Targets are labels (n,), or rows (n, k) of shares of votes, multiplied by any weights; `votes` (n,) counts the
    votes. By default, groups are what `grouped` returns, and `classes` are named by their numbers. `uncalibrated` is
    that of `halobench.calibration.repair.trials.cross_fitted`.
    """
    groups = grouped(logits, targets, None) if groups is None else groups
    k = logits.shape[1]
    labels = mass_of(targets, k).argmax(axis=1)
    temperature = fit_shrunk(logits, targets, groups, votes)
    if mismatch := find_mismatch(logits.argmax(axis=1), labels, k):
        return _kept(logits, targets, temperature, groups, _untried(names, MOVED), MOVED, mismatch=mismatch)
    obstacle = _obstacle(logits, targets, names, groups, classes)
    if groups.count < FEWEST:
        return _kept(logits, targets, temperature, groups, _untried(names, obstacle), obstacle)
    some = _some(logits, groups, seed)
    slow = f"too slow for {k} classes and {len(some)} samples"
    reasons = {name: slow for name in names if name in BY_PAIR and len(some) * k**2 > WORK}
    if targets.ndim == 2:
        reasons |= {name: "it takes labels only, without votes or weights" for name in names if not takes_votes(name)}
    drawn = None if votes is None else votes[some]
    tried = () if obstacle else names

    def trials_of(names: Sequence[str], folds: Groups) -> Trials:
        own = None if uncalibrated is None else uncalibrated[some]
        return cross_fitted(logits[some], targets[some], names, seed, folds, temperature.refit, reasons, drawn, own)

    trials = trials_of(tried, groups.numbered(some))
    name, near = trials.choice(), None
    gains = _untried(names, obstacle) if obstacle else trials.over_base()
    if name is None:
        reason = obstacle or ("no candidate gains clearly" if trials.names else "no candidate could be tried")
        return _kept(logits, targets, temperature, groups, gains, reason, trials)
    if groups.kind == "copies":
        together = Groups(near_groups(logits[some], groups.factor), "given")
        near = next(g for g in trials_of((name,), together).over_base() if g.name == name)
        if not near.value > KEPT * next(gain.value for gain in gains if gain.name == name):
            reason = f"{name} doesn't keep half of its gain if near neighbours stay in one fold"
            return dataclasses.replace(_kept(logits, targets, temperature, groups, gains, reason, trials), near=near)
    log.info("fitting %s to all samples", name)
    fitted = fit_checked(name, logits, targets, {})
    if fitted.transform is None:
        reason = f"the fit of {name} to all samples failed: {fitted.reason}"
        return _kept(logits, targets, temperature, groups, gains, reason, trials)
    kept = _kept(logits, targets, temperature, groups, gains, "", trials)
    confidence = {each: trials.confidence[each] for each in (BASE, name)}
    gain = trials.of_choice(name)
    return dataclasses.replace(kept, near=near, chosen=name, gain=gain, confidence=confidence, calibrator=fitted)


def _obstacle(
    logits: np.ndarray, targets: np.ndarray, names: Sequence[str], groups: Groups, classes: Sequence[str] | None
) -> str:
    """Say why no candidate is tried; return "" if candidates are tried."""
    if not names:
        return "no candidate was given"
    if groups.kind == "order":
        return DEPENDENT[groups.kind]
    if groups.count < FEWEST:
        return f"there are fewer than {FEWEST} {groups.noun}"
    weights = weights_of(targets)
    if (weights != 1).any() and (count := effective(groups.sums(weights))) < FEWEST:
        return f"by their weights, {groups.noun} count as fewer than {FEWEST} (as {count:.2g})"
    if (correctness(logits.argmax(axis=1), targets) == weights).all():
        return "every prediction is right, so there are no errors to learn from"
    if missing := missing_classes(logits, targets):
        which = listed([str(j) if classes is None else classes[j] for j in missing])
        return f"no label is of {which}, and a map that is fitted without such labels can rule them out"
    return ""


def effective(weights: np.ndarray) -> float:
    """Return the number of equally weighted samples whose mean has the weighted mean's error (L. Kish, 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _untried(names: Sequence[str], reason: str) -> tuple[Gain, ...]:
    return tuple(Gain(name, reason=reason) for name in names)


def _some(logits: np.ndarray, groups: Groups, seed: int) -> np.ndarray:
    """Return the samples on which to compare candidates: all or, if there are very many logits, random whole groups."""
    n, k = logits.shape
    if n * k <= LARGEST:
        return np.arange(n)
    order = generator(seed, "auto", "samples").permutation(groups.numbers)
    return np.flatnonzero(np.isin(groups.of, order[: math.ceil(groups.numbers * LARGEST / (n * k))]))


def missing_classes(logits: np.ndarray, targets: np.ndarray) -> list[int]:
    """Return the classes that have no labels although TS expects so many that chance is an unlikely reason."""
    absent = mass_of(targets, logits.shape[1]).sum(axis=0) == 0
    if not absent.any():
        return []
    expected = softmax(temper(logits, finite_beta(logits, targets))).sum(axis=0)
    return np.flatnonzero(absent & (len(absent) * np.exp(-expected) < MISSED)).tolist()


def listed(names: Sequence[str]) -> str:
    """Name the classes or, if there are more than three, count them; return "" if there are none."""
    if len(names) > 3:
        return f"{len(names)} of the classes"
    return " ".join(["class" if len(names) == 1 else "the classes", " and ".join(names)]) if names else ""


def uncalibrated(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Return the calibrator that leaves probabilities as they are."""
    return _tempering(logits, targets, ShrunkFit(1.0, 1.0, 0.0))


def _tempering(logits: np.ndarray, targets: np.ndarray, temperature: ShrunkFit) -> Calibrator:
    exact = temperature.weight == 0 and temperature.z >= 0  # otherwise, labels are smoothed
    name = NONE if temperature.weight == 1 else TS if exact else SHRUNK
    (n, k), beta = logits.shape, temperature.beta
    fitted = scored(Tempering(beta), logits, targets)
    return dataclasses.replace(fitted, T=temperature.T, beta=beta, name=name, classes=k, samples=n)


def kept(
    logits: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    reason: str,
    groups: Groups,
    votes: np.ndarray | None = None,
) -> AutoFit:
    """Return the choice of a temperature, with the `reason` for choosing no candidate; logits may be -inf."""
    temperature = fit_shrunk(logits, targets, groups, votes)
    return _kept(logits, targets, temperature, groups, _untried(names, reason), reason)


def _kept(
    logits: np.ndarray,
    targets: np.ndarray,
    temperature: ShrunkFit,
    groups: Groups,
    gains: tuple[Gain, ...],
    reason: str,
    trials: Trials | None = None,
    mismatch: tuple[Mismatch, ...] = (),
) -> AutoFit:
    """Return the choice of the temperature, with the results of the trials if there were any."""
    fitted = _tempering(logits, targets, temperature)
    name = fitted.name
    base, *over_none = (Gain(name),) if trials is None else trials.over_none()
    return AutoFit(
        chosen=name,
        gain=Gain(name, 0.0, 0.0, 0.0),
        temperature=temperature,
        temperature_gain=dataclasses.replace(base, name=name),
        candidates=gains,
        over_none=tuple(over_none),
        nll=math.nan if trials is None else trials.nll,
        reason=reason,
        confidence={},
        groups=groups,
        mismatch=mismatch,
        calibrator=fitted,
        classes=logits.shape[1],
        compared=0 if trials is None else len(trials.gains),
    )
