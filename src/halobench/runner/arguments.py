"""Read Snakemake's arguments with Snakemake's own parser, and the configuration that the arguments specify."""

from __future__ import annotations

import argparse
import atexit
import os
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

from halobench.core.errors import refuse
from halobench.core.extras import install
from halobench.experiment.config_file import leaves, read_file, typed_entries
from halobench.experiment.config_loader import ConfigError

BUILT_IN = {"local", "dryrun", "touch"}  # Snakemake's own executors
# Options that ask a question, besides dry runs; Snakemake answers these by itself.
QUESTIONS = re.compile(r"lint|(detailed_)?summary|dag|rulegraph|filegraph|d3dag|list_\w+|report|archive")
IN_PROFILES = re.compile(r"^(config|configfiles?|directory|snakefile)\s*:", re.M)  # settings that a run wouldn't see
SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")  # where Snakemake looks
DEFAULT = "config.yaml"  # the configuration file in the working directory, which the workflow reads


@dataclass(frozen=True)
class Arguments:
    """Arguments of Snakemake's command line, as words and as options that Snakemake has parsed."""

    words: tuple[str, ...]
    options: argparse.Namespace

    @property
    def snakefile(self) -> Path | None:
        """Return the path from ``--snakefile``, or else the first existing one in `SNAKEFILES`; None if none exists."""
        names = [self.options.snakefile] if self.options.snakefile else filter(os.path.exists, SNAKEFILES)
        return next(map(Path, names), None)

    @property
    def is_ours(self) -> bool:
        """Return whether the Snakefile includes an existing ``rules/stages.smk``, as halobench's own Snakefile does."""
        path = self.snakefile
        if path is None or not path.is_file():
            return False
        included = re.search(r'^include: "(.*rules/stages\.smk)"', path.read_text(encoding="utf-8"), re.M)
        return included is not None and (path.parent / included[1]).is_file()

    @property
    def asks(self) -> bool:
        """Return whether an option such as ``--lint`` or ``--report`` replaces the run; ``-n`` isn't one of them."""
        return any(QUESTIONS.fullmatch(name) and value for name, value in vars(self.options).items())

    def with_options(self, *options: str) -> list[str]:
        """Return all words, with `options` inserted before ``--`` or, without ``--``, added at the end."""
        end = [*self.words, "--"].index("--")
        return [*self.words[:end], *options, *self.words[end:]]


def read_arguments(words: Sequence[str], results: Path | None = None) -> Arguments:
    """Return Snakemake's arguments, parsed; a `results` folder, if any, is added to the values of ``--config``.

    Dotted keys in ``--config``, which Snakemake refuses, are passed in a temporary file.

    OSError is raised if Snakemake can't parse the arguments, if a value has no key, or if ``--config`` or
    ``--configfile`` is passed twice, since Snakemake would use only the last. SpecError is raised if ``--config`` sets
    a key twice.
    """
    arguments = Arguments(tuple(words), _parsed(words))
    before = [word.partition("=")[0] for word in words[: [*words, "--"].index("--")]]
    for option in ("--configf", "--config$|-C"):
        uses = [word for word in before if re.match(option, word)]
        if len(uses) > 1:
            raise OSError(
                f"{uses[-1]} occurs {len(uses)} times, and Snakemake uses only the last; pass all its values at once"
            )
    entries = arguments.options.config or []
    for entry in entries:
        if "=" not in entry:
            raise OSError(f"--config: {entry!r} isn't KEY=VALUE (targets come before options)")
    keys = Counter(
        key for entry in entries for each, value in typed_entries([entry]).items() for key in leaves(value, each)
    )
    twice = next((key for key, uses in keys.items() if uses > 1), "")
    refuse(twice, f"--config {twice}", f"is set {keys[twice]} times; keep one of the values")
    entries = [*entries, *([] if results is None else [f"results={results}"])]
    dotted = [entry for entry in entries if "." in entry.partition("=")[0]]
    further = [] if results is None and not dotted else ["--config", *(each for each in entries if each not in dotted)]
    if dotted:
        further += ["--configfile", *map(str, arguments.options.configfile), _written(typed_entries(dotted))]
    words = arguments.with_options(*further)
    return Arguments(tuple(words), _parsed(words))


def _written(config: dict[str, Any]) -> str:
    """Write a configuration to a temporary file, which is removed when this process ends, and return its path."""
    with tempfile.NamedTemporaryFile("w", prefix="halobench-", suffix=".yaml", delete=False) as file:
        yaml.safe_dump(config, file, sort_keys=False)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return file.name


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """Return Snakemake's arguments as Snakemake parses them, without reading profiles."""
    from snakemake.cli import get_argument_parser  # named in Snakemake's documentation, under "All Options"
    from snakemake.exceptions import CliException
    from snakemake_interface_common.exceptions import WorkflowError

    parser = get_argument_parser()
    parser.prog = "halobench run"
    try:
        options = parser.parse_args(words)
    except (CliException, WorkflowError) as error:
        raise OSError(str(error)) from None
    options.directory = options.directory or Path()
    if options.rerun_triggers == parser.get_default("rerun_triggers"):
        options.rerun_triggers = None
    return options


def configuration(options: argparse.Namespace) -> dict[str, Any]:
    """Return the configuration that Snakemake's arguments specify, merged in Snakemake's order."""
    config: dict[str, Any] = {}
    default = options.directory / DEFAULT
    for path in (*([default] if default.exists() else []), *options.configfile):
        update_config(config, read_file(path))
    for entry in options.config or ():  # several entries may set parts of the same section
        update_config(config, typed_entries([entry]))
    return config


def check_arguments(arguments: Arguments) -> None:
    """Raise OSError if the Snakefile, a profile or a configuration can't be used, or if ``--cores`` is below 1.

    A workflow profile must exist, although Snakemake ignores a missing one.
    """
    options = arguments.options
    elsewhere = options.profile or arguments.asks  # a profile may specify a Snakefile
    if not elsewhere and arguments.snakefile is None:
        right = "run this in a clone of halobench, or pass --snakefile CLONE/Snakefile"
        raise FileNotFoundError(f"no Snakefile in {Path.cwd()}; {right}")
    if options.cores is not None and options.cores < 1:
        raise OSError(f"--cores = {options.cores}: expected at least 1 core")  # Snakemake would wait forever
    check_profile(options.workflow_profile or "none")
    for profile in (*(options.profile or ()), "profiles/default"):
        for settings in sorted(Path(profile).glob("*.y*ml")):
            _check_settings(settings)
    for path in options.configfile:
        try:
            read_file(path)
        except ConfigError as error:
            raise OSError(f"--configfile: {error}") from None


def check_profile(profile: str) -> None:
    """Raise OSError if a workflow profile is missing, sets a key that is read too late, or needs a missing executor.

    The profile ``none`` stands for no profile, and passes.
    """
    if profile == "none":
        return
    if not Path(profile).exists():
        right = "pass a folder with a profile.yaml, such as profiles/slurm"
        raise FileNotFoundError(f"--workflow-profile {profile}: no such folder; {right}")
    for path in sorted(Path(profile).glob("*.y*ml")):
        _check_settings(path)
        match = re.search(r"^executor: *[\"']?([\w-]+)", path.read_text(), re.M)
        executor = match[1] if match else ""
        # The package's own executor needs the one that it is built on.
        plugin = "slurm" if executor == "halobench-slurm" else executor.replace("-", "_")
        if executor and executor not in BUILT_IN and find_spec(f"snakemake_executor_plugin_{plugin}") is None:
            needed = f"install snakemake_executor_plugin_{plugin}"
            right = f"run {install('slurm')}" if plugin == "slurm" else needed
            raise FileNotFoundError(f"{path}: the plug-in of executor {executor} isn't installed; {right}")


def _check_settings(path: Path) -> None:
    """Raise OSError if a profile contains settings that must be known before Snakemake reads the profile."""
    if match := IN_PROFILES.search(path.read_text(encoding="utf-8")):
        raise OSError(f"{path}: {match[1]} is read too late in a profile; set it in config.yaml or on the command line")
