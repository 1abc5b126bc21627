"""Define the one-hot nearest-neighbour interpolator, which predicts the nearest training sample's label.

No weight is trained. Unless copies of a sample differ in their labels, the model fits every training label. For overlap
distributions, this model's KL at its best temperature has a closed form
(`halobench.calibration.overlap_theory.nearest_neighbour_kl`).
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from halobench.core.specs.codec import Number, checked
from halobench.models.distances import AroundSamples

TITLE = "1-NN"
ORDER = 5


class Nearest(AroundSamples):
    """A model whose logit is `scale` for the label of the nearest training sample and 0 for every other label.

    Distances are Euclidean, and ties are broken in favour of the first sample.
    """

    targets: torch.Tensor

    def __init__(self, scale: float):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale), requires_grad=False)

    def start(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Store the training samples."""
        self.hold(inputs)
        self.register_buffer("targets", targets, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * self.targets[self.nearness(images).argmax(dim=1)]


@checked
def build(
    input_shape: tuple[int, ...], classes: int, *, scale: Annotated[Number, Field(gt=0, le=1e6)] = 20.0
) -> nn.Module:
    """Build a `Nearest`; `scale` is the predicted class's logit (at 20, confidence is about 1 - (k - 1) / 5e8)."""
    return Nearest(scale)
