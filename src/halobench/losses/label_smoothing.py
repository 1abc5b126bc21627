"""Define label smoothing."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from halobench.core.specs.codec import Number, checked
from halobench.losses.base import Loss, soft_cross_entropy

TITLE = "Label smoothing"
ABOUT = "cross-entropy towards labels mixed with the uniform distribution"
SOURCE = (
    "C. Szegedy et al., *Rethinking the Inception Architecture for Computer Vision*, CVPR 2016, [arXiv "
    "1512.00567](https://arxiv.org/abs/1512.00567); R. Müller et al., *When Does Label Smoothing Help?*, NeurIPS "
    "2019, [arXiv 1906.02629](https://arxiv.org/abs/1906.02629)"
)
ORDER = 2
STYLE = ("#009E73", "v", (0, (6, 1, 1, 1, 1, 1)))


class LabelSmoothing(Loss):
    """Cross entropy against the target (1 - epsilon) t + epsilon / k, with k classes and epsilon in [0, 1)."""

    @checked
    def __init__(self, *, epsilon: Annotated[Number, Field(ge=0, lt=1)] = 0.1):
        self.epsilon = epsilon

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return soft_cross_entropy(logits, targets * (1 - self.epsilon) + self.epsilon / targets.shape[1])
