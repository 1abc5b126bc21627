"""Check a configuration as a whole before any job runs, by reading it and by building what it specifies.

Building imports torch, so it runs in a process of its own, and only for specs that haven't passed before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError
from halobench.core.spec_codec import to_json
from halobench.experiment.build_request import (
    build_request,
    check_recipes_of_trained,
    describe_disk,
    weight_files,
)
from halobench.experiment.code_version import code_map
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.experiment.grid import Config
from halobench.storage import files
from halobench.storage.provenance import PACKAGE, versions


def load_checked(raw: Mapping[str, Any], cache: Path, results: Path) -> tuple[Config, dict[str, Any]]:
    """Load a configuration, check it as a whole, and build what it specifies.

    Returns
    -------
    Config
    dict
        The report of `ensure`.

    Raises
    ------
    ConfigError
        With all problems, including those found when building the sound parts.
    """
    try:
        config = load_config(raw)
    except ConfigError as error:
        problems = error.problems
        if error.sound is not None and build_request(error.sound)["pairs"]:
            try:
                ensure(error.sound, cache, results)
            except (ConfigError, SpecError) as more:  # the latter if a plug-in's helper can't be parsed
                problems = [*problems, *getattr(more, "problems", [str(more)])]
        raise ConfigError(problems) from None
    return config, ensure(config, cache, results)


def ensure(config: Config, cache: Path, results: Path) -> dict[str, Any]:
    """Run the checks that require building, unless they have already passed with the same versions and code.

    Parameters
    ----------
    config : Config
    cache : Path
        The folder for reports of checks that passed, each named after the digest of its request.
    results : Path
        The results folder, where sources may already have been written.

    Returns
    -------
    dict
        The report, with the number of classes and the bytes of each source, and the bytes of the weights of each
        (model, source) pair.

    Raises
    ------
    ConfigError
        With all problems.
    """
    request = build_request(config)
    request["files"] = weight_files(config, request["models"])
    request["described"], undescribed = describe_disk(config, request["sources"], results)
    problems = [*check_recipes_of_trained(config), *undescribed.values()]
    request["sources"] = {name: spec for name, spec in request["sources"].items() if name not in undescribed}
    passed = _report_path(cache, request)
    report = None
    with contextlib.suppress(SpecError):  # no report yet, or a damaged one
        report = files.read_json(passed, ["sources", "weights"])
    if report is None:
        build_problems, report = _build(request)
        problems += build_problems
        if not problems:
            files.write_json(passed, report)
    if problems:
        raise ConfigError(problems)
    return report


def _plugins_of(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the plug-ins that a request builds, as kind and name."""
    kinds = (("data", "sources", "loader"), ("losses", "losses", "name"), ("models", "models", "name"))
    built = [(kind, spec[key]) for kind, section, key in kinds for spec in request[section].values()]
    return built + [(kind, name) for kind, name in request["displays"]]


def _report_path(cache: Path, request: Mapping[str, Any]) -> Path:
    """Return the path of the report on a request; it also depends on the package, the plug-ins and the libraries.

    Any module of the package may take part in the checks, even if it can't change a number.
    """
    package = {str(path.relative_to(PACKAGE)): files.checksum(path) for path in PACKAGE.rglob("*.py")}
    code = package | code_map("train", _plugins_of(request))
    text = to_json([request, code, versions("torch", "torchvision", "timm")])
    return cache / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def _build(request: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Build everything in a request in a separate process; return a line for each problem, and the report.

    Raises
    ------
    ConfigError
        If that process ends without an answer, which a plug-in may cause.
    """
    command = [sys.executable, "-m", "halobench.cli.main", "check"]
    # Use the same module search path, so ``module:object`` means the same in that process.
    search_path = os.pathsep.join([str(PACKAGE.parent), *(path or os.getcwd() for path in sys.path)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": search_path}
    done = subprocess.run(command, input=to_json(request), capture_output=True, text=True, env=environment, check=False)
    try:
        problems, report = json.loads(done.stdout.splitlines()[-1])  # plug-ins may have printed something before it
    except (IndexError, ValueError):
        last_line = (done.stderr.strip().splitlines() or ["no output"])[-1]
        names = ", ".join(sorted({name for _, name in _plugins_of(request)}))
        what = f"plug-ins that can be built, but the build exited with code {done.returncode} ({last_line})"
        raise ConfigError([f"plug-ins = {names}: expected {what}"]) from None
    return problems, report


def check_folders(paths: Iterable[str]) -> None:
    """Check that each folder of result files is a folder or doesn't exist yet.

    Parameters
    ----------
    paths : iterable of str
        Result files, which need not exist.

    Raises
    ------
    ConfigError
        With a line for each folder whose place is taken by a file or a broken link.
    """
    folders: set[str] = set()
    left = {os.path.dirname(path) for path in paths}
    while left := {folder for folder in left - folders if folder.strip("/")}:
        folders |= left
        left = {os.path.dirname(folder) for folder in left}
    bad = [folder for folder in sorted(folders) if os.path.lexists(folder) and not os.path.isdir(folder)]
    if bad:
        what = "expected a folder, but found a file or a broken link; move it elsewhere"
        raise ConfigError([f"{folder}: {what}" for folder in bad])
