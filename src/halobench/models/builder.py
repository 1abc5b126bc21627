"""Build a model from its spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from halobench.core import plugins
from halobench.core.errors import require
from halobench.core.specs import ModelSpec
from halobench.models import pretrained as given


class Resized(nn.Module):
    """A model behind bilinear interpolation of its images to `side` x `side` (antialiased on the way down)."""

    def __init__(self, model: nn.Module, side: int):
        super().__init__()
        self.model, self.side = model, side

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(self._resized(images))

    def _resized(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(
            images, size=(self.side, self.side), mode="bilinear", antialias=max(images.shape[-2:]) > self.side
        )


class ResizedAround(Resized):
    """The same of a model that is built around its training points, which it gets resized as well."""

    model: Any  # which has `start`

    def start(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.model.start(self._resized(inputs), targets)


def build(
    spec: ModelSpec,
    input_shape: tuple[int, int, int],
    classes: int,
    moments: tuple[np.ndarray, np.ndarray] | None = None,
    weights: Path | None = None,
) -> nn.Module:
    """Build a model for images of `input_shape` (C, H, W); its weights come from torch's global generator.

    Parameters
    ----------
    moments : (mean, std), optional
        What images were normalised by, each (C,), of pixels up to 255: for models with preprocessing of their own.
    weights : Path, optional
        Where a model's given weights are; without it, as where all are loaded from a trained cell, they stay random.

    Returns
    -------
    nn.Module
        Images (n, C, H, W) to logits (n, classes). Parameters that were given need no gradient.

    Raises
    ------
    SpecError
        On an unknown name or option, a value out of its range, or weights of another model.
    """
    channels = input_shape[0]
    inner_shape = (channels, spec.resize, spec.resize) if spec.resize else (channels, *input_shape[1:])
    if spec.name.startswith(plugins.LIBRARY_PREFIXES):
        from halobench.models import library_models

        if spec.timm_preprocessing and not spec.resize:  # at the size that its weights are for
            inner_shape = (channels, *library_models.native_size(spec.name))
        model = library_models.adapt(spec.name, inner_shape, classes, dict(spec.options), spec.stem)
    else:
        options = plugins.without_defaults("models", spec.name, dict(spec.options))
        model = plugins.load("models", spec.name)(inner_shape, classes, **options)
    if spec.comes_trained:
        model = _given(model, spec, classes, weights)
    if spec.timm_preprocessing:
        return given.preprocessed(model, moments or (np.zeros(channels), np.ones(channels)), spec.resize)
    if not spec.resize:
        return model
    return (ResizedAround if hasattr(model, "start") else Resized)(model, spec.resize)


def _given(model: nn.Module, spec: ModelSpec, classes: int, weights: Path | None) -> nn.Module:
    """A model whose weights come from elsewhere: loaded from `weights`, if any, and not to be trained."""
    if spec.pretrained:
        known = given.published(spec).num_classes
        require(known == classes, "pretrained", spec.name, f"weights for the data set's {classes} classes, not {known}")
    require(not hasattr(model, "start"), "weights", spec.weights, "none: the model is built around its training points")
    if weights is not None:
        given.load(weights, model)
    return model.requires_grad_(False)


def start(model: nn.Module, inputs: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Give a model that is built around its training points (n, C, H, W) these and their labels (n,), on the CPU."""
    take = getattr(model, "start", None)
    if take is not None:
        targets = nn.functional.one_hot(torch.from_numpy(labels), classes).float()
        with torch.no_grad():
            take(torch.from_numpy(inputs), targets)
