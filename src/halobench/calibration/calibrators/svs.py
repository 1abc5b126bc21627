"""Structured vector scaling, using its authors' own code, probmetrics 1.3 (Apache-2.0).

Like structured matrix scaling (`matrix`), it starts from TS and derives its penalty from the numbers of samples and
classes, but it has one weight and one bias per class only. See `matrix` about the library.

References
----------
E. Berta et al., "Structured Matrix Scaling for Multi-Class Calibration", AISTATS 2026.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from halobench.calibration.calibrator import Calibrator, logarithm
from halobench.calibration.calibrators.matrix import fit_library
from halobench.calibration.sample_scores import softmax

EXTRA = "posthoc"
PACKAGES = ("probmetrics", "numba")
LIBRARIES = ("probmetrics", "pytorch-minimize", "torch")


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit structured vector scaling with a ridge penalty, as probmetrics does; finite even on separable data.

    Parameters
    ----------
    logits : (n, k) float64 array
    labels : (n,) integers in [0, k)
    """
    from probmetrics.calibrators import SVSCalibrator

    return fit_library(SVSCalibrator(penalty="ridge", opt="bfgs"), _largest_slope, logits, labels)


def _largest_slope(library: Any, logits: np.ndarray, labels: np.ndarray) -> float:
    """Compute the largest entry of the gradient of the library's objective, which the library doesn't report itself."""
    n, k = logits.shape
    s = logarithm(library.ts_.predict_proba(softmax(logits)).astype(np.float64))
    v, b = library.v_.astype(np.float64), library.b_.astype(np.float64)
    residual = softmax(s * v + b)
    residual[np.arange(n), labels] -= 1
    slopes = [(residual * s).mean(axis=0) + 2 * k / n * (v - 1), residual.mean(axis=0) + 2 * k / n * b]
    return float(np.abs(slopes).max())
