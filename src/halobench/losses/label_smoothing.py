"""Label smoothing.

Source: C. Szegedy et al., Rethinking the Inception Architecture for Computer Vision (2016), section 7.
"""

from __future__ import annotations

import torch

from halobench.core.errors import require
from halobench.core.spec_codec import convert_number
from halobench.losses.base import Loss, soft_cross_entropy


class LabelSmoothing(Loss):
    """Cross entropy against (1 - epsilon) t + epsilon / k, with epsilon in [0, 1)."""

    def __init__(self, *, epsilon: float = 0.1):
        self.epsilon = convert_number(float, "epsilon", epsilon)
        require(0 <= self.epsilon < 1, "epsilon", epsilon, "a fraction in [0, 1)")

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return soft_cross_entropy(logits, targets * (1 - self.epsilon) + self.epsilon / targets.shape[1])
