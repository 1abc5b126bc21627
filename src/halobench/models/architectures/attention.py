"""The normalised radial-basis classifier: softmax attention from an input to the training points.

Logits are W softmax(-|x - x_i|^2 / (2 h^2)) + b over the training points x_i. A small bandwidth h makes it a smoothed
nearest-neighbour rule, a large one averages over many points: one knob between interpolation with locality and none.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from halobench.core.errors import require
from halobench.core.spec_codec import convert_number

BLOCK = 1024  # points whose distances to all others are held at a time


class Attention(nn.Module):
    """Weights W (k, N) and b (k,) start at 0; the logarithm of the bandwidth is learned with them."""

    centre: torch.Tensor
    points: torch.Tensor

    def __init__(self, classes: int, bandwidth: float, learned: bool):
        super().__init__()
        self.classes, self.bandwidth, self.learned = classes, bandwidth, learned
        self.bias = nn.Parameter(torch.zeros(classes))

    def start(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Take the training points as centres; the bandwidth's unit is their median distance to the nearest other."""
        points = inputs.flatten(1)
        centre = points.mean(dim=0)
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("points", points - centre, persistent=False)
        unit = torch.ones((), device=points.device) if points.is_meta else median_nearest(self.points)
        self.log_bandwidth = nn.Parameter(unit.log() + math.log(self.bandwidth), requires_grad=self.learned)
        self.values = nn.Parameter(torch.zeros(len(points), self.classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        queries = images.flatten(1) - self.centre
        # The query's own norm is the same for all points, and softmax passes it over.
        nearness = queries @ self.points.T - (self.points**2).sum(dim=1) / 2
        weights = torch.softmax(nearness * torch.exp(-2 * self.log_bandwidth), dim=1)
        return weights @ self.values + self.bias


def median_nearest(points: torch.Tensor) -> torch.Tensor:
    """The median distance of points (N, D) to the nearest other that isn't a copy; 1 where there is no such point."""
    norms, least = (points**2).sum(dim=1), []
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        square = norms[start : start + BLOCK, None] - 2 * block @ points.T + norms
        copies = square <= 1e-5 * (norms[start : start + BLOCK, None] + norms)  # the point itself, and rounding
        least.append(square.masked_fill(copies, float("inf")).amin(dim=1))
    found = torch.cat(least)
    found = found[torch.isfinite(found)]
    return found.median().sqrt() if len(found) else torch.ones(())


def build(
    input_shape: tuple[int, int, int], classes: int, *, bandwidth: float = 0.25, learned: bool = True
) -> nn.Module:
    """An `Attention`.

    Parameters
    ----------
    bandwidth : float
        h at the start, above 0, in units of the training points' median distance to the nearest other training point.
    learned : bool
        Whether training changes it.

    Raises
    ------
    SpecError
        If an option is out of its range.
    """
    fine = 1e-3 <= convert_number(float, "bandwidth", bandwidth) <= 1e3
    require(fine, "bandwidth", bandwidth, "a number from 1e-3 to 1e3")
    require(isinstance(learned, bool), "learned", learned, "true or false")
    return Attention(classes, float(bandwidth), learned)
