"""Check that a model accepts the samples of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs import ModelSpec
from halobench.models import pretrained
from halobench.models.builder import build, image_shape, kept_rows, network_of
from halobench.models.piecewise.layers import network_of as network_of_layers


def check(
    spec: ModelSpec,
    input_shape: tuple[int, ...],
    classes: int,
    batch: int = 2,
    samples: int = 2,
    names: Sequence[str] = (),
) -> int:
    """Build a model without allocating its weights and run it on `batch` samples, in training and eval mode.

    `samples` is the number of training samples that a model built around them will get, and `names` are the class
    names, if any. Weights in a file are read to check that they are finite and belong to this model.

    Returns
    -------
    int
        Number of bytes that its weights and buffers will take.

    Raises
    ------
    SpecError
        As `build` does, and if the model can't take samples of this shape or can't run with its options.
    """
    try:
        size = _try_either(spec, input_shape, classes, batch, samples, names)
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
        shape = "x".join(map(str, image_shape(spec, input_shape)))
        larger = "a larger `resize`" if spec.resize else "`resize`"
        expected = f"a model that takes images of {shape} ({reason}); set {larger} or choose another model"
        if len(input_shape) == 1:
            expected = f"a model that takes {shape} features, as inputs (n, {shape}) ({reason})"
        raise SpecError("name", spec.name, expected) from error
    if spec.weights is not None:
        pretrained.check_finite(spec.weights)
    return size


def check_piecewise(spec: ModelSpec, input_shape: tuple[int, ...], classes: int) -> None:
    """Check that a model is a piecewise affine network of known layers, without allocating its weights.

    Raises
    ------
    SpecError
        As `halobench.models.piecewise.layers.network_of` does.
    """
    try:
        _write(spec, input_shape, classes, "meta")
    except SpecError:
        raise
    except Exception:  # an operation without a meta kernel
        with torch.random.fork_rng(devices=[]):
            _write(spec, input_shape, classes, "cpu")


def _write(spec: ModelSpec, input_shape: tuple[int, ...], classes: int, device: str) -> None:
    """Build a model on a device and convert it to a piecewise affine network."""
    with torch.device(device), torch.no_grad():
        network_of_layers(build(spec, input_shape, classes).eval(), input_shape)


def _try_either(
    spec: ModelSpec,
    input_shape: tuple[int, ...],
    classes: int,
    batch: int,
    samples: int,
    names: Sequence[str] = (),
) -> int:
    """Try on the meta device, then on the CPU, since an error may only mean that an operation has no meta kernel."""
    try:
        return _try(spec, input_shape, classes, batch, samples, "meta", names)
    except SpecError:
        raise
    except Exception:
        with torch.random.fork_rng(devices=[]):
            return _try(spec, input_shape, classes, batch, samples, "cpu", names)


def _bad_options(spec: ModelSpec, channels: int, classes: int) -> dict[str, Any]:
    """Return the options that stop a library's model from running even on images of its native size.

    Options whose removal alone makes the model run are returned, or all options if there are none. Nothing is returned
    if the model runs with them, or fails without them too.
    """
    if not spec.name.startswith(plugins.LIBRARY_PREFIXES) or not spec.options:
        return {}
    from halobench.models import library_models

    shape = (channels, *library_models.native_size(spec.name))

    def runs(options: dict[str, Any]) -> bool:
        try:
            _try_either(ModelSpec(spec.name, options), shape, classes, 2, 2)
        except Exception:  # any kind of error, since the libraries check little
            return False
        return True

    options = dict(spec.options)
    if runs(options) or not runs({}):
        return {}
    alone = {key: value for key, value in options.items() if runs({k: v for k, v in options.items() if k != key})}
    return alone or options


def _try(
    spec: ModelSpec,
    input_shape: tuple[int, ...],
    classes: int,
    batch: int,
    samples: int,
    device: str,
    names: Sequence[str],
) -> int:
    """Build on `device` and run `batch` samples in both modes, watching for feature maps that shrink to nothing.

    Returns the size of weights and buffers in bytes.
    """

    def watch(module: nn.Module, inputs: tuple, output: object) -> None:
        if any(isinstance(x, torch.Tensor) and x.numel() == 0 for x in (*inputs, output)):
            raise ValueError(f"maps shrink to no pixels at a {type(module).__name__}")

    with torch.device(device), torch.no_grad():
        model = build(spec, input_shape, classes)
        kept = kept_rows(spec, input_shape, classes, names)
        if spec.weights is not None:
            pretrained.check_layout(spec.weights, network_of(model), kept)
        take = getattr(model, "start", None)
        if take is not None:
            take(torch.zeros(samples, *input_shape), torch.zeros(samples, classes))
        for module in model.modules():
            module.register_forward_hook(watch)
        outputs = [model.train(training)(torch.zeros(batch, *input_shape)) for training in (True, False)]
    for output in outputs:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        if shape != (batch, classes):
            expected = f"a model that gives logits ({batch}, {classes}) for a batch of {batch}, not {shape}"
            raise SpecError("name", spec.name, expected)
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
