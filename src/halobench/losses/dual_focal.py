"""Define the dual focal loss."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from halobench.core.specs.codec import Number, checked
from halobench.losses.base import Loss

TITLE = "Dual focal"
ABOUT = "focal loss that also pushes down the runner-up class"
SOURCE = (
    "L. Tao, M. Dong and C. Xu, *Dual Focal Loss for Calibration*, ICML 2023, [arXiv "
    "2305.13665](https://arxiv.org/abs/2305.13665)"
)
ORDER = 5
STYLE = ("#C0168F", "<", (0, (2, 1)))


class DualFocal(Loss):
    """The batch mean of -sum_i t_i (1 - p_i + q_i)^gamma log p_i for targets t and predicted probabilities p.

    In this formula, q_i is the largest probability below p_i, or 0 if no probability is below p_i. For a label, the
    loss is that of Tao et al.: focal loss with a term for the next less likely class. For a soft target, the losses of
    the classes are weighted by the target, as in focal loss. The gradient also flows through q.

    Parameters
    ----------
    gamma : float
        Exponent, at least 0 (0 gives cross entropy); the authors use 5.

    Raises
    ------
    SpecError
        If a value is out of range.
    """

    @checked
    def __init__(self, *, gamma: Annotated[Number, Field(ge=0)] = 5.0):
        self.gamma = gamma

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        log_p = torch.log_softmax(logits, dim=1)
        # As in focal loss, expm1 keeps 1 - p exact and the floor keeps the power's gradient finite for gamma < 1.
        rest = (next_below(log_p.exp()) - torch.expm1(log_p)).clamp_min(torch.finfo(logits.dtype).tiny)
        return -(targets * rest**self.gamma * log_p).sum(dim=1).mean()


def next_below(values: torch.Tensor) -> torch.Tensor:
    """Return, for each entry of `values` (n, k), the next smaller entry in its row, or 0 for a row's smallest entry."""
    rising, order = values.sort(dim=1)
    place = torch.arange(values.shape[1], device=values.device).expand_as(order)
    # Equal entries form a run; the next smaller entry is the one just before the run starts.
    opens = torch.zeros_like(order)
    opens[:, 1:] = torch.where(rising[:, 1:] > rising[:, :-1], place[:, 1:], 0)
    start = opens.cummax(dim=1).values
    below = rising.gather(1, (start - 1).clamp_min(0)) * (start > 0)
    return torch.empty_like(below).scatter(1, order, below)
