"""Read the jobs of a Snakemake dry run, with the reasons for them.

Jobs are taken from the events that our logger plug-in, `snakemake_logger_plugin_halobench`, records.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from halobench.storage.requests import FOLDER

# Snakemake's reasons for a job, which its logger interface only provides as text; see snakemake.jobs.Reason.
FORCED = "Forced execution"
MISSING = "Missing output files"
INCOMPLETE = "Incomplete output files"
NEWER = "Updated input files"
UPSTREAM = "Input files updated by another job"
INPUTS = "Set of input files has changed since last execution"
CODE = "Code has changed since last execution"
PARAMS = "Params have changed since last execution"
SOFTWARE = "Software environment definition has changed since last execution"

BUILT_IN = {"local", "dryrun", "touch"}  # Snakemake's own executors
DRY = re.compile(r"--dry-?run|-[npqkrF]*n[npqkrF]*")  # short options may be combined
SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")  # where Snakemake looks
EACH = ("figure", "table")  # each figure and table has its own rule, named after it, such as figure_summary


@dataclass(frozen=True)
class PlannedJob:
    """One job of a run or dry run, with Snakemake's own reason.

    On a cluster, a dry run doesn't show whether a job would run in the main process or on a node.
    """

    rule: str
    reason: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    wildcards: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    resources: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The job's stage.

        The stage is taken from the name of the job's request, because each figure and each table for print has its own
        rule, and a workflow that uses this one as a module may rename all rules.
        """
        if request := request_of(self):
            return Path(request).name.partition("-")[0]
        kind = self.rule.partition("_")[0]
        return kind if kind in EACH else self.rule

    @property
    def label(self) -> str:
        """The job's cell, such as ``clean/cnn/mixup2/seed0``, or whatever its wildcards hold."""
        named = {key: value.rstrip("/") for key, value in self.wildcards.items() if value}
        parts = [f"seed{value}" if key == "seed" else value for key, value in named.items()]
        return "/".join([*parts, self.rule.partition(f"{self.kind}_")[2]] if self.kind in EACH else parts)

    @property
    def name(self) -> str:
        """The kind and the label."""
        return f"{self.kind} {self.label}".strip()


def results_of(jobs: Iterable[PlannedJob]) -> str:
    """Return the jobs' results folder, relative to the working directory."""
    requests = filter(None, map(request_of, jobs))
    return next((str(Path(request).parents[1]) for request in requests), "results")


def request_of(job: PlannedJob) -> str:
    """Return the path of a job's request (empty if it has none)."""
    return next((path for path in job.inputs if f"/{FOLDER}/" in path), "")


@dataclass(frozen=True)
class Events:
    """What Snakemake reported about its jobs.

    Attributes
    ----------
    jobs : tuple of PlannedJob
        The jobs, without targets that only gather files.
    gathered : tuple of str
        The files that those targets gather.
    stats : mapping
        The number of jobs per rule, including targets; empty if there is nothing to do.
    folder : Path
        The working directory, which ``--directory`` may change.
    code : int
        Snakemake's exit code.
    errors : str
        Snakemake's errors and warnings.
    """

    jobs: tuple[PlannedJob, ...] = ()
    gathered: tuple[str, ...] = ()
    stats: Mapping[str, int] = field(default_factory=dict)
    folder: Path = Path()
    code: int = 0
    errors: str = ""


def refuse(events: Events, silence: str) -> int:
    """Print why a dry run shows no jobs (`silence` if Snakemake listed none); return the exit code.

    If the dry run can be reported on, the exit code is 0 and nothing is printed.
    """
    if events.code:
        print(events.errors, file=sys.stderr)
        return events.code
    if events.stats and not events.jobs:
        print(f"halobench: error: Snakemake {silence}; leave out --quiet", file=sys.stderr)
        return 2
    return 0


def read_events(lines: Iterable[str], code: int = 0, errors: str = "") -> Events:
    """Read the lines of JSON that the logger plug-in writes."""
    jobs, gathered, stats, folder = [], [], {}, Path()
    for event in map(json.loads, lines):
        if event["event"] == "workflow_started":
            folder = Path(event["cwd"])
        elif event["event"] == "run_info":
            stats = event["stats"]
        elif event["output"]:
            reason, inputs, outputs = event["reason"].rstrip(), tuple(event["input"]), tuple(event["output"])
            wildcards = {key: str(value) for key, value in event["wildcards"].items()}
            threads = event["threads"] if isinstance(event["threads"], int) else 1
            jobs.append(PlannedJob(event["rule"], reason, inputs, outputs, wildcards, threads, event["resources"]))
        else:
            gathered += event["input"]
    return Events(tuple(jobs), tuple(gathered), stats, folder, code, errors)


def parse_reason(text: str) -> dict[str, list[str]]:
    """Parse Snakemake's reasons for a job, each with the files that it mentions."""
    parts = (part.partition(": ") for part in text.split("; "))
    return {reason: files.split(", ") if files else [] for reason, _, files in parts}


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the few Snakemake arguments that are needed before Snakemake reads all of them."""
    parser = argparse.ArgumentParser("halobench run", add_help=False, allow_abbrev=False)
    parser.add_argument("--snakefile", "-s", type=Path)
    parser.add_argument("--directory", "-d", type=Path, default=Path())
    parser.add_argument("--configfile", "--configfiles", nargs="+", action="extend", default=[])
    parser.add_argument("--config", "-C", nargs="+", action="extend", default=[])
    for name in ("profile", "workflow-profile", "persistence-backend", "persistence-backend-db-url"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--logger", nargs="+")
    parser.add_argument("--report", nargs="?")
    parser.add_argument("--unlock", action="store_true")
    parser.add_argument("--touch", "-t", action="store_true")
    parser.add_argument("--help", "-h", "--version", "-v", action="store_true", dest="about")
    options = parser.parse_known_args(arguments)[0]
    options.dry_run = any(DRY.fullmatch(argument) for argument in arguments)
    return options


def with_config(arguments: Sequence[str], entry: str) -> list[str]:
    """Add an entry, ``KEY=VALUE``, to the configuration values that Snakemake's arguments already set."""
    end = [*arguments, "--"].index("--")  # the rest are targets
    kept, targets = list(arguments[:end]), arguments[end:]
    for i, argument in reversed(list(enumerate(kept))):  # Snakemake uses only the last of several
        if argument in ("--config", "-C"):
            return [*kept[: i + 1], entry, *kept[i + 1 :], *targets]
        if joined := re.match(r"--config=|-C", argument):  # which takes a single entry
            return [*kept[:i], *kept[i + 1 :], "--config", argument[joined.end() :], entry, *targets]
    return [*kept, "--config", entry, *targets]


def check_options(options: argparse.Namespace) -> None:
    """Check the files that Snakemake's arguments (as parsed by `read_options`) refer to, before Snakemake fails on one.

    Raises
    ------
    OSError
        If there is no workflow, the workflow profile doesn't exist (which Snakemake ignores), the plug-in of its
        executor isn't installed, a configuration value has no key, or a configuration file can't be read. In the last
        case, the error states the line number.
    """
    from halobench.experiment.config_file import check_file
    from halobench.experiment.config_loader import ConfigError

    check_snakefile(options)
    check_profile(options.workflow_profile or "none")
    for entry in options.config:
        if "=" not in entry:
            raise OSError(f"--config: expected KEY=VALUE, but got {entry!r} (targets come before options)")
    for path in options.configfile:
        try:
            check_file(path)
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
        executor = re.search(r"^executor: *[\"']?([\w-]+)", path.read_text(), re.M)
        module = f"snakemake_executor_plugin_{executor[1].replace('-', '_')}" if executor else ""
        if executor and executor[1] not in BUILT_IN and find_spec(module) is None:
            right = "run pip install --editable '.[slurm]'" if executor[1] == "slurm" else f"install {module}"
            raise FileNotFoundError(f"{path}: executor = {executor[1]}: its plug-in is not installed; {right}")


def check_snakefile(options: argparse.Namespace) -> None:
    """Raise FileNotFoundError unless Snakemake finds a workflow in its starting folder or through its arguments."""
    elsewhere = options.snakefile or options.profile or options.about  # a profile may specify one
    if not elsewhere and not any(map(os.path.exists, SNAKEFILES)):
        right = "run this in a clone of halobench, or pass --snakefile CLONE/Snakefile"
        raise FileNotFoundError(f"no Snakefile in {Path.cwd()}; {right}")


def gather(arguments: Sequence[str], **options: Any) -> Events:
    """Run Snakemake with these arguments and return what it reported about its jobs.

    `options` are passed to `subprocess.run`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        logger = ["--logger=halobench", f"--logger-halobench-events={path}"]
        command = [sys.executable, "-m", "snakemake", *logger, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    # Snakemake's error about unknown arguments comes after a page that lists all known ones, and starts with the name
    # of a file.
    said = re.sub(r"(?s)\Ausage: .*^\S+: error:", "snakemake: error:", done.stderr.strip(), flags=re.M)
    return read_events(lines, done.returncode, said)


def dry_run(arguments: Sequence[str]) -> Events:
    """Return what Snakemake would do if run with these arguments; raise OSError as `check_options` does."""
    check_options(read_options(arguments))
    # Override a profile that asks for silence; the user's own arguments still prevail because they come last.
    return gather(["--quiet", "progress", "--dry-run", *arguments])
