"""Fit ``probmetrics/NAME``, where NAME is the class of a calibrator in probmetrics (licence: Apache-2.0).

For an option that takes another calibrator, pass the name of that calibrator's class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

PACKAGES = ("probmetrics", "numba")
LIBRARIES = ("probmetrics", "pytorch-minimize", "torch")
REFITTED = True


def fit(
    name: str, probabilities: np.ndarray, labels: np.ndarray, options: Mapping[str, Any]
) -> Callable[[np.ndarray], np.ndarray]:
    """Fit the class `name`; return a function that maps probabilities (n, k) to calibrated ones."""
    from probmetrics import calibrators

    def value_of(option: Any) -> Any:
        return getattr(calibrators, option)() if option in calibrators.__all__ else option

    build = getattr(calibrators, name)
    return build(**{key: value_of(option) for key, option in options.items()}).fit(probabilities, labels).predict_proba
