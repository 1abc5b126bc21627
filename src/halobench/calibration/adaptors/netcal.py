"""Fit ``netcal/NAME``, where NAME is a class in netcal's ``scaling`` or ``binning`` module (licence: Apache-2.0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

PACKAGES = ("netcal",)
LIBRARIES = ("netcal", "torch")
REFITTED = True


def fit(
    name: str, probabilities: np.ndarray, labels: np.ndarray, options: Mapping[str, Any]
) -> Callable[[np.ndarray], np.ndarray]:
    """Fit the class `name`; return a function that maps probabilities (n, k) to calibrated ones."""
    from netcal import binning, scaling

    build = getattr(scaling, name, None) or getattr(binning, name)
    fitted = build(**options)
    fitted.fit(probabilities, labels)

    def calibrated(p: np.ndarray) -> np.ndarray:
        mapped = fitted.transform(p)
        # With two classes, netcal returns only the probability of the second.
        return mapped if mapped.ndim == 2 else np.stack([1 - mapped, mapped], axis=1)

    return calibrated
