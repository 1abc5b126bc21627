"""Define cross entropy, the loss of empirical risk minimisation (ERM)."""

from __future__ import annotations

import torch

from halobench.losses.base import Loss, soft_cross_entropy

TITLE = "Cross-entropy"
ABOUT = "empirical risk minimisation (ERM)"
SOURCE = "the negative log-likelihood"
ORDER = 1
STYLE = ("#D55E00", "o")


class CrossEntropy(Loss):
    """The batch mean of -sum_j t_j log p_j, in nats, for predicted probabilities p and targets t."""

    LABELS = True  # accepts labels as targets

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return soft_cross_entropy(logits, targets)
