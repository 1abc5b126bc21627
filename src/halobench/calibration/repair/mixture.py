"""Mix the predictions of several maps, with weights fitted to predictions of held-out samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from halobench.calibration.repair.families import TINY, Map
from halobench.calibration.scores.sample_scores import softmax

STEPS = 200

Fit = Callable[[np.ndarray], Mapping[str, Map]]


def predict_held_out(fit: Fit, logits: np.ndarray, fold: np.ndarray) -> dict[str, np.ndarray]:
    """Return each map's probabilities (n, k); each fold is predicted by maps that are fitted to all other folds."""
    held_out: dict[str, np.ndarray] = {}
    for number in range(fold.max() + 1):
        out = fold == number
        for name, transform in fit(np.flatnonzero(~out)).items():
            held_out.setdefault(name, np.empty(logits.shape))[out] = softmax(transform(logits[out]))
    return held_out


def weights(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the weights (m,), which sum to 1, of the mixture with the lowest NLL.

    The NLL is convex in the weights, and no step of expectation maximisation raises it.
    """
    likelihoods, mass = _of_targets(probabilities, targets)
    mixed = np.full(len(probabilities), 1 / len(probabilities))
    for _ in range(STEPS):
        total = np.tensordot(mixed, likelihoods, 1)
        mixed = mixed * np.tensordot(likelihoods, mass / np.maximum(total, TINY), 2) / mass.sum()
    return mixed / mixed.sum()


def cross_fitted_nll(probabilities: np.ndarray, targets: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return the NLL of each sample (n,) under the mixture with weights fitted to the other folds."""
    values = np.empty(len(fold))
    for number in range(fold.max() + 1):
        out = fold == number
        mixed = weights(probabilities[:, ~out], targets[~out])
        likelihoods, mass = _of_targets(probabilities[:, out], targets[out])
        values[out] = -(mass * np.log(np.maximum(np.tensordot(mixed, likelihoods, 1), TINY))).sum(axis=1)
    return values


def _of_targets(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities (m, n, j) and mass (n, j) of all classes or, for labels, of the label alone (j = 1)."""
    if targets.ndim == 2:
        return probabilities, targets
    return probabilities[:, np.arange(len(targets)), targets][:, :, None], np.ones((len(targets), 1))
