"""Draw uniformly random directions."""

from __future__ import annotations

import numpy as np
import torch

from halobench.probing.rays import TrainingPoints

TITLE = "Random direction"
ABOUT = "away from a point in a random direction"
ORDER = 1


def directions(
    points: torch.Tensor, labels: np.ndarray, training_points: TrainingPoints, *, count: int, rng: np.random.Generator
) -> torch.Tensor:
    """Draw standard normal vectors (m, count, D), whose directions are uniform on the sphere."""
    normal = rng.standard_normal((len(points), count, points.shape[1]), dtype=np.float32)
    return torch.from_numpy(normal).to(points)
