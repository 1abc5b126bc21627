"""Define kinds of plug-ins; each is declared as ``KIND`` in the ``__init__.py`` of the folder that holds its files."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halobench.core.plugins.libraries import Library

PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of plug-in.

    Attributes
    ----------
    name : str
        The name of the kind, e.g. ``losses``.
    file : str
        The ``__file__`` of the module that declares the kind. The files next to it that define the entry are plug-ins,
        except for those that begin with ``_``.
    entry : str
        The function that each file defines; if empty, each file defines a class named after itself (``logit_norm.py``:
        ``LogitNorm``).
    constants : tuple of str
        The constants that a file may define, out of `halobench.core.plugins.constants.FORMS`.
    key : str
        The key that holds a plug-in's name in specs.
    libraries : tuple of Library
        Libraries whose classes or functions are plug-ins, too.
    built_in : mapping
        Names that need no file, and the constants that each name has in place of a file's.
    """

    name: str
    file: str
    entry: str
    constants: tuple[str, ...]
    key: str = "name"
    libraries: tuple[Library, ...] = ()
    built_in: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return Path(self.file).parent

    def entry_of(self, name: str) -> str:
        """Return the name of the function or class that the plug-in's file defines."""
        return name.partition(":")[2] or self.entry or "".join(part.capitalize() for part in name.split("_"))

    def library_of(self, name: str) -> Library | None:
        """Return the library of a name such as ``timm/resnet18``."""
        return next((library for library in self.libraries if name.startswith(f"{library.name}/")), None)

    @property
    def elsewhere(self) -> str:
        """Return the forms of names of plug-ins outside the folder, to end a list of the names in the folder."""
        forms = [f"{library.name}/NAME" for library in self.libraries]
        return f", {', '.join(forms)} or module:object" if forms else " or module:object"


def dotted(path: Path) -> str:
    """Return the dotted name of a module or folder of the package."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@functools.cache
def kinds() -> dict[str, Kind]:
    """Return all kinds of plug-ins by name."""
    files = sorted(path for path in PACKAGE.rglob("__init__.py") if b"\nKIND = " in path.read_bytes())
    declared: list[Kind] = [importlib.import_module(dotted(path.parent)).KIND for path in files]
    return {kind.name: kind for kind in declared}
