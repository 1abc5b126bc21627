"""Fit partner scaling: temperature scaling that learns from validation samples which classes are confused.

Temperature scaling (TS) can adjust how likely a prediction is to be wrong, but must spread that probability over all
other classes as the logits do. From confusions among the validation samples, partner scaling learns which of these
classes are likely. Let a be the predicted class, u_j = beta (z_j - z_a) at TS's inverse temperature beta, and h = 2 gap
/ (gap + mean gap), where gap is the difference between the two largest logits. Then

    which other class:     P(j | not a) ~ exp(w0 u_j + (w1 + w2 h) L_aj),    L_aj = log(1 + (k - 1) R_aj / r)
    whether the top class: log P(a) / P(not a) = v0 t + v1 + v2 h + v3 m + c_a

R_aj counts validation samples with prediction a and label j, plus those with prediction j and label a if this symmetry
improves predictions; r is the strength of the uniform prior that smooths these counts. t is TS's log-odds of the top
class, and m is the mean of u_j under P(j | not a). With w = (1, 0, 0), v = (1, 0, 0, 0) and c = 0, partner scaling is
TS.

The likelihood has two factors, one for each formula. The negative log of each factor is convex in its parameters, and a
ridge towards TS makes the optimum finite and unique on any data, even separable data. The map is fitted in four steps:

1. beta is TS's inverse temperature or, on separable data, the best one for labels smoothed by 1 / (n + 1).
2. w minimises the summed NLL of the wrongly predicted samples under P(j | not a), plus RIDGE / 2 times the sum of
   (unit (w - TS's w))^2. The unit of w0 is beta times the logits' root mean square distance from the top one; the unit
   of w1 and w2 is COUNTS_UNIT. The counts used for a sample don't include the sample itself.
3. Step 2 is repeated for each r in PRIORS, with and without symmetry of R. The combination with the lowest value of
   this penalised leave-one-out objective is kept. No held-out data are used.
4. v and c minimise the NLL of whether the top class is right, with the same ridge on v and a ridge of strength
   CLASS_RIDGE on c. The unit of each entry of v is the root mean square of its feature. For the feature m, a sample's
   counts come from the other FOLDS - 1 folds; within each predicted class, samples are assigned to folds cyclically.

The gradient provably bounds how far each part is from its optimum (`halobench.calibration.repair.newton`). The
minimised leave-one-out NLL is at most that of TS if TS has an optimum. On other samples, the NLL may exceed that of TS.
If there are very many wrong predictions, r and the symmetry are chosen on a subset of them.

References
----------
G. Kerrigan, P. Smyth, M. Steyvers, "Combining Human Predictions with Model Probabilities via Confusion Matrices and
Calibration", NeurIPS 2021: the same product of calibrated probabilities and a confusion matrix, but of a human. F.
Yáñez et al., "Confidence-weighted integration of human and machine judgments for superior decision-making", Patterns
2025: fitted weights of such a combination. A. Le Coz, S. Herbin, F. Adjed, "Confidence Calibration of Classifiers with
Many Classes", NeurIPS 2024: the part about the top class only. docs/references.md lists related methods.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from halobench.calibration.arrays import (
    blocks,
    check_labels_or_votes,
    check_logits,
    check_unscaled,
    weighted,
    weights_of,
)
from halobench.calibration.calibrator import GRADIENT, Calibrator, scored
from halobench.calibration.logit_tables import aligned
from halobench.calibration.repair.newton import RIDGE, Optimum, minimise
from halobench.calibration.saved import Savable, savable
from halobench.calibration.scores.sample_scores import correctness, mass_of
from halobench.calibration.temperature.rescaling import power_of_two
from halobench.calibration.temperature.search import finite_beta

TITLE = "partner scaling"
ABOUT = "TS that also learns from confusions on validation data which classes are mistaken for which others"
SOURCE = "halobench; see [related methods](references.md#related-methods)"
ORDER = 18
STYLE = ("#00695C", "*")
VOTES = True

PRIORS = (0.3, 3.0, 30.0, 300.0)  # strengths r of the uniform prior to try, in samples per predicted class
# The largest number of logits on which r and the symmetry are chosen; the weights are then fitted to all logits.
SEARCHED = 1 << 17

# Strength of the ridge on c, the terms of the individual classes; it acts as a prior with a standard deviation of 0.3.
CLASS_RIDGE = 10.0

WORK = 1 << 15  # elements per block of rows; about eight arrays of this size exist at once
COUNTS_UNIT = 4.0  # the size of L that the ridge assumes, in nats; with 1, a map fitted to a dozen errors may hurt
FOLDS = 5

TS_WHICH, TS_TOP = (1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)


@savable("partner")
@dataclass(frozen=True, eq=False)
class PartnerFit(Savable):
    """A fitted partner scaling.

    Attributes
    ----------
    which : (3,) array
        w in the module's first formula: weights of the logits, the log counts, and the log counts times h.
    top, classes : (4,) and (k,) arrays
        v and c in the second formula: v contains the weights of t, a constant, h and m; c contains one term per class.
    confusions : (k, k) array
        R, the numbers of validation samples by predicted class and label, with 0 on the diagonal, plus the transpose if
        `symmetric`.
    prior : float
        r, in samples per predicted class.
    symmetric : bool
    beta, mean_gap : float
        TS's inverse temperature (for labels smoothed by 1 / (n + 1) if TS has no optimum), and the mean gap in logits.
    nll : float
        Mean leave-one-out NLL in nats on the samples used for fitting.
    gradient : float
        The norm of the mean objective's gradient in w or, if larger, of its gradient in v and c.
    excess : float
        The largest amount by which the mean objective can exceed its minimum, in nats.
    converged : bool
    """

    which: np.ndarray
    top: np.ndarray
    classes: np.ndarray
    confusions: np.ndarray
    prior: float
    symmetric: bool
    beta: float
    mean_gap: float
    nll: float = math.nan
    gradient: float = math.nan
    excess: float = math.nan
    converged: bool = False

    @property
    def calibrator(self) -> Calibrator:
        """Return the map as a calibrator, whose `nll` is the leave-one-out NLL."""
        k = len(self.confusions)
        return Calibrator(self, self.nll, self.gradient, self.converged, name="partner", classes=k)

    def fit(self, logits: np.ndarray, labels: np.ndarray) -> PartnerFit:
        """Fit partner scaling to other samples, as `fit_partner` does."""
        return fit_partner(logits, labels)

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Map checked logits (n, k) to calibrated logits, i.e. to their `log_probabilities`."""
        return self.log_probabilities(logits)

    def log_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return log probabilities (n, k), float64, for logits (n, k) that have already been checked."""
        out = np.empty(logits.shape)
        table = self.log_counts(self.confusions)
        for rows in blocks(len(logits), logits.shape[1], WORK):
            part = _Part.of(logits[rows], self.beta)
            others, features = _describe(part, table[part.top], self)
            odds = features @ self.top + self.classes[part.top]
            out[rows] = others - np.logaddexp(0.0, odds)[:, None]
            out[rows][part.numbers, part.top] = -np.logaddexp(0.0, -odds)
        return out

    def log_counts(self, counts: np.ndarray) -> np.ndarray:
        """Return L = log(1 + (k - 1) R / r), the log of how many times likelier a class is than one without counts."""
        return np.log1p(counts * ((len(self.confusions) - 1) / self.prior))


def fit(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Fit partner scaling; the fit is finite even on separable data."""
    fitted = fit_checked(logits, targets)
    return scored(fitted, logits, targets, fitted.gradient, fitted.converged, WORK)


def fit_partner(
    logits: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    votes: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
) -> PartnerFit:
    """Fit partner scaling to validation logits and labels.

    Parameters
    ----------
    logits : (n, k) array
        Finite. float32 is used as is.
    labels : (n,) integers
        In [0, k). Classes may be missing from the labels and from the predictions.
    votes : (n, k) array, optional
        In place of labels, as for `fit_temperature`. Each sample counts once, whatever its number of votes.
    sample_weight : (n,) array, optional
        As for `fit_temperature`.

    Raises
    ------
    SpecError
        If probabilities are passed instead of logits; logits are not finite or not (n, k) with n >= 1 and k >= 2; or
        labels, votes or weights have the wrong shape, type or range, or not exactly one of labels and votes is passed.

    Examples
    --------
    A third of the samples predicted as class 0 belong to class 1, and none to class 2, which the logits don't reveal:

    >>> z = np.repeat([[5.0, 0.0, 0.0], [0.0, 0.0, 5.0]], 300, axis=0)
    >>> fit = fit_partner(z, np.r_[np.tile([0, 0, 1], 100), np.full(300, 2)])
    >>> fit.predict_proba(z[:1]).round(1).tolist()
    [[0.7, 0.3, 0.0]]
    """
    votes = aligned(votes, logits)
    logits = check_logits(logits)
    check_unscaled(logits)
    targets, _ = check_labels_or_votes(labels, votes, logits.shape)
    kept, targets = weighted(targets, sample_weight, logits.shape[1])
    return fit_checked(logits[kept], targets)


def fit_checked(logits: np.ndarray, targets: np.ndarray) -> PartnerFit:
    """Fit partner scaling to arrays that have already been checked; targets are labels, or rows (n, k)."""
    n, k = logits.shape
    beta = finite_beta(logits, targets)
    top, gap, distance = _tops(logits)
    ts = np.array(TS_WHICH), np.array(TS_TOP), np.zeros(k)
    fit = PartnerFit(*ts, _count(top, targets, k), PRIORS[-1], False, beta, float(gap.mean()) or 1.0)
    which = Optimum(fit.which, 0.0, 0.0, 0.0)
    right, weight = correctness(top, targets), weights_of(targets)
    wrong = right < weight
    if wrong.any() and k > 2:
        units = np.array([beta * distance or 1.0, COUNTS_UNIT, COUNTS_UNIT])
        fit, which = _fit_which(fit, logits, targets, np.flatnonzero(wrong), units)
    fit = replace(fit, which=which.weights)
    features = _cross_fitted(fit, logits, targets, top)
    sizes = np.sqrt((features**2).mean(axis=0))
    units = np.r_[np.where(sizes > 0, sizes, 1.0), np.full(k, math.sqrt(CLASS_RIDGE / RIDGE))]
    whether = partial(_whether_nll, features=features, top=top, right=right, of=weight)
    odds = minimise(whether, np.r_[TS_TOP, np.zeros(k)], units, dense=len(TS_TOP))
    weights, classes = np.split(odds.weights, [len(TS_TOP)])
    gradient, excess = max(which.gradient, odds.gradient) / n, (which.excess + odds.excess) / n
    fit = replace(fit, top=weights, classes=classes, nll=(which.loss + odds.loss) / n)
    return replace(fit, gradient=gradient, excess=excess, converged=gradient <= GRADIENT)


# --- The parts of a prediction ---------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """A block of rows: u (rows, k), each row's predicted class and gap, and the row's number within the block."""

    u: np.ndarray
    top: np.ndarray
    gap: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray, beta: float) -> _Part:
        u = logits.astype(np.float64)
        index = np.arange(len(u))
        top = u.argmax(axis=1)
        u -= u[index, top][:, None]
        u[index, top] = -np.inf
        gap = -u.max(axis=1)
        u[index, top] = 0.0
        u *= beta
        return cls(u, top, gap, index)


def _tops(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return each row's predicted class and gap, (n,) each, and the logits' root mean square distance from the top."""
    parts, total, unit = [], 0.0, power_of_two(logits)
    for rows in blocks(len(logits), logits.shape[1], WORK):
        part = _Part.of(logits[rows], 1.0)
        below = part.u / unit
        total += float(np.einsum("ij,ij->", below, below))
        parts.append((part.top, part.gap))
    top, gap = (np.concatenate(values) for values in zip(*parts, strict=True))
    return top, gap, unit * math.sqrt(total / (len(logits) * (logits.shape[1] - 1)))


def _count(top: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """Count samples by predicted class and label, (k, k), with 0 on the diagonal; votes count as shares of a sample."""
    counts = np.zeros((k, k))
    np.add.at(counts, (top, targets) if targets.ndim == 1 else top, 1 if targets.ndim == 1 else targets)
    np.fill_diagonal(counts, 0)
    return counts


def _scores(part: _Part, table: np.ndarray, which: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return log P(j | not a), (rows, k), which is -inf for j = a, from the log counts `table` (rows, k)."""
    scores = which[0] * part.u + (which[1] + which[2] * h)[:, None] * table
    scores[part.numbers, part.top] = -np.inf
    scores -= scores.max(axis=1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return scores


def _describe(part: _Part, table: np.ndarray, fit: PartnerFit) -> tuple[np.ndarray, np.ndarray]:
    """Return log P(j | not a) (rows, k) and the features of the top class's log-odds (rows, 4)."""
    h = 2 * part.gap / (part.gap + fit.mean_gap)
    others = _scores(part, table, fit.which, h)
    tempered = part.u.copy()
    tempered[part.numbers, part.top] = -np.inf
    highest = tempered.max(axis=1)
    odds = -highest - np.log(np.exp(tempered - highest[:, None]).sum(axis=1))
    mean = np.einsum("ij,ij->i", np.exp(others), part.u)
    return others, np.stack([odds, np.ones_like(odds), h, mean], axis=1)


# --- Which other class -----------------------------------------------------------------------------------------------


def _fit_which(
    fit: PartnerFit, logits: np.ndarray, targets: np.ndarray, wrong: np.ndarray, units: np.ndarray
) -> tuple[PartnerFit, Optimum]:
    """Return the fit whose prior and symmetry best predict the labels of samples `wrong` (indices), and its best w."""
    some = wrong[:: max(1, wrong.size * logits.shape[1] // SEARCHED)]
    samples = {"logits": logits, "targets": targets}
    chosen, best = fit, Optimum(fit.which, math.inf, 0.0, 0.0)
    for symmetric, prior in itertools.product((True, False), PRIORS):
        confusions = fit.confusions + fit.confusions.T if symmetric else fit.confusions
        tried = replace(fit, confusions=confusions, prior=prior, symmetric=symmetric)
        nll = partial(_which_nll, fit=tried, wrong=some, **samples)
        optimum = minimise(nll, fit.which, units, best.weights, tolerance=1e-4)
        if optimum.value < best.value:
            chosen, best = tried, optimum
    nll = partial(_which_nll, fit=chosen, wrong=wrong, **samples)
    return chosen, minimise(nll, fit.which, units, best.weights)


def _which_nll(
    weights: np.ndarray, fit: PartnerFit, logits: np.ndarray, targets: np.ndarray, wrong: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the leave-one-out NLL of the labels of samples `wrong` (indices), whose top class is wrong.

    Only votes for classes other than the top one count. The NLL is a sum, returned with its gradient and Hessian in w.
    """
    counts = fit.log_counts(fit.confusions)
    nll, gradient, hessian = 0.0, np.zeros(3), np.zeros((3, 3))
    for block in blocks(len(wrong), logits.shape[1], WORK):
        rows = wrong[block]
        part, mass = _Part.of(logits[rows], fit.beta), mass_of(targets[rows], logits.shape[1]).copy()
        mass[part.numbers, part.top] = 0.0
        total, h = mass.sum(axis=1), 2 * part.gap / (part.gap + fit.mean_gap)
        table = counts[part.top]
        voted = mass > 0
        table[voted] = fit.log_counts(np.maximum(fit.confusions[part.top][voted] - mass[voted], 0.0))
        log_p = _scores(part, table, weights, h)
        nll -= float(np.einsum("ij,ij->i", mass, np.where(voted, log_p, 0.0)).sum())
        p = np.exp(log_p, out=log_p)
        pu, pl = p * part.u, p * table
        mean = np.stack([pu.sum(axis=1), pl.sum(axis=1)], axis=1)
        away = total[:, None] * mean - np.stack([np.einsum("ij,ij->i", mass, x) for x in (part.u, table)], axis=1)
        uu = np.einsum("ij,ij->i", pu, part.u) - mean[:, 0] ** 2
        ul = np.einsum("ij,ij->i", pu, table) - mean[:, 0] * mean[:, 1]
        ll = np.einsum("ij,ij->i", pl, table) - mean[:, 1] ** 2
        uu, ul, ll = total * uu, total * ul, total * ll
        basis = np.stack([np.ones_like(h), h], axis=1)
        gradient += np.concatenate([[away[:, 0].sum()], away[:, 1] @ basis])
        hessian[0, 0] += uu.sum()
        hessian[0, 1:] += ul @ basis
        hessian[1:, 1:] += (basis * ll[:, None]).T @ basis
    hessian[1:, 0] = hessian[0, 1:]
    return nll, gradient, hessian


# --- Whether the top class is right ----------------------------------------------------------------------------------


def _cross_fitted(fit: PartnerFit, logits: np.ndarray, targets: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Return the features (n, 4) of samples, each computed from the counts of the other folds only.

    Leaving out only the sample itself would reveal whether it is a confusion, since the counts would then be smaller by
    one. Within each predicted class, samples are assigned to the folds cyclically, in their original order.
    """
    order = np.argsort(top, kind="stable")
    place = np.arange(len(top))
    begins = np.r_[True, np.diff(top[order]) > 0]
    fold = np.empty(len(top), dtype=int)
    fold[order] = (place - np.maximum.accumulate(np.where(begins, place, 0))) % FOLDS
    features = np.empty((len(targets), len(TS_TOP)))
    for number in range(FOLDS):
        counts = _count(top[fold != number], targets[fold != number], logits.shape[1])
        table = fit.log_counts(counts + counts.T if fit.symmetric else counts)
        held_out = np.flatnonzero(fold == number)
        for rows in blocks(len(held_out), logits.shape[1], WORK):
            part = _Part.of(logits[held_out[rows]], fit.beta)
            features[held_out[rows]] = _describe(part, table[part.top], fit)[1]
    return features


def _whether_nll(
    weights: np.ndarray, features: np.ndarray, top: np.ndarray, right: np.ndarray, of: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the NLL of whether the top class is right, given the features (n, 4) of its log-odds.

    `of` (n,) are the samples' weights, usually 1; `right` (n,) is the part of each that belongs to the top class.

    The NLL is a sum, returned with its gradient and Hessian in v and c, (4 + k,).
    """
    x, d = features, features.shape[1]
    k = len(weights) - d
    odds = x @ weights[:d] + weights[d:][top]
    partly = (right > 0) & (right != 1)
    nll = float((of * np.logaddexp(0.0, odds)).sum() - odds[right == 1].sum() - right[partly] @ odds[partly])
    p = np.exp(-np.logaddexp(0.0, -odds))
    away, curvature = of * p - right, of * p * (1 - p)
    by_class = np.zeros((k, d + 1))
    np.add.at(by_class, top, curvature[:, None] * np.column_stack([x, np.ones(len(x))]))
    hessian = np.diag(np.r_[np.zeros(d), by_class[:, d]])
    hessian[:d, :d] = (x * curvature[:, None]).T @ x
    hessian[d:, :d], hessian[:d, d:] = by_class[:, :d], by_class[:, :d].T
    return nll, np.r_[away @ x, np.bincount(top, away, k)], hessian
