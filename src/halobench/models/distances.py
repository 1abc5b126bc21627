"""Distances to training samples, computed with matrix products."""

from __future__ import annotations

import torch
from torch import nn


def squared_distances(
    samples: torch.Tensor, norms: torch.Tensor, others: torch.Tensor, other_norms: torch.Tensor
) -> torch.Tensor:
    """Return squared Euclidean distances (m, N) from samples (m, D) to others (N, D), given both sides' squared norms.

    The expanded square loses about 1e-6 of the norms to cancellation; the caller decides which distances are too small,
    relative to the sum of norms, to be trusted.
    """
    return norms[:, None] - 2 * samples @ others.T + other_norms


class AroundSamples(nn.Module):
    """A model built around its training samples, which it receives through `hold`."""

    centre: torch.Tensor
    points: torch.Tensor

    def hold(self, inputs: torch.Tensor) -> None:
        """Store the training samples (N, ...)."""
        samples = inputs.flatten(1)
        # Distances are computed from products; centring both sides first keeps cancellation small.
        centre = samples.mean(dim=0)
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("points", samples - centre, persistent=False)

    def nearness(self, images: torch.Tensor) -> torch.Tensor:
        """Return minus half the squared distances (n, N) from images (n, ...) to samples, plus a constant per image."""
        queries = images.flatten(1) - self.centre
        return queries @ self.points.T - (self.points**2).sum(dim=1) / 2
