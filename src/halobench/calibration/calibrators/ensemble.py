"""Ensemble temperature scaling: a mixture of TS, the unscaled logits and the uniform prediction.

probmetrics fits it too, but keeps T within [0.05, 5].

References
----------
J. Zhang et al., "Mix-n-Match: Ensemble and Compositional Methods for Uncertainty Calibration in Deep Learning",
ICML 2020.
"""

from __future__ import annotations

import math

import numpy as np

from halobench.calibration.calibrator import GRADIENT, Calibrator, scored, without_optimum
from halobench.calibration.rescaling import temper
from halobench.calibration.temperature_scaling import fit_exactly

LIBRARIES = ("scipy",)


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit the weights with the lowest NLL at TS's temperature; TS is one of the mixtures, so the NLL is at most TS's.

    Parameters
    ----------
    logits : (n, k) float64 array
    labels : (n,) integers in [0, k)

    Returns
    -------
    Calibrator
        Has no transform if TS has no finite optimum.
    """
    ts = fit_exactly(logits, labels)
    if ts.separable:
        return without_optimum(ts)

    def log_members(z: np.ndarray) -> list[np.ndarray]:
        """Return the members' log probabilities; the uniform one is the limit in T, so it never creates ties."""
        scaled = (temper(z, beta) for beta in (ts.beta, 1.0, 0.0))
        return [s - np.log(np.exp(s).sum(axis=1, keepdims=True)) for s in scaled]

    # Where two members assign almost no mass to a sample, the weights matter, but exactly how little mass doesn't.
    likelihoods = np.exp(np.stack([part[np.arange(len(labels)), labels] for part in log_members(logits)], axis=1))
    weights = _fit_weights(likelihoods)

    def transform(z: np.ndarray) -> np.ndarray:
        members = zip(log_members(z), weights, strict=True)
        return np.logaddexp.reduce([member + math.log(weight) for member, weight in members if weight > 0])

    # The objective is convex and its slope along the weights themselves is -1, so this bounds the remaining NLL gain.
    gap = float(-_slopes(likelihoods, weights).min() - 1)
    return scored(transform, logits, labels, gap, gap <= GRADIENT)


def _fit_weights(likelihoods: np.ndarray) -> np.ndarray:
    """Return the simplex weights (3,) of the mixture with the lowest NLL, given each member's likelihoods (n, 3)."""
    from scipy.optimize import minimize

    optimum = minimize(
        lambda weights: -np.log(likelihoods @ weights).mean(),
        np.full(3, 1 / 3),
        jac=lambda weights: _slopes(likelihoods, weights),
        method="SLSQP",
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-15, "maxiter": 200},
    ).x
    return np.clip(optimum, 0, 1) / np.clip(optimum, 0, 1).sum()


def _slopes(likelihoods: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return -(likelihoods / (likelihoods @ weights)[:, None]).mean(axis=0)
