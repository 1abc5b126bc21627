"""Batch norm folded into the convolution before it: the same function in eval mode, with fewer passes over memory."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from typing import cast

import torch
from torch import nn

# Of probabilities, and relative to the largest logit: float32's rounding through a hundred layers stays far below.
TOLERANCE = 1e-3
TRIED = 8  # images that a folded model is tried on, and as many far from them


def checked(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Return `folded`, if it computes the same as `model` on some of `images` (n, C, H, W); else `model`.

    A model may read a sequence's parts one by one, run a slice of it, or hook a layer: the change that folding makes
    then shows here, and not in its structure. Besides images it is tried on images with a standard normal number added
    to each pixel, about as far out as a probe walks.
    """
    try:
        candidate = folded(model)
        if candidate is model:
            return model
        trial = _around(images[:TRIED])
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            theirs, ours = model(trial).double(), candidate(trial).double()
    except Exception:  # a module that can't be copied, say; one that is broken fails again when it is used
        return model
    return candidate if theirs.shape == ours.shape and _agree(theirs, ours) else model


def _around(images: torch.Tensor) -> torch.Tensor:
    """Return images (n, ...), and as many at a distance."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
    return torch.cat([images, images + noise])


def _agree(theirs: torch.Tensor, ours: torch.Tensor) -> bool:
    """Return whether logits (n, k), and probabilities, which no offset changes, are the same except for rounding."""
    near = TOLERANCE * theirs.abs().max().clamp_min(1e-6)
    apart = (torch.softmax(theirs, dim=1) - torch.softmax(ours, dim=1)).abs().max()
    return bool((theirs - ours).abs().max() <= near and apart <= TOLERANCE)


def folded(model: nn.Module) -> nn.Module:
    """Return a model in eval mode with the function of `model`, if its sequences are run as a whole (see `checked`).

    Batch norm is then an affine map of each channel: (x - mean) / sqrt(var + eps) * weight + bias. If it directly
    follows a convolution in an `nn.Sequential`, the convolution gets its factor and shift, computed in float64. Values
    then differ by rounding alone: by about 1e-6 of their size in float32, and by as much as bf16 rounds under autocast.
    Without such a pair, `model` itself is returned.
    """
    if model.training or not _pairs(model):
        return model
    model = copy.deepcopy(model)
    for parent, first, second in _pairs(model):
        _fold(cast("nn.Conv2d", parent[first]), cast("nn.BatchNorm2d", parent[second]))
        parent[second] = nn.Identity()
    return model


def _pairs(model: nn.Module) -> list[tuple[nn.Sequential, int, int]]:
    """Return the sequences that have a convolution directly followed by a batch norm, and the places of the two."""
    uses = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    chains = [m for m in model.modules() if isinstance(m, nn.Sequential) and type(m).forward is nn.Sequential.forward]
    return [
        (chain, row, row + 1)
        for chain in chains
        for row, pair in enumerate(itertools.pairwise(chain))
        if _foldable(*pair) and all(uses[module] == 1 for module in pair)
    ]


def _foldable(first: nn.Module, second: nn.Module) -> bool:
    """Return whether these are a plain convolution and a batch norm of its channels, without hooks."""
    if type(first) is not nn.Conv2d or type(second) is not nn.BatchNorm2d or second.running_mean is None:
        return False
    if second.training or any("forward" in vars(module) for module in (first, second)):
        return False
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in (first, second))
    return first.out_channels == second.num_features and not hooked


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give the convolution the factor and shift of the batch norm."""
    mean, variance = (cast("torch.Tensor", each).double() for each in (norm.running_mean, norm.running_var))
    factor = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    shift = -mean if convolution.bias is None else convolution.bias.double() - mean
    shift = shift * factor if norm.bias is None else shift * factor + norm.bias.double()
    weight = convolution.weight
    learnt = weight.requires_grad  # autocast keeps only its casts of such weights
    convolution.weight = nn.Parameter((weight.double() * factor.view(-1, 1, 1, 1)).to(weight.dtype), learnt)
    convolution.bias = nn.Parameter(shift.to(weight.dtype), learnt)
