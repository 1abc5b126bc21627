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
from halobench.models import pretrained


class Resized(nn.Module):
    """A model behind bilinear interpolation of its images to `side` x `side` (antialiased if they shrink)."""

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
    """The same for a model that is built around its training samples, which are resized as well."""

    model: Any  # which has `start`

    def start(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.model.start(self._resized(inputs), targets)


def build(
    spec: ModelSpec,
    input_shape: tuple[int, ...],
    classes: int,
    moments: tuple[np.ndarray, np.ndarray] | None = None,
    weights: Path | None = None,
) -> nn.Module:
    """Build a model for samples of `input_shape`; its weights come from torch's global generator.

    Parameters
    ----------
    input_shape : (C, H, W) or (D,)
        Of images, or of features.
    moments : (mean, std), optional
        By which images were normalised, each (C,), of pixels up to 255: for models with their own preprocessing.
    weights : Path, optional
        The file of the weights of a model that comes trained; without it they stay random, to be loaded later.

    Returns
    -------
    nn.Module
        Samples (n, *input_shape) to logits (n, classes). The parameters of a model that comes trained need no gradient.

    Raises
    ------
    SpecError
        On an unknown name or option, a value out of its range, weights of another model, or a model of images for
        features.
    """
    if len(input_shape) == 1:
        _check_takes_features(spec)
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
        _materialise(model, inner_shape)
    if spec.comes_trained:
        model = _trained_elsewhere(model, spec, classes, weights)
    if spec.timm_preprocessing:
        return pretrained.preprocessed(model, moments or (np.zeros(channels), np.ones(channels)), spec.resize)
    if not spec.resize:
        return model
    return (ResizedAround if hasattr(model, "start") else Resized)(model, spec.resize)


def _check_takes_features(spec: ModelSpec) -> None:
    """Raise SpecError for a model of images alone: a library's, or one whose file says ``IMAGES = True``."""
    require(spec.resize is None, "resize", spec.resize, "no such key: the samples are features, not images")
    images = spec.name.startswith(plugins.LIBRARY_PREFIXES) or plugins.constant("models", spec.name, "IMAGES")
    require(not images, "name", spec.name, "a model that takes features, such as mlp: this one takes images alone")


def _materialise(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Give the lazy layers of a model, which wait for a first input of `shape`, their weights."""
    if any(map(nn.parameter.is_lazy, (*model.parameters(), *model.buffers()))):
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
        model.train()


def _trained_elsewhere(model: nn.Module, spec: ModelSpec, classes: int, weights: Path | None) -> nn.Module:
    """Return a model with the weights in the file `weights`, if any, which are not to be trained."""
    if spec.pretrained:
        count = pretrained.published(spec).num_classes
        require(count == classes, "pretrained", spec.name, f"weights for the data set's {classes} classes, not {count}")
    require(not hasattr(model, "start"), "weights", spec.weights, "none: the model is built around its training points")
    if weights is not None:
        pretrained.load(weights, model)
    return model.requires_grad_(False)


def start(model: nn.Module, inputs: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Give a model that is built around its training samples (n, ...) these and their labels (n,), on the CPU."""
    take = getattr(model, "start", None)
    if take is not None:
        targets = nn.functional.one_hot(torch.from_numpy(labels), classes).float()
        with torch.no_grad():
            take(torch.from_numpy(inputs), targets)
