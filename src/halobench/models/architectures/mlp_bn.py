"""Define a multilayer perceptron with batch normalisation."""

from __future__ import annotations

from torch import nn

from halobench.core.specs.codec import Count, checked
from halobench.models.architectures.mlp import perceptron

TITLE = "MLP + BN"
ARCHITECTURE = "MLP"
ORDER = 7


@checked
def build(input_shape: tuple[int, ...], classes: int, *, width: Count = 256, depth: Count = 3) -> nn.Module:
    """Build a network with `depth` hidden layers of `width` units, each batch-normalised and then rectified."""
    return perceptron(input_shape, classes, width, depth, lambda features: (nn.BatchNorm1d(features),))
