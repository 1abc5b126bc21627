"""Check that a model accepts the samples of a source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from halobench.core.errors import RefusedError, SpecError
from halobench.core.specs.model import ModelSpec
from halobench.models import pretrained
from halobench.models.builder import build, image_shape, kept_rows, network_of
from halobench.models.piecewise.layers import network_of as network_of_layers

T = TypeVar("T")


def check(
    spec: ModelSpec,
    input_shape: tuple[int, ...],
    classes: int,
    batch: int = 2,
    samples: int = 2,
    names: Sequence[str] = (),
) -> int:
    """Build a model, without its weights if possible, and run it on `batch` samples, in training and eval mode.

    `samples` is the number of training samples, which matters for a model that is built around them, and `names` are
    the class names, if any. Weights in a file or a package are read to check that they are finite and belong to this
    model. The function returns the number of bytes that the model's weights and buffers take.
    """
    arguments = input_shape, classes, batch, samples, names
    try:
        return _on_meta_or_cpu(lambda: _try(spec, *arguments))
    except SpecError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if spec.options and _runs(dataclasses.replace(spec, options={}), *arguments):
            key, value = next(iter(spec.options.items())) if len(spec.options) == 1 else ("options", spec.options)
            raise SpecError(key, value, f"a value that the model's builder accepts ({reason})") from error
        shape = "x".join(map(str, image_shape(spec, input_shape)))
        larger = "a larger `resize`" if spec.resize else "`resize`"
        sentence = f"{spec.name} can't take images of {shape} ({reason}); set {larger} or choose another model"
        if len(input_shape) == 1:
            sentence = (
                f"{spec.name} can't take {shape} features, as inputs (n, {shape}) ({reason}); choose another model"
            )
        raise RefusedError("name", sentence) from error


def check_piecewise(spec: ModelSpec, input_shape: tuple[int, ...], classes: int) -> None:
    """Raise SpecError unless a model is a piecewise affine network of known layers."""
    _on_meta_or_cpu(lambda: network_of_layers(build(spec, input_shape, classes).eval(), input_shape))


def _on_meta_or_cpu(attempt: Callable[[], T]) -> T:
    """Run `attempt` on the meta device or, if this fails (an operation may have no meta kernel), on the CPU."""
    try:
        with torch.device("meta"), torch.no_grad():
            return attempt()
    except SpecError:
        raise
    except Exception:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
            return attempt()


def _runs(spec: ModelSpec, *arguments: Any) -> bool:
    try:
        _on_meta_or_cpu(lambda: _try(spec, *arguments))
    except Exception:  # may be any kind of error, since builders check little
        return False
    return True


def _try(
    spec: ModelSpec, input_shape: tuple[int, ...], classes: int, batch: int, samples: int, names: Sequence[str]
) -> int:
    """Build a model and run it on `batch` samples in both modes, watching for feature maps that shrink to nothing."""

    def watch(module: nn.Module, inputs: tuple, output: object) -> None:
        if any(isinstance(x, torch.Tensor) and x.numel() == 0 for x in (*inputs, output)):
            raise ValueError(f"feature maps shrink to zero pixels in {type(module).__name__}")

    model = build(spec, input_shape, classes)
    pretrained.check(spec, network_of(model), kept_rows(spec, input_shape, classes, names))
    take = getattr(model, "start", None)
    if take is not None:
        take(torch.zeros(samples, *input_shape), torch.zeros(samples, classes))
    for module in model.modules():
        module.register_forward_hook(watch)
    with torch.enable_grad():  # so that each output knows the operation that produced it
        inputs = torch.zeros(batch, *input_shape, requires_grad=True)
        outputs = [model.train(training)(inputs.clone()) for training in (True, False)]
    for output in outputs:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        if shape != (batch, classes):
            wanted = f"it must return logits of shape ({batch}, {classes})"
            raise RefusedError("name", f"{spec.name} returned {shape} for a batch of {batch}; {wanted}")
        if output.grad_fn is not None and output.grad_fn.name().startswith("SoftmaxBackward"):
            raise RefusedError("name", f"{spec.name} ends in a softmax; remove it, since a model must return logits")
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
