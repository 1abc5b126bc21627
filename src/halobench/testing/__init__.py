"""Check your own code in your own tests: plug-ins of halobench, and any implementation of temperature scaling.

A check that fails raises an AssertionError that explains what is wrong.
"""

from __future__ import annotations

from halobench.testing.logit_sets import TemperatureSet, temperature_sets
from halobench.testing.optimum import Optimum
from halobench.testing.plugin_checks import (
    check,
    check_calibrator,
    check_direction,
    check_display,
    check_loss,
    check_metric,
    check_model,
    check_source,
)

__all__ = [
    "Optimum",
    "TemperatureSet",
    "check",
    "check_calibrator",
    "check_direction",
    "check_display",
    "check_loss",
    "check_metric",
    "check_model",
    "check_source",
    "temperature_sets",
]
