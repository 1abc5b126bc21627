"""Check the arguments that callers pass to probes, attacks and certificates."""

from __future__ import annotations

from numbers import Real

import numpy as np
import torch

from halobench.calibration.arrays import as_array, look_like_probabilities
from halobench.core.errors import Found, RefusedError, describe_error, refuse, require
from halobench.probing.ray_walk import Predict
from halobench.probing.rays import TrainingPoints


def check_arguments(
    predict: Predict,
    inputs: torch.Tensor,
    labels: np.ndarray | torch.Tensor,
    training_points: TrainingPoints | None = None,
) -> np.ndarray:
    """Return the labels as an int64 array (n,); raise SpecError for bad inputs or labels, or a module in train mode."""
    in_training = isinstance(predict, torch.nn.Module) and any(module.training for module in predict.modules())
    refuse(in_training, "model", "a module is in train mode; call model.eval()")
    is_tensor = isinstance(inputs, torch.Tensor) and inputs.is_floating_point()
    value = Found(f"{type(inputs).__name__} of {getattr(inputs, 'dtype', 'no dtype')}")
    require(is_tensor, "inputs", value, "a float tensor (n, ...), e.g. torch.from_numpy(array).float()")
    weight = next(predict.parameters(), inputs) if isinstance(predict, torch.nn.Module) else inputs
    for what in ("dtype", "device"):
        own, others = getattr(inputs, what), getattr(weight, what)
        require(own == others, "inputs", Found(f"{what} {own}"), f"{others}, as in the model's parameters")
    require(
        inputs.dim() >= 2 and len(inputs),
        "inputs",
        Found(f"shape {tuple(inputs.shape)}"),
        "a non-empty tensor (n, ...)",
    )
    finite = torch.isfinite(inputs).flatten(1).all(dim=1)
    require(finite.all(), f"inputs[{int((~finite).int().argmax())}]", Found("NaN or infinity"), "finite numbers")
    if training_points is not None:
        device, own = training_points.device, inputs.device
        require(device == own, "inputs", Found(f"device {own}"), f"{device}, as for the training samples")
        expected = f"shape (n, ...) to match the training samples, of shape {training_points.shape}"
        require(
            tuple(inputs.shape[1:]) == training_points.shape[1:],
            "inputs",
            Found(f"shape {tuple(inputs.shape)}"),
            expected,
        )
    labels = as_array(labels)
    expected = f"one label per sample, i.e. shape ({len(inputs)},)"
    require(labels.shape == (len(inputs),), "labels", Found(f"shape {labels.shape}"), expected)
    require(labels.dtype.kind in "iu", "labels", Found(f"dtype {labels.dtype}"), "integer labels")
    require(labels.min() >= 0, "labels", int(labels.min()), "non-negative labels")
    return labels.astype(np.int64)


def check_rng(rng: np.random.Generator) -> None:
    """Raise SpecError unless `rng` is a numpy Generator."""
    require(isinstance(rng, np.random.Generator), "rng", rng, "a generator, such as numpy.random.default_rng(0)")


def check_confidence(level: float, beta: float) -> None:
    """Raise SpecError unless `level` is above 0 and below 1, and `beta`, which may be infinite, is above 0."""
    require(isinstance(level, Real) and 0 < level < 1, "level", level, "a confidence above 0 and below 1")
    require(isinstance(beta, Real) and beta > 0, "beta", beta, "an inverse temperature above 0")


def check_model(model: torch.nn.Module, inputs: torch.Tensor, labels: np.ndarray | torch.Tensor) -> np.ndarray:
    """Return the labels as an int64 array (n,); raise SpecError if the model can't be probed with these arguments."""
    require(isinstance(model, torch.nn.Module), "model", Found(type(model).__name__), "a torch.nn.Module")
    checked = check_arguments(model, inputs, labels)
    with torch.no_grad():
        try:
            logits = model(inputs[:1].clone())  # cloned, since the model may change it in place
        except (RuntimeError, ValueError, IndexError) as error:
            what = f"the model can't take shape {tuple(inputs.shape)}: it raised {describe_error(error)}"
            raise RefusedError("inputs", what) from None
    shape = tuple(getattr(logits, "shape", ()))
    require(len(shape) == 2 and shape[1] >= 2, "model", Found(f"outputs of shape {shape}"), "logits (n, k) with k >= 2")
    probabilities = look_like_probabilities(logits.double().cpu().numpy())
    require(
        not probabilities, "model", Found("outputs that look like probabilities"), "logits (values before the softmax)"
    )
    classes, highest = shape[1], int(checked.max())
    expected = f"labels from 0 to {classes - 1}, since the model has {classes} outputs"
    require(highest < classes, "labels", highest, expected)
    return checked
