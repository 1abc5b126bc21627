"""Vector scaling: one weight and one bias per class, fitted by Newton's method in float64.

probmetrics fits it too, but in float32, and returns the logits unchanged if its optimiser doesn't report success.

References
----------
C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

import numpy as np

from halobench.calibration.arrays import blocks
from halobench.calibration.calibrator import GRADIENT, Calibrator, scored, without_optimum
from halobench.calibration.rescaling import spread
from halobench.calibration.sample_scores import cross_entropy, softmax
from halobench.calibration.temperature_scaling import fit_exactly

LIBRARIES = ("scipy",)

RIDGE = 1e-6
"""Penalty on the distance from TS; it makes the optimum finite and unique even if validation is missing classes."""


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Minimise NLL + RIDGE / 2 x (squared distance from TS), measured in weights of unit-spread logits and biases.

    The penalty is 0 at TS, so the NLL on these data is at most that of TS.

    Parameters
    ----------
    logits : (n, k) float64 array
    labels : (n,) integers in [0, k)

    Returns
    -------
    Calibrator
        Has no transform if TS has no finite optimum.
    """
    from scipy.optimize import minimize

    ts = fit_exactly(logits, labels)
    if ts.separable:
        return without_optimum(ts)
    k = logits.shape[1]
    unit = spread(logits)
    start = np.repeat([ts.beta * unit, 0.0], k)
    objective = Objective(logits / unit, labels, start)
    optimum = minimize(
        objective.value,
        start,
        method="trust-exact",
        jac=objective.gradient,
        hess=objective.hessian,
        options={"gtol": GRADIENT / 100, "maxiter": 200},
    ).x
    weights, biases = optimum[:k] / unit, optimum[k:]
    gradient = float(np.abs(objective.gradient(optimum)).max())
    return scored(lambda z: z * weights + biases, logits, labels, gradient, gradient <= GRADIENT)


class Objective:
    """The penalised NLL of `features` (n, k), with its gradient and Hessian, at (weights, biases), (2k,)."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, centre: np.ndarray):
        self.features, self.labels, self.centre = features, labels, centre
        self.latest: tuple[bytes, float, np.ndarray, np.ndarray] | None = None

    def value(self, x: np.ndarray) -> float:
        """Return the penalised mean NLL in nats."""
        return self._derivatives(x)[0]

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Return the gradient, (2k,)."""
        return self._derivatives(x)[1]

    def hessian(self, x: np.ndarray) -> np.ndarray:
        """Return the Hessian, (2k, 2k)."""
        return self._derivatives(x)[2]

    def _derivatives(self, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return value, gradient and Hessian, cached for the latest `x`, since the optimiser asks for each in turn."""
        if self.latest is None or self.latest[0] != x.tobytes():
            self.latest = (x.tobytes(), *self._evaluate(x))
        return self.latest[1:]

    def _evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        n, k = self.features.shape
        nll, gradient, hessian = 0.0, np.zeros(2 * k), np.zeros((2 * k, 2 * k))
        for rows in blocks(n, k):
            s, y = self.features[rows], self.labels[rows]
            z = s * x[:k] + x[k:]
            nll += float(cross_entropy(z, y).sum())
            p = softmax(z)
            both = np.hstack([p * s, p])
            hessian -= both.T @ both
            for i, j, terms in ((0, 0, p * s * s), (0, k, p * s), (k, 0, p * s), (k, k, p)):
                hessian[np.arange(i, i + k), np.arange(j, j + k)] += terms.sum(axis=0)
            p[np.arange(len(y)), y] -= 1
            gradient += np.concatenate([(p * s).sum(axis=0), p.sum(axis=0)])
        away = x - self.centre
        penalty = RIDGE / 2 * float(away @ away)
        return nll / n + penalty, gradient / n + RIDGE * away, hessian / n + RIDGE * np.eye(2 * k)
