"""Define the focal loss."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from halobench.core.specs.codec import Number, checked
from halobench.losses.base import Loss

TITLE = "Focal"
ABOUT = "cross-entropy that down-weights samples that are already well fitted"
SOURCE = (
    "T.-Y. Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017, [arXiv "
    "1708.02002](https://arxiv.org/abs/1708.02002); J. Mukhoti et al., *Calibrating Deep Neural Networks using "
    "Focal Loss*, NeurIPS 2020, [arXiv 2002.09437](https://arxiv.org/abs/2002.09437)"
)
ORDER = 4
STYLE = ("#CC79A7", "^", (0, (1.2, 1)))


class Focal(Loss):
    """The batch mean of -sum_j t_j (1 - p_j)^gamma log p_j for predicted probabilities p and targets t.

    The exponent gamma is at least 0 (0 gives cross entropy).
    """

    @checked
    def __init__(self, *, gamma: Annotated[Number, Field(ge=0)] = 3.0):
        self.gamma = gamma

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        log_p = torch.log_softmax(logits, dim=1)
        # expm1 keeps 1 - p exact for p near 1; the floor keeps the power's gradient finite for gamma < 1.
        rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(logits.dtype).tiny)
        return -(targets * rest**self.gamma * log_p).sum(dim=1).mean()
