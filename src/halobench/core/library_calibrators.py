"""Find calibrators of other libraries, ``probmetrics/NAME`` and ``netcal/NAME``, where NAME is the name of a class.

Names and options are read from the libraries' source text, because importing either library takes seconds.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from pathlib import Path

from halobench.core.errors import SpecError, hint

MODULES = {"probmetrics": ("calibrators",), "netcal": ("scaling", "binning")}  # the modules that define calibrators
NAMES = "probmetrics/NAME, netcal/NAME"


def is_from_library(name: str) -> bool:
    """Return True if a calibrator's name refers to a class of one of the libraries."""
    return name.partition("/")[0] in MODULES and "/" in name


def adaptor(name: str) -> str:
    """Return the path, within the package, of the adaptor for a calibrator's library."""
    return f"calibration/adaptors/{name.partition('/')[0]}.py"


def source(key: str, name: str) -> Path | None:
    """Return the file that defines a calibrator's class, or None if the library isn't installed.

    Raise SpecError if the library has no such class.
    """
    library, _, wanted = name.partition("/")
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        return None
    classes = _classes(library, Path(spec.origin).parent)
    if wanted not in classes:
        longer = [each for each in classes if each.lower().startswith(wanted.lower())]
        near = f" (did you mean {longer[0]!r}?)" if longer else hint(classes, wanted)
        raise SpecError(key, name, f"the name of a calibrator's class in {library}{near}")
    return classes[wanted]


@functools.cache
def _classes(library: str, root: Path) -> dict[str, Path]:
    """Return the classes that a library's modules export, each with the file that defines it."""
    classes: dict[str, Path] = {}
    for module in MODULES[library]:
        for node in ast.parse((root / module / "__init__.py").read_bytes()).body:
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
                file = root / module / f"{node.module}.py"
                classes |= {alias.name: file for alias in node.names if alias.name[0].isupper()}
    return classes
