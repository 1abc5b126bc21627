"""Weights that an installed package ships, found without importing the package, and read without running its code."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halobench.core.errors import SpecError, describe_error, one_of, require

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".pth", ".pt", ".safetensors")
NESTED = ("state_dict", "model")  # the keys under which some checkpoints hold the tensors


def find(name: str) -> Path:
    """Return the weights file ``PACKAGE/PATH`` of an installed package, or ``PACKAGE``'s only one.

    Raises
    ------
    SpecError
        If the package isn't installed, or doesn't have exactly one such file.
    """
    package, _, path = name.partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    what = "the name of an installed package that ships weights, as Python imports it"
    what += " (`pip install --editable '.[zoo]'` installs those of strangers.yaml)"
    require(found is not None, "pretrained", name, what)
    shipped = {
        f"{package}/{each.relative_to(folder).as_posix()}": each
        for folder in map(Path, (found and found.submodule_search_locations) or ())
        for each in folder.rglob("*")
        if each.suffix in SUFFIXES and each.is_file()
    }
    require(shipped, "pretrained", name, f"a package that ships a {', '.join(SUFFIXES[:2])} or {SUFFIXES[2]} file")
    if not path and len(shipped) == 1:
        return next(iter(shipped.values()))
    require(name in shipped, "pretrained", name, f"the package's weights file, {one_of(shipped, name)}")
    return shipped[name]


def distributions(name: str) -> list[str]:
    """Return the names under which the package of `name` was installed, for its versions in a record."""
    return importlib.metadata.packages_distributions().get(name.partition("/")[0], [])


def is_ordered(path: Path) -> bool:
    """Return True if a weights file keeps its tensors in the order in which the model has them."""
    return path.suffix != ".safetensors"  # these are sorted by type and name


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file, by name and in its order.

    Raises
    ------
    SpecError
        If it can't be read without running code that it may contain, or holds anything but named tensors.
    """
    import torch
    from safetensors.torch import load_file

    content: Any
    try:
        # Tensors saved on a GPU are read without one.
        content = load_file(path) if not is_ordered(path) else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many kinds of errors
        what = f"a file that torch.load can read with weights_only=True ({describe_error(error)})"
        raise SpecError("pretrained", str(path), what) from None
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    named = isinstance(content, dict) and all(isinstance(tensor, torch.Tensor) for tensor in content.values())
    require(named and content, "pretrained", str(path), "a state dict, which maps names to tensors")
    return {str(name): tensor for name, tensor in content.items()}
