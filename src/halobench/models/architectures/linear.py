"""Define a linear model: multinomial logistic regression."""

from __future__ import annotations

import math

from torch import nn

TITLE = "Linear"
ORDER = 1


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build a linear layer from a flattened sample to its logits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))
