"""Convert weights saved by other projects to safetensors, under the names of a model's own tensors."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

from halobench.core.errors import SpecError, require
from halobench.core.formatting import count
from halobench.core.plugins import LIBRARY_PREFIXES
from halobench.core.specs import ModelSpec
from halobench.models import builder, library_models
from halobench.storage import files

Shapes = Mapping[str, tuple[int, ...]]
COUNTER = "num_batches_tracked"  # of batch norm; torch before 0.4.1 didn't save it, and eval mode doesn't use it
# Names used by torch's own layers. They distinguish tensors of equal shape, such as batch norm's weight and bias.
LEAVES = {"weight", "bias", "running_mean", "running_var", COUNTER, "in_proj_weight", "in_proj_bias"}


def convert(path: Path, out: Path, model: str | None, classes: int, log: Callable[[str], None] = print) -> None:
    """Convert the weights in a torch or safetensors file to safetensors and write them to `out`.

    Parameters
    ----------
    path : Path
        A state dict, or a checkpoint that contains one (if it contains several, the averaged one is used, as in timm).
    model : str, optional
        ``timm/NAME`` or ``torchvision/NAME``, whose tensor names are used; by default, tensors keep their own names.
    classes : int
        The model's number of classes. It takes three-channel images at its native size.
    log : callable
        Called with one line per renamed tensor and one summary line.

    Raises
    ------
    SpecError
        If the file isn't of this kind, or its tensors can't be matched to the model's.
    """
    tensors, how = _read(path), "names kept"
    if model is not None:
        wanted = _wanted(model, classes)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        counted = any(name.endswith(COUNTER) for name in shapes)
        matched = {name: shape for name, shape in wanted.items() if counted or not name.endswith(COUNTER)}
        names, how = match(shapes, matched, str(path), model, ordered=path.suffix != ".safetensors")
        for name, new in names.items():
            if name != new:
                log(f"{name} -> {new} {shapes[name]}")
        tensors = {new: tensors[name] for name, new in names.items()}
        tensors |= {name: torch.zeros((), dtype=torch.int64) for name in wanted.keys() - matched.keys()}
    from safetensors.torch import save_file

    with files.replacing(out) as temporary:  # cloned, so no tensor is a view or shares memory
        save_file({n: t.clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}, str(temporary))
    log(f"{count(len(tensors), 'tensor')} written to {out}: {how}")


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in a file by name, in file order, without running any code that it may contain."""
    from timm.models import load_state_dict

    what = "a file of tensors, such as a state_dict saved by PyTorch"
    require(path.is_file(), "IN", str(path), f"{what}, but there is no such file")
    try:
        tensors = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged file can raise almost anything
        reason = f"but this one is damaged or contains objects that could run code ({type(error).__name__})"
        raise SpecError("IN", str(path), f"{what}, {reason}") from None
    others = [name for name, tensor in tensors.items() if not isinstance(tensor, torch.Tensor)]
    contents = f"contains {others[0]!r}, which isn't a tensor" if others else "is empty"
    require(tensors and not others, "IN", str(path), f"{what}, but this one {contents}")
    return tensors


def _wanted(model: str, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a library model's tensors by name, in order of registration."""
    require(model.startswith(LIBRARY_PREFIXES), "--model", model, "timm/NAME or torchvision/NAME")
    with torch.device("meta"):
        built = builder.build(ModelSpec(model), (3, *library_models.native_size(model)), classes)
    return {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}


def match(stored: Shapes, wanted: Shapes, path: str, model: str, ordered: bool) -> tuple[dict[str, str], str]:
    """Return the model's name for each stored tensor, and a description of how they were matched.

    Tensors are matched by name, if necessary without a prefix that they all share. Failing that, they are matched by
    position, provided the file is `ordered` and all shapes, modules and torch's own tensor names agree in sequence.

    Raises
    ------
    SpecError
        If neither way gives exactly one match.
    """
    short = {name: name.partition(".")[2] for name in stored}
    prefixed = len({name.partition(".")[0] for name in stored}) == 1
    for names in ({name: name for name in stored}, *([short] if prefixed else [])):
        if {new: stored[name] for name, new in names.items()} == dict(wanted):
            return names, f"matched with {model} by name"
    shared = len(stored.keys() & wanted.keys())
    difference = _difference(stored, wanted, ordered)
    what = f"weights of {model}: {shared} of {len(stored)} names match, and matching by order fails: {difference}"
    require(not difference, "IN", path, what)
    return dict(zip(stored, wanted, strict=True)), f"matched with {model} by order and shape; check the names above"


def _difference(stored: Shapes, wanted: Shapes, ordered: bool) -> str:
    """Return why tensors can't be matched by position, or an empty string if they can."""
    if not ordered:
        return "safetensors sorts them, so their order is lost"
    modules: dict[str, str] = {}
    sources: dict[str, str] = {}
    pairs = itertools.zip_longest(stored.items(), wanted.items(), fillvalue=("none", ()))
    for (name, shape), (new, new_shape) in pairs:
        (module, _, leaf), (new_module, _, new_leaf) = name.rpartition("."), new.rpartition(".")
        pair = f"{name} {shape} would be {new} {new_shape}"
        if shape != new_shape or "none" in (name, new):
            return pair + (" (--classes sets the model's number of classes)" if shape[1:] == new_shape[1:] else "")
        if leaf != new_leaf and {leaf, new_leaf} & LEAVES:
            return pair
        if (modules.setdefault(module, new_module), sources.setdefault(new_module, module)) != (new_module, module):
            return f"{pair}, in a different module from its neighbours"
    if unsorted := _first_unsorted(stored):
        return f"{unsorted} is out of numerical order"
    return ""


def _first_unsorted(names: Iterable[str]) -> str:
    """Return the first name that differs from an earlier one only in having smaller numbers, or an empty string.

    A module registers its parts in numerical order, whereas names sorted as text have 10 before 2.
    """
    last: dict[str, list[int]] = {}
    for name in names:
        numbers = [int(digits) for digits in re.findall(r"\d+", name)]
        if numbers < last.get(kind := re.sub(r"\d+", "#", name), []):
            return name
        last[kind] = numbers
    return ""
