"""Weights that were trained elsewhere: read from a file, or fetched by timm, and never trained here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from halobench.core.errors import SpecError, describe_error, require
from halobench.core.specs import ModelSpec
from halobench.storage import files

FORMAT = "a .safetensors file of weights (others are converted by safetensors.torch.save_file(state_dict, path))"


class Preprocessed(nn.Module):
    """A model behind its own preprocessing, for images that a data set has normalised.

    Undoes the data set's normalisation, resizes to `side` (None: not), and normalises pixels in [0, 1] by the model's
    mean and std. Where the probe walks out of what an image can hold, the model sees pixels beyond [0, 1].
    """

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(
        self,
        model: nn.Module,
        given: tuple[np.ndarray, np.ndarray],
        wanted: tuple[np.ndarray, np.ndarray],
        side: int | None,
        interpolation: str = "bicubic",
    ):
        super().__init__()
        self.model, self.side, self.interpolation = model, side, interpolation
        (mean, std), (own_mean, own_std) = given, wanted
        # (x std + mean) / 255 in [0, 1], then less the model's mean, by its std: one multiplication and one addition.
        scale = np.asarray(std) / 255 / np.asarray(own_std)
        offset = (np.asarray(mean) / 255 - np.asarray(own_mean)) / np.asarray(own_std)
        for name, values in (("scale", scale), ("offset", offset)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        points = images * self.scale + self.offset
        if self.side is not None and tuple(points.shape[-2:]) != (self.side, self.side):
            points = nn.functional.interpolate(
                points,
                size=(self.side, self.side),
                mode=self.interpolation,
                antialias=max(points.shape[-2:]) > self.side,
            )
        return self.model(points)


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    """A file of weights, its tensors unread; SpecError if there is no such file, or it isn't safetensors."""
    from safetensors import SafetensorError, safe_open

    wrong = "this is a directory" if Path(path).is_dir() else "there is no such file"
    wrong += " (~ isn't expanded: write the folder out)" if str(path).startswith("~") else ""
    require(Path(path).is_file(), "weights", str(path), f"{FORMAT}, and {wrong}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise SpecError("weights", str(path), f"{FORMAT} ({describe_error(error)})") from None


def layout(path: Path | str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name, shape and safetensors' name of the type of each tensor in a file of weights, without reading them.

    Raises
    ------
    SpecError
        If there is no such file, or it isn't safetensors.
    """
    with _opened(path) as file:
        found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (tuple(tensor.get_shape()), tensor.get_dtype()) for name, tensor in found.items()}


def check_layout(path: Path | str, model: nn.Module) -> None:
    """Raise SpecError, which names the first tensor that differs, unless a file holds the weights of `model`."""
    _check(str(path), _unwrapped(layout(path), model), model)


def check_finite(path: Path | str) -> None:
    """Raise SpecError, which names the first tensor with a value that isn't finite; each is read and dropped."""
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118
            _require_finite(path, name, file.get_tensor(name))


def _require_finite(path: Path | str, name: str, tensor: torch.Tensor) -> None:
    """Raise SpecError if a tensor of a file isn't finite as the float32 that the model will hold."""
    bad = int((~tensor.float().isfinite()).sum()) if tensor.is_floating_point() else 0
    require(not bad, "weights", str(path), f"finite weights: {bad} of {tensor.numel()} values of {name} are not")


def load(path: Path | str, model: nn.Module) -> None:
    """Put the weights of a file into `model`.

    Raises
    ------
    SpecError
        If it isn't a file of this model's weights, or they aren't finite.
    """
    from safetensors.torch import load_file

    check_layout(path, model)
    with files.reading(path, FORMAT):
        tensors = load_file(path)
    for name, tensor in tensors.items():
        _require_finite(path, name, tensor)
    model.load_state_dict(_unwrapped(tensors, model), strict=False)  # ties are stored once; the rest was checked


def _unwrapped(found: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Names as `model` has them: what was saved from behind a resize or preprocessing opens with ``model.``."""
    prefix = "model."
    if found and all(name.startswith(prefix) for name in found) and not set(found) & set(model.state_dict()):
        return {name.removeprefix(prefix): value for name, value in found.items()}
    return dict(found)


def _check(path: str, found: Mapping[str, tuple[tuple[int, ...], str]], model: nn.Module) -> None:
    """Raise SpecError on a tensor that is missing, left over, of another shape or of a type that can't be its own."""
    wanted = model.state_dict(keep_vars=True)
    there = {id(tensor) for name, tensor in wanted.items() if name in found}
    for name, tensor in wanted.items():
        if name not in found and id(tensor) not in there:  # of a tensor with several names safetensors keeps one
            raise SpecError("weights", path, f"weights of this model: they lack {name} {tuple(tensor.shape)}")
        shape, kind = found.get(name, (tuple(tensor.shape), "F32"))
        if shape != tuple(tensor.shape):
            what = f"weights of this model: {name} is {shape}, and should be {tuple(tensor.shape)}"
            raise SpecError("weights", path, what)
        # Loading would convert whole numbers, and drop imaginary parts, without a word.
        if tensor.is_floating_point() and not kind.startswith(("F", "BF")):
            what = f"weights of this model: {name} is of type {kind}, and should be of floating-point numbers"
            raise SpecError("weights", path, what)
    left = sorted(set(found) - set(wanted))
    if left:
        raise SpecError("weights", path, f"weights of this model, which has no {left[0]} (nor {len(left) - 1} others)")


def fetch(spec: ModelSpec, out: Path) -> Path:
    """Write the weights that timm publishes for a model to `out`, as safetensors; from its cache if they are there.

    Raises
    ------
    SpecError
        If timm has none, or they can't be fetched.
    """
    import timm
    from safetensors.torch import save_model

    name = spec.name.partition("/")[2]
    published(spec)
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's errors are of many kinds, some of them the network's
        what = f"weights in timm's cache, or a network to fetch them from ({describe_error(error)})"
        raise SpecError("pretrained", spec.name, what) from None
    with files.replacing(out) as temporary:
        save_model(model, str(temporary))
    return out


def published(spec: ModelSpec) -> Any:
    """What timm tells of a model's published weights: among others ``num_classes``.

    Raises
    ------
    SpecError
        If it has none.
    """
    import timm

    found = None
    if spec.is_timm:
        found = timm.get_pretrained_cfg(spec.name.partition("/")[2], allow_unregistered=False)
    there = found is not None and found.has_weights
    require(there, "pretrained", spec.name, "a model of timm's that it publishes weights for, or `weights: FILE`")
    return found


def preprocessed(model: nn.Module, given: tuple[np.ndarray, np.ndarray], side: int | None) -> Preprocessed:
    """A model of timm's behind timm's own preprocessing, at `side` or else at the size that its weights are for.

    `given` are the mean and std by channel, of pixels up to 255, that a data set is normalised by.
    """
    from timm.data import resolve_model_data_config

    found = resolve_model_data_config(model)
    channels = len(given[0])
    # For grey images timm adds up the first layer's weights over colours: there the colours' means are averaged.
    wanted = [np.asarray(found[key]) for key in ("mean", "std")]
    mean, std = (values if len(values) == channels else np.full(channels, values.mean()) for values in wanted)
    return Preprocessed(model, given, (mean, std), side or found["input_size"][-1], found["interpolation"])
