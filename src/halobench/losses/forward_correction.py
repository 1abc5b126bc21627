"""Define forward correction, for labels whose noise is known."""

from __future__ import annotations

import numpy as np
import torch

from halobench.losses.base import Loss, send, soft_cross_entropy

TITLE = "Forward correction"
ABOUT = "cross-entropy of the label with noise, whose probabilities are the model's times the known noise matrix"
SOURCE = (
    "G. Patrini et al., *Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach*, CVPR 2017, "
    "[arXiv 1609.03683](https://arxiv.org/abs/1609.03683), section 3.2"
)
ORDER = 9
STYLE = ("#7A4419", (7, 1, 0), (0, (5, 1, 2, 1)))


class ForwardCorrection(Loss):
    """Cross entropy of the targets against softmax(z) T, for the model's outputs z and the data set's noise T.

    T has the entries P(label = j | clean label = i). At the minimum of the expected loss, softmax(z) T is the posterior
    of the label with noise. If T is invertible, softmax(z) is then the posterior of the label without noise. (For pair
    flips with p = .5, T may not be invertible.) Scores and calibrators, which concern the label with noise, get
    log(softmax(z) T). Without noise, the loss is cross entropy.
    """

    LABELS = True
    log_transition: np.ndarray | None = None  # float32 (k, k); unknown until `learn_noise`

    def learn_noise(self, transition: np.ndarray) -> None:
        with np.errstate(divide="ignore"):
            self.log_transition = np.log(transition).astype(np.float32)

    def label_logits(self, logits: torch.Tensor) -> torch.Tensor:
        if self.log_transition is None:
            return logits
        clean = torch.log_softmax(logits, dim=1)
        return torch.logsumexp(clean[:, :, None] + send(self.log_transition, logits.device), dim=1)

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return soft_cross_entropy(self.label_logits(logits), targets)
