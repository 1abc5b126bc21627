"""Compute the code map, {module: digest}, of the code that a job's numbers depend on; changes cause reruns.

Imports are read from the source text and followed from a spec's plug-ins and from the modules that a stage's file
declares as its ``code``. A new helper module, even one outside the package, therefore counts as soon as one of these
imports it. Imports aren't followed into the standard library, into installed packages (whose versions are in the
record), or into anything that a module loads without an import statement.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import RefusedError, refuse
from halobench.core.extras import extra_of
from halobench.core.plugins import find, names, parsed
from halobench.core.plugins.constants import literal, without_words
from halobench.core.plugins.facts import shown_text
from halobench.core.plugins.kinds import PACKAGE

# Modules in these wings don't affect any number, unless they say so; modules in others do, unless they say otherwise. A
# spec's meaning is all in its JSON, and values in files don't depend on how files are found, written and locked, or on
# where a stopped job resumes.
NEUTRAL_WINGS = ("core", "storage")
CHANGES_NUMBERS = False  # of this module
MANIFEST = PACKAGE / "storage/manifest.py"  # writes what no stage's file does

STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
TITLES = "titles of plug-ins"  # represents these titles in a map


def code_map(stage: str, plugins: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return digests, by module, of the code on which the numbers of a stage with these plug-ins (kind, name) depend.

    A module of the package is identified by its path in the package (``losses/mixup``), and all others by paths with
    suffixes (``mine/losses.py``). For stages that write pages, all templates count, byte by byte. The map of a
    stage and its plug-ins is computed once per process.
    """
    return dict(_code_map(stage, tuple((kind, name) for kind, name in plugins)))


def stage_modules(stage: str) -> list[str]:
    """Return the names of the package's modules that a stage declares as its code, and of the packages above them."""
    return [name for name in _stage_code(stage) if _top(name) == PACKAGE.name]


def read_ahead(stage: str) -> None:
    """Read and parse the files of a stage, so that forks of this process need to parse only files edited later."""
    _code_map.__wrapped__(stage, ())


def code_digest(code: Mapping[str, str]) -> str:
    """Return a digest of a code map, by which a job's code version can be specified."""
    text = json.dumps(dict(code), sort_keys=True, separators=(",", ":"))  # the module must load without pydantic
    return _digest(text.encode())


def code_key(stage: str, plugins: Iterable[tuple[str, str]]) -> str:
    """Return the key under which a run notes the code version of a stage with these plug-ins at its start."""
    return " ".join([stage, *map("/".join, plugins)])


def require_code(
    stage: str, plugins: Iterable[tuple[str, str]] = (), code: Mapping[str, str] | str | None = None
) -> dict[str, str]:
    """Return the code map of a job that was requested with `code`, a map or its digest.

    SpecError is raised if the code was edited after the request, because the result would count as computed by the
    requested code.
    """
    present = code_map(stage, plugins)
    if code not in (None, present, code_digest(present)):
        raise RefusedError("", "the code of this job was edited after the run had started; start the run again")
    return present


@functools.cache
def _code_map(stage: str, plugins: tuple[tuple[str, str], ...]) -> dict[str, str]:
    roots = _stage_code(stage)
    for kind, name in plugins:
        path, module = find(kind, name).path, name.partition(":")[0]
        if path.is_relative_to(PACKAGE):
            roots[_dotted(path)] = path
        elif extra_of(_top(module)):  # whose version is in the record
            roots[module] = path
        else:
            roots |= {**dict(_files(module, frozenset([_top(module)]))), module: path}
    files = _closure(roots)
    digests = {_key(module, path): _file_digest(path, path.stat().st_mtime_ns) for module, path in files.items()}
    own = [path for path in files.values() if path.is_relative_to(PACKAGE)]
    rendering = [path.parent / "templates" for path in own if _stated(path, "TEMPLATES")]
    templates = sorted(template for folder in rendering for template in folder.iterdir())
    pages = {path.relative_to(PACKAGE).as_posix(): _digest(path.read_bytes()) for path in templates}
    words = {TITLES: _digest(shown_text().encode())} if any(_stated(path, "SHOWS_TITLES") for path in own) else {}
    return dict(sorted(digests.items())) | pages | words


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _stated(path: Path, name: str) -> Any:
    """Return a constant's value in a file, ``...`` if it isn't a literal, or None if there is no such constant."""
    for node in parsed(path, path.stat().st_mtime_ns).body:
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
            return literal(node.value)
    return None


def _stage_code(stage: str) -> dict[str, Path]:
    """Return the modules that a stage declares as its code or, for manifests, the module that writes them."""
    if stage not in names("stages"):
        return {_dotted(MANIFEST): MANIFEST}
    declared = find("stages", stage).constants["STAGE"]["code"]  # which `halobench.storage.layout` has checked
    return {name: file for module in declared for name, file in _declared(stage, module)}


def _declared(stage: str, module: str) -> Iterator[tuple[str, Path]]:
    """Yield a module that a stage declares, and the packages that contain it, if they can change numbers."""
    name = f"{PACKAGE.name}.{module}"
    files = dict(_files(name, frozenset()))
    what = f"its code names {module!r}, whose edits can't change a number; leave it out"
    refuse(_is_neutral(files[name]), f"stages.{stage}", what)
    yield from ((each, file) for each, file in files.items() if not _is_neutral(file))


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def _key(module: str, path: Path) -> str:
    if path.is_relative_to(PACKAGE):
        return path.relative_to(PACKAGE).with_suffix("").as_posix()
    return module.replace(".", "/") + ("/__init__.py" if path.stem == "__init__" else ".py")


def _closure(roots: dict[str, Path]) -> dict[str, Path]:
    """Return the modules and everything that they import, by dotted name, except for the package's neutral modules."""
    tops = frozenset(top for top in map(_top, roots) if not extra_of(top))
    modules: dict[str, Path] = {}
    left = dict(roots)
    while left:
        module, path = left.popitem()
        modules[module] = path
        imports = _imports(path, module, path.stat().st_mtime_ns, tops)
        left |= {name: file for name, file in imports if name not in modules and not _is_neutral(file)}
    return modules


def _top(module: str) -> str:
    return module.partition(".")[0]


def _is_neutral(path: Path) -> bool:
    if not path.is_relative_to(PACKAGE):
        return False
    key, stated = _key("", path), _stated(path, "CHANGES_NUMBERS")
    if stated is not None:
        return not stated
    if key == "__init__" or key.partition("/")[0] in NEUTRAL_WINGS or _stated(path, "KIND") is not None:
        return True
    return path.stem == "__init__" and not _without_docstring(parsed(path, path.stat().st_mtime_ns).body)


@functools.cache
def _imports(path: Path, module: str, mtime: int, tops: frozenset[str]) -> list[tuple[str, Path]]:
    """Return the modules imported anywhere in a module; for ``from a import b``, both ``a`` and ``a.b``.

    Libraries' modules are left out, except for those in `tops`.
    """
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    imported = dict.fromkeys(_imported(parsed(path, mtime), package))
    files = (file for name in imported for file in _files(name, tops))
    return [(name, file) for name, file in dict.fromkeys(files) if file != path]


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the dotted names that a syntax tree in a package may import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with contextlib.suppress(ImportError):  # fails if the import leaves the package
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _files(name: str, tops: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Yield the modules that importing a dotted name runs: the module itself and the packages that contain it."""
    parts = name.split(".")
    places = _places(parts[0], parts[0] in tops)
    for count, part in enumerate(parts, 1):
        for place in places:
            either = place / part / "__init__.py", place / f"{part}.py"
            if file := next(filter(Path.is_file, either), None):
                yield ".".join(parts[:count]), file
        places = tuple(place / part for place in places if (place / part).is_dir())


@functools.cache
def _places(top: str, named: bool) -> tuple[Path, ...]:
    """Return the folders that contain a top-level module; none if it is Python's own or, unless `named`, a library's.

    The search imports nothing, since importing a library can take seconds.
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
    paths = map(Path, spec.submodule_search_locations or [spec.origin or ""])
    return tuple(path.parent for path in paths if named or not _is_library(top, path.resolve().parent))


def _is_library(top: str, folder: Path) -> bool:
    """Return whether a top-level module was installed into a folder, anywhere and by any installer.

    An editable installation doesn't count, since it leaves the module in a project where the user may be editing it.
    """
    usual = {"site-packages", "dist-packages"} & {*folder.parts}
    return bool(usual) or folder.is_relative_to(STANDARD) or top in _installed(folder)


@functools.cache
def _installed(folder: Path) -> frozenset[str]:
    """Return the top-level modules and packages that installers have recorded in a folder.

    A project's own folder may also have metadata (``.egg-info``), but no installer's record.
    """
    installed = importlib.metadata.distributions(path=[str(folder)])
    files = (file for each in installed if each.read_text("RECORD") for file in each.files or ())
    return frozenset(file.parts[0].removesuffix(".py") for file in files)


@functools.cache
def _file_digest(path: Path, mtime: int) -> str:
    """Return the digest of a file last modified at `mtime` (ns), without its constants for readers."""
    return tree_digest(without_words(parsed(path, mtime)))


def tree_digest(tree: ast.Module) -> str:
    """Return the first 16 hex digits of the SHA-256 of a syntax tree, which are the same on every supported Python."""
    return _digest(_plain(tree).encode())


def _plain(node: Any) -> str:
    """Return a syntax tree as text, without positions, docstrings and the empty fields that only some Pythons have."""
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
    first = body[0] if body else None
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if is_text else body
