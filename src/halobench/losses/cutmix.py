"""Define the CutMix loss."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from halobench.core.errors import Found, SpecError
from halobench.core.specs.codec import Number, Positive, checked
from halobench.losses.base import Loss, send, soft_cross_entropy

TITLE = "CutMix"
ABOUT = "trains on images with a patch of another image pasted in"
SOURCE = "S. Yun et al., *CutMix*, ICCV 2019, [arXiv 1905.04899](https://arxiv.org/abs/1905.04899)"
ORDER = 8
STYLE = ("#662B0A", "X", (0, (5, 1, 1, 1)))


class Cutmix(Loss):
    """Cross entropy on images with a box pasted in from another image, and targets mixed according to the box's area.

    The box, shared by the whole batch, has the image's proportions and is centred on a uniformly drawn pixel. The box's
    sides, rounded to pixels, are sqrt(1 - share) times the image's, with share ~ Beta(alpha, alpha). Parts outside the
    image are cut off. Targets are mixed in proportion to the area of the box within the image. What is pasted
    comes from a random permutation of the batch.

    Parameters
    ----------
    alpha : float
        Parameter of the Beta distribution, positive; 1 makes the share uniform.
    probability : float
        Probability of mixing a batch, in (0, 1]; the authors use 1 on ImageNet and 0.5 on CIFAR.

    Raises
    ------
    SpecError
        If a value is out of range, or (raised by `mix`) if the inputs aren't images (n, C, H, W).
    """

    @checked
    def __init__(
        self,
        *,
        alpha: Positive = 1.0,
        probability: Annotated[Number, Field(gt=0, le=1)] = 1.0,
    ):
        self.alpha, self.probability = alpha, probability

    def mix(
        self, inputs: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if inputs.ndim != 4:
            raise SpecError(
                "inputs", Found(f"shape {tuple(inputs.shape)}"), "images (n, C, H, W), from which boxes can be cut"
            )
        share = rng.beta(self.alpha, self.alpha)
        rows, columns = (_side(size, math.sqrt(1 - share), rng) for size in inputs.shape[2:])
        order = send(rng.permutation(len(inputs)), inputs.device)
        if rng.random() >= self.probability:  # drawn last, so that boxes don't depend on the probability
            return inputs, targets
        mixed = inputs.clone()
        mixed[:, :, rows, columns] = inputs[:, :, rows, columns][order]
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start) / math.prod(inputs.shape[2:])
        return mixed, targets * (1 - pasted) + targets[order] * pasted

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return soft_cross_entropy(logits, targets)


def _side(size: int, ratio: float, rng: np.random.Generator) -> slice:
    """Draw where a box of `ratio` times `size` pixels lies along an axis of `size` pixels; return the pixels in it."""
    length = round(size * ratio)
    start = int(rng.integers(size)) - length // 2
    return slice(max(start, 0), min(start + length, size))
