"""Bound the log odds against samples' labels from above, on balls around the samples.

With t_j = beta (z_j - z_y), the confidence in the label y is 1 / (1 + sum_j exp(t_j)), where j != y. Rows of a
network's logits bound each t_j from both sides, so t_j is in [l_j, u_j] on the ball. Then

    sum_j exp(t_j)  <=  sum_j exp(u_j)                                      (each class at its worst), and
    sum_j exp(t_j)  <=  sum_j (exp(u_j) - s_j u_j) + max of sum_j s_j t_j,  s_j = (exp(u_j) - exp(l_j)) / (u_j - l_j),

since the exponential lies below its chord. The second bound treats the sum of s_j t_j as a single row, so it takes into
account that not all classes can be at their worst at once. The smaller of the two bounds is used.

At an infinite beta, the largest of z_j - z_y takes the place of the log odds: this difference is negative where the
label has the largest logit.
"""

from __future__ import annotations

import math

import torch

from halobench.models.piecewise.maps import Patch
from halobench.probing.certify.bounds import Balls

ROUNDED = 1e-12  # relative error, far above the loss of float64 in a sum of exponentials


def log_odds(margins: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the log odds (m,), rounded up, against labels whose logits exceed the others by margins (m, k - 1)."""
    if math.isinf(beta):
        return margins.neg().amax(dim=1) + ROUNDED * (1 + margins.abs().amax(dim=1))
    scaled = beta * margins
    return scaled.neg().logsumexp(dim=1) + ROUNDED * (1 + scaled.abs().amax(dim=1))


def contrasts(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return rows (m, k - 1, k), each of which subtracts the logit of another class from the label's logit."""
    one = torch.eye(classes, dtype=torch.float64)
    others = torch.arange(classes) != labels[:, None]
    return (one[labels][:, None] - one)[others].view(len(labels), classes - 1, classes)


class Odds:
    """Bounds on the log odds against labels, whose `contrasts` are `rows`, on balls and smaller concentric balls."""

    def __init__(self, balls: Balls, rows: torch.Tensor, beta: float):
        self.balls, self.beta, count = balls, beta, rows.shape[1]
        if math.isinf(beta):
            self.least, self.norms = self._carried(rows)
            return
        least, norms = self._carried(torch.cat([rows, -rows], dim=1))
        self.least, self.norms = least[:, :count], norms[:, :count]
        worst = least - balls.radii[:, None] * norms
        upper, lower = -beta * worst[:, :count], beta * worst[:, count:]
        self.top = upper.amax(dim=1)
        high, low = (upper - self.top[:, None]).exp(), (lower - self.top[:, None]).exp()
        slopes = (high - low).clamp_min(0) / (upper - lower).clamp_min(1e-9)  # a flatter line is also an upper bound
        self.constant = (high - slopes * upper).sum(dim=1)
        self.constant += ROUNDED * (high + (slopes * upper).abs()).sum(dim=1)
        least, norms = self._carried(beta * (slopes[..., None] * rows).sum(dim=1, keepdim=True))
        self.joint_least, self.joint_norms = least[:, 0], norms[:, 0]

    def _carried(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Propagate rows (m, q, k) of logits to the input; return their least values at centres, and norms, (m, q)."""
        sample = torch.arange(len(rows)).repeat_interleave(rows.shape[1])
        lines = self.balls.rows(len(self.balls.network.steps) - 1, Patch(rows.flatten(0, 1)), sample)
        return lines.least.view(rows.shape[:2]), lines.norms.view(rows.shape[:2])

    def bound(self, radii: torch.Tensor) -> torch.Tensor:
        """Return the bounds (m,) on balls of the given radii (m,), which must not exceed the original radii."""
        simple = log_odds(self.least - radii[:, None] * self.norms, self.beta)
        if math.isinf(self.beta):
            return simple
        joint = self.constant - (self.joint_least - radii * self.joint_norms)
        return torch.minimum(simple, self.top + joint.clamp_min(1e-300).log() + ROUNDED * (1 + self.top.abs()))

    def reach(self, budget: float) -> torch.Tensor:
        """Return the largest radius (m,) within each ball at which the bound is at most `budget`, or 0 if none is."""
        high = self.balls.radii
        low = torch.where(self.bound(high) <= budget, high, torch.zeros_like(high))
        for _ in range(40):
            middle = (low + high) / 2
            fine = self.bound(middle) <= budget
            low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
        return low
