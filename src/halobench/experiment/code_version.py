"""The code map, {module: digest}, of the code that a job's numbers depend on, which decides what is rerun.

Imports are read from the source text and followed from a stage's modules and the plug-ins in a spec, so a helper that
is split off, or that sits next to a loss outside the package, counts from the start. They aren't followed into the
standard library, installed packages (whose versions are in the record) or anything that a module loads without an
import statement.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError
from halobench.core.plugins import PACKAGE, locate, parsed

# The modules that determine each stage's numbers; the rest are found through their imports.
STAGES = {
    "source": ("data/sources",),
    "weights": ("models/pretrained",),
    "train": ("training/cell",),
    "probe": ("probing/probe",),
    "calibrate": ("calibration/evaluate",),
    "repair": ("calibration/cell_ladder", "data/splits", "training/cell"),
    "reference": ("calibration/reference_predictors", "data/splits"),
    "manifest": ("results/manifest",),
    "aggregate": ("results/aggregate",),
    "claims": ("results/claims/__init__", "reporting/pages/claims_page"),
    "figure": ("reporting/plotting/panel_grid", "reporting/plotting/saving", "reporting/labels"),
    "table": ("reporting/print_tables/layout",),
    "explorer": ("reporting/explorer",),
    "overview": ("reporting/pages/overview", "reporting/pages/cells"),
}

# Modules that don't affect any number. A spec's meaning is in its JSON, and the values in files don't depend on how the
# files are found, written and locked, or on where a stopped job resumes. Packages without code don't count either.
_CORE = ("aliases", "calibrator_spec", "console", "errors", "plugin_spec", "plugins", "spec_codec", "specs")
_STORAGE = ("arrays_io", "files", "layout", "provenance", "records", "requests", "tables_io")
NEUTRAL = {"__init__", "data/data_root", "experiment/code_version", "probing/progress", "training/checkpoint"}
NEUTRAL |= {*(f"core/{name}" for name in _CORE), *(f"storage/{name}" for name in _STORAGE)}

# Modules that a stage imports but that don't count for it. Losses affect the probe only through what its model has
# learned, and models from timm and torchvision are named in the specs that use them. Aggregation takes only column
# names from such modules. The explorer and the overview just show what is in tables and cells.
ASIDE = {
    "train": {"models/library_models"},
    "probe": {"models/library_models", "losses/base"},
    "repair": {"models/library_models", "losses/base"},
    "aggregate": set(),
    "explorer": {"calibration/evaluate", "experiment/grid"},
    "overview": {"experiment/grid"},
}

# The parts that plug-ins of a kind have besides their entry, and the names with which code can look up others by text.
COMPANIONS = {"data": ("describe",)}
DYNAMIC = {"globals", "eval", "exec", "vars", "__import__"}

# The templates of each stage's pages. All of their bytes count, including comments, and so do those of the files that
# they refer to, directly or indirectly.
FOLDER = "reporting/templates"
TEMPLATES = {
    "claims": ("claims.html",),
    "table": ("print_table.html",),
    "explorer": ("explorer.html",),
    "overview": ("overview.html", "leaderboard.html", "cells.html", "figures.html", "table_list.html", "front.html"),
}


def code_map(stage: str, plugins: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return digests of the code that a job's numbers depend on, by module.

    Parameters
    ----------
    stage : str
        A key of ``STAGES``.
    plugins : iterable of (kind, name)
        The plug-ins listed in the job's spec.

    Returns
    -------
    dict
        Maps each module to the first 16 hex digits of the SHA-256 of its syntax tree. A module of the package is
        identified by its path in the package (``losses/mixup``), an outside plug-in as in the spec (``module:object``),
        and a module that such a plug-in imports by its path (``module/helper.py``). In an outside plug-in's file, only
        the object and what it refers to count. Comments, docstrings and formatting don't count. Files are taken as they
        were when this process first read them.
    """
    key = (stage, tuple((kind, name) for kind, name in plugins))
    if key not in _maps:
        _maps[key] = _code_map(*key)
    return dict(_maps[key])


_maps: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, str]] = {}  # every map that this process has computed


def maps_in_use() -> list[list[Any]]:
    """Return the maps that this process has computed, as plain data that job processes pass to `freeze`."""
    return [[stage, list(map(list, plugins)), digests] for (stage, plugins), digests in _maps.items()]


def freeze(maps: Iterable[tuple[str, Iterable[tuple[str, str]], Mapping[str, str]]]) -> None:
    """Fix the code versions at those of the start of a run; `require_code` then refuses code that was edited later."""
    for stage, plugins, digests in maps:
        _maps[stage, tuple((kind, name) for kind, name in plugins)] = dict(digests)


def require_code(
    stage: str, plugins: Iterable[tuple[str, str]] = (), code: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return `code_map` for a job of a stage that was requested with `code`.

    Raises
    ------
    SpecError
        If the code has been edited since then, because the result would count as produced by the requested code.
    """
    present = code_map(stage, plugins)
    if code is not None and code != present:
        what = "the same code as when the run was started; start the run again"
        raise SpecError("code", f"{', '.join(changed_modules(code, present))} changed", what)
    return present


def changed_modules(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the modules that differ between two code maps, sorted."""
    return sorted(name for name in {**before, **now} if before.get(name) != now.get(name))


def _code_map(stage: str, plugins: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Compute `code_map` from the files."""
    passed = NEUTRAL | ASIDE.get(stage, set())
    roots = {f"{PACKAGE.name}.{module.replace('/', '.')}": PACKAGE / f"{module}.py" for module in STAGES[stage]}
    outside: dict[Path, dict[str, frozenset[str]]] = {}  # by file, then by plug-in: the names that it consists of
    for kind, name in plugins:
        path = locate(kind, name)
        if path.is_relative_to(PACKAGE):
            module = _key(kind, path).replace("/", ".")
            roots[f"{PACKAGE.name}.{module}"] = path
        else:
            module, _, entry = name.partition(":")
            roots[module] = path
            outside.setdefault(path, {})[name] = frozenset({entry, *COMPANIONS.get(kind, ())})
    entries = {path: frozenset().union(*named.values()) for path, named in outside.items()}
    digests: dict[str, str] = {}
    for module, path in _closure(roots, passed, entries).items():
        named = outside.get(path) or {_key(module, path): frozenset()}
        for name, part in named.items():
            digests[name] = _file_digest(path, path.stat().st_mtime_ns, part if path in entries else None)
    return dict(sorted(digests.items())) | _template_digests(TEMPLATES.get(stage, ()))


def _template_digests(names: Iterable[str]) -> dict[str, str]:
    """Return digests of templates and of the templates, styles and scripts that they refer to in double quotes."""
    digests, left = {}, list(names)
    while left:
        path = PACKAGE / FOLDER / left.pop()
        content = path.read_bytes()
        digests[f"{FOLDER}/{path.name}"] = hashlib.sha256(content).hexdigest()[:16]
        named = re.findall(rb'"([\w.]+\.(?:html|css|js))"', content)
        left += [name for name in map(bytes.decode, named) if f"{FOLDER}/{name}" not in digests]
    return digests


@functools.cache
def _file_digest(path: Path, mtime: int, entries: frozenset[str] | None = None) -> str:
    """Return the digest of a file last modified at `mtime` (ns), or of the part of it that `entries` need."""
    return _digest(_part(path, mtime, entries))


def _part(path: Path, mtime: int, entries: frozenset[str] | None) -> ast.Module:
    """Return the statements in a file that the objects named in `entries` depend on, or all if `entries` is None.

    These are the objects' definitions, the definitions of the names they use, and so on. Statements that define no
    name, or import one that nothing uses, count too, since they may do anything. A file that looks up names by text
    (`DYNAMIC`) is kept whole.
    """
    tree = parsed(path, mtime)
    if entries is None or (used := _names_in(tree)) & DYNAMIC:
        return tree
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    kept = {node for node in tree.body if not _bound(node)} | {node for node in imports if not _bound(node) & used}
    wanted = set(entries)
    wanted |= {name for node in kept for name in _names_in(node)}
    while more := {node for node in tree.body if node not in kept and (_bound(node) & wanted or "*" in _bound(node))}:
        kept |= more
        wanted |= {name for node in more for name in _names_in(node)}
    return ast.Module([node for node in tree.body if node in kept], [])


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level definition, assignment or import binds; none for any other statement."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {statement.name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            nodes = [node for target in targets for node in ast.walk(target)]
            if not any(isinstance(node, ast.Attribute | ast.Subscript) for node in nodes):
                return {node.id for node in nodes if isinstance(node, ast.Name)}
    return set()


def _names_in(node: ast.AST) -> set[str]:
    """Return all names that occur in a statement, including those in quoted annotations."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return names | {text for text in texts if text.isidentifier()}


def _key(module: str, path: Path) -> str:
    """Return the name of a module in a code map."""
    if path.is_relative_to(PACKAGE):
        return path.relative_to(PACKAGE).with_suffix("").as_posix()
    return module.replace(".", "/") + ("/__init__.py" if path.stem == "__init__" else ".py")


def _closure(roots: dict[str, Path], passed: set[str], entries: dict[Path, frozenset[str]]) -> dict[str, Path]:
    """Return the modules and everything they import, by dotted name, except for the package's modules in `passed`.

    For a file in `entries`, only the part that those names need counts, unless another file imports it, in which case
    it is removed from `entries`.
    """
    tops = frozenset(module.partition(".")[0] for module in roots)
    modules, left = {}, dict(roots)
    while left:
        module, path = left.popitem()
        modules[module] = path
        for imported, file in _imports(path, module, path.stat().st_mtime_ns, tops, entries.get(path)):
            neutral = file.is_relative_to(PACKAGE) and (_key(imported, file) in passed or _is_empty(file))
            if file != path and entries.pop(file, None) is not None:
                modules.pop(imported, None)
            if imported not in modules and not neutral:
                left[imported] = file
    return modules


def _is_empty(path: Path) -> bool:
    """Return whether a file is a package's ``__init__.py`` that contains nothing but a docstring."""
    return path.name == "__init__.py" and not _without_docstring(parsed(path, path.stat().st_mtime_ns).body)


@functools.cache
def _imports(
    path: Path, module: str, mtime: int, tops: frozenset[str], entries: frozenset[str] | None = None
) -> list[tuple[str, Path]]:
    """Return the modules that a module may import anywhere; for ``from a import b``, both ``a`` and ``a.b``.

    Libraries' modules are left out, except for those in `tops`.
    """
    names = []
    for node in ast.walk(_part(path, mtime, entries)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _imported_module(node, module, path)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    modules = (module for name in dict.fromkeys(filter(None, names)) for module in _files(name, tops))
    return list(dict.fromkeys(modules))


def _imported_module(node: ast.ImportFrom, module: str, path: Path) -> str:
    """Return the dotted name of the module that a ``from ... import`` in `path`, the file of `module`, imports from."""
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
    return ".".join(filter(None, [*parents, node.module]))


def _files(name: str, tops: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Yield the modules that importing a dotted name runs: the module itself and the packages that contain it.

    Libraries' modules are left out, except for those in `tops`.
    """
    top, *rest = name.split(".")
    places = _places(top, top in tops)
    module = top
    for part in [None, *rest]:
        module = module if part is None else f"{module}.{part}"
        stem = part or top
        for place in places:
            if (place / stem / "__init__.py").is_file():
                yield module, place / stem / "__init__.py"
            elif (place / f"{stem}.py").is_file():
                yield module, place / f"{stem}.py"
        places = tuple(place / stem for place in places if (place / stem).is_dir())


@functools.cache
def _places(top: str, named: bool) -> tuple[Path, ...]:
    """Return the folders that hold a top-level module.

    The result is empty if the module belongs to the standard library, or to an installed library and isn't `named`.

    Nothing is imported, since importing a library can take seconds.
    """
    if top == PACKAGE.name:
        return (PACKAGE.parent,)
    if top in sys.stdlib_module_names:
        return ()
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return ()
    folders = [Path(place).parent for place in spec.submodule_search_locations or ()]
    folders = folders or [Path(spec.origin or "").parent]
    return tuple(folder for folder in folders if named or not _is_library(folder))


def _is_library(folder: Path) -> bool:
    """Return whether a folder is one that libraries are installed in."""
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")]
    return any(folder.is_relative_to(place) for place in installed) or "dist-packages" in folder.parts


def source_digest(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a module's syntax tree, the same on every supported Python."""
    return _digest(ast.parse(text))


def _digest(tree: ast.Module) -> str:
    return hashlib.sha256(_plain(tree).encode()).hexdigest()[:16]


def _plain(node: Any) -> str:
    """Format a syntax tree as text without positions, docstrings and empty fields, as these vary between Pythons."""
    if isinstance(node, list):
        return "[" + ",".join(map(_plain, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            value = _without_docstring(value)
        if name not in ("ctx", "type_comment", "kind") and value is not None and value != []:
            fields.append(f"{name}={_plain(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return a body without the string expression that opens it."""
    first = body[0] if body else None
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if is_text else body
