"""Find plug-ins by name, and read their constants and options from the source text.

A plug-in is a file: ``halobench/losses/mixup.py`` is the loss that configurations call ``mixup``. A name with a colon,
``module:object``, refers to a callable outside the package. The package's own plug-ins aren't imported for this, so
code that needs only names and defaults runs without torch.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import random
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.core.errors import RefusedError, SpecError, describe_error, hint, one_of, refuse
from halobench.core.extras import extra_of, install
from halobench.core.plugins.constants import literal, read_constants
from halobench.core.plugins.kinds import Kind, Library, dotted, kinds

Definition = ast.FunctionDef | ast.ClassDef
LONGEST = 64  # characters of the name of one of the package's plug-ins
# Plug-ins that the package no longer has, by kind, and what to use instead.
RETIRED = {
    ("calibrators", "gap"): "use top_rest, which changes the top probability, too",
    ("calibrators", "noise_layer"): "use partner or confusion_mix, which learn from confusions, too",
    ("figures", "overlap"): "docs/theory.md shows it",
    ("figures", "phase"): "log_k shows which models grow like log k",
    ("figures", "predicted"): "the metric kl_two_level has the predictions",
    ("probes", "far_field"): "adversarial and certified search for the nearest end of certainty",
    ("tables", "images_posthoc"): "scores has these columns",
    ("tables", "paper_gaussians"): "scores has these rows",
    ("tables", "paper_gaussians_posterior"): "scores has these rows",
    ("tables", "paper_images"): "scores has these rows",
    ("tables", "paper_images_posterior"): "scores has these rows",
}


@dataclass(frozen=True, eq=False)
class Plugin:
    """A plug-in, as its file describes it.

    Attributes
    ----------
    kind : Kind
    name : str
        The plug-in's name in configurations.
    path : Path
        The plug-in's file or, if a library defines the plug-in, the library's adaptor.
    entry : str
        The function or class that the file defines.
    constants : mapping
        The constants that the file defines, out of those allowed for its kind.
    options : mapping or None
        The plug-in's options (keyword-only arguments; for a class, all arguments) and their defaults; ``...`` stands
        for a default that is missing or isn't a literal. None if the plug-in takes any option.
    arguments : tuple of str or None
        The names of a function's positional parameters; None for a class.
    returns : str
        A function's return annotation, if any.
    summary : str
        The first line of the docstring of a function's file; empty for a class.
    """

    kind: Kind
    name: str
    path: Path
    entry: str
    constants: Mapping[str, Any]
    options: Mapping[str, Any] | None
    arguments: tuple[str, ...] | None = None
    returns: str = ""
    summary: str = ""

    @property
    def library(self) -> Library | None:
        """Return the library that defines the plug-in, if any."""
        return self.kind.library_of(self.name)

    @property
    def is_outside(self) -> bool:
        """Return whether the plug-in is named ``module:object``."""
        return ":" in self.name

    def without_defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return `options` without those equal to their defaults; raise SpecError for an unknown option.

        The error's key is the option's name.
        """
        defaults = self.options
        if defaults is None:
            return dict(options)
        for key in options:
            if key not in defaults:
                known = f"no such option; those of {self.name} are {', '.join(defaults)}{hint(defaults, key)}"
                raise RefusedError(key, known if defaults else f"{self.name} has no options; leave this key out")
        return {key: value for key, value in options.items() if not _same(value, defaults[key])}

    def load(self) -> Callable[..., Any]:
        """Import the file and return its entry; raise SpecError if an import from outside the package fails."""
        if not self.is_outside:
            return getattr(importlib.import_module(dotted(self.path)), self.entry)
        return getattr(_import(self.kind, self.name), self.entry)


def _same(value: Any, default: Any) -> bool:
    """Return whether a value from YAML or JSON, which have no tuples, equals the default; True doesn't equal 1."""
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(default) and all(map(_same, value, default))
    return isinstance(value, bool) == isinstance(default, bool) and value == default


# --- Finding ---------------------------------------------------------------------------------------------------------


def find(kind: str, name: str) -> Plugin:
    """Return a plug-in; raise SpecError if there is none of this name, or if its file is invalid."""
    declared = kinds()[kind]
    path = _path(declared, name)
    return _read(declared, name, path, path.stat().st_mtime_ns)


def load(kind: str, name: str) -> Callable[..., Any]:
    """Import a plug-in and return its entry; raise SpecError if this fails."""
    return find(kind, name).load()


def names(kind: str) -> list[str]:
    """Return the names of the package's plug-ins of a kind, including files that can't be parsed."""
    declared = kinds()[kind]
    return list(_names(declared, declared.folder.stat().st_mtime_ns))


@functools.cache
def _names(kind: Kind, mtime_ns: int) -> tuple[str, ...]:
    """Return the names of the plug-ins in a kind's folder (`mtime_ns` keys the cache)."""
    return tuple(sorted(path.stem for path in kind.folder.glob("[!_]*.py") if _is_plugin(kind, path)))


def _is_plugin(kind: Kind, path: Path) -> bool:
    try:
        return _definition(path, kind.entry_of(path.stem)) is not None
    except SpecError:  # `find` reports it when this plug-in is requested
        return True


def _path(kind: Kind, name: str) -> Path:
    """Return the file of a plug-in or, if a library defines the plug-in, of the library's adaptor."""
    if library := kind.library_of(name):
        return library.adaptor
    if ":" in name:
        return _module_file(kind, name)
    path = kind.folder / f"{name}.py"
    too_long = len(name) > LONGEST  # for the file system
    if not name.isidentifier() or name.startswith("_") or too_long or not path.is_file():
        instead = RETIRED.get((kind.name, name))
        refuse(instead, kind.key, f"halobench no longer has {name!r}; {instead}")
        known = names(kind.name)
        raise SpecError(kind.key, name, one_of(known, name) + kind.elsewhere)
    return path


def _module_file(kind: Kind, name: str) -> Path:
    """Return the file of the module in ``module:object``, importing only the packages that contain it."""
    module = name.partition(":")[0]
    spec, why = None, ""
    try:
        spec = importlib.util.find_spec(module)
    except (Exception, SystemExit) as error:  # importing a parent package can do anything
        why = f" ({describe_error(error)})"
    if spec is None or not (spec.origin or "").endswith(".py"):
        sentence = f"the module {module!r} of {name!r} can't be imported{why}; its folder must be on PYTHONPATH"
        raise RefusedError(kind.key, sentence)
    return Path(str(spec.origin))


def check_known(kind: str, key: str, name: str, built_in: Collection[str] = ()) -> None:
    """Check that `name` is either `built_in`, which needs no file, or a plug-in of this kind.

    A plug-in whose file has a built-in name is also refused, since it would never be used.
    """
    declared = kinds()[kind]
    if name in built_in:
        hidden = declared.folder / f"{name}.py"
        refuse(hidden.exists(), key, f"{name!r} is built in, so {kind}/{name}.py would never be used; rename that file")
        return
    try:
        find(kind, name)
    except SpecError as error:
        candidates = (*built_in, *names(kind))
        if ":" in name or "/" in name or name in candidates or not isinstance(error.value, str):
            raise error.at(key) from None
        raise SpecError(key, name, one_of(candidates, name) + declared.elsewhere) from None


def check_installed(plugins: Iterable[tuple[str, str]]) -> None:
    """Raise SpecError, saying what to install, unless the ``PACKAGES`` of plug-ins (kind, name) are installed.

    The packages aren't imported.
    """
    for kind, name in plugins:
        packages = find(kind, name).constants.get("PACKAGES", ())
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        extra = next(filter(None, map(extra_of, missing)), None)
        remedy = f"run {install(extra)}" if extra else "install them"
        refuse(missing, kind, f"{name} needs {' and '.join(packages)}; {remedy}")


# --- Reading ---------------------------------------------------------------------------------------------------------


@functools.cache
def _read(kind: Kind, name: str, path: Path, mtime_ns: int) -> Plugin:
    """Read a plug-in's file (`mtime_ns` keys the cache)."""
    try:
        tree = parsed(path, mtime_ns)
    except SpecError as error:
        raise RefusedError(kind.key, f"the plug-in {name!r} can't be read: {error}") from None
    try:
        constants = read_constants(kind.constants, tree)
    except SpecError as error:
        raise RefusedError(kind.key, f"the file of {name!r} defines {error}") from None
    if library := kind.library_of(name):
        found = library.definition(kind.key, name)
        return Plugin(kind, name, path, kind.entry, constants, None if found is None else _options(found))
    entry = kind.entry_of(name)
    node = _definition(path, entry)
    if node is None and ":" in name:
        refuse(
            not _imports(tree, entry),
            kind.key,
            f"{path} doesn't define {entry!r}; define it there, or correct {name!r}",
        )
        return _reexported(kind, name, path)
    if node is None:
        what = "function" if kind.entry else "class"
        raise RefusedError(kind.key, f"{path.name} defines no {what} {entry!r}, which makes it one of the {kind.name}")
    if isinstance(node, ast.ClassDef):
        return Plugin(kind, name, path, entry, constants, _options(node))
    # A quoted annotation is parsed as a constant.
    quoted = node.returns.value if isinstance(node.returns, ast.Constant) else None
    returns = str(quoted) if quoted is not None else ast.unparse(node.returns) if node.returns else ""
    arguments = tuple(argument.arg for argument in node.args.args)
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Plugin(kind, name, path, entry, constants, _options(node), arguments, returns, summary)


def _options(node: Definition) -> dict[str, Any] | None:
    """Return the options of a function or class as in `Plugin`.

    The positional arguments of a class count as options, too, since nobody passes them by position.
    """
    is_class = isinstance(node, ast.ClassDef)
    if isinstance(node, ast.ClassDef):
        methods = (each for each in node.body if isinstance(each, ast.FunctionDef))
        function = next((method for method in methods if method.name == "__init__"), None)
    else:
        function = node
    if function is None:
        return {}
    if function.args.kwarg is not None:
        return None
    pairs = list(zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True))
    if is_class:
        others, defaults = function.args.args[1:], function.args.defaults
        absent: list[ast.expr | None] = [None] * (len(others) - len(defaults))
        pairs = [*zip(others, [*absent, *defaults], strict=True), *pairs]
    return {argument.arg: literal(default) for argument, default in pairs}


def _imports(tree: ast.Module, name: str) -> bool:
    """Return whether a file may import `name` from another module."""
    aliases = (alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names)
    return any(name == (alias.asname or alias.name) or alias.name == "*" for alias in aliases)


def _reexported(kind: Kind, name: str, path: Path) -> Plugin:
    """Return the plug-in of an object that its module imports from elsewhere, such as ``torch.nn:CrossEntropyLoss``."""
    entry = kind.entry_of(name)
    target: Any = getattr(_import(kind, name), entry, None)
    refuse(target is None, kind.key, f"{path} doesn't define {entry!r}; define it there, or correct {name!r}")
    try:
        parameters = list(inspect.signature(target).parameters.values())
        file = Path(str(inspect.getsourcefile(target)))
    except (TypeError, ValueError):
        raise RefusedError(kind.key, f"{name!r} isn't a function or class that is written in Python") from None
    named = parameters if isinstance(target, type) else [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    any_option = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    arguments = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = {parameter.name: _plain(parameter.default) for parameter in named}
    return Plugin(
        kind, name, file, entry, {}, None if any_option else options, None if named is parameters else tuple(arguments)
    )


def _plain(default: Any) -> Any:
    """Return a default, or ``...`` if the default is missing or JSON can't represent it."""
    return default if default is None or isinstance(default, bool | int | float | str | list | tuple) else ...


def _definition(path: Path, name: str) -> Definition | None:
    """Return the top-level function or class `name` in a file, or None if there is none."""
    nodes = (node for node in parsed(path, path.stat().st_mtime_ns).body if isinstance(node, Definition))
    return next((node for node in nodes if node.name == name), None)


@functools.cache
def parsed(path: Path, mtime_ns: int) -> ast.Module:
    """Return a file's syntax tree (`mtime_ns` keys the cache); raise SpecError with its path if it isn't Python."""
    try:
        return ast.parse(path.read_bytes())  # as bytes, so that the file may declare its encoding
    except (SyntaxError, ValueError) as error:
        raise RefusedError(str(path), f"not valid Python ({describe_error(error)})") from None


# --- Running ---------------------------------------------------------------------------------------------------------


def _import(kind: Kind, name: str) -> Any:
    """Import the module of ``module:object``; raise SpecError if this fails."""
    try:
        return importlib.import_module(name.partition(":")[0])
    except (Exception, SystemExit) as error:
        raise RefusedError(kind.key, f"{name!r} can't be imported ({describe_error(error)})") from error


@contextlib.contextmanager
def calling(key: str, seed: int = 0) -> Iterator[None]:
    """Seed the global generators before a call to a plug-in's function, and afterwards restore all but CUDA's.

    Even a plug-in that draws from a global generator, against the rules, thus returns the same numbers each time. Any
    exception other than a SpecError becomes one that names the exception's file and line.
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
