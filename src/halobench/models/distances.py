"""Compute distances to training samples with matrix products."""

from __future__ import annotations

import torch
from torch import nn

IMPRECISE = 1e-3  # fraction of the norms; products lose about 1e-6 of the norms to cancellation


def squared_distances(samples: torch.Tensor, others: torch.Tensor, excluded: torch.Tensor) -> torch.Tensor:
    """Return squared Euclidean distances (m, N) from samples (m, D) to others (N, D).

    Distances are infinite for exact copies, and for the pairs in the mask `excluded` (m, N). Distances are computed
    with matrix products, except for samples with a neighbour so near that rounding would hide its distance.
    """
    norms, other_norms = (samples**2).sum(dim=1), (others**2).sum(dim=1)
    square = (norms[:, None] - 2 * samples @ others.T + other_norms).masked_fill_(excluded, torch.inf)
    near = (square <= IMPRECISE * (norms[:, None] + other_norms)).any(dim=1)
    if near.any():
        direct = torch.cdist(samples[near], others, compute_mode="donot_use_mm_for_euclid_dist").square()
        square[near] = direct.masked_fill_(excluded[near] | (direct == 0), torch.inf)
    return square


class AroundSamples(nn.Module):
    """A model built around its training samples, which it receives through `hold`."""

    centre: torch.Tensor
    points: torch.Tensor

    def hold(self, inputs: torch.Tensor) -> None:
        """Store training samples (N, ...)."""
        samples = inputs.flatten(1)
        # Distances are computed from products; centring both factors first keeps cancellation small.
        centre = samples.mean(dim=0)
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("points", samples - centre, persistent=False)

    def nearness(self, images: torch.Tensor) -> torch.Tensor:
        """Return -1/2 times the squared distances (n, N) from images (n, ...) to samples, plus a constant per image."""
        queries = images.flatten(1) - self.centre
        return queries @ self.points.T - (self.points**2).sum(dim=1) / 2
