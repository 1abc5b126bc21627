"""Define the Brier score as a loss."""

from __future__ import annotations

import torch

from halobench.losses.base import Loss

TITLE = "Brier"
ABOUT = "squared error of the probabilities, summed over classes"
SOURCE = "G. W. Brier, *Verification of Forecasts Expressed in Terms of Probability*, Monthly Weather Review 78, 1950"
ORDER = 3
STYLE = ("#1A9A0F", "p", (0, (3, 1.5)))


class Brier(Loss):
    """The batch mean of sum_j (p_j - t_j)^2, in [0, 2], for predicted probabilities p and targets t.

    For a soft target t, the loss is the expected score of labels drawn from t, minus 1 - sum_j t_j^2, which doesn't
    depend on the model.
    """

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (torch.softmax(logits, dim=1) - targets).square().sum(dim=1).mean()
