"""Define kinds of plug-ins; each is declared as ``KIND`` in the ``__init__.py`` of the folder that holds its files.

Classes of other libraries can serve as plug-ins, too, such as ``netcal/HistogramBinning``. Their names and options are
read from the library's source text, because importing a library can take seconds.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError, hint

PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Library:
    """A library whose classes or functions are plug-ins under the names ``name/NAME``.

    Attributes
    ----------
    name : str
    adaptor : Path
        The file that adapts the library's plug-ins.
    modules : tuple of str
        The library's modules that export the plug-ins. If empty, the library itself checks names and options.
    """

    name: str
    adaptor: Path
    modules: tuple[str, ...] = ()

    def definition(self, key: str, name: str) -> ast.ClassDef | None:
        """Return the syntax tree of a class, or None if the library isn't installed or checks names itself.

        Raise SpecError if the library has no such class.
        """
        spec = importlib.util.find_spec(self.name) if self.modules else None
        if spec is None or spec.origin is None:
            return None
        wanted, classes = name.partition("/")[2], _classes(self, Path(spec.origin).parent)
        if wanted not in classes:
            longer = [each for each in classes if each.lower().startswith(wanted.lower())]
            near = f" (did you mean {longer[0]!r}?)" if longer else hint(classes, wanted)
            raise SpecError(key, name, f"the name of a calibrator's class in {self.name}{near}")
        tree = ast.parse(classes[wanted].read_bytes())
        return next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == wanted), None)


@functools.cache
def _classes(library: Library, root: Path) -> dict[str, Path]:
    """Return the classes that a library's modules export, each with the file that defines it."""
    classes: dict[str, Path] = {}
    for module in library.modules:
        for node in ast.parse((root / module / "__init__.py").read_bytes()).body:
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
                file = root / module / f"{node.module}.py"
                classes |= {alias.name: file for alias in node.names if alias.name[0].isupper()}
    return classes


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
