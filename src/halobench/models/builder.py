"""Build a model from its spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from halobench.core.errors import refuse, require
from halobench.core.specs.model import ModelSpec, Normalisation
from halobench.models import preprocessing, pretrained

BUILT_FROM_DATA = "the model is built around its training samples; leave this key out"


def build(
    spec: ModelSpec,
    input_shape: tuple[int, ...],
    classes: int,
    moments: preprocessing.Moments | None = None,
    weights: Path | None = None,
    names: Sequence[str] = (),
) -> nn.Module:
    """Build a model from samples (n, *input_shape) to logits (n, classes), with weights drawn from torch's generator.

    Models with their own preprocessing undo the data set's normalisation by `moments` (mean and std per channel, for
    pixel values up to 255). Weights that the spec gives, and that aren't to be trained, don't require gradients;
    without the file `weights`, they stay random. The spec's `outputs` may refer to classes by `names`.
    """
    if len(input_shape) == 1:
        _check_takes_features(spec)
    channels = input_shape[0]
    model = _network(spec, input_shape, classes)
    if spec.has_weights:
        _check_given(model, spec, classes)
        model.requires_grad_(spec.finetune == "all")
    if spec.finetune == "head":
        for name in _heads(spec, input_shape, classes) & dict(model.named_parameters()).keys():
            model.get_parameter(name).requires_grad_()
    if spec.has_weights and weights is not None:
        pretrained.load(weights, model, kept_rows(spec, input_shape, classes, names))
    moments = moments or (np.zeros(channels), np.ones(channels))
    if spec.timm_preprocessing:
        return preprocessing.preprocessed(model, moments, spec.resize)
    if isinstance(spec.preprocess, Normalisation):
        refuse(hasattr(model, "start"), "preprocess", BUILT_FROM_DATA)
        return preprocessing.normalised(model, moments, spec.preprocess, spec.resize)
    return preprocessing.Resized(model, spec.resize) if spec.resize else model


def _check_takes_features(spec: ModelSpec) -> None:
    """Raise SpecError if a model resizes or normalises images, belongs to a library, or has ``IMAGES`` in its file."""
    refuse(spec.resize is not None, "resize", "the samples aren't images; leave this key out")
    normalised = isinstance(spec.preprocess, Normalisation)
    refuse(normalised, "preprocess", "the samples aren't images; leave this key out")
    images = spec.plugin.library or spec.plugin.constants.get("IMAGES")
    require(not images, "name", spec.name, "a model that takes features, such as mlp, since this one takes only images")


def _materialise(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Create the weights of a model's lazy layers by running it on one input of `shape`."""
    if any(map(nn.parameter.is_lazy, (*model.parameters(), *model.buffers()))):
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
        model.train()


def network_of(model: nn.Module) -> nn.Module:
    """Return a built model without its resizing or preprocessing."""
    return model.model if isinstance(model, preprocessing.Resized | preprocessing.Preprocessed) else model


def image_shape(spec: ModelSpec, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which samples reach the network if the data set's samples have `input_shape`."""
    if len(input_shape) == 1:
        return input_shape
    channels, *sides = input_shape
    if isinstance(spec.preprocess, Normalisation):
        channels = preprocessing.coloured(channels, spec.preprocess)
    if spec.resize:
        sides = [spec.resize, spec.resize]
    elif spec.timm_preprocessing:  # at the size that its weights expect
        from halobench.models import library_models

        sides = [*library_models.native_size(spec.name)]
    return (channels, *sides)


def _network(spec: ModelSpec, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build a model without its resizing or preprocessing.

    If a builder doesn't take a shape and a number of classes, the network is built from its options alone.
    """
    shape = image_shape(spec, input_shape)
    options = dict(spec.options)
    if spec.plugin.library:
        from halobench.models import library_models

        return library_models.adapt(spec.name, shape, classes, options, spec.stem)
    build = spec.plugin.load()
    sized = not _takes(build, **options) or _takes(build, shape, classes, **options)
    model = build(shape, classes, **options) if sized else build(**options)
    _materialise(model, shape)
    return model


def _takes(build: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
    """Return whether, by its signature, a function or class can be called with these arguments."""
    try:
        inspect.signature(build).bind(*arguments, **options)
    except (TypeError, ValueError):  # ValueError if it has no signature
        return False
    return True


def kept_rows(
    spec: ModelSpec, input_shape: tuple[int, ...], classes: int, names: Sequence[str] = ()
) -> dict[str, list[int] | None]:
    """Return the rows of given weights to keep, for each tensor whose shape depends on the number of classes.

    The spec's `outputs` select rows. Without `outputs`, a model to be fine-tuned keeps no rows (None), and the mapping
    is empty for other models, which keep all rows.
    """
    if spec.outputs is None:
        return dict.fromkeys(_heads(spec, input_shape, classes)) if spec.finetune else {}
    rows = spec.output_rows(classes, names)
    if spec.pretrained:
        count = pretrained.published(spec).num_classes
        require(max(rows) < count, "outputs", max(rows), f"less than {count}, the number of published outputs")
    return {name: rows for name in _heads(spec, input_shape, classes)}


def _heads(spec: ModelSpec, input_shape: tuple[int, ...], classes: int) -> set[str]:
    """Return the names of the last layer's tensors: those that have one row per class."""
    with torch.random.fork_rng(devices=[]):
        one, more = (
            {name: tuple(tensor.shape) for name, tensor in _network(spec, input_shape, count).state_dict().items()}
            for count in (classes, classes + 1)
        )
    heads = {name for name, shape in one.items() if shape != more.get(name)}
    by_row = all((classes + 1, *one[name][1:]) == more.get(name) for name in heads)
    key = "finetune" if spec.outputs is None else "outputs"
    refuse(not (heads and by_row), key, "the model's last layer doesn't have one row per output; leave this key out")
    return heads


def _check_given(model: nn.Module, spec: ModelSpec, classes: int) -> None:
    """Raise SpecError if a model can't use the weights specified for it."""
    if spec.pretrained and spec.outputs is None and spec.finetune is None:
        count = pretrained.published(spec).num_classes
        what = f"the weights of {spec.name} are for {count} classes, and the data set has {classes}"
        right = "use `outputs` to choose an output for each class, or `finetune: head` to train a new last layer"
        refuse(count != classes, "pretrained", f"{what}; {right}")
    refuse(hasattr(model, "start"), "weights", BUILT_FROM_DATA)


def start(model: nn.Module, inputs: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Pass the training samples (n, ...) and labels (n,), on the CPU, to a model that is built around them."""
    take = getattr(model, "start", None)
    if take is not None:
        targets = nn.functional.one_hot(torch.from_numpy(labels), classes).float()
        with torch.no_grad():
            take(torch.from_numpy(inputs), targets)
