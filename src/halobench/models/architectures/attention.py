"""Define the normalised radial-basis classifier: softmax attention from an input to the training samples.

Logits are W softmax(-|x - x_i|^2 / (2 h^2)) + b over the training samples x_i. With a small bandwidth h, the model is a
smoothed nearest-neighbour rule; with a large bandwidth, it averages over many samples.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from halobench.core.specs.codec import Flag, Number, checked
from halobench.models.distances import AroundSamples, squared_distances

TITLE = "Kernel classifier"
ORDER = 6

BLOCK = 1024  # number of samples whose distances to all others are held at once


class Attention(AroundSamples):
    """Softmax attention whose weights W (k, N) and b (k,) start at 0, and whose log bandwidth can also be learned."""

    def __init__(self, classes: int, bandwidth: float, learned: bool):
        super().__init__()
        self.classes, self.bandwidth, self.learned = classes, bandwidth, learned
        self.bias = nn.Parameter(torch.zeros(classes))

    def start(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Set the centres to the training samples; the unit of bandwidth is their median nearest-neighbour distance."""
        self.hold(inputs)
        unit = torch.ones((), device=inputs.device) if inputs.is_meta else median_nearest(self.points)
        self.log_bandwidth = nn.Parameter(unit.log() + math.log(self.bandwidth), requires_grad=self.learned)
        self.values = nn.Parameter(torch.zeros(len(inputs), self.classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # Softmax ignores terms that are the same for all samples.
        weights = torch.softmax(self.nearness(images) * torch.exp(-2 * self.log_bandwidth), dim=1)
        return weights @ self.values + self.bias


def median_nearest(samples: torch.Tensor) -> torch.Tensor:
    """Return the median distance of samples (N, D) to their nearest non-copies; 1 if all samples are copies."""
    rows = torch.arange(len(samples), device=samples.device)
    least = [squared_distances(samples[part], samples, part[:, None] == rows).amin(dim=1) for part in rows.split(BLOCK)]
    nearest = torch.cat(least)
    nearest = nearest[torch.isfinite(nearest)]
    return nearest.median().sqrt() if len(nearest) else torch.ones(())


@checked
def build(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    bandwidth: Annotated[Number, Field(ge=1e-3, le=1e3)] = 0.25,
    learned: Flag = True,
) -> nn.Module:
    """Build an `Attention`.

    `bandwidth` is the initial h, in units of the median distance from a training sample to the nearest other one;
    `learned` says whether h is trained.
    """
    return Attention(classes, bandwidth, learned)
