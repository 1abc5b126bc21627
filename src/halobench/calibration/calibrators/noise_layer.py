"""Fit temperature scaling followed by a noise layer, a matrix of transitions between classes.

The map is P(j) = sum over c of softmax(z / T)_c Q_cj, where each row of Q sums to 1. The label is thus treated as a
noisy version of a class c that the model predicts. Noise layers are usually trained with the network, whereas this
calibrator fits T and Q to validation samples by expectation maximisation. Row c of Q has a Dirichlet prior worth s
samples of class c and `SPREAD` samples spread over all classes; s is the value with the lowest 4-fold cross-validated
NLL. As s grows, the map approaches TS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halobench.calibration.calibrator import Calibrator, Map
from halobench.calibration.repair.newton import RIDGE
from halobench.calibration.repair.tuned import fit_tuned
from halobench.calibration.saved import savable
from halobench.calibration.scores.sample_scores import logarithm, softmax
from halobench.calibration.temperature.rescaling import rescale, spread
from halobench.calibration.temperature.search import finite_beta

TITLE = "noise layer"
ABOUT = "TS followed by a matrix of transitions from predicted classes to labels"
SOURCE = (
    "S. Sukhbaatar et al., *Training Convolutional Networks with Noisy Labels*, [arXiv "
    "1406.2080](https://arxiv.org/abs/1406.2080); J. Goldberger and E. Ben-Reuven, *Training Deep Neural "
    "Networks Using a Noise Adaptation Layer*, ICLR 2017; here fitted after training"
)
ORDER = 17
STYLE = ("#5B4A3F", (6, 1, 0), (0, (4, 1, 1, 1)))

STRENGTHS = (1000.0, 100.0, 10.0, 1.0)  # numbers s of samples to try for the prior on the diagonal of Q
SPREAD = 0.1  # the part of the prior spread over all classes, in samples per row; it makes every label possible
# The largest gradient at which expectation maximisation ends on the folds; it starts slowly, so 1e-4 is too soon.
ROUGH = 1e-5

FLATTEST = 1e-3  # replaces TS's beta, for logits with unit spread, if T is infinite
STEPS, LARGEST = 2000, 0.7  # the largest number of steps, and the largest step in log beta


@savable("noise_layer")
@dataclass(frozen=True, eq=False)
class NoiseLayer:
    """The map: softmax(beta z), multiplied by the transitions `layer` (k, k)."""

    beta: float
    layer: np.ndarray

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Map logits (n, k) to calibrated logits (n, k)."""
        return logarithm(softmax(rescale(z, self.beta)) @ self.layer)


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit T, Q and s, which are finite even on separable data, since log T has a slight ridge towards TS.

    The objective isn't concave. On the folds, the search starts at TS with the mode of the strongest prior; for each
    weaker prior, it starts at the previous optimum. On all samples, the search starts at TS with the mode of the chosen
    prior. The reported gradient is the largest absolute entry of the objective's gradient in log T and the logits of Q.
    """
    return fit_tuned(_path, STRENGTHS, logits, labels, "noise_layer", ROUGH)


def _path(
    logits: np.ndarray, labels: np.ndarray, strengths: Sequence[float], tolerance: float
) -> list[tuple[Map, float]]:
    """Return, for each strength, the map and the largest absolute entry of its objective's gradient."""
    k, unit = logits.shape[1], spread(logits)
    z = rescale(logits, 1 / unit)
    beta = centre = finite_beta(z, labels) or FLATTEST
    fits: list[tuple[Map, float]] = []
    layer = _prior(k, strengths[0])
    layer /= layer.sum(axis=1, keepdims=True)
    for strength in strengths:
        beta, layer, gradient = _maximise(z, labels, _prior(k, strength), centre, (beta, layer), tolerance)
        fits.append((NoiseLayer(beta / unit, layer), gradient))
    return fits


def _prior(k: int, strength: float) -> np.ndarray:
    """Return the prior of Q in samples, (k, k)."""
    return np.full((k, k), SPREAD / k) + strength * np.eye(k)


def _maximise(
    z: np.ndarray,
    labels: np.ndarray,
    prior: np.ndarray,
    centre: float,
    start: tuple[float, np.ndarray],
    tolerance: float,
) -> tuple[float, np.ndarray, float]:
    """Return beta, Q and the gradient's largest absolute entry after expectation maximisation from `start` (beta, Q).

    Each step updates Q in closed form. Each step also updates log beta, whose ridge is centred at log `centre`, by one
    step of Newton's method with the Fisher information in place of the curvature.
    """
    (n, k), (beta, layer) = z.shape, start
    labelled = np.zeros((n, k))
    labelled[np.arange(n), labels] = 1
    for _ in range(STEPS):
        p = softmax(rescale(z, beta))
        mean = np.einsum("ij,ij->i", p, z)
        variance = float(np.einsum("ij,ij,ij->i", p, z, z).mean() - (mean**2).mean())
        share = p * layer.T[labels]  # how likely each class is to have become the label
        share /= share.sum(axis=1, keepdims=True)
        counts = share.T @ labelled + prior
        totals = counts.sum(axis=1, keepdims=True)
        slope = beta * float((mean - np.einsum("ij,ij->i", share, z)).mean()) + RIDGE * math.log(beta / centre) / n
        gradient = max(abs(slope), float(np.abs(counts - layer * totals).max()) / n)
        if gradient <= tolerance:
            break
        layer = counts / totals
        step = slope / (beta**2 * max(variance, 0.0) + RIDGE / n)
        beta *= math.exp(min(max(-step, -LARGEST), LARGEST))
    return beta, layer, gradient
