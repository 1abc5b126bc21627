"""Weights trained elsewhere, which are read from a file or downloaded by timm, and never trained here."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from halobench.core.errors import SpecError, describe_error, require
from halobench.core.specs import ModelSpec
from halobench.storage import files

Kept = Mapping[str, Sequence[int]]  # tensor name -> rows of the outputs that stand for classes

FORMAT = "a .safetensors file of weights (docs/run.md shows how to make one from a .pth or .pt file)"
PATIENCE = 5.0  # seconds to wait for an answer before the hub counts as unreachable


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    """Open a weights file without reading its tensors; raise SpecError if it doesn't exist or isn't safetensors."""
    from safetensors import SafetensorError, safe_open

    wrong = "this is a directory" if Path(path).is_dir() else "there is no such file"
    wrong += " (~ isn't expanded, so write the path in full)" if str(path).startswith("~") else ""
    require(Path(path).is_file(), "weights", str(path), f"{FORMAT}, but {wrong}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise SpecError(
            "weights", str(path), f"{FORMAT}, but this one can't be read ({describe_error(error)})"
        ) from None


def check_layout(path: Path | str, model: nn.Module, kept: Kept | None = None) -> None:
    """Raise SpecError, naming the first tensor that differs, unless a file holds the weights of `model`.

    For tensors listed in `kept`, only the given rows go into the model.
    """
    with _opened(path) as file:
        tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        layout = {name: (tuple(tensor.get_shape()), tensor.get_dtype()) for name, tensor in tensors.items()}
    stored = _unwrapped(layout, model)
    for name, rows in (kept or {}).items():
        shape, kind = stored.get(name, ((), ""))
        if shape:
            what = f"less than {shape[0]}, the number of outputs of the weights in {path}"
            require(max(rows) < shape[0], "outputs", max(rows), what)
            stored[name] = ((len(rows), *shape[1:]), kind)
    _check(str(path), stored, model)


def check_finite(path: Path | str) -> None:
    """Raise SpecError, naming the first tensor with a non-finite value; only one tensor is held at a time."""
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(name)
            # Converted to float32, the type that the model will hold.
            bad = int((~tensor.float().isfinite()).sum()) if tensor.is_floating_point() else 0
            what = f"finite weights, but {bad} of {tensor.numel()} values in {name} aren't"
            require(not bad, "weights", str(path), what)


def load(path: Path | str, model: nn.Module, kept: Kept | None = None) -> None:
    """Load the weights in a file into `model`; for tensors listed in `kept`, load only the given rows."""
    from safetensors.torch import load_file

    check_layout(path, model, kept)
    check_finite(path)
    with files.reading(path, FORMAT):
        tensors = _unwrapped(load_file(path), model)
    tensors |= {name: tensors[name][list(rows)] for name, rows in (kept or {}).items() if name in tensors}
    model.load_state_dict(tensors, strict=False)  # tied tensors are stored only once; the rest have been checked


def _unwrapped(values: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Return `values` under `model`'s names, without the prefix ``model.`` that resizing or preprocessing adds."""
    prefix = "model."
    if values and all(name.startswith(prefix) for name in values) and not set(values) & set(model.state_dict()):
        return {name.removeprefix(prefix): value for name, value in values.items()}
    return dict(values)


def _check(path: str, stored: Mapping[str, tuple[tuple[int, ...], str]], model: nn.Module) -> None:
    """Raise SpecError if a tensor is missing or superfluous, or has a different shape or an impossible type."""
    wanted = model.state_dict(keep_vars=True)
    present = {id(tensor) for name, tensor in wanted.items() if name in stored}
    for name, tensor in wanted.items():
        if name not in stored and id(tensor) not in present:  # safetensors stores a shared tensor under one name
            raise SpecError("weights", path, f"weights of this model, but {name} {tuple(tensor.shape)} is missing")
        shape, kind = stored.get(name, (tuple(tensor.shape), "F32"))
        if shape != tuple(tensor.shape):
            what = f"weights of this model, but {name} is {shape} instead of {tuple(tensor.shape)}"
            if shape[1:] == tuple(tensor.shape[1:]) and shape[:1] > tuple(tensor.shape[:1]):
                what += " (if they have more classes, use `outputs` to choose an output for each class)"
            raise SpecError("weights", path, what)
        # Loading would silently convert integers and drop imaginary parts.
        if tensor.is_floating_point() and not kind.startswith(("F", "BF")):
            what = f"weights of this model, but {name} is of type {kind} instead of a floating-point type"
            raise SpecError("weights", path, what)
    left = sorted(set(stored) - set(wanted))
    if left:
        raise SpecError("weights", path, f"weights of this model, which has no {left[0]} (unexpected: {len(left)})")


def fetch(spec: ModelSpec, out: Path) -> Path:
    """Write the weights that timm publishes for a model to `out`, as safetensors, using timm's cache if possible."""
    import timm
    from safetensors.torch import save_model

    name = spec.name.partition("/")[2]
    published(spec)
    with _offline_if_unreachable() as unreachable:
        try:
            model = timm.create_model(name, pretrained=True)
        except Exception as error:  # the hub raises many kinds of errors, some of them network errors
            reason = unreachable or describe_error(error)
            what = f"weights in timm's cache, or a network connection to fetch them ({reason})"
            raise SpecError("pretrained", spec.name, what) from None
    with files.replacing(out) as temporary:
        save_model(model, str(temporary))
    return out


@contextlib.contextmanager
def _offline_if_unreachable() -> Iterator[str]:
    """Use only the hub's cache if the hub is unreachable; yield the reason, or an empty string if it is reachable.

    Without this, the hub's client would retry each download for most of a minute.
    """
    from huggingface_hub import constants

    before, reason = constants.HF_HUB_OFFLINE, ""
    try:
        if not before:
            urllib.request.urlopen(constants.ENDPOINT, timeout=PATIENCE).close()
    except (urllib.error.HTTPError, http.client.HTTPException):  # the hub answered
        pass
    except OSError as error:
        reason = f"{constants.ENDPOINT}: {describe_error(error)}"
    constants.HF_HUB_OFFLINE = before or bool(reason)
    try:
        yield reason
    finally:
        constants.HF_HUB_OFFLINE = before


def published(spec: ModelSpec) -> Any:
    """Return timm's configuration of a model's published weights, which includes ``num_classes``."""
    import timm

    config = None
    if spec.is_timm:
        config = timm.get_pretrained_cfg(spec.name.partition("/")[2], allow_unregistered=False)
    has_weights = config is not None and config.has_weights
    require(has_weights, "pretrained", spec.name, "a timm model with published weights, or `weights: FILE`")
    return config
