"""Isotonic regression of each class's probability, using scikit-learn, which other libraries also wrap.

References
----------
B. Zadrozny, C. Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
"""

from __future__ import annotations

import numpy as np

from halobench.calibration.calibrator import Calibrator
from halobench.calibration.calibrators._by_class import Map, fit_by_class

LIBRARIES = ("scikit-learn",)


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit isotonic regression of "is it class j?" on p_j, with linear interpolation between steps, as in scikit-learn.

    Parameters
    ----------
    logits : (n, k) float64 array
    labels : (n,) integers in [0, k)

    Returns
    -------
    Calibrator
        Assigns a probability of 0 to classes missing from `labels`.
    """
    from sklearn.isotonic import IsotonicRegression

    def fit_map(p: np.ndarray, hits: np.ndarray) -> Map:
        return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, hits).predict

    return fit_by_class(fit_map, logits, labels)
