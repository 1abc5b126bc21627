"""Temperature scaling mixed with a little of the uniform prediction, to keep it finite even on separable data.

This is ``ts-mix`` in probmetrics: 1 / (n + 1) of the mass is spread over all classes, following Laplace's rule for a
validation set of n samples. probmetrics finds the temperature by 30 bisections in float32.

References
----------
E. Berta, D. Holzmüller, M. I. Jordan, F. Bach, "Rethinking Early Stopping: Refine, Then Calibrate", arXiv 2501.19195.
"""

from __future__ import annotations

import math

import numpy as np

from halobench.calibration.arrays import BLOCK
from halobench.calibration.calibrator import Calibrator, scored
from halobench.calibration.rescaling import rescale, temper
from halobench.calibration.temperature_scaling import fit_exactly


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit TS exactly and mix it with the uniform prediction.

    If TS has no finite optimum, its limit is used, with all mass on the largest logit, split evenly among ties.

    Parameters
    ----------
    logits : (n, k) float64 array
    labels : (n,) integers in [0, k)
    """
    ts = fit_exactly(logits, labels)
    uniform = 1 / (len(labels) + 1)

    def transform(z: np.ndarray) -> np.ndarray:
        scaled = np.where(rescale(z, 1.0) == 0, 0.0, -np.inf) if ts.separable else temper(z, ts.beta)
        scaled -= np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        return np.logaddexp(math.log1p(-uniform) + scaled, math.log(uniform / z.shape[1]))

    return scored(transform, logits, labels, ts.gradient, ts.converged or ts.separable, BLOCK)
