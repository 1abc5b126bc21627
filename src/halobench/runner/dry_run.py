"""A dry run of Snakemake, read back: its jobs with their reasons.

The text is that of Snakemake 9.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

# How Snakemake's reasons begin; see snakemake.jobs.Reason.
FORCED = "Forced execution"
MISSING = "Missing output files"
INCOMPLETE = "Incomplete output files"
NEWER = "Updated input files"
ANEW = "Input files updated by another job"
INPUTS = "Set of input files has changed since last execution"
CODE = "Code has changed since last execution"
PARAMS = "Params have changed since last execution"
SOFTWARE = "Software environment definition has changed since last execution"
REASONS = (FORCED, MISSING, INCOMPLETE, NEWER, ANEW, INPUTS, CODE, PARAMS, SOFTWARE)

ANY_REASON = "|".join(map(re.escape, REASONS))
REASON = re.compile(rf"(?:^|; )({ANY_REASON})(?:: (.*?))?(?=; (?:{ANY_REASON})|$)", re.S)
BLOCK = re.compile(r"^ *(?:local)?(?:rule|checkpoint) (\S+):$")
BUILT_IN = {"local", "dryrun", "touch"}  # executors that Snakemake has
EACH = ("figure", "table")  # what has a rule for each, named after it: figure_summary
MESSAGE = re.compile(r"^ *Job \d+: (.*)$")


@dataclass(frozen=True)
class Job:
    """One job of a dry run, with Snakemake's own reason.

    Its command is there where the dry run was asked for commands. Where it would run, beside the master of a cluster or
    on a node, no dry run tells.
    """

    rule: str
    reason: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    wildcards: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    resources: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    @property
    def kind(self) -> str:
        """Its rule; one for all figures and one for all tables for print, each of which has a rule of its own."""
        kind = self.rule.partition("_")[0]
        return kind if kind in EACH else self.rule

    @property
    def label(self) -> str:
        """Its cell, or whatever its wildcards say: ``clean/cnn/mixup2/seed0``."""
        named = {key: value.rstrip("/") for key, value in self.wildcards.items() if value}
        parts = [f"seed{value}" if key == "seed" else value for key, value in named.items()]
        return "/".join([*parts, self.own] if self.kind in EACH else parts)

    @property
    def own(self) -> str:
        """What its rule calls the one thing that it makes: a figure's name, or the rule's."""
        return self.rule.partition("_")[2] if self.kind in EACH else self.rule

    @property
    def name(self) -> str:
        """Kind and label."""
        return f"{self.kind} {self.label}".strip()


def parse_jobs(text: str) -> list[Job]:
    """The jobs of a dry run's text, less the targets that only gather files.

    Parameters
    ----------
    text : str
        Standard output of ``snakemake -n``.

    Returns
    -------
    list of Job
    """
    blocks: list[tuple[str, dict[str, str]]] = []
    for line in text.splitlines():
        if found := BLOCK.match(line):
            blocks.append((found[1], {}))
        elif found := MESSAGE.match(line):  # a rule with a message of its own prints that, and no files
            blocks.append((found[1], {"output": "?"}))
        elif blocks:
            key, colon, value = line.strip().partition(": ")
            if colon:
                blocks[-1][1].setdefault(key.lower(), value)
    jobs = [_job(rule, facts) for rule, facts in blocks]
    return [job for job in jobs if job.outputs]


def _job(rule: str, facts: Mapping[str, str]) -> Job:
    """A job from the lines of its block."""

    def listed(key: str) -> tuple[str, ...]:
        return tuple(facts[key].split(", ")) if facts.get(key) else ()

    def pairs(key: str) -> dict[str, str]:
        return dict(item.split("=", 1) for item in listed(key) if "=" in item)

    return Job(
        rule,
        facts.get("reason", "").rstrip(),
        listed("input"),
        listed("output"),
        pairs("wildcards"),
        int(facts["threads"]) if facts.get("threads", "").isdecimal() else 1,
        pairs("resources"),
        facts.get("shell command", ""),
    )


def parse_reason(text: str) -> dict[str, str]:
    """Snakemake's reasons for a job, each with what follows its colon."""
    return {found[1]: found[2] or "" for found in REASON.finditer(text)}


def working_directory(text: str) -> Path:
    """Where a dry run looked for results: ``--directory`` may lead elsewhere."""
    found = re.search(r"^  Working directory: (.+)$", text, re.M)
    return Path(found[1]) if found else Path()


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """What a dry run that failed said, less what it says of itself first."""
    message = re.sub(r"\A.*?^SNAKEMAKE\n=+\n.*?\n\n", "", done.stdout, flags=re.S | re.M)
    return "\n".join(filter(None, [message.strip(), done.stderr.strip()]))


def check_profile(arguments: Sequence[str]) -> None:
    """Check the workflow profile that Snakemake's arguments name.

    Raises
    ------
    FileNotFoundError
        If it isn't there, which Snakemake passes over, or if the plug-in of its executor isn't installed.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--workflow-profile", default="none")
    given = parser.parse_known_args(arguments)[0].workflow_profile
    if given == "none":
        return
    if not Path(given).exists():
        right = "expected one with a profile.yaml, such as profiles/slurm"
        raise FileNotFoundError(f"--workflow-profile {given}: no such folder; {right}")
    for path in sorted(Path(given).glob("*.y*ml")):
        executor = re.search(r"^executor: *[\"']?([\w-]+)", path.read_text(), re.M)
        module = f"snakemake_executor_plugin_{executor[1].replace('-', '_')}" if executor else ""
        if executor and executor[1] not in BUILT_IN and find_spec(module) is None:
            right = "pip install --editable '.[slurm]'" if executor[1] == "slurm" else f"install {module}"
            raise FileNotFoundError(f"{path}: executor = {executor[1]}: its plug-in is not installed: {right}")


def check_configfiles(arguments: Sequence[str]) -> None:
    """Check that the configuration files that Snakemake's arguments name can be read, before it trips over one.

    Raises
    ------
    OSError
        With a line that names the file, and the line in it.
    """
    from halobench.experiment.config_file import check_file
    from halobench.experiment.config_loader import ConfigError

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", action="extend", default=[])
    for path in parser.parse_known_args(arguments)[0].configfile:
        try:
            check_file(path)
        except ConfigError as error:
            raise OSError(f"--configfile: {error}") from None


def dry_run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """What Snakemake would do if it was given these arguments.

    Raises
    ------
    OSError
        By `check_profile` and `check_configfiles`.
    """
    check_profile(arguments)
    check_configfiles(arguments)
    # A profile may ask for silence; the arguments come last, so that the user's word counts otherwise.
    command = [sys.executable, "-m", "snakemake", "--quiet", "progress", "--dry-run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
