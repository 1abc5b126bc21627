"""Find the weights that an installed package ships, without importing the package."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from halobench.core.errors import one_of, require

SUFFIXES = (".pth", ".pt", ".safetensors")


def find(name: str) -> Path:
    """Return the weights file ``PACKAGE/PATH`` of an installed package or, for ``PACKAGE``, its only weights file."""
    package, _, path = name.partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    what = "the name under which Python imports an installed package that ships weights"
    what += " (`pip install --editable '.[zoo]'` installs those of strangers.yaml)"
    require(spec is not None, "pretrained", name, what)
    shipped = {
        f"{package}/{file.relative_to(folder).as_posix()}": file
        for folder in map(Path, (spec and spec.submodule_search_locations) or ())
        for file in folder.rglob("*")
        if file.suffix in SUFFIXES and file.is_file()
    }
    require(shipped, "pretrained", name, f"a package that ships a {', '.join(SUFFIXES[:2])} or {SUFFIXES[2]} file")
    if not path and len(shipped) == 1:
        return next(iter(shipped.values()))
    require(name in shipped, "pretrained", name, f"the package's weights file, {one_of(shipped, name)}")
    return shipped[name]


def distributions(name: str) -> list[str]:
    """Return the names of the distributions that installed the package in `name`, ``PACKAGE`` or ``PACKAGE/PATH``."""
    return importlib.metadata.packages_distributions().get(name.partition("/")[0], [])
