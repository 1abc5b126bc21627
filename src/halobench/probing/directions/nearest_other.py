"""Follow the line to the nearest training sample with another label."""

from __future__ import annotations

import numpy as np
import torch

from halobench.probing.rays import Rays, TrainingPoints, towards

TITLE = "To nearest other label"
ABOUT = "along the line to the nearest training point with a different label"
ORDER = 2

ONE_DIRECTION = "a sample has one nearest training sample of another label"


def directions(
    points: torch.Tensor, labels: np.ndarray, training_points: TrainingPoints, *, count: int, rng: np.random.Generator
) -> Rays:
    """Aim one ray per sample at its nearest training sample with another label."""
    rows, _ = training_points.nearest(points, labels)
    return towards(points, training_points.take(rows)[:, None])
