"""A dry run of Snakemake, read back: its jobs with their reasons, and what Snakemake noted of files that it made.

The text is that of Snakemake 9.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
LITERAL = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
BEFORE_NOW = re.compile(rf"before: ((?:{LITERAL}|[^'\"])*?) now: ((?:{LITERAL}|[^'\"])*)$", re.S)
BLOCK = re.compile(r"^( *)(?:local)?(?:rule|checkpoint) (\S+):$")
MESSAGE = re.compile(r"^ *Job \d+: (.*)$")


@dataclass(frozen=True)
class Job:
    """One job of a dry run, with Snakemake's own reason."""

    rule: str
    reason: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    wildcards: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Its rule; one for all figures, each of which has a rule of its own."""
        return "figure" if self.rule.startswith("figure_") else self.rule

    @property
    def label(self) -> str:
        """Its cell, or whatever its wildcards say: ``clean/cnn/mixup2/seed0``."""
        named = {key: value.rstrip("/") for key, value in self.wildcards.items() if value}
        parts = [f"seed{value}" if key == "seed" else value for key, value in named.items()]
        return "/".join([*parts, self.rule.removeprefix("figure_")] if self.kind == "figure" else parts)

    @property
    def name(self) -> str:
        """Kind and label."""
        return f"{self.kind} {self.label}".strip()


class Records:
    """What Snakemake noted in a working directory of the files that it made."""

    def __init__(self, folder: Path):
        self.folder = folder / ".snakemake"

    def made(self, path: str) -> bool:
        """Whether a file was ever made; the notes may have been cleaned up."""
        return self._path("metadata", path).is_file() or (self.folder.parent / path).exists()

    def incomplete(self, path: str) -> bool:
        """Whether a job was cut off while it made a file."""
        return self._path("incomplete", path).exists()

    def inputs(self, path: str) -> list[str]:
        """What a file was made from; nothing where that isn't known."""
        try:
            return list(json.loads(self._path("metadata", path).read_text())["input"])
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def params(self, path: str) -> list[str] | None:
        """The params of the job that made a file, each as Python writes it; None where that isn't known."""
        try:
            return list(json.loads(self._path("metadata", path).read_text())["params"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _path(self, subject: str, path: str, longest: int = 254) -> Path:
        """A note's file: the path in base64, split into folders where that is longer than a file's name may be."""
        code = urlsafe_b64encode(path.encode()).decode()
        parts = [code[i : i + longest] for i in range(0, len(code), longest)]
        return self.folder.joinpath(subject, *(f"@{part}" for part in parts[:-1]), parts[-1])


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
            blocks.append((found[2], {}))
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

    wildcards = dict(item.split("=", 1) for item in listed("wildcards"))
    return Job(rule, facts.get("reason", "").rstrip(), listed("input"), listed("output"), wildcards)


def parse_reason(text: str) -> dict[str, str]:
    """Snakemake's reasons for a job, each with what follows its colon."""
    return {found[1]: found[2] or "" for found in REASON.finditer(text)}


def parse_params(text: str) -> tuple[list[Any], list[Any]]:
    """The params that a job had and those that it has now, less what is equal; JSON is decoded.

    Snakemake writes each as Python would, in no certain order and without its name.
    """
    found = BEFORE_NOW.search(text.rstrip())
    return (_values(found[1]), _values(found[2])) if found else ([], [])


def _values(text: str) -> list[Any]:
    return sorted((_decoded(ast.literal_eval(literal)) for literal in re.findall(LITERAL, text)), key=str)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def working_directory(text: str) -> Path:
    """Where a dry run looked for results: ``--directory`` may lead elsewhere."""
    found = re.search(r"^  Working directory: (.+)$", text, re.M)
    return Path(found[1]) if found else Path()


def dry_run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """What Snakemake would do if it was given these arguments."""
    # A profile may ask for silence; the arguments come last, so that the user's word counts otherwise.
    command = [sys.executable, "-m", "snakemake", "--quiet", "progress", "--dry-run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
