"""Define Mixup of two or more samples; d-Mixup mixes d + 1 samples."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from halobench.core.specs.codec import Positive, Whole, checked
from halobench.losses.base import Loss, send, soft_cross_entropy

TITLE = "Mixup"
ABOUT = "trains on convex combinations of two samples and their labels"
SOURCE = (
    "H. Zhang et al., *mixup: Beyond Empirical Risk Minimization*, ICLR 2018, [arXiv "
    "1710.09412](https://arxiv.org/abs/1710.09412), for two samples; arXiv 2306.00740, for d + 1 samples"
)
ORDER = 6
STYLE = ("#56B4E9", "s", (0, (5, 1.2)))
FAMILY = "Mixup of several samples"
# Its names in configurations, by number of points.
VARIANTS = {
    "mixup2": {
        "OPTIONS": {"points": 2},
        "TITLE": "2-point Mixup",
        "ABOUT": "trains on convex combinations of two samples and their labels",
        "STYLE": ("#56B4E9", "s", (0, (5, 1.2))),
    },
    "mixup3": {
        "OPTIONS": {"points": 3},
        "TITLE": "3-point Mixup",
        "ABOUT": "trains on convex combinations of three samples and their labels",
        "STYLE": ("#0072B2", "P", (0, (4, 2))),
    },
    "mixup5": {
        "OPTIONS": {"points": 5},
        "TITLE": "5-point Mixup",
        "ABOUT": "trains on convex combinations of five samples and their labels",
        "STYLE": ("#332288", "D", (0, (3, 1, 1, 1))),
    },
}


class Mixup(Loss):
    """Cross entropy at convex combinations of training samples.

    The weights of the batch and of `points` - 1 random permutations of it are drawn from Dirichlet(alpha, ..., alpha).
    With the same weights, the loss averages the cross entropies against the targets of the samples in a combination.
    Since cross entropy is linear in the target, this average equals the cross entropy against the mixed target.

    Parameters
    ----------
    points : int
        Number of training samples to mix, d + 1; at least 2.
    alpha : float
        Concentration of the weights, positive; 1 makes them uniform on the simplex.
    weights : {"batch", "sample"}
        Draw weights once per batch (as in the paper's released code) or once per row.

    Raises
    ------
    SpecError
        If a value is out of range.
    """

    @checked
    def __init__(
        self,
        *,
        points: Annotated[Whole, Field(ge=2)] = 2,
        alpha: Positive = 1.0,
        weights: Literal["batch", "sample"] = "batch",
    ):
        self.points, self.alpha, self.weights = points, alpha, weights

    def mix(
        self, inputs: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(inputs)
        draws = rng.dirichlet(np.full(self.points, self.alpha), size=count if self.weights == "sample" else 1)
        shares = send(np.ascontiguousarray(draws.T, dtype=np.float32), inputs.device)
        wide = shares.view(self.points, -1, *[1] * (inputs.dim() - 1))
        mixed, soft = inputs * wide[0], targets * shares[0, :, None]
        for member in range(1, self.points):
            order = send(rng.permutation(count), inputs.device)
            mixed.addcmul_(inputs[order], wide[member])
            soft.addcmul_(targets[order], shares[member, :, None])
        return mixed, soft

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return soft_cross_entropy(logits, targets)
