"""Find plug-ins by name, and read their options from the source text without importing them.

A plug-in is a file: ``halobench/losses/mixup.py`` is the loss that configurations call ``mixup``. A name with a colon,
``module:object``, refers to a callable outside the package. Since signatures are read without importing anything, code
that needs only names and defaults runs without torch.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from halobench.core import library_calibrators
from halobench.core.errors import RefusedError, SpecError, describe_error, hint, one_of, refuse
from halobench.core.extras import extra_of, install
from halobench.core.plugin_constants import literal, read_constants

PACKAGE = Path(__file__).parents[1]
# The package folder that holds the plug-ins of each kind and nothing else.
FOLDERS = {
    "data": "data/loaders",
    "models": "models/architectures",
    "losses": "losses",
    "calibrators": "calibration/calibrators",
    "metrics": "calibration/metrics",
    "probes": "probing/directions",
    "searches": "probing/searches",
    "figures": "reporting/figures",
    "tables": "reporting/tables",
}
# The function that each kind of plug-in defines; a loss instead defines a class named after its file.
ENTRIES = {
    "data": "load",
    "models": "build",
    "calibrators": "fit",
    "metrics": "score",
    "probes": "directions",
    "searches": "search",
    "figures": "draw",
    "tables": "make",
}
LIBRARY_PREFIXES = ("timm/", "torchvision/")  # prefixes of these libraries' model names
OUTSIDE = {"models": "timm/NAME, torchvision/NAME", "calibrators": library_calibrators.NAMES}


def folder(kind: str) -> Path:
    """Return the package's folder of plug-ins of a kind."""
    return PACKAGE / FOLDERS[kind]


def entry(kind: str, name: str) -> str:
    """Return the name that a plug-in's file must define: a fixed function name or, for a loss, a class in CamelCase."""
    if kind == "losses":
        return "".join(part.capitalize() for part in name.split("_"))
    return ENTRIES[kind]


def names(kind: str) -> list[str]:
    """Return the names of the package's plug-ins of a kind, including files that can't be parsed."""
    return sorted(path.stem for path in folder(kind).glob("[!_]*.py") if _is_plugin(kind, path))


def _is_plugin(kind: str, path: Path) -> bool:
    try:
        return _definition(path, entry(kind, path.stem)) is not None
    except SpecError:  # `locate` reports it when this plug-in is requested
        return True


def _key(kind: str) -> str:
    """Return the spec key that holds the name of a plug-in of this kind."""
    return "loader" if kind == "data" else "name"


# --- Finding ---------------------------------------------------------------------------------------------------------


def locate(kind: str, name: str) -> Path:
    """Return the file of a plug-in; raise SpecError if there is none, or if one of its constants is invalid."""
    constants(kind, name)
    return _file(kind, name)


def _file(kind: str, name: str) -> Path:
    """Return the file of a plug-in, after checking that it is Python."""
    key = _key(kind)
    if kind == "models" and name.startswith(LIBRARY_PREFIXES):
        return PACKAGE / "models/library_models.py"
    if kind == "calibrators" and library_calibrators.is_from_library(name):
        library_calibrators.source(key, name)
        return PACKAGE / library_calibrators.adaptor(name)
    if ":" in name:
        return _outside(key, name)
    known = names(kind)
    if name not in known:
        raise SpecError(key, name, one_of(known, name) + _or_outside(kind))
    path = folder(kind) / f"{name}.py"
    try:
        parsed(path, path.stat().st_mtime_ns)
    except SpecError as error:
        raise RefusedError(key, f"the plug-in {name!r} can't be read: {error}") from None
    return path


def _or_outside(kind: str) -> str:
    """Return the words that follow a list of the package's plug-ins: the form of other plug-ins' names."""
    return f", {OUTSIDE[kind]} or module:object" if kind in OUTSIDE else " or module:object"


def _outside(key: str, name: str) -> Path:
    """Return the file of ``module:object``, importing only its parent packages."""
    module, _, attribute = name.partition(":")
    spec, why = None, ""
    try:
        spec = importlib.util.find_spec(module)
    except (Exception, SystemExit) as error:  # importing a parent package can do anything
        why = f" ({describe_error(error)})"
    if spec is None or not (spec.origin or "").endswith(".py"):
        sentence = f"the module {module!r} of {name!r} can't be imported{why}; its folder must be on PYTHONPATH"
        raise RefusedError(key, sentence)
    path = Path(str(spec.origin))
    try:
        definition = _definition(path, attribute)
    except SpecError as error:
        raise RefusedError(key, f"the plug-in {name!r} can't be read: {error}") from None
    refuse(definition is None, key, f"{path} doesn't define {attribute!r}; correct {name!r}")
    return path


def check_known(kind: str, key: str, name: str, built_in: Iterable[str]) -> None:
    """Check that `name` is either `built_in`, which needs no file, or a plug-in of this kind.

    A plug-in whose file has a built-in name is also refused, since it would never be used.
    """
    if name in built_in:
        hidden = folder(kind) / f"{name}.py"
        refuse(hidden.exists(), key, f"{name!r} is built in, so {kind}/{name}.py would never be used; rename that file")
        return
    try:
        locate(kind, name)
    except SpecError as error:
        candidates = (*built_in, *names(kind))
        from_package = ":" not in name and "/" not in name and name not in candidates
        if not from_package:
            raise error.at(key) from None
        raise SpecError(key, name, one_of(candidates, name) + _or_outside(kind)) from None


def check_installed(plugins: Iterable[tuple[str, str]]) -> None:
    """Raise SpecError, naming the extra, unless the ``PACKAGES`` of plug-ins (kind, name) are installed.

    The packages aren't imported.
    """
    for kind, name in plugins:
        packages = constant(kind, name, "PACKAGES") or ()
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        extra = next(filter(None, map(extra_of, missing)), None)
        remedy = f"run {install(extra)}" if extra else "install them"
        refuse(missing, kind, f"{name} needs {' and '.join(packages)}; {remedy}")


# --- Reading ---------------------------------------------------------------------------------------------------------


def constants(kind: str, name: str) -> dict[str, Any]:
    """Return those constants in `halobench.core.plugin_constants.OF_KIND` that a plug-in's file defines."""
    path = _file(kind, name)
    return _constants(kind, name, path, path.stat().st_mtime_ns)


@functools.cache
def _constants(kind: str, name: str, path: Path, mtime_ns: int) -> dict[str, Any]:
    """Return the constants of a plug-in's file (`mtime_ns` keys the cache)."""
    try:
        return read_constants(kind, parsed(path, mtime_ns))
    except SpecError as error:
        raise RefusedError(_key(kind), f"the file of {name!r} defines {error}") from None


def constant(kind: str, name: str, attribute: str) -> Any:
    """Return one of a plug-in's `constants`, or None if the plug-in doesn't define it."""
    return constants(kind, name).get(attribute)


def signature(kind: str, name: str) -> dict[str, Any] | None:
    """Return a plug-in's options (its keyword-only arguments) and their defaults; None if it takes any option (``**``).

    For a class, positional arguments also count as options, since no caller passes them by position.

    An option maps to ``...`` if it has no default, or if its default isn't a literal. Models under ``timm/`` and
    ``torchvision/`` pass all options on to those libraries, as do calibrators of a library that isn't installed.
    """
    node = _entry_node(kind, name)
    if kind == "models" and name.startswith(LIBRARY_PREFIXES):
        return None
    if kind == "calibrators" and library_calibrators.is_from_library(name):
        path = library_calibrators.source(_key(kind), name)
        if path is None:
            return None
        node = _definition(path, name.partition("/")[2])
    is_class = isinstance(node, ast.ClassDef)
    if isinstance(node, ast.ClassDef):
        node = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if node is None:
        return {}
    if node.args.kwarg is not None:
        return None
    pairs = list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    if is_class:
        others = node.args.args[1:]
        defaults = [None] * (len(others) - len(node.args.defaults)) + node.args.defaults
        pairs = [*zip(others, defaults, strict=True), *pairs]
    return {arg.arg: literal(default) for arg, default in pairs}


def is_distribution(loader: str) -> bool:
    """Return True if a loader's ``load`` is annotated to return a ``Distribution``, which is resampled per seed."""
    returns = getattr(_entry_node("data", loader), "returns", None)
    # A quoted annotation is parsed as a constant.
    text = returns.value if isinstance(returns, ast.Constant) else ast.unparse(returns) if returns else ""
    return str(text).rpartition(".")[2] == "Distribution"


def parameters(kind: str, name: str) -> list[str]:
    """Return the names of a plug-in function's positional parameters (of a figure or table: the tables it reads)."""
    node = _entry_node(kind, name)
    if not isinstance(node, ast.FunctionDef):
        raise RefusedError(
            f"{kind}.{name}", f"{name} isn't a function; define one whose parameters name the tables that it reads"
        )
    return [arg.arg for arg in node.args.args]


def without_defaults(kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return `options` without those equal to their defaults; raise SpecError if the plug-in doesn't have one of them.

    The error's key is the option's name.
    """
    defaults = signature(kind, name)
    if defaults is None:
        return dict(options)
    for key in options:
        if key not in defaults:
            known = f"no such option; those of {name} are {', '.join(defaults)}{hint(defaults, key)}"
            raise RefusedError(key, known if defaults else f"{name} has no options; leave this key out")
    return {key: value for key, value in options.items() if not _same(value, defaults[key])}


def _same(value: Any, default: Any) -> bool:
    """Return True if a value from YAML or JSON, which have no tuples, equals the default; True doesn't equal 1."""
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(default) and all(map(_same, value, default))
    return isinstance(value, bool) == isinstance(default, bool) and value == default


def _entry_node(kind: str, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """Return the syntax tree of a plug-in's entry, or None for a library's model or calibrator."""
    return _definition(locate(kind, name), name.partition(":")[2] or entry(kind, name))


def _definition(path: Path, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """Return the top-level function or class `name` in a file, or None if there is none."""
    for node in parsed(path, path.stat().st_mtime_ns).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
    return None


@functools.cache
def parsed(path: Path, mtime_ns: int) -> ast.Module:
    """Return a file's syntax tree (`mtime_ns` keys the cache); raise SpecError with its path if it isn't Python."""
    try:
        return ast.parse(path.read_bytes())  # as bytes, so that the file may declare its encoding
    except (SyntaxError, ValueError) as error:
        raise RefusedError(str(path), f"not valid Python ({describe_error(error)})") from None


# --- Running ---------------------------------------------------------------------------------------------------------


def load(kind: str, name: str) -> Callable[..., Any]:
    """Import a plug-in and return its entry; raise SpecError if this fails."""
    locate(kind, name)
    if ":" not in name:
        module = f"{PACKAGE.name}.{FOLDERS[kind].replace('/', '.')}.{name}"
        return getattr(importlib.import_module(module), entry(kind, name))
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise RefusedError(_key(kind), f"{name!r} can't be imported ({describe_error(error)})") from error


@contextlib.contextmanager
def calling(key: str, seed: int = 0) -> Iterator[None]:
    """Seed the global generators before a call to a plug-in's function, and restore them afterwards.

    Even a plug-in that draws from a global generator, against the rules, thus returns the same numbers each time. Any
    exception becomes a SpecError with its file and line.
    """
    import numpy as np

    torch = sys.modules.get("torch")
    numpy_state = np.random.get_state()  # noqa: NPY002
    python_state, torch_state = random.getstate(), torch.get_rng_state() if torch else None
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
        what = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        raise RefusedError(key, f"raised {what}") from error
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        if torch:
            torch.set_rng_state(torch_state)
