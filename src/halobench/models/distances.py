"""Distances to training samples, by matrix products."""

from __future__ import annotations

import torch
from torch import nn


def squared_distances(
    samples: torch.Tensor, norms: torch.Tensor, others: torch.Tensor, other_norms: torch.Tensor
) -> torch.Tensor:
    """Return squared Euclidean distances (m, N) of samples (m, D) to others (N, D), given the squared norms of both.

    The expanded square loses about 1e-6 of the norms to cancellation: how much below a sum of norms a distance still
    counts is for the caller to say.
    """
    return norms[:, None] - 2 * samples @ others.T + other_norms


class AroundSamples(nn.Module):
    """A model built around its training samples, which it gets by `hold`."""

    centre: torch.Tensor
    points: torch.Tensor

    def hold(self, inputs: torch.Tensor) -> None:
        """Take the training samples (N, ...)."""
        samples = inputs.flatten(1)
        # Distances come from products: centring both sides first keeps the cancellation small.
        centre = samples.mean(dim=0)
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("points", samples - centre, persistent=False)

    def nearness(self, images: torch.Tensor) -> torch.Tensor:
        """Return minus half the squared distances (n, N) of images (n, ...) to the samples, plus a number per image."""
        queries = images.flatten(1) - self.centre
        return queries @ self.points.T - (self.points**2).sum(dim=1) / 2
