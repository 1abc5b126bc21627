"""Check a configuration as a whole before any job runs, by reading it and by building its parts.

Building imports torch and runs plug-ins, so it takes place in a separate process, and is skipped for a configuration
that has passed before.
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

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.experiment.code_version import code_map
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.experiment.grid import Config
from halobench.runner.build_checks import outside_calibration, outside_displays, written_description
from halobench.storage import files
from halobench.storage.provenance import PACKAGE, versions


def load_checked(raw: Mapping[str, Any], cache: Path, results: Path) -> Config:
    """Return a configuration, or raise ConfigError; its parts are built unless it has passed this check before."""
    try:
        config = load_config(raw)
    except ConfigError as error:
        built = [] if error.sound is None else _build(error.plain, results, error.sound)
        raise ConfigError([*error.problems, *built]) from None
    passed = _note(config, raw, cache, results)
    if passed is not None and passed.exists():
        return config
    if problems := _build(raw, results, config):
        raise ConfigError(problems)
    if passed is not None:
        with contextlib.suppress(OSError):  # without a cache, each run repeats the checks
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()
    return config


def _outside(config: Config) -> list[tuple[str, str]]:
    """Return the plug-ins of a configuration from outside the package, as kind and name."""
    named = [("data", source.loader) for source in config.sources.values()]
    named += [("losses", loss.name) for loss in config.losses.values()]
    named += [("models", model.name) for model in config.models.values()]
    return [
        *((kind, name) for kind, name in named if ":" in name),
        *outside_displays(config),
        *outside_calibration(config),
    ]


def _note(config: Config, raw: Mapping[str, Any], cache: Path, results: Path) -> Path | None:
    """Return the path of the note that a configuration has passed, or None if there can be no note.

    The path depends on the configuration, the results folder, the package's modules, the plug-ins, the libraries and
    the files of weights. A configuration has no note while it reads data on disk that aren't written as a source yet,
    since such data may change.
    """
    for name, source in config.sources.items():
        from_disk = plugins.find("data", source.loader).constants.get("FROM_DISK")
        if from_disk and written_description(config, name, results) is None:
            return None
    weights = {}
    for model in config.models.values():
        with contextlib.suppress(OSError, ValueError):  # the checks report a missing file
            if path := model.weights:
                weights[path] = [os.stat(path).st_size, os.stat(path).st_mtime_ns]
    package = {str(path.relative_to(PACKAGE)): files.checksum(path) for path in sorted(PACKAGE.rglob("*.py"))}
    try:
        code = code_map("train", _outside(config))
    except SpecError as error:
        raise ConfigError([str(error)]) from None
    content = [raw, str(results), weights, package, code, versions("torch", "torchvision", "timm")]
    return cache / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]}.json"


def _build(plain: Mapping[str, Any], results: Path, config: Config) -> list[str]:
    """Build a configuration's parts in a separate process, and return a line for each problem."""
    process = run_apart("build_checks", [plain, str(results)])
    try:
        problems: list[str] = json.loads(process.stdout.splitlines()[-1])  # plug-ins may have printed something first
        return problems
    except (IndexError, ValueError):  # a plug-in ended the process
        last_line = (process.stderr.strip().splitlines() or ["no output"])[-1]
        names = ", ".join(sorted({name for _, name in _outside(config)}))
        what = f"the plug-ins {names} can't be built: the check exited with code {process.returncode} ({last_line})"
        return [what]


def run_apart(module: str, request: Any) -> subprocess.CompletedProcess[str]:
    """Run a module of this package as a program of one thread, with `request` as JSON on its standard input."""
    # Use the same module search path, so that ``module:object`` means the same in that process.
    search_path = os.pathsep.join([str(PACKAGE.parent), *(path or os.getcwd() for path in sys.path)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": search_path}
    command = [sys.executable, "-m", f"{__package__}.{module}"]
    return subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, env=environment, check=False
    )


def check_folders(paths: Iterable[str]) -> None:
    """Raise ConfigError if a file or a broken link is where `paths` need a folder."""
    lowest = set(map(os.path.dirname, paths))
    folders = {str(folder) for path in lowest for folder in (Path(path), *Path(path).parents)}
    bad = [folder for folder in sorted(folders) if os.path.lexists(folder) and not os.path.isdir(folder)]
    if bad:
        what = "this is a file or a broken link, but results need a folder here; move it elsewhere"
        raise ConfigError([f"{folder}: {what}" for folder in bad])
