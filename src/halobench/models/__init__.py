"""Models: a file each for the package's own, any of timm's and torchvision's by name.

A model that is built around its training points, as nearest neighbours are, has a method ``start(inputs, targets)``,
which gets them before training: inputs (n, C, H, W) as the model will see them, one-hot targets (n, k). It may make
parameters there. The probe calls it too, so that points need not be stored beside the weights (use buffers with
``persistent=False``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from halobench.core import plugins
from halobench.core.specs import ModelSpec, SpecError, require
from halobench.data import Data
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
    if spec.name.startswith(plugins.FOREIGN):
        from halobench.models import library_models

        if spec.own_preprocessing and not spec.resize:  # at the size that its weights are for
            inner_shape = (channels, *library_models.native_size(spec.name))
        model = library_models.adapt(spec.name, inner_shape, classes, dict(spec.options), spec.stem)
    else:
        options = plugins.without_defaults("models", spec.name, dict(spec.options))
        model = plugins.load("models", spec.name)(inner_shape, classes, **options)
    if spec.given:
        model = _given(model, spec, classes, weights)
    if spec.own_preprocessing:
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


def start_on(model: nn.Module, data: Data) -> None:
    """The same with the training points of a data set, which are read only for a model that asks for them."""
    if hasattr(model, "start"):
        start(model, data.inputs("train"), data.splits["train"].labels, data.classes)


def check(spec: ModelSpec, input_shape: tuple[int, int, int], classes: int, batch: int = 2, points: int = 2) -> int:
    """Build a model without memory for its weights and run it, in training and in eval mode, on `batch` images.

    `points` is how many training points a model that is built around them will get. Given weights are read, to see
    whether they are finite.

    Returns
    -------
    int
        Bytes that its weights and buffers will take.

    Raises
    ------
    SpecError
        Where `build` does, and where the model can't take images of this shape, or can't run with its options.
    """
    try:
        taken = _try_either(spec, input_shape, classes, batch, points)
    except SpecError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        bad = _bad_options(spec, input_shape[0], classes)
        if len(bad) == 1:
            ((key, value),) = bad.items()
            raise SpecError(key, value, f"a value that the model's builder takes ({reason})") from error
        if bad:
            what = f"values that the model's builder takes for {' and '.join(bad)} ({reason})"
            raise SpecError("options", bad, what) from error
        shape = "x".join(map(str, input_shape))
        expected = f"a model that takes images of {shape} ({reason}); set `resize` or choose another model"
        raise SpecError("name", spec.name, expected) from error
    if spec.weights is not None:
        given.check_finite(spec.weights)
    return taken


def _try_either(spec: ModelSpec, input_shape: tuple[int, int, int], classes: int, batch: int, points: int) -> int:
    """`_try` without memory, or else with: an operation may lack a meta kernel, which only real tensors tell apart."""
    try:
        return _try(spec, input_shape, classes, batch, points, "meta")
    except SpecError:
        raise
    except Exception:
        with torch.random.fork_rng(devices=[]):
            return _try(spec, input_shape, classes, batch, points, "cpu")


def _bad_options(spec: ModelSpec, channels: int, classes: int) -> dict[str, Any]:
    """The options that keep a library's model from running even on images of the size that it is made for.

    Those of which each alone is to blame, else all of them; none where the model runs with them, or not without.
    """
    if not spec.name.startswith(plugins.FOREIGN) or not spec.options:
        return {}
    from halobench.models import library_models

    shape = (channels, *library_models.native_size(spec.name))

    def runs(options: dict[str, Any]) -> bool:
        try:
            _try_either(ModelSpec(spec.name, options), shape, classes, 2, 2)
        except Exception:  # of any kind: the libraries check little
            return False
        return True

    options = dict(spec.options)
    if runs(options) or not runs({}):
        return {}
    alone = {key: value for key, value in options.items() if runs({k: v for k, v in options.items() if k != key})}
    return alone or options


def _try(spec: ModelSpec, input_shape: tuple[int, int, int], classes: int, batch: int, points: int, device: str) -> int:
    """Build on `device` and forward `batch` images in both modes, watching for feature maps that shrink to nothing.

    Returns the bytes of weights and buffers.
    """

    def watch(module: nn.Module, inputs: tuple, output: object) -> None:
        if any(isinstance(x, torch.Tensor) and x.numel() == 0 for x in (*inputs, output)):
            raise ValueError(f"maps shrink to no pixels at a {type(module).__name__}")

    with torch.device(device), torch.no_grad():
        model = build(spec, input_shape, classes)
        if spec.weights is not None:
            given.check_layout(spec.weights, getattr(model, "model", model))
        take = getattr(model, "start", None)
        if take is not None:
            take(torch.zeros(points, *input_shape), torch.zeros(points, classes))
        for module in model.modules():
            module.register_forward_hook(watch)
        outputs = [model.train(training)(torch.zeros(batch, *input_shape)) for training in (True, False)]
    for output in outputs:
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        if found != (batch, classes):
            expected = f"a model that gives logits ({batch}, {classes}) for a batch of {batch}, not {found}"
            raise SpecError("name", spec.name, expected)
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
