"""Follow lines like those of 2-point Mixup, to random training samples with other labels."""

from __future__ import annotations

import numpy as np
import torch

from halobench.probing.rays import Rays, TrainingPoints, towards

TITLE = "To random other label"
ABOUT = "along the line to a random training point with a different label"
ORDER = 3


def directions(
    points: torch.Tensor, labels: np.ndarray, training_points: TrainingPoints, *, count: int, rng: np.random.Generator
) -> Rays:
    """Aim `count` rays (m, count, D) per sample at training samples with other labels, drawn with replacement."""
    rows = []
    for label in labels:
        others = np.flatnonzero(training_points.labels != label)
        rows.append(others[rng.integers(len(others), size=count)])
    targets = training_points.take(np.concatenate(rows))
    return towards(points, targets.view(len(points), count, -1))
