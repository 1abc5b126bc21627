"""Load weights that were trained elsewhere, from a file or downloaded by timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from halobench.core.errors import RefusedError, describe_error, refuse, require
from halobench.core.specs.model import ModelSpec
from halobench.storage import files

# Tensor name -> rows of the outputs that represent classes; None if the model keeps its own tensor.
Kept = Mapping[str, Sequence[int] | None]

FORMAT = "a .safetensors, .pth or .pt file of weights"
TORCH = (".pth", ".pt")  # suffixes of files that `torch.save` wrote
NESTED = ("state_dict", "model")  # the keys under which some checkpoints store the tensors


def _read(path: Path) -> tuple[dict[str, torch.Tensor], bool]:
    """Return a file's tensors by name, and whether they are in the order of their own model; run no code in the file.

    A .pth or .pt file keeps this order, whereas safetensors sorts tensors by name.
    """
    wrong = f"is a folder; pass {FORMAT}" if path.is_dir() else "no such file"
    wrong += " (~ isn't expanded, so write the path in full)" if str(path).startswith("~") else ""
    refuse(not path.is_file(), "weights", f"{path}: {wrong}")
    return (_read_state_dict(path), True) if path.suffix in TORCH else (_read_safetensors(path), False)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it isn't a mapping
    except (SafetensorError, OSError) as error:
        raise RefusedError("weights", f"{path} can't be read as {FORMAT} ({describe_error(error)})") from None


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    content: Any
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)  # even if they were saved on a GPU
    except Exception as error:  # damaged files raise many kinds of errors
        what = f"{path} can't be read by torch.load with weights_only=True ({describe_error(error)})"
        raise RefusedError("weights", what) from None
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    named = isinstance(content, dict) and all(isinstance(tensor, torch.Tensor) for tensor in content.values())
    refuse(
        not (named and content),
        "weights",
        f"{path} doesn't contain a state dict, which maps names to tensors; use another file",
    )
    return {str(name): tensor for name, tensor in content.items()}


def check(spec: ModelSpec, model: nn.Module, kept: Kept) -> None:
    """Raise SpecError, naming the first mismatched tensor, if the weights in a spec's file don't fit."""
    if spec.weights is not None:
        with torch.device("cpu"):
            _fitting(Path(spec.weights), *_read(Path(spec.weights)), model, kept)


def load(path: Path, model: nn.Module, kept: Kept) -> None:
    """Load the weights in a file into `model`; for tensors listed in `kept`, load only the given rows, if any."""
    # Tied tensors are stored only once; the others have been checked.
    model.load_state_dict(_fitting(path, *_read(path), model, kept), strict=False)


def _fitting(
    path: Path, tensors: dict[str, torch.Tensor], ordered: bool, model: nn.Module, kept: Kept
) -> dict[str, torch.Tensor]:
    """Return a file's tensors, which must be finite and fit the model, under the names of `model`."""
    for name, tensor in tensors.items():
        # Converted to float32, the type that the model will hold.
        bad = int((~tensor.float().isfinite()).sum()) if tensor.is_floating_point() else 0
        refuse(bad, "weights", f"{bad} of {tensor.numel()} values in {name} of {path} aren't finite; use other weights")
    tensors = _named_for(model, tensors, ordered)
    own = model.state_dict()
    tensors |= {name: own[name] for name, rows in kept.items() if rows is None}
    for name, rows in kept.items():
        if rows is not None and name in tensors and tensors[name].ndim:
            count = len(tensors[name])
            what = f"less than {count}, the number of outputs of the weights in {path}"
            require(max(rows) < count, "outputs", max(rows), what)
            tensors[name] = tensors[name][list(rows)]
    _check_layout(str(path), tensors, model)
    return tensors


def _named_for(model: nn.Module, values: Mapping[str, torch.Tensor], ordered: bool) -> dict[str, torch.Tensor]:
    """Return the tensors `values`, renamed as in `model` if none of their names is one of the model's.

    If all names begin with ``model.``, which resizing or preprocessing adds, this prefix is removed. Otherwise, if the
    tensors are `ordered` as in another project's model, and the last parts of their names, such as ``running_mean``,
    are the same as the model's, the model's names are used in order.
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


def _check_layout(path: str, stored: Mapping[str, torch.Tensor], model: nn.Module) -> None:
    """Raise SpecError if a tensor is missing, superfluous, of a different shape or of an impossible type."""
    wanted = model.state_dict(keep_vars=True)
    present = {id(tensor) for name, tensor in wanted.items() if name in stored}
    for name, tensor in wanted.items():
        if name not in stored and id(tensor) not in present:  # safetensors stores a shared tensor only once
            what = f"{path} has no {name} {tuple(tensor.shape)}, which this model needs"
            if not present:
                first = next(iter(stored), "none")
                what += f" (its {len(wanted)} tensors don't correspond to the file's {len(stored)}, such as {first})"
            raise RefusedError("weights", what)
        found = stored.get(name, tensor)
        if found.shape != tensor.shape:
            what = f"{name} in {path} is {tuple(found.shape)} instead of {tuple(tensor.shape)}, as in this model"
            if found.shape[1:] == tensor.shape[1:] and found.shape[:1] > tensor.shape[:1]:
                what += " (if they have more classes, use `outputs` to choose an output for each class, or `finetune`)"
            if found.ndim == tensor.ndim == 4 and (found.shape[1], tensor.shape[1]) == (3, 1):
                what += " (to use grey images with weights for RGB, give `preprocess` three means and stds)"
            raise RefusedError("weights", what)
        # Loading would silently convert integers and drop imaginary parts.
        if tensor.is_floating_point() and not found.is_floating_point():
            what = f"{name} in {path} is of type {found.dtype}; store it in a floating-point type"
            raise RefusedError("weights", what)
    left = sorted(set(stored) - set(wanted))
    if left:
        raise RefusedError(
            "weights",
            f"{path} has {left[0]}, which this model doesn't have; use its own weights (unexpected: {len(left)})",
        )


def fetch(spec: ModelSpec, out: Path) -> Path:
    """Write the weights that timm publishes for a model to `out`, as safetensors; return `out`.

    They are taken from timm's cache if possible.
    """
    import timm
    from safetensors.torch import save_model

    published(spec)
    try:
        model = timm.create_model(spec.name.partition("/")[2], pretrained=True)
    except Exception as error:  # the hub raises many kinds of errors, including network errors
        what = f"the weights of {spec.name} aren't in timm's cache, and couldn't be fetched ({describe_error(error)})"
        raise RefusedError("pretrained", what) from None
    with files.replacing(out) as temporary:
        save_model(model, str(temporary))
    return out


def published(spec: ModelSpec) -> Any:
    """Return timm's configuration of a model's published weights, which includes ``num_classes``."""
    import timm

    config = None
    if spec.is_timm:
        config = timm.get_pretrained_cfg(spec.name.partition("/")[2], allow_unregistered=False)
    has_weights = config is not None and config.has_weights
    require(
        has_weights,
        "pretrained",
        spec.name,
        "a timm model with published weights, or `weights: FILE` instead of this key",
    )
    return config
