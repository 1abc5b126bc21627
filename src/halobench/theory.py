"""Compute the KL that calibration leaves if classes overlap, and the lengths of random rays up to flat boundaries.

docs/theory.md derives the KLs, and docs/halos.md explains the rays.
"""

from halobench.analysis.random_ray_null import half_space_factor, half_space_survival
from halobench.calibration.overlap_theory import (
    mixup_kl_bound,
    nearest_neighbour_kl,
    partner_kl,
    posterior_entropy,
    two_level_kl,
    uniform_kl,
)

__all__ = [
    "half_space_factor",
    "half_space_survival",
    "mixup_kl_bound",
    "nearest_neighbour_kl",
    "partner_kl",
    "posterior_entropy",
    "two_level_kl",
    "uniform_kl",
]
