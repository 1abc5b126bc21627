"""Snakemake's arguments: those needed before Snakemake reads them, and the configuration that they specify."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from snakemake.utils import update_config

from halobench.core.extras import install
from halobench.experiment.config_file import read_file, typed_entries
from halobench.experiment.config_loader import ConfigError

BUILT_IN = {"local", "dryrun", "touch"}  # Snakemake's own executors
DRY = re.compile(r"--dry[-run]*|-[npqkrFfR]*n[npqkrFfR]*")  # short options may be combined
# Questions that Snakemake answers by itself, besides dry runs.
ASKING = re.compile(
    r"--(lint|summary|detailed-summary|dag|rulegraph|filegraph|d3dag|list\S*|report|archive)(=.*)?|-[SDlA]"
)
IN_PROFILES = re.compile(r"^(config|configfiles?|directory|snakefile)\s*:", re.M)  # what a run would not see there
SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")  # where Snakemake looks
CONFIGURING = {"--configfile": "files", "--configfiles": "files", "--config": "entries", "-C": "entries"}
# The options that this package reads
WHOLE = (
    *("--config", "--configfile", "--configfiles", "--snakefile", "--directory", "--profile", "--workflow-profile"),
    *("--persistence-backend", "--persistence-backend-db-url", "--logger", "--executor", "--report", "--cores"),
    *("--forcerun", "--rerun-triggers", "--unlock", "--touch", "--help", "--version", "--dry", "--dry-run", "--dryrun"),
)
# The targets of the workflow, each with the stages whose results it builds; with none, it builds all.
TARGETS = {
    "all": (),
    "trainings": ("train",),
    "calibrations": ("calibrate", "reference"),
    "probes": ("probe",),
    "figures": ("figure",),
}
DEFAULT = "config.yaml"  # the configuration file that the workflow reads in its working directory


@dataclass(frozen=True)
class Arguments:
    """Snakemake's arguments, without those that set the configuration.

    Attributes
    ----------
    rest : tuple of str
        The other arguments, in their order.
    files, entries : tuple of str
        Configuration files, and values as ``KEY=VALUE``.
    options : argparse.Namespace
        Those of the others that this package reads.
    """

    rest: tuple[str, ...]
    files: tuple[str, ...]
    entries: tuple[str, ...]
    options: argparse.Namespace

    @property
    def snakefile(self) -> Path | None:
        """The Snakefile that Snakemake would read; None if there is none."""
        if self.options.snakefile:
            return self.options.snakefile
        return next((Path(name) for name in SNAKEFILES if os.path.exists(name)), None)

    @property
    def is_ours(self) -> bool:
        """Whether that is this project's Snakefile, and not one that uses it as a module."""
        path = self.snakefile
        if path is None or not path.is_file():
            return False
        included = re.search(r'^include: "(.*rules/stages\.smk)"', path.read_text(encoding="utf-8"), re.M)
        return included is not None and (path.parent / included[1]).is_file()

    @property
    def targets(self) -> list[str]:
        """The targets, as Snakemake finds them among the other arguments."""
        if all(argument.startswith("-") for argument in self.rest):
            return ["all"]
        from snakemake.cli import get_argument_parser  # named in Snakemake's documentation, under "All Options"

        return list(get_argument_parser().parse_args(self.with_options()).targets) or ["all"]

    def with_options(self, *options: str) -> list[str]:
        """Return all arguments as Snakemake takes them, with further options before the targets."""
        end = [*self.rest, "--"].index("--")
        config = [
            *(["--configfile", *self.files] if self.files else []),
            *(["--config", *self.entries] if self.entries else []),
        ]
        return [*self.rest[:end], *config, *options, *self.rest[end:]]


def read_arguments(arguments: Sequence[str]) -> Arguments:
    """Read Snakemake's arguments.

    Raises
    ------
    OSError
        If configuration files are named by two options, of which Snakemake would use the last, or a value has no key.
    """
    lists: dict[str, list[list[str]]] = {"files": [], "entries": []}
    rest: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        _require_whole(argument)
        if re.match(r"-C.", argument):  # joined to its first value
            argument = f"--config={argument[2:]}"
        name, joined, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *left]
            break
        if name not in CONFIGURING:
            rest.append(argument)
            continue
        values = [value] if joined else []
        while not joined and left and not left[0].startswith("-"):
            values.append(left.pop(0))
        if not values:
            raise OSError(f"{argument}: expected a value after it")
        lists[CONFIGURING[name]].append(values)
    if len(lists["files"]) > 1:
        named = " and ".join(" ".join(values) for values in lists["files"])
        raise OSError(f"--configfile {named}: expected one --configfile, which may name several files in their order")
    entries = [entry for values in lists["entries"] for entry in values]
    for entry in entries:
        if "=" not in entry:
            raise OSError(f"--config: expected KEY=VALUE, but got {entry!r} (targets come before options)")
    files = [path for values in lists["files"] for path in values]
    return Arguments(tuple(rest), tuple(files), tuple(entries), _options(rest))


def _require_whole(argument: str) -> None:
    """Raise OSError if an argument abbreviates an option that this package reads; Snakemake would understand it."""
    name = argument.partition("=")[0]
    if len(name) > 2 and name.startswith("--") and name not in {*WHOLE, "--force"}:
        for option in WHOLE:
            if option.startswith(name):
                raise OSError(f"{name}: expected the option in full, such as {option}")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options that this package reads."""
    parser = argparse.ArgumentParser("halobench run", add_help=False, allow_abbrev=False)
    parser.add_argument("--snakefile", "-s", type=Path)
    parser.add_argument("--directory", "-d", type=Path, default=Path())
    for name in ("profile", "workflow-profile", "persistence-backend", "persistence-backend-db-url"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--logger", nargs="+")
    parser.add_argument("--executor", "-e")
    parser.add_argument("--report", nargs="?")
    parser.add_argument("--cores", "-c", nargs="?")
    parser.add_argument("--forcerun", "-R", nargs="*", action="extend", default=[])
    parser.add_argument("--rerun-triggers", nargs="+")
    parser.add_argument("--unlock", action="store_true")
    parser.add_argument("--touch", "-t", action="store_true")
    parser.add_argument("--help", "-h", "--version", "-v", action="store_true", dest="about")
    options = parser.parse_known_args(arguments)[0]
    options.about |= any(ASKING.fullmatch(argument) for argument in arguments)
    options.dry_run = any(DRY.fullmatch(argument) for argument in arguments)
    return options


def configuration(arguments: Arguments) -> dict[str, Any]:
    """Return the configuration that Snakemake's arguments specify, merged in the order in which Snakemake does it.

    Raises
    ------
    ConfigError
        If a file can't be read.
    """
    folder = arguments.options.directory
    config: dict[str, Any] = {}
    default = [folder / DEFAULT] if (folder / DEFAULT).exists() else []
    for path in (*default, *arguments.files):
        update_config(config, read_file(path))
    for entry in arguments.entries:  # of which several may set parts of the same section
        update_config(config, typed_entries([entry]))
    return config


def check_arguments(arguments: Arguments) -> None:
    """Check the files that Snakemake's arguments refer to, before Snakemake fails on one.

    Raises
    ------
    OSError
        If there is no workflow or no core, the workflow profile doesn't exist (which Snakemake ignores), the plug-in of
        its executor isn't installed, or a configuration file can't be read (with the line number).
    """
    elsewhere = arguments.options.profile or arguments.options.about  # a profile may specify a Snakefile
    if not elsewhere and arguments.snakefile is None:
        right = "run this in a clone of halobench, or pass --snakefile CLONE/Snakefile"
        raise FileNotFoundError(f"no Snakefile in {Path.cwd()}; {right}")
    cores = arguments.options.cores
    if re.fullmatch(r"0|-\d+", cores or ""):
        raise OSError(f"--cores = {cores}: expected at least 1 core")  # Snakemake would wait forever
    check_profile(arguments.options.workflow_profile or "none")
    for profile in (arguments.options.profile, os.environ.get("SNAKEMAKE_PROFILE"), "profiles/default"):
        for settings in sorted(Path(profile or "none").glob("*.y*ml")):
            _check_settings(settings)
    for path in arguments.files:
        try:
            read_file(path)
        except ConfigError as error:
            raise OSError(f"--configfile: {error}") from None


def check_profile(profile: str) -> None:
    """Raise FileNotFoundError unless a workflow profile exists and its executor's plug-in is installed."""
    if profile == "none":
        return
    if not Path(profile).exists():
        right = "expected one with a profile.yaml, such as profiles/slurm"
        raise FileNotFoundError(f"--workflow-profile {profile}: no such folder; {right}")
    for path in sorted(Path(profile).glob("*.y*ml")):
        _check_settings(path)
        match = re.search(r"^executor: *[\"']?([\w-]+)", path.read_text(), re.M)
        executor = match[1] if match else ""
        # That of the package needs the one that it is built on.
        plugin = "slurm" if executor == "halobench-slurm" else executor.replace("-", "_")
        if executor and executor not in BUILT_IN and find_spec(f"snakemake_executor_plugin_{plugin}") is None:
            needed = f"install snakemake_executor_plugin_{plugin}"
            right = f"run {install('slurm')}" if plugin == "slurm" else needed
            raise FileNotFoundError(f"{path}: executor = {executor}: its plug-in is not installed; {right}")


def _check_settings(path: Path) -> None:
    """Raise OSError if a profile sets what must be known before Snakemake reads it."""
    if match := IN_PROFILES.search(path.read_text(encoding="utf-8")):
        raise OSError(f"{path}: {match[1]}: expected in config.yaml or on the command line, which are read first")
