"""Check losses on a random batch, before any model is trained with them."""

from __future__ import annotations

import math

import numpy as np
import torch

from halobench.core.errors import RefusedError, SpecError, describe_error, refuse
from halobench.core.specs.training import LossSpec
from halobench.losses import base
from halobench.losses.mixup import Mixup

SMALL = (1, 4, 4)  # the shape of the images on which losses are tried


def check_loss(spec: LossSpec, batch: int = 4, classes: int = 3, shape: tuple[int, ...] = SMALL) -> int:
    """Check that a loss can score a random batch; return the number of rows in the batch that its `mix` returns."""
    loss = base.build(spec)
    images, labels = torch.rand(batch, *shape), torch.arange(batch) % classes
    targets = labels if base.takes_labels(loss) else torch.eye(classes)[labels]
    try:
        mixed, soft = loss.mix(images, targets, np.random.default_rng(0))
        shapes = tuple(mixed.shape), tuple(soft.shape)
        logits = torch.linspace(-1, 1, len(soft) * classes).view(-1, classes).requires_grad_()
        value = loss(logits, soft)
        is_tensor = isinstance(value, torch.Tensor)
        learns = is_tensor and value.shape == () and value.requires_grad
        returned = f"a tensor of shape {tuple(value.shape)}" if is_tensor else f"a {type(value).__name__}"
        returned += " without a gradient" if is_tensor and not value.requires_grad else ""
        number = value.item() if learns else 0.0
    except SpecError as error:  # raised because of these samples
        raise RefusedError("name", f"{spec.name} can't be used for these samples: {error.sentence}") from None
    except Exception as error:
        raise RefusedError("name", f"{spec.name} can't score a batch ({describe_error(error)})") from error
    rows = max(shapes[1][0], 1) if shapes[1] else 1
    if shapes != ((rows, *images.shape[1:]), (rows, *targets.shape[1:])):
        batch_shapes = f"a batch with shapes {tuple(images.shape)} and {tuple(targets.shape)}"
        wanted = f"{batch_shapes}, possibly with a different number of rows (at least one, and the same in both)"
        raise RefusedError(
            "name", f"mix of {spec.name} returned shapes {shapes[0]} and {shapes[1]}; it must return {wanted}"
        )
    what = f"{spec.name} returned {returned}; a loss must return a scalar tensor with a gradient"
    refuse(not learns, "name", what)
    refuse(
        not math.isfinite(number), "name", f"{spec.name} is {number} for logits from -1 to 1; it must be finite there"
    )
    return rows


def check_batch(spec: LossSpec, batch: int, shape: tuple[int, ...] = SMALL) -> int:
    """Check a loss on a random batch of `batch` samples; return the number of rows that its `mix` makes of them."""
    loss = base.build(spec)
    if isinstance(loss, Mixup) and loss.points > batch:
        what = f"at most the batch size, {batch}, since each mixed sample comes from another ordering of the batch"
        raise SpecError("points", loss.points, what)
    return check_loss(spec, batch, shape=shape)
