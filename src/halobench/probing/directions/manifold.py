"""Draw random directions in the span of the training set's leading principal components.

Mixup trains along the lines between training samples, but not along these directions.
"""

from __future__ import annotations

import numpy as np
import torch

from halobench.probing.rays import TrainingPoints

TITLE = "Principal components"
ABOUT = "in a random direction in the span of the training data's leading principal components"
ORDER = 4


def directions(
    points: torch.Tensor,
    labels: np.ndarray,
    training_points: TrainingPoints,
    *,
    count: int,
    rng: np.random.Generator,
    components: int = 32,
) -> torch.Tensor:
    """Draw standard normal vectors (m, count, D) in the span of at most `components` principal components."""
    basis = training_points.basis(components)
    normal = rng.standard_normal((len(points), count, len(basis)), dtype=np.float32)
    return torch.from_numpy(normal).to(points) @ basis
