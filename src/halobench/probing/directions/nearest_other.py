"""Follow the line to the nearest training sample with another label."""

from __future__ import annotations

import numpy as np
import torch

from halobench.probing.rays import Rays, Surroundings, towards

TITLE = "To nearest other label"
ABOUT = "along the line to the nearest training point with a different label"
ORDER = 2

ONE_DIRECTION = "a sample has one nearest training sample of another label"


def directions(
    points: torch.Tensor, labels: np.ndarray, surroundings: Surroundings, *, count: int, rng: np.random.Generator
) -> Rays:
    """Aim one ray per sample at its nearest training sample with another label."""
    rows, _ = surroundings.nearest(points, labels)
    return towards(points, surroundings.take(rows)[:, None])
