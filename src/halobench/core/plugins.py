"""Plug-ins are files, found by name; their options are read from the source text without importing it.

``halobench/losses/mixup.py`` is what the config calls ``mixup``. A name with a colon, ``module:object``, is a callable
outside the package. Reading signatures instead of importing keeps torch out of whatever only needs names and defaults.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError, describe_error, hint, one_of, require

PACKAGE = Path(__file__).parents[1]
# The folder of the package that holds the plug-ins of each kind, and nothing else.
FOLDERS = {
    "data": "data/loaders",
    "models": "models/architectures",
    "losses": "losses",
    "calibrators": "calibration/calibrators",
    "probes": "probing/directions",
    "figures": "reporting/figures",
    "tables": "reporting/tables",
}
ENTRIES = {"models": "build", "data": "load", "figures": "draw", "tables": "make"}
ENTRIES |= {"calibrators": "fit", "probes": "directions"}


def folder(kind: str) -> Path:
    """The folder of the package's own plug-ins of a kind."""
    return PACKAGE / FOLDERS[kind]


def entry(kind: str, name: str) -> str:
    """What a file of this kind must define: a function of a fixed name, or a loss's class in CamelCase."""
    if kind == "losses":
        return "".join(part.capitalize() for part in name.split("_"))
    return ENTRIES[kind]


def names(kind: str) -> list[str]:
    """The names of the package's own plug-ins of a kind: files that define its entry, or can't be parsed."""
    with os.scandir(folder(kind)) as entries:
        found = [each for each in entries if each.name.endswith(".py") and each.is_file()]
        files = sorted((each.name, each.stat().st_mtime_ns) for each in found)
    return list(_names(kind, tuple(files)))


@functools.cache
def _names(kind: str, files: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """`names`, of files (name, when changed) of a kind's folder."""

    def defines(stem: str) -> bool:
        try:
            return _definition(folder(kind) / f"{stem}.py", entry(kind, stem)) is not None
        except SpecError:  # whoever asks for it is told; others need not care
            return True

    return tuple(filter(defines, (name.removesuffix(".py") for name, _ in files if not name.startswith("_"))))


def locate(kind: str, name: str) -> Path:
    """The file that holds a plug-in.

    Raises
    ------
    SpecError
        If there is no such plug-in; the key is ``name`` (``loader`` for data).
    """
    key = "loader" if kind == "data" else "name"
    if kind == "models" and name.startswith(FOREIGN):
        return PACKAGE / "models/library_models.py"
    if ":" in name:
        return _outside(key, name)
    if name not in names(kind):
        others = {"models": ", timm/NAME, torchvision/NAME or module:object", "figures": "", "tables": ""}
        raise SpecError(key, name, one_of(names(kind), name) + others.get(kind, " or module:object"))
    path = folder(kind) / f"{name}.py"
    try:
        parsed(path, path.stat().st_mtime_ns)
    except SpecError as error:
        raise SpecError(key, name, f"a plug-in, but {path.name} is no Python ({error.value})") from None
    return path


def _outside(key: str, name: str) -> Path:
    """The file of ``module:object``."""
    module, _, attribute = name.partition(":")
    why = ""
    try:
        found = importlib.util.find_spec(module)
    except (Exception, SystemExit) as error:  # a parent package is imported, and may do anything
        found, why = None, f" ({describe_error(error)})"
    if found is None or not found.origin or not found.origin.endswith(".py"):
        raise SpecError(key, name, f"module:object, but no module {module!r} can be imported{why}")
    try:
        definition = _definition(Path(found.origin), attribute)
    except SpecError as error:
        raise SpecError(key, name, f"module:object, but {found.origin} is no Python ({error.value})") from None
    if definition is None:
        raise SpecError(key, name, f"module:object, but {found.origin} defines no {attribute!r}")
    return Path(found.origin)


def load(kind: str, name: str) -> Callable[..., Any]:
    """Import a plug-in and return its entry."""
    if ":" in name:
        _outside("loader" if kind == "data" else "name", name)
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            key = "loader" if kind == "data" else "name"
            raise SpecError(key, name, f"a module that can be imported ({describe_error(error)})") from error
    locate(kind, name)
    return getattr(
        importlib.import_module(f"{PACKAGE.name}.{FOLDERS[kind].replace('/', '.')}.{name}"), entry(kind, name)
    )


def signature(kind: str, name: str) -> dict[str, Any] | None:
    """Options of a plug-in with their defaults, from its keyword-only arguments; None where it takes what it likes.

    An option without a default, or with one that is no literal, maps to ``...``. Names under ``timm/`` and
    ``torchvision/`` hand their options to those libraries, so nothing is known of them here.
    """
    path = locate(kind, name)
    if kind == "models" and name.startswith(FOREIGN):
        return None
    node = _definition(path, name.partition(":")[2] or entry(kind, name))
    if isinstance(node, ast.ClassDef):
        node = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if node is None:
        return {}
    if node.args.kwarg is not None:
        return None
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {arg.arg: _literal(default) for arg, default in pairs}


def is_distribution(loader: str) -> bool:
    """Whether a loader's ``load`` is annotated to give a ``Distribution``, whose points are drawn anew by each seed."""
    node = _definition(locate("data", loader), loader.partition(":")[2] or entry("data", loader))
    returns = getattr(node, "returns", None)
    if isinstance(returns, ast.Constant) and isinstance(returns.value, str):  # an annotation in quotes
        return returns.value.rpartition(".")[2] == "Distribution"
    return returns is not None and ast.unparse(returns).rpartition(".")[2] == "Distribution"


def constant(kind: str, name: str, attribute: str) -> Any:
    """The literal that a plug-in's file assigns to `attribute` at its top level; None where it doesn't."""
    path = locate(kind, name)
    for node in parsed(path, path.stat().st_mtime_ns).body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", None) == attribute for t in node.targets):
            return _literal(node.value)
    return None


def parameters(kind: str, name: str) -> list[str]:
    """Names of a plug-in function's positional parameters (for a figure or a table: the tables that it reads)."""
    node = _definition(locate(kind, name), name.partition(":")[2] or entry(kind, name))
    if not isinstance(node, ast.FunctionDef):
        raise SpecError(f"{kind}.{name}", name, "a function, whose parameters name the tables that it reads")
    return [arg.arg for arg in node.args.args]


def without_defaults(kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """`options` less those that equal the plug-in's defaults, its unknown keys refused.

    Raises
    ------
    SpecError
        On an option that the plug-in doesn't have; the key is the option's name.
    """
    known = signature(kind, name)
    if known is None:
        return dict(options)
    for key, value in options.items():
        if key not in known:
            raise SpecError(key, value, f"no such key: {name} has {', '.join(known) or 'no options'}{hint(known, key)}")
    return {key: value for key, value in options.items() if not _same(value, known[key])}


def _same(value: Any, default: Any) -> bool:
    """Whether a value from YAML or JSON, which have no tuples, is the default; True isn't 1, though Python says so."""
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(default) and all(map(_same, value, default))
    return isinstance(value, bool) == isinstance(default, bool) and value == default


def _definition(path: Path, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """The top-level function or class `name` of a file."""
    for node in parsed(path, path.stat().st_mtime_ns).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
    return None


@functools.cache
def parsed(path: Path, mtime_ns: int) -> ast.Module:
    """A file's syntax tree; `mtime_ns` only keys the cache. SpecError, which names the file, if it is no Python."""
    try:
        return ast.parse(path.read_bytes())  # bytes, so that the encoding is what the file says
    except (SyntaxError, ValueError) as error:
        raise SpecError(str(path), describe_error(error), "Python") from None


def _literal(node: ast.expr | None) -> Any:
    """The value of a literal default, or ``...``."""
    try:
        return ast.literal_eval(node) if node is not None else ...
    except ValueError:
        return ...


@contextlib.contextmanager
def calling(key: str, seed: int = 0) -> Iterator[None]:
    """Around a call of a plug-in's function: the global generators start from `seed`, and are put back afterwards.

    What draws from one of them, against the rules, gives the same numbers each time all the same.

    Raises
    ------
    SpecError
        On whatever the plug-in raises, with the line where that was.
    """
    import numpy as np

    torch = sys.modules.get("torch")
    legacy = np.random.get_state()  # noqa: NPY002
    kept, torch_kept = random.getstate(), torch.get_rng_state() if torch else None
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    if torch:
        torch.manual_seed(seed)
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        raise SpecError(key, said, "a plug-in that raises nothing") from error
    finally:
        random.setstate(kept)
        np.random.set_state(legacy)  # noqa: NPY002
        if torch:
            torch.set_rng_state(torch_kept)


FOREIGN = ("timm/", "torchvision/")  # how the names of these libraries' models begin


def check_known(kind: str, key: str, name: str, own: Iterable[str]) -> None:
    """Raise SpecError unless `name` is one of the package's `own`, or a plug-in of the kind."""
    from halobench.core import plugins  # which imports this module

    if name in own:
        hidden = plugins.folder(kind) / f"{name}.py"
        require(not hidden.exists(), key, name, f"another name for {kind}/{name}.py: the package has one of its own")
        return
    try:
        plugins.locate(kind, name)
    except SpecError as error:
        known = (*own, *plugins.names(kind))
        expected = error.expected if ":" in name or name in known else f"{one_of(known, name)} or module:object"
        raise SpecError(key, name, expected) from None


EXTRA = {"matrix": ("posthoc", ("probmetrics", "numba"))}  # the extra, and its packages, that a calibrator needs


def check_installed(calibrators: Iterable[str]) -> None:
    """Raise SpecError, which names the extra, if a package that fits a calibrator isn't here. None is imported."""
    for name in calibrators:
        extra, packages = EXTRA.get(name, ("", ()))
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        told = f"{' and '.join(packages)} to be installed, which fit it: pip install --editable '.[{extra}]'"
        require(not missing, "calibrators", name, told)
