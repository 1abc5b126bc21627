"""Fit top-versus-rest scaling: a temperature for whether the prediction is right, and one for the other classes.

With a as the predicted class, u_j = (z_j - z_a) / T at the temperature of TS, and t the log-odds of a there,

    log P(a) / P(not a) = v t + c,    P(j | not a) ~ exp(w u_j)

TS is the case v = w = 1, c = 0. Top-versus-rest scaling treats all classes alike, so it finds which classes are
confused only if the logits show this. On one-hot logits, it gains nothing over TS. Unlike partner scaling,
top-versus-rest scaling has no counts of confused classes, so any gain over TS is due to the logits alone.

References
----------
A. Le Coz, S. Herbin, F. Adjed, "Confidence Calibration of Classifiers with Many Classes", NeurIPS 2024: the first part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halobench.calibration.arrays import ELEMENTS_PER_BLOCK, blocks, weights_of
from halobench.calibration.calibrator import GRADIENT, Calibrator, scored
from halobench.calibration.repair.newton import minimise
from halobench.calibration.saved import savable
from halobench.calibration.scores.sample_scores import correctness, mass_of
from halobench.calibration.temperature.rescaling import rescale
from halobench.calibration.temperature.search import finite_beta

TITLE = "top-versus-rest scaling"
ABOUT = "one temperature for whether the prediction is right, and another for which class is right if it isn't"
SOURCE = "halobench; see [related methods](references.md#related-methods)"
ORDER = 15
VOTES = True
STYLE = ("#5E8C31", "H", (0, (7, 1.5)))


@savable("top_rest")
@dataclass(frozen=True)
class TopRest:
    """The map: TS's inverse temperature `beta`, and w, v and c of the module's formulas."""

    beta: float
    w: float
    v: float
    c: float

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Map logits (n, k) to calibrated logits (n, k)."""
        u, t, a = _parts(z, self.beta)
        scores = _times(self.w, u)
        scores -= _normalised(scores)[1][:, None]
        scores[np.arange(len(z)), a] = self.v * t + self.c
        return scores


def fit(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Fit v, c and w to minimise the two convex parts of the NLL, each with a slight ridge towards TS.

    The fit is finite even on separable data, and its NLL on the data used for fitting is never above TS's if TS has an
    optimum.
    """
    beta = finite_beta(logits, targets)
    parts = [_parts(logits[rows], beta)[1:] for rows in blocks(*logits.shape)]
    odds, top = (np.concatenate(each) for each in zip(*parts, strict=True))
    x, right = np.stack([odds, np.ones_like(odds)], axis=1), correctness(top, targets)
    weights = weights_of(targets)
    wrong, partly = np.flatnonzero(right < weights), np.flatnonzero((right > 0) & (right != 1))
    others = mass_of(targets[wrong], logits.shape[1])
    others[np.arange(len(wrong)), top[wrong]] = 0.0
    share = weights[wrong] - right[wrong]  # what other classes than the top one have of votes

    def moments(w: float) -> np.ndarray:
        """Return, for each of m wrong predictions, the log-sum-exp of w u, u's mean and variance, and a target, (4, m).

        Mean and variance are under softmax(w u). The target is the sum of u, weighted by the labels' mass on other
        classes.
        """
        values = np.empty((4, len(wrong)))
        for rows in blocks(len(wrong), logits.shape[1]):
            some = _parts(logits[wrong[rows]], beta)[0]
            u = np.where(np.isfinite(some), some, 0.0)
            p, total = _normalised(_times(w, some))
            mean = (p * u).sum(axis=1)
            target = np.einsum("ij,ij->i", others[rows], u)
            values[:, rows] = total, mean, (p * u**2).sum(axis=1) - mean**2, target
        return values

    def which(w: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        total, mean, variance, target = moments(w[0])
        value = float((share * total - w[0] * target).sum())
        return value, (share * mean - target).sum(keepdims=True), (share * variance).sum().reshape(1, 1)

    def whether(v: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        score = x @ v
        p = np.exp(-np.logaddexp(0.0, -score))
        value = (weights * np.logaddexp(0.0, score)).sum() - score[right == 1].sum() - right[partly] @ score[partly]
        return float(value), (weights * p - right) @ x, (x * (weights * p * (1 - p))[:, None]).T @ x

    # The ridge is in units of u. Scaling it by the size of u would make it too strong: u is large, because most classes
    # are far below the top.
    rest = minimise(which, np.ones(1))
    head = minimise(whether, np.array([1.0, 0.0]), np.array([float(np.sqrt((odds**2).mean())) or 1.0, 1.0]))

    transform = TopRest(beta, float(rest.weights[0]), float(head.weights[0]), float(head.weights[1]))
    gradient = max(rest.gradient, head.gradient) / len(targets)
    return scored(transform, logits, targets, gradient, gradient <= GRADIENT, ELEMENTS_PER_BLOCK)


def _parts(logits: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return u (n, k), which is -inf at the top class, and the top class's log-odds and index, (n,) each."""
    u, top = rescale(logits, beta), logits.argmax(axis=1)
    u = u - u[np.arange(len(u)), top][:, None]
    u[np.arange(len(u)), top] = -np.inf
    return u, -_normalised(u)[1], top


def _times(factor: float, scores: np.ndarray) -> np.ndarray:
    """Multiply scores by a factor of any sign; -inf stays -inf."""
    return np.multiply(scores, factor, out=np.full_like(scores, -np.inf), where=np.isfinite(scores))


def _normalised(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the softmax of rows (n, k) and their log-sum-exp (n,)."""
    highest = scores.max(axis=1, keepdims=True)
    p = np.exp(scores - highest)
    total = p.sum(axis=1, keepdims=True)
    return p / total, (highest + np.log(total)).ravel()
