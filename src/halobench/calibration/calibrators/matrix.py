"""Structured matrix scaling, using its authors' own code, probmetrics 1.3 (Apache-2.0).

It starts from TS and derives its penalty from the numbers of samples and classes, so nothing needs tuning. The library
computes in float32 and imports torch, which takes seconds per job, so it is an optional extra.

References
----------
E. Berta et al., "Structured Matrix Scaling for Multi-Class Calibration", AISTATS 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from halobench.calibration.calibrator import Calibrator, logarithm, scored
from halobench.calibration.sample_scores import softmax

TITLE = "matrix scaling"
ABOUT = "an affine map of the logits"
SOURCE = (
    "E. Berta et al., *Structured Matrix Scaling for Multi-Class Calibration*, [arXiv "
    "2511.03685](https://arxiv.org/abs/2511.03685); fitted with probmetrics"
)
ORDER = 7
STYLE = ("#0A2F66", ">", (0, (6, 1, 1, 1, 1, 1)))

EXTRA = "posthoc"
PACKAGES = ("probmetrics", "numba")
LIBRARIES = ("probmetrics", "pytorch-minimize", "torch")

FLOAT32_GRADIENT = 1e-3
"""The largest gradient at which a fit counts as converged, for a library that computes in float32."""


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit structured matrix scaling with a ridge penalty, as probmetrics does.

    Parameters
    ----------
    logits : (n, k) float64 array
    labels : (n,) integers in [0, k)

    Returns
    -------
    Calibrator
    """
    from probmetrics.calibrators import SMSCalibrator

    return fit_library(SMSCalibrator(penalty="ridge", opt="bfgs"), _largest_slope, logits, labels)


def fit_library(
    library: Any, largest_slope: Callable[..., float], logits: np.ndarray, labels: np.ndarray
) -> Calibrator:
    """Fit a calibrator of probmetrics; `largest_slope` returns the largest entry of its objective's gradient."""
    library = library.fit(softmax(logits), labels.astype(np.int64))

    def transform(z: np.ndarray) -> np.ndarray:
        return logarithm(library.predict_proba(softmax(z)).astype(np.float64))

    gradient = largest_slope(library, logits, labels)
    return scored(transform, logits, labels, gradient, gradient <= FLOAT32_GRADIENT)


def _largest_slope(library: Any, logits: np.ndarray, labels: np.ndarray) -> float:
    """Compute the largest entry of the gradient of the library's objective, which the library doesn't report itself."""
    n, k = logits.shape
    s = logarithm(library.ts_.predict_proba(softmax(logits)).astype(np.float64))
    W, b = library.W_[:, :k].astype(np.float64), library.W_[:, k].astype(np.float64)
    residual = softmax(s @ W.T + b)
    residual[np.arange(n), labels] -= 1
    # The ridges are k / n on the diagonal's distance from 1 and on the biases, and k (k - 1) / n off the diagonal.
    ridge = np.full((k, k), k * (k - 1) / n)
    np.fill_diagonal(ridge, k / n)
    slopes = residual.T @ s / n + 2 * ridge * (W - np.eye(k))
    return float(max(np.abs(slopes).max(), np.abs(residual.mean(axis=0) + 2 * k / n * b).max()))
