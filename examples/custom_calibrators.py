"""Offer halobench's calibrators to CalArena (arXiv 2605.30188): put this file in its folder, next to its runner.

    python run_benchmark.py --benchmark tabrepo-binary --calibrator halobench-auto

Its runner imports `CUSTOM_CALIBRATORS`, names and what makes a new calibrator, and calls ``fit`` and ``predict_proba``
with probabilities (n, k), or (n,) for the second of two classes, and labels from 0 to k - 1; calibration sets may have
no label of some classes. ``auto`` chooses among temperature scaling and the others by cross-fitting, and `fitted.fit_`
says what was fitted: its optimum, whether that is proved, and whether the set is separable.
"""

from __future__ import annotations

from functools import partial
from typing import Self

import numpy as np

from halobench.sklearn import PostHoc


class Halobench:
    """A calibrator of probabilities, by its name in halobench."""

    def __init__(self, name: str = "auto"):
        self.name = name

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit to probabilities (n, k) and labels (n,)."""
        classes = np.arange(X.shape[1] if X.ndim == 2 and X.shape[1] > 1 else 2)
        self.fitted = PostHoc(self.name, probabilities=True, classes=classes).fit(X, y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (n, k)."""
        return self.fitted.predict_proba(X)


NAMES = ("auto", "top_rest", "partner", "matrix")
CUSTOM_CALIBRATORS = {f"halobench-{name}": partial(Halobench, name) for name in NAMES}
