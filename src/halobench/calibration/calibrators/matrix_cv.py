"""Matrix scaling with its penalty chosen by cross-validation, to show the best that an affine map of the logits can do.

The map adds V x + b to the logits of TS, where x is the logits at unit spread. V and b have a ridge, whose strength is
chosen by grid search on the 4-fold cross-validated NLL. probmetrics' structured matrix scaling (`matrix`) derives the
strength from the numbers of samples and classes, and its tuned Dirichlet calibration needs a package that is rarely
installed. A weaker ridge on the diagonal and b than on the rest, as in ODIR, was tried but is worse with few samples.

References
----------
M. Kull et al., "Beyond temperature scaling: Obtaining well-calibrated multi-class probabilities with Dirichlet
calibration", NeurIPS 2019: affine maps with off-diagonal and intercept regularisation (ODIR), cross-validated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from halobench.calibration.calibrator import Calibrator, scored
from halobench.calibration.rescaling import rescale, spread
from halobench.calibration.sample_scores import cross_entropy, softmax
from halobench.calibration.temperature_scaling import finite_beta
from halobench.core.seeding import generator

LIBRARIES = ("scipy",)

Map = Callable[[np.ndarray], np.ndarray]

STRENGTHS = (1000.0, 100.0, 10.0, 3.0, 1.0, 0.1)
"""Strengths to try for the ridge, which is added to a sum over samples."""

FOLDS = 4

ROUGH, EXACT = 1e-4, 1e-6
"""The largest gradient at which the search for an optimum ends: on folds (only to rank strengths) and on all data."""


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit matrix scaling with tuned ridges; finite even on separable data.

    Parameters
    ----------
    logits : (n, k) float64 array
    labels : (n,) integers in [0, k)
    """
    n = len(logits)
    fold = generator(0, "matrix_cv", "folds").permutation(n) % min(FOLDS, n)
    held_out = np.zeros(len(STRENGTHS))
    for number in range(fold.max() + 1 if n > 1 else 0):
        out = fold == number
        for i, (transform, _) in enumerate(_path(logits[~out], labels[~out], STRENGTHS, ROUGH)):
            held_out[i] += cross_entropy(transform(logits[out]), labels[out]).sum()
    ((transform, gradient),) = _path(logits, labels, [STRENGTHS[int(held_out.argmin())]], EXACT)
    return scored(transform, logits, labels, gradient, gradient <= EXACT)


def _path(
    logits: np.ndarray, labels: np.ndarray, strengths: Sequence[float], tolerance: float
) -> list[tuple[Map, float]]:
    """Return the map for each strength and the largest entry of its objective's gradient."""
    from scipy.optimize import minimize

    n, k = logits.shape
    beta = finite_beta(logits, labels)
    unit = spread(logits)
    start, x, rows = rescale(logits, beta), _features(logits, unit), np.arange(n)
    weights = np.zeros((k + 1) * k)
    fits = []
    for strength in strengths:

        def objective(flat: np.ndarray, strength: float = strength) -> tuple[float, np.ndarray]:
            scores = start + x @ flat.reshape(k + 1, k)
            value = float(cross_entropy(scores, labels).sum())
            p = softmax(scores, out=scores)
            p[rows, labels] -= 1
            return (value + strength / 2 * float(flat @ flat)) / n, ((x.T @ p).ravel() + strength * flat) / n

        # Each fit starts where the previous one ended, because strengths decrease along the grid.
        options = {"maxiter": 1000, "gtol": tolerance, "ftol": 0.0}
        weights = minimize(objective, weights, jac=True, method="L-BFGS-B", options=options).x
        matrix = weights.reshape(k + 1, k)
        gradient = float(np.abs(objective(weights)[1]).max())
        fits.append((_transform(matrix, beta, unit), gradient))
    return fits


def _transform(matrix: np.ndarray, beta: float, unit: float) -> Map:
    return lambda z: rescale(z, beta) + _features(z, unit) @ matrix


def _features(logits: np.ndarray, unit: float) -> np.ndarray:
    """Return centred logits with unit spread and a column of ones, (n, k + 1)."""
    centred = logits - logits.mean(axis=1, keepdims=True)
    return np.hstack([centred / unit, np.ones((len(logits), 1))])
