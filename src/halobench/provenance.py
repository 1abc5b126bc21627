"""What a result was made with: versions, hardware, commit, and the code map that decides reruns."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halobench.plugins import PACKAGE, locate
from halobench.store import checksum

STARTED = datetime.now(UTC).isoformat(timespec="microseconds")  # of this process, near enough

# The modules whose logic decides each stage's numbers. specs, store and provenance are left out on purpose: what a spec
# means is in its JSON, and how files are written changes no value in them.
STAGES = {
    "source": ("data/__init__",),
    "train": ("training", "run", "seeding", "data/__init__", "models/__init__", "losses/__init__"),
    "probe": ("neighbourhood", "rays", "temperature", "training", "seeding", "data/__init__", "models/__init__"),
    "calibrate": ("calibration", "temperature", "metrics", "seeding"),
    "reference": ("calibration", "temperature", "metrics", "seeding", "data/__init__"),
    "aggregate": ("aggregation",),
    "claims": ("claims/rules", "claims/verdicts", "claims/page"),
    "figure": ("figures/theme", "figures/names"),
}


def code_map(stage: str, plugins: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Digests of the code that a job's numbers depend on, by module.

    Parameters
    ----------
    stage : str
        A key of ``STAGES``.
    plugins : iterable of (kind, name)
        The plug-ins that the job's spec names.

    Returns
    -------
    dict
        Module (path in the package, or ``module:object``) to the first 16 hex digits of a SHA-256 over its syntax tree.
        Comments, docstrings and formatting don't count.
    """
    files = {module: PACKAGE / f"{module}.py" for module in STAGES[stage]}
    for kind, name in plugins:
        path = locate(kind, name)
        own = path.is_relative_to(PACKAGE)
        files[str(path.relative_to(PACKAGE).with_suffix("")) if own else name] = path
    return {module: file_digest(path, path.stat().st_mtime_ns) for module, path in sorted(files.items())}


@functools.cache
def file_digest(path: Path, mtime_ns: int) -> str:
    """Digest of one Python file's meaning; `mtime_ns` only keys the cache."""
    return source_digest(path.read_text())


def source_digest(text: str) -> str:
    """First 16 hex digits of the SHA-256 over a module's syntax tree, the same on every supported Python."""
    return hashlib.sha256(_plain(ast.parse(text)).encode()).hexdigest()[:16]


def _plain(node: Any) -> str:
    """A syntax tree as text without positions, docstrings and empty fields (which differ between Python versions)."""
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
    """A body without the string expression that opens it."""
    first = body[0] if body else None
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if is_text else body


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, halobench and the packages named, as installed."""
    found = {"python": platform.python_version()}
    for package in ("halobench", "numpy", *packages):
        found[package] = importlib.metadata.version(package)
    return found


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Host, processor, cores and, on CUDA, the card."""
    facts: dict[str, Any] = {"host": platform.node(), "machine": platform.machine(), "cores": os.cpu_count()}
    facts["processor"] = _processor()
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _processor() -> str:
    """The processor's model name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that holds the package, with ``-dirty`` where it has been edited; None outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if not git("ls-files", "specs.py"):
            return None
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def record(
    stage: str,
    spec: Any,
    seed: int | None,
    code: Mapping[str, str],
    outputs: Iterable[Path],
    seconds: float,
    packages: Iterable[str] = (),
    device: str = "cpu",
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A stage's record: what was asked, what it was made with, how long it took, and each output's checksum.

    ``self`` is `record_digest` of the rest, so that an edit of the record itself is noticed as well.
    """
    made = {
        "stage": stage,
        "spec": spec,
        "seed": seed,
        "code": dict(code),
        "commit": commit(),
        "versions": versions(*packages),
        "hardware": hardware(device),
        "device": device,
        "started": STARTED,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "peak_memory_mib": _peak_memory(),
        "outputs": {path.name: checksum(path) for path in sorted(outputs)},
        **dict(facts or {}),
    }
    return made | {"self": record_digest(made)}


def record_digest(made: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its ``self``, as JSON with sorted keys."""
    rest = {key: value for key, value in made.items() if key != "self"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _peak_memory() -> float:
    """This process's peak resident memory in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
