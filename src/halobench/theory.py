"""Closed forms for the error that calibration can't repair when classes overlap; see docs/theory.md."""

from halobench.calibration.overlap_theory import (
    mixup_kl_bound,
    nearest_neighbour_kl,
    partner_kl,
    posterior_entropy,
    two_level_kl,
    two_level_slope,
    uniform_kl,
)

__all__ = [
    "mixup_kl_bound",
    "nearest_neighbour_kl",
    "partner_kl",
    "posterior_entropy",
    "two_level_kl",
    "two_level_slope",
    "uniform_kl",
]
