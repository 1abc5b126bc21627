"""Define a multilayer perceptron."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from torch import nn

from halobench.core.specs.codec import Count, checked

TITLE = "MLP"
ARCHITECTURE = "MLP"
ORDER = 2


@checked
def build(input_shape: tuple[int, ...], classes: int, *, width: Count = 256, depth: Count = 2) -> nn.Module:
    """Build a network with `depth` hidden layers of `width` rectified units, applied to flattened samples."""
    return perceptron(input_shape, classes, width, depth, lambda features: ())


def perceptron(
    input_shape: tuple[int, ...],
    classes: int,
    width: int,
    depth: int,
    norm: Callable[[int], tuple[nn.Module, ...]],
) -> nn.Module:
    """Build the perceptron; `norm`, called with the number of features, returns the layers before each rectifier."""
    sizes = [math.prod(input_shape), *[width] * depth]
    hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), *norm(b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], classes))
