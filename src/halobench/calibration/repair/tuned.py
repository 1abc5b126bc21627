"""Fit calibrators whose penalty is chosen by cross-validation, and search for the best affine map of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from halobench.calibration.arrays import weights_of
from halobench.calibration.calibrator import Calibrator, Map, scored
from halobench.calibration.scores.sample_scores import cross_entropy, mass_of
from halobench.core.seeding import generator

# Takes logits, targets, settings and a tolerance; returns each setting's map and the gradient at which its fit stopped.
Path = Callable[[np.ndarray, np.ndarray, Sequence[Any], float], list[tuple[Map, float]]]

FOLDS = 4

# The largest gradients at which the search for an optimum ends: on folds (only to rank settings) and on all data.
ROUGH, EXACT = 1e-4, 1e-6


def fit_tuned(
    path: Path, settings: Sequence[Any], logits: np.ndarray, targets: np.ndarray, name: str, rough: float = ROUGH
) -> Calibrator:
    """Return the fit to all samples with the setting whose NLL on held-out folds is lowest; `name` seeds the folds."""
    n = len(logits)
    fold = generator(0, name, "folds").permutation(n) % min(FOLDS, n)
    held_out = np.zeros(len(settings))
    for number in range(fold.max() + 1 if n > 1 and len(settings) > 1 else 0):
        out = fold == number
        for i, (transform, _) in enumerate(path(logits[~out], targets[~out], settings, rough)):
            held_out[i] += cross_entropy(transform(logits[out]), targets[out]).sum()
    ((transform, gradient),) = path(logits, targets, [settings[int(held_out.argmin())]], EXACT)
    return scored(transform, logits, targets, gradient, gradient <= EXACT)


def weights_along(
    start: np.ndarray, x: np.ndarray, targets: np.ndarray, ridges: Sequence[np.ndarray], tolerance: float
) -> list[tuple[np.ndarray, float]]:
    """Return the best weights (d, k) for each ridge, and the largest absolute entry of the objective's gradient there.

    The objective is convex: the mean NLL of softmax(start + x W), plus the sum of ridge * W^2 over 2n. Each
    search starts where the previous one ended, so pass ridges (d, k) from strong to weak.
    """
    from scipy.optimize import minimize

    (n, k), d = start.shape, x.shape[1]
    mass, sizes = mass_of(targets, k), weights_of(targets)[:, None]
    weights = np.zeros(d * k)
    fits = []
    for ridge in ridges:

        def objective(flat: np.ndarray, ridge: np.ndarray = ridge) -> tuple[float, np.ndarray]:
            scores = start + x @ flat.reshape(d, k)
            p = scores
            value = float(cross_entropy(scores, targets, probabilities=p).sum())
            p *= sizes
            p -= mass
            pull = ridge.ravel() * flat
            return (value + float(pull @ flat) / 2) / n, ((x.T @ p).ravel() + pull) / n

        options = {"maxiter": 1000, "gtol": tolerance, "ftol": 0.0}
        weights = minimize(objective, weights, jac=True, method="L-BFGS-B", options=options).x
        fits.append((weights.reshape(d, k), float(np.abs(objective(weights)[1]).max())))
    return fits
