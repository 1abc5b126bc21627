"""Weights trained elsewhere, which are read from a file or a package or downloaded by timm, and never trained here."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from halobench.core.errors import SpecError, describe_error, require
from halobench.core.specs import ModelSpec
from halobench.models import package_weights
from halobench.storage import files

Kept = Mapping[str, Sequence[int]]  # tensor name -> rows of the outputs that stand for classes

Layout = Mapping[str, tuple[tuple[int, ...], str]]  # tensor name -> its shape and type

FORMAT = "a .safetensors file of weights (docs/run.md shows how to make one from a .pth or .pt file)"
ORDER = "halobench.order"  # the metadata that lists the tensors in their original order, since safetensors sorts them
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
        tensors = {name: file.get_slice(name) for name in _names(file)}
        layout = {name: (tuple(tensor.get_shape()), tensor.get_dtype()) for name, tensor in tensors.items()}
        stored = _named_for(model, layout, ORDER in (file.metadata() or {}))
    _check_stored(str(path), stored, model, kept)


def check_shipped(name: str, model: nn.Module, kept: Kept | None = None) -> None:
    """Raise SpecError unless a package's weights file holds finite weights of `model`, as `check_layout` does."""
    path = package_weights.find(name)
    tensors = package_weights.read(path)
    try:
        for tensor_name, tensor in tensors.items():
            _check_finite(str(path), tensor_name, tensor)
        layout = {
            key: (tuple(tensor.shape), "F" if tensor.is_floating_point() else str(tensor.dtype))
            for key, tensor in tensors.items()
        }
        _check_stored(str(path), _named_for(model, layout, package_weights.is_ordered(path)), model, kept)
    except SpecError as error:
        raise SpecError("pretrained" if error.key == "weights" else error.key, error.value, error.expected) from None


def _names(file: Any) -> list[str]:
    """Return the names of the tensors in an opened safetensors file, in their original order if it is known."""
    order = (file.metadata() or {}).get(ORDER)
    return json.loads(order) if order else list(file.keys())


def _check_stored(path: str, layout: Layout, model: nn.Module, kept: Kept | None) -> None:
    """Raise SpecError unless stored tensors of these shapes and types, of which `kept` lists rows, fit `model`."""
    stored = dict(layout)
    for name, rows in (kept or {}).items():
        shape, kind = stored.get(name, ((), ""))
        if shape:
            what = f"less than {shape[0]}, the number of outputs of the weights in {path}"
            require(max(rows) < shape[0], "outputs", max(rows), what)
            stored[name] = ((len(rows), *shape[1:]), kind)
    _check(path, stored, model)


def check_finite(path: Path | str) -> None:
    """Raise SpecError, naming the first tensor with a non-finite value; only one tensor is held at a time."""
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118
            _check_finite(str(path), name, file.get_tensor(name))


def _check_finite(path: str, name: str, tensor: Any) -> None:
    # Converted to float32, the type that the model will hold.
    bad = int((~tensor.float().isfinite()).sum()) if tensor.is_floating_point() else 0
    require(not bad, "weights", path, f"finite weights, but {bad} of {tensor.numel()} values in {name} aren't")


def load(path: Path | str, model: nn.Module, kept: Kept | None = None) -> None:
    """Load the weights in a file into `model`; for tensors listed in `kept`, load only the given rows."""
    check_layout(path, model, kept)
    check_finite(path)
    with _opened(path) as file:
        stored = {name: file.get_tensor(name) for name in _names(file)}
        tensors = _named_for(model, stored, ORDER in (file.metadata() or {}))
    tensors |= {name: tensors[name][list(rows)] for name, rows in (kept or {}).items() if name in tensors}
    model.load_state_dict(tensors, strict=False)  # tied tensors are stored only once; the rest have been checked


def _named_for(model: nn.Module, values: Mapping[str, Any], ordered: bool) -> dict[str, Any]:
    """Return `values` under `model`'s names.

    If no name is the model's, the prefix ``model.``, which resizing or preprocessing adds, is removed. Otherwise, if
    the values are `ordered` as another project's model has them, and their last names, such as ``running_mean``, are
    the same as the model's, the model's names are used in order.
    """
    wanted, prefix = list(model.state_dict()), "model."
    if not values or set(values) & set(wanted):
        return dict(values)
    if all(name.startswith(prefix) for name in values):
        return {name.removeprefix(prefix): value for name, value in values.items()}
    if ordered and [_last(name) for name in values] == [_last(name) for name in wanted]:
        return dict(zip(wanted, values.values(), strict=True))
    return dict(values)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _check(path: str, stored: Layout, model: nn.Module) -> None:
    """Raise SpecError if a tensor is missing or superfluous, or has a different shape or an impossible type."""
    wanted = model.state_dict(keep_vars=True)
    present = {id(tensor) for name, tensor in wanted.items() if name in stored}
    for name, tensor in wanted.items():
        if name not in stored and id(tensor) not in present:  # safetensors stores a shared tensor under one name
            what = f"weights of this model, but {name} {tuple(tensor.shape)} is missing"
            if not present:
                first = next(iter(stored), "none")
                what += f" (its {len(wanted)} tensors don't correspond to the file's {len(stored)}, such as {first})"
            raise SpecError("weights", path, what)
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
    """Write the weights that timm or a package publishes for a model to `out`, as safetensors.

    Those of timm are taken from its cache if possible. Those of a package keep their names; a model's own are found
    when they are loaded.
    """
    import timm
    from safetensors.torch import save_file, save_model

    if isinstance(spec.pretrained, str):
        path = package_weights.find(spec.pretrained)
        tensors = package_weights.read(path)
        order = {ORDER: json.dumps(list(tensors))} if package_weights.is_ordered(path) else None
        # Copied, since safetensors refuses tensors that share memory.
        copied = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
        with files.replacing(out) as temporary:
            save_file(copied, temporary, order)
        return out
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
