import torch

from halobench import Loss

TITLE = "Poly-1"
SOURCE = "Z. Leng et al., *PolyLoss*, ICLR 2022, equation 6"


class Poly1(Loss):
    """Cross entropy + epsilon (1 - p), p the probability of the target."""

    def __init__(self, *, epsilon=1.0):
        self.epsilon = epsilon

    def __call__(self, logits, targets):
        log_p = torch.log_softmax(logits, dim=1)
        p = (targets * log_p.exp()).sum(dim=1)
        return (self.epsilon * (1 - p) - (targets * log_p).sum(dim=1)).mean()
