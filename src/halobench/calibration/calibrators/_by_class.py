"""Calibrators that map each class's probability separately, one class against the rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from halobench.calibration.calibrator import Calibrator, logarithm, scored
from halobench.calibration.sample_scores import softmax

Map = Callable[[np.ndarray], np.ndarray]


def fit_by_class(
    fit_map: Callable[[np.ndarray, np.ndarray], Map], logits: np.ndarray, labels: np.ndarray
) -> Calibrator:
    """Fit a map for each class's probability; rows are then normalised, or made uniform if all classes get 0.

    Parameters
    ----------
    fit_map : callable
        Takes probabilities p_j (n,) and whether the label is j (n,), as 0.0 or 1.0; returns the map of p_j.
    logits : (n, k) float64 array
    labels : (n,) integers in [0, k)
    """
    p = softmax(logits)
    maps = [fit_map(p[:, j], (labels == j).astype(np.float64)) for j in range(p.shape[1])]

    def transform(z: np.ndarray) -> np.ndarray:
        p = softmax(z)
        mapped = np.stack([of_class(p[:, j]) for j, of_class in enumerate(maps)], axis=1)
        mapped[mapped.sum(axis=1) == 0] = 1
        return logarithm(mapped / mapped.sum(axis=1, keepdims=True))

    return scored(transform, logits, labels)
