"""Augment batches with random crops and mirroring, drawn on the host."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from halobench.core.specs.training import TrainSpec
from halobench.losses.base import send


def augmented(images: torch.Tensor, spec: TrainSpec, rng: np.random.Generator) -> torch.Tensor:
    """Return the images (n, C, H, W), each shifted and mirrored at random as the recipe specifies, on their device."""
    images = shifted(images, spec.random_crop, rng)
    if not spec.flip:
        return images
    mirrored = send(rng.random(len(images)) < 0.5, images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def shifted(images: torch.Tensor, most: int, rng: np.random.Generator) -> torch.Tensor:
    """Return images (n, C, H, W), each moved by random whole pixels in [-most, most] per axis; border pixels repeat."""
    if not most:
        return images
    padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
    windows = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
    down, right = send(rng.integers(2 * most + 1, size=(2, len(images))), images.device)
    return windows[torch.arange(len(images), device=images.device), :, down, right]
