"""Define the Kullback-Leibler divergence of the model from the known posterior, in nats."""

from __future__ import annotations

import numpy as np

from halobench.calibration.arrays import blocks
from halobench.calibration.scores.sample_scores import cross_entropy

TITLE = "KL"
ABOUT = "Kullback-Leibler divergence of the model from the known posterior"
UNIT = "nats"
RANGE = (0, None)
LOWER_IS_BETTER = True
SOURCE = "S. Kullback and R. A. Leibler, *On Information and Sufficiency*, Annals of Mathematical Statistics 22, 1951"
ORDER = 4


def score(logits: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """Return each sample's KL(posterior || softmax(logits)) in nats, (n,)."""
    values = cross_entropy(logits, posterior)
    for rows in blocks(*posterior.shape):
        mass = posterior[rows].astype(np.float64)
        values[rows] += np.einsum("ij,ij->i", mass, np.log(np.where(mass > 0, mass, 1)))
    # The divergence is at least 0, but rounding may yield about -1e-16.
    return np.maximum(values, 0, out=values)
