"""Load the model of a trained cell, for the stages that don't train."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from halobench.core.errors import RefusedError, describe_error
from halobench.core.specs.model import ModelSpec
from halobench.data.splits import Data
from halobench.models import builder
from halobench.storage import arrays_io


def load_model(spec: ModelSpec, data: Data, weights: Path) -> nn.Module:
    """Return a cell's trained model on the CPU, given its data and the path of its model.safetensors."""
    import safetensors.torch

    model = builder.build(spec, data.shape, data.classes, (data.mean, data.std))
    start_on(model, data)
    arrays_io.check_arrays(weights)
    try:
        safetensors.torch.load_model(model, str(weights))
    except (RuntimeError, ValueError) as error:
        raise RefusedError(
            "spec.model", f"{spec.name} isn't the model saved in {weights} ({describe_error(error)})"
        ) from None
    return model


def start_on(model: nn.Module, data: Data) -> None:
    """Pass a data set's training samples to the model if it is built around them."""
    if hasattr(model, "start"):
        builder.start(model, data.inputs("train"), data.splits["train"].labels, data.classes)
