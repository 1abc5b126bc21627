"""Fold batch norm into the preceding convolution: in eval mode, the same function takes fewer passes over memory."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Applies to probabilities, and to logits relative to the largest; 100 layers of float32 rounding stay far below it.
TOLERANCE = 1e-3
TRIED = 8  # number of images on which a folded model is checked, along with as many points far from them


def checked(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Return the `folded` model if it agrees with `model` on some of `images` (n, C, H, W), else `model`.

    A model may read the parts of a sequence one by one, run a slice of it, or hook a layer; folding then changes its
    output, which shows here but not in its structure. The model is also checked on images with standard normal noise
    added to each pixel, which moves them about as far out as a probe walks.
    """
    try:
        candidate = folded(model)
        if candidate is model:
            return model
        trial = _around(images[:TRIED])
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            theirs, ours = model(trial).double(), candidate(trial).double()
    except Exception:  # e.g. for a module that can't be copied; a broken one will fail again when used
        return model
    return candidate if theirs.shape == ours.shape and _agree(theirs, ours) else model


def _around(images: torch.Tensor) -> torch.Tensor:
    """Return images (n, ...) followed by a noisy copy of each."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
    return torch.cat([images, images + noise])


def _agree(theirs: torch.Tensor, ours: torch.Tensor) -> bool:
    """Return whether the logits (n, k), and the probabilities, which ignore any offset, are equal up to rounding."""
    near = TOLERANCE * theirs.abs().max().clamp_min(1e-6)
    apart = (torch.softmax(theirs, dim=1) - torch.softmax(ours, dim=1)).abs().max()
    return bool((theirs - ours).abs().max() <= near and apart <= TOLERANCE)


def folded(model: nn.Module) -> nn.Module:
    """Return an eval-mode model that computes the same as `model` if sequences are run as a whole (see `checked`).

    In eval mode, batch norm is an affine map of each channel: (x - mean) / sqrt(var + eps) * weight + bias. If it
    directly follows a convolution in an `nn.Sequential`, its factor and shift, computed in float64, are merged into the
    convolution. Values then differ only by rounding: by about 1e-6 of their magnitude in float32, and by bf16 rounding
    under autocast. If there is no such pair, `model` itself is returned.
    """
    if model.training or not _pairs(model):
        return model
    model = copy.deepcopy(model)
    for parent, first, second in _pairs(model):
        convolution: Any = parent[first]
        norm: Any = parent[second]
        kind, learnt = convolution.weight.dtype, convolution.weight.requires_grad
        merged = fuse_conv_bn_eval(convolution.double(), norm.double())
        parent[first] = merged.to(kind).requires_grad_(learnt)  # autocast caches casts only if weights require grad
        parent[second] = nn.Identity()
    return model


def _pairs(model: nn.Module) -> list[tuple[nn.Sequential, int, int]]:
    """Return each sequence in which a batch norm directly follows a convolution, with the indices of the two."""
    uses = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    chains = [m for m in model.modules() if isinstance(m, nn.Sequential) and type(m).forward is nn.Sequential.forward]
    return [
        (chain, row, row + 1)
        for chain in chains
        for row, pair in enumerate(itertools.pairwise(chain))
        if _foldable(*pair) and all(uses[module] == 1 for module in pair)
    ]


def _foldable(first: nn.Module, second: nn.Module) -> bool:
    """Return whether these are a plain convolution and a batch norm over its channels, both without hooks."""
    if type(first) is not nn.Conv2d or type(second) is not nn.BatchNorm2d or second.running_mean is None:
        return False
    if second.training or any("forward" in vars(module) for module in (first, second)):
        return False
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in (first, second))
    return first.out_channels == second.num_features and not hooked
