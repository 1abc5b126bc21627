"""Define RegMixup, which adds Mixup as a regulariser to the loss on the clean batch."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from halobench.core.specs.codec import Positive, checked
from halobench.losses.mixup import Mixup

TITLE = "RegMixup"
ABOUT = "cross-entropy plus Mixup as a regulariser"
SOURCE = "F. Pinto et al., *RegMixup*, NeurIPS 2022, [arXiv 2206.14502](https://arxiv.org/abs/2206.14502)"
ORDER = 7
STYLE = ("#2516D9", "*", (0, (7, 1.5)))

ROWS = 2  # number of rows that `mix` returns per input row; time estimates rely on it


class Regmixup(Mixup):
    """Cross entropy of the clean batch plus eta times the cross entropy of its two-sample Mixup.

    `mix` returns 2n rows, the batch followed by its Mixup. The batch and its Mixup pass through the model together, so
    batch norm sees both. Since cross entropy is linear in the target, the weights of the two terms are folded into the
    targets, whose rows sum to 2 and 2 eta. The loss is then the mean over the 2n rows.

    Parameters
    ----------
    alpha : float
        Concentration of Mixup's weights, positive; a large value mixes evenly, far from the clean samples.
    eta : float
        Weight of the Mixup term, positive.
    weights : {"batch", "sample"}
        Draw weights once per batch or once per row, as in `Mixup`.

    Raises
    ------
    SpecError
        If a value is out of range.
    """

    @checked
    def __init__(
        self,
        *,
        alpha: Positive = 10.0,
        eta: Positive = 1.0,
        weights: Literal["batch", "sample"] = "batch",
    ):
        super().__init__(points=2, alpha=alpha, weights=weights)
        self.eta = eta

    def mix(
        self, inputs: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mixed, soft = super().mix(inputs, targets, rng)
        return torch.cat([inputs, mixed]), torch.cat([2 * targets, 2 * self.eta * soft])
