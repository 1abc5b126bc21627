"""Find the classes of other libraries that serve as plug-ins, such as ``netcal/HistogramBinning``.

Names and options are read from a library's source text, because importing a library can take seconds.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from halobench.core.errors import SpecError, hint


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
