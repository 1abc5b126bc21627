"""CutMix.

Source: S. Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features (2019),
section 3.1.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from halobench.core.errors import SpecError, require
from halobench.core.spec_codec import convert_number
from halobench.losses.base import Loss, soft_cross_entropy


class Cutmix(Loss):
    """Cross entropy of images into each of which a box of another image is pasted, with targets mixed by its area.

    The box, one for the whole batch, has the image's proportions and its centre on a pixel, evenly drawn. Its sides are
    sqrt(1 - share) of the image's, share ~ Beta(alpha, alpha), rounded to pixels; parts outside the image are cut off.
    Targets are mixed by the area that remains. The other images are a random permutation of the batch.

    Parameters
    ----------
    alpha : float
        Parameter of the Beta distribution, above 0; 1 draws the share evenly.
    probability : float
        With which a batch is mixed, in (0, 1]; the authors take 1 on ImageNet and 0.5 on CIFAR.

    Raises
    ------
    SpecError
        On a value out of its range; from `mix`, on inputs that aren't images (n, C, H, W).
    """

    def __init__(self, *, alpha: float = 1.0, probability: float = 1.0):
        self.alpha = convert_number(float, "alpha", alpha)
        self.probability = convert_number(float, "probability", probability)
        require(self.alpha > 0, "alpha", alpha, "a number above 0")
        require(0 < self.probability <= 1, "probability", probability, "a probability in (0, 1]")

    def mix(
        self, inputs: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if inputs.dim() != 4:
            raise SpecError("inputs", f"shape {tuple(inputs.shape)}", "images (n, C, H, W), which a box is cut from")
        share = rng.beta(self.alpha, self.alpha)
        rows, columns = (_side(size, math.sqrt(1 - share), rng) for size in inputs.shape[2:])
        order = torch.from_numpy(rng.permutation(len(inputs))).to(inputs.device, non_blocking=True)
        if rng.random() >= self.probability:  # drawn last, so that other probabilities see the same boxes
            return inputs, targets
        mixed = inputs.clone()
        mixed[:, :, rows, columns] = inputs[:, :, rows, columns][order]
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start) / math.prod(inputs.shape[2:])
        return mixed, targets * (1 - pasted) + targets[order] * pasted

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return soft_cross_entropy(logits, targets)


def _side(size: int, ratio: float, rng: np.random.Generator) -> slice:
    """Draw one side of the box, on an axis of `size` pixels."""
    length = round(size * ratio)
    start = int(rng.integers(size)) - length // 2
    return slice(max(start, 0), min(start + length, size))
