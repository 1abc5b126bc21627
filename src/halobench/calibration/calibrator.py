"""Post-hoc calibrators beside temperature scaling (TS): fitted to validation logits and labels, in float64.

========= ====================================================================== ============================
name      softmax of, or probabilities by                                        fitted by
========= ====================================================================== ============================
vector    w_j z_j + b_j: vector scaling [1]                                      scipy, Newton's method
matrix    W z + b, a ridge towards TS: structured matrix scaling [2]             probmetrics
isotonic  a monotone map of each class's probability, normalised [3]             scikit-learn
histogram the frequency in a bin of each class's probability, normalised [4]     numpy
ensemble  w_1 softmax(z / T) + w_2 softmax(z) + w_3 / k: ensemble TS [5]         scipy, SLSQP
========= ====================================================================== ============================

Which library fits what. scikit-learn's isotonic regression is the one that others wrap. probmetrics 1.3 (Apache-2.0)
holds its authors' own matrix scaling, which starts from TS and is penalised by the problem's sizes, so that nothing is
to be tuned; it computes in float32 and imports torch, which takes seconds a job: hence the optional extra. The rest is
a formula or a convex problem of a few parameters that libraries take less exactly: probmetrics fits vector scaling in
float32 and hands back the logits as they were where its optimiser doesn't report success; its ensemble keeps T within
[0.05, 5]; its histogram is for two classes, and netcal's for bins of equal width, many of which are empty.

A probability of 0 is what isotonic and histogram say of a class that no validation point of that score had. Where that
class comes, NLL and KL are infinite, and are reported so: clipping, as scikit-learn's `log_loss` does at 2e-16, puts 36
nats for each such point in their place, a number that tells of the clip. Error, Brier score and ECE remain.

References
----------
[1] C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
[2] E. Berta et al., "Structured Matrix Scaling for Multi-Class Calibration", AISTATS 2026.
[3] B. Zadrozny, C. Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
[4] B. Zadrozny, C. Elkan, "Obtaining calibrated probability estimates from decision trees and naive Bayesian
classifiers", ICML 2001.
[5] J. Zhang et al., "Mix-n-Match: Ensemble and Compositional Methods for Uncertainty Calibration in Deep Learning",
ICML 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from halobench.calibration import metrics
from halobench.calibration.arrays import blocks, check_logits, check_targets
from halobench.calibration.temperature_scaling import TemperatureFit, fit_temperature, tempered
from halobench.core import plugins
from halobench.core.errors import SpecError, require
from halobench.core.plugins import check_installed, check_known
from halobench.core.specs import POSTHOC

BINS = 15
"""Bins of `histogram`, as many points in each."""

RIDGE = 1e-6
"""Penalty of vector scaling's distance from TS: the optimum is then finite and unique, whatever validation lacks."""

GRADIENT = 1e-7
"""The largest gradient of the objective at which a fit counts as converged."""

FLOAT32_GRADIENT = 1e-3
"""The same for a library that computes in float32."""


@dataclass(frozen=True)
class Calibrator:
    """A fitted calibrator and what is known of its fit.

    Attributes
    ----------
    transform : callable, or None where there is no finite optimum
        Calibrated logits of logits, (n, k) both; -inf for a probability of 0.
    nll : float
        Mean NLL on the data it was fitted to, in nats.
    gradient : float
        How far from its optimum the objective is: the largest entry of the gradient, for the ensemble that of the
        gradient along the simplex, which bounds what NLL there is to gain. NaN for a fit in closed form.
    converged : bool
    separable : bool
        TS has no finite optimum on these data, nor then has a family that holds it.
    T, beta : float
        NaN: there is no temperature.
    """

    transform: Callable[[np.ndarray], np.ndarray] | None
    nll: float
    gradient: float = math.nan
    converged: bool = True
    separable: bool = False
    T: float = math.nan
    beta: float = math.nan

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits (n, k), float64, for logits (n, k); -inf for a probability of 0.

        Raises
        ------
        SpecError
            On logits that are not finite or not (n, k), or where there is no finite optimum.
        """
        if self.transform is None:
            raise SpecError("calibrator", "separable data", "a fit with a finite optimum")
        return self.transform(check_logits(logits))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n, k), float64, for logits (n, k); raises as `logits`."""
        return metrics.softmax(self.logits(logits))


def fit(name: str, logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit one of the calibrators of this module, or a plug-in.

    Parameters
    ----------
    name : str
        One of ``vector``, ``matrix``, ``isotonic``, ``histogram``, ``ensemble``; a file of
        ``halobench/calibration/calibrators`` or ``module:object``.
    logits : (n, k) array
        Finite.
    labels : (n,) integers
        In [0, k). Classes that are missing get a probability of 0 by isotonic and histogram, a small one by the others.

    Returns
    -------
    Calibrator
        The same bytes for the same data and versions. On separable data, where TS has no optimum, neither have vector
        and ensemble (``separable=True``, no transform), while the others have.

    Raises
    ------
    SpecError
        On another name or array, a calibrator whose package isn't installed, or a plug-in that gives something else
        than it should.

    Examples
    --------
    Half of the points are right at a logit of 1 against 0, so that half is the frequency of either class:

    >>> z = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> fit("histogram", z, np.array([0, 1, 0, 1])).probabilities(z)[0].tolist()
    [0.5, 0.5]
    """
    check_known("calibrators", "calibrator", name, POSTHOC)
    check_installed([name])
    logits = check_logits(logits).astype(np.float64)
    labels = np.asarray(labels)
    require(labels.ndim == 1, "labels", f"shape {labels.shape}", f"one label a point, shape ({len(logits)},)")
    labels = check_targets(labels, logits.shape)
    return FITS[name](logits, labels) if name in FITS else _fit_plugged(name, logits, labels)


def _fit_plugged(name: str, logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """What a plug-in fits: a calibrator, or what maps logits to calibrated ones."""
    key, fitted = f"calibrators.{name}", plugins.load("calibrators", name)
    with plugins.calling(key):
        found = fitted(logits.copy(), labels.copy())
    if isinstance(found, Calibrator):
        return found
    what = "fit(logits, labels) to return a function of logits, or a halobench.calibration.calibrator.Calibrator"
    require(callable(found), key, found, what)

    def transform(given: np.ndarray) -> np.ndarray:
        with plugins.calling(key):
            made = np.asarray(found(given.astype(np.float64)))
        require(made.shape == given.shape, key, f"calibrated logits {made.shape}", f"as many as it got, {given.shape}")
        try:
            return check_logits(made, masked=True)
        except SpecError as error:
            raise error.within(key) from None

    return _scored(transform, logits, labels, math.nan, True)


# Vector scaling -------------------------------------------------------------------------------------------------------


def _fit_vector(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Least NLL + RIDGE / 2 x (squared distance from TS), in weights of logits of unit spread and in biases.

    The penalty is 0 at TS, so that on these data the NLL is at most that of TS.
    """
    from scipy.optimize import minimize

    ts = fit_temperature(logits, labels)
    if ts.separable:
        return _none(ts)
    k = logits.shape[1]
    spread = float((logits - logits.mean(axis=1, keepdims=True)).std()) or 1.0
    start = np.repeat([ts.beta * spread, 0.0], k)
    objective = _Affine(logits / spread, labels, start)
    found = minimize(
        objective.value,
        start,
        method="trust-exact",
        jac=objective.gradient,
        hess=objective.hessian,
        options={"gtol": GRADIENT / 100, "maxiter": 200},
    )
    weights, biases = found.x[:k] / spread, found.x[k:]
    gradient = float(np.abs(objective.gradient(found.x)).max())
    return _scored(lambda z: z * weights + biases, logits, labels, gradient, gradient <= GRADIENT)


class _Affine:
    """The objective of vector scaling of `features` (n, k), its gradient and Hessian, at (weights, biases), (2k,)."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, centre: np.ndarray):
        self.features, self.labels, self.centre = features, labels, centre
        self.at: tuple[bytes, float, np.ndarray, np.ndarray] | None = None

    def value(self, x: np.ndarray) -> float:
        return self._moments(x)[0]

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self._moments(x)[1]

    def hessian(self, x: np.ndarray) -> np.ndarray:
        return self._moments(x)[2]

    def _moments(self, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """All three, kept for the point asked last, since the optimiser asks for them one by one."""
        if self.at is None or self.at[0] != x.tobytes():
            self.at = (x.tobytes(), *self._computed(x))
        return self.at[1:]

    def _computed(self, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        n, k = self.features.shape
        nll, gradient, hessian = 0.0, np.zeros(2 * k), np.zeros((2 * k, 2 * k))
        for rows in blocks(n, k):
            s, y = self.features[rows], self.labels[rows]
            z = s * x[:k] + x[k:]
            nll += float(metrics.nll_per_point(z, y).sum())
            p = metrics.softmax(z)
            both = np.hstack([p * s, p])
            hessian -= both.T @ both
            for i, j, terms in ((0, 0, p * s * s), (0, k, p * s), (k, 0, p * s), (k, k, p)):
                hessian[np.arange(i, i + k), np.arange(j, j + k)] += terms.sum(axis=0)
            p[np.arange(len(y)), y] -= 1
            gradient += np.concatenate([(p * s).sum(axis=0), p.sum(axis=0)])
        away = x - self.centre
        penalty = RIDGE / 2 * float(away @ away)
        return nll / n + penalty, gradient / n + RIDGE * away, hessian / n + RIDGE * np.eye(2 * k)


# Matrix scaling -------------------------------------------------------------------------------------------------------


def _fit_matrix(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Structured matrix scaling as probmetrics fits it, its ridge variant."""
    from probmetrics.calibrators import SMSCalibrator

    found = SMSCalibrator(penalty="ridge", opt="bfgs").fit(metrics.softmax(logits), labels.astype(np.int64))

    def transform(z: np.ndarray) -> np.ndarray:
        return _log(found.predict_proba(metrics.softmax(z)).astype(np.float64))

    gradient = _matrix_gradient(found, logits, labels)
    return _scored(transform, logits, labels, gradient, gradient <= FLOAT32_GRADIENT)


def _matrix_gradient(found: Any, logits: np.ndarray, labels: np.ndarray) -> float:
    """The largest entry of the gradient of what the library minimises, which doesn't tell whether it has."""
    n, k = logits.shape
    s = _log(found.ts_.predict_proba(metrics.softmax(logits)).astype(np.float64))
    W, b = found.W_[:, :k].astype(np.float64), found.W_[:, k].astype(np.float64)
    residual = metrics.softmax(s @ W.T + b)
    residual[np.arange(n), labels] -= 1
    # Ridges k / n on the diagonal's distance from 1 and on the biases, k (k - 1) / n off the diagonal.
    ridge = np.full((k, k), k * (k - 1) / n)
    np.fill_diagonal(ridge, k / n)
    slopes = residual.T @ s / n + 2 * ridge * (W - np.eye(k))
    return float(max(np.abs(slopes).max(), np.abs(residual.mean(axis=0) + 2 * k / n * b).max()))


# Class by class -------------------------------------------------------------------------------------------------------


def _fit_isotonic(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Isotonic regression of "is it class j?" on p_j; straight lines between its steps, as scikit-learn has it."""
    from sklearn.isotonic import IsotonicRegression

    def line(p: np.ndarray, hits: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, hits).predict

    return _fit_by_class(line, logits, labels)


def _fit_histogram(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """The frequency of class j among the points of a bin of p_j; bins hold equally many, equal scores share one."""

    def steps(p: np.ndarray, hits: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        # A bin begins at its least score.
        begins = np.unique(np.sort(p)[np.arange(BINS) * len(p) // BINS])

        def bin_of(values: np.ndarray) -> np.ndarray:
            return np.maximum(np.searchsorted(begins, values, side="right") - 1, 0)

        where = bin_of(p)
        frequency = np.bincount(where, weights=hits, minlength=len(begins)) / np.bincount(where, minlength=len(begins))
        return lambda values: frequency[bin_of(values)]

    return _fit_by_class(steps, logits, labels)


def _fit_by_class(
    fit_map: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]],
    logits: np.ndarray,
    labels: np.ndarray,
) -> Calibrator:
    """A map of each class's probability, one against the rest; rows normalised, and uniform where all classes get 0."""
    p = metrics.softmax(logits)
    maps = [fit_map(p[:, j], (labels == j).astype(np.float64)) for j in range(p.shape[1])]

    def transform(z: np.ndarray) -> np.ndarray:
        p = metrics.softmax(z)
        mapped = np.stack([to(p[:, j]) for j, to in enumerate(maps)], axis=1)
        mapped[mapped.sum(axis=1) == 0] = 1
        return _log(mapped / mapped.sum(axis=1, keepdims=True))

    return _scored(transform, logits, labels)


# Ensemble temperature scaling -----------------------------------------------------------------------------------------


def _fit_ensemble(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """The weights of least NLL, T being that of TS; TS itself is one of them, so the NLL is at most its."""
    from scipy.optimize import minimize

    ts = fit_temperature(logits, labels)
    if ts.separable:
        return _none(ts)

    def parts(z: np.ndarray) -> list[np.ndarray]:
        """Log probabilities of the three members; the uniform one is the limit of T, so that it never makes a tie."""
        scaled = (tempered(z, beta) for beta in (ts.beta, 1.0, 0.0))
        return [s - np.log(np.exp(s).sum(axis=1, keepdims=True)) for s in scaled]

    # Of a point on which two members have no mass to speak of, the weights matter and not the smallness.
    seen = np.exp(np.stack([part[np.arange(len(labels)), labels] for part in parts(logits)], axis=1))

    def slopes(weights: np.ndarray) -> np.ndarray:
        return -(seen / (seen @ weights)[:, None]).mean(axis=0)

    found = minimize(
        lambda weights: -np.log(seen @ weights).mean(),
        np.full(3, 1 / 3),
        jac=slopes,
        method="SLSQP",
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-15, "maxiter": 200},
    )
    weights = np.clip(found.x, 0, 1) / np.clip(found.x, 0, 1).sum()

    def transform(z: np.ndarray) -> np.ndarray:
        terms = [part + math.log(weight) for part, weight in zip(parts(z), weights, strict=True) if weight > 0]
        return np.logaddexp.reduce(terms)

    # The objective is convex and its slope along the weights themselves is -1, so that this bounds the NLL to gain.
    gap = float(-slopes(weights).min() - 1)
    return _scored(transform, logits, labels, gap, gap <= GRADIENT)


# Of all ---------------------------------------------------------------------------------------------------------------

FITS = {
    "vector": _fit_vector,
    "matrix": _fit_matrix,
    "isotonic": _fit_isotonic,
    "histogram": _fit_histogram,
    "ensemble": _fit_ensemble,
}


LIBRARIES = {
    "vector": ("scipy",),
    "matrix": ("probmetrics", "pytorch-minimize", "torch"),
    "isotonic": ("scikit-learn",),
    "ensemble": ("scipy",),
}


def libraries(calibrators: Iterable[str]) -> list[str]:
    """The packages that fit these calibrators, numpy aside."""
    return sorted({package for name in calibrators for package in LIBRARIES.get(name, ())})


def _none(ts: TemperatureFit) -> Calibrator:
    """Where TS has no finite optimum: the NLL is its limit."""
    return Calibrator(None, ts.nll, ts.gradient, converged=False, separable=True)


def _scored(
    transform: Callable[[np.ndarray], np.ndarray],
    logits: np.ndarray,
    labels: np.ndarray,
    gradient: float = math.nan,
    converged: bool = True,
) -> Calibrator:
    """A calibrator with its NLL on the data that it was fitted to."""
    return Calibrator(transform, metrics.nll(transform(logits), labels), gradient, converged)


def _log(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms, -inf of 0."""
    with np.errstate(divide="ignore"):
        return np.log(probabilities)
