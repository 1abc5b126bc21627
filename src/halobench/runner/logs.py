"""Find the logs of jobs, both the stages' own and SLURM's, and report what they contain."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.storage.job_logs import DONE, SILENT, STOPPED, before_last, last_line, why_ended
from halobench.storage.layout import STAGES

STAGE = re.compile(rf"(?:^|_)({'|'.join(STAGES)})(?:_|$)")  # in a rule's name, to which a module may add a prefix
KEY = re.compile(r"(?:^|/)logs/[^/]+/(.+)\.log$")  # in the path of a stage's own log
SLURM_LOGS = ("logs/slurm", "../.snakemake/slurm_logs")  # below the results: from profiles/slurm, and by default


@dataclass(frozen=True)
class JobLogs:
    """A job's stage, its cell (or whatever else the job is for), its own log, and SLURM's logs, oldest first.

    `ended` is True if the job's output exists.
    """

    stage: str
    name: str
    path: Path
    slurm: tuple[Path, ...] = ()
    ended: bool = False

    @property
    def last(self) -> str:
        """The last line of the job's own log."""
        line = last_line(self.path)
        return DONE if line == SILENT and self.ended else line


def stage_of(rule: str) -> str:
    """Return a rule's stage; individual figures and tables share one, and partial results count with full ones."""
    return found[1] if (found := STAGE.search(rule)) else rule


@dataclass
class Job:
    """A job that Snakemake has started.

    Attributes
    ----------
    stage, key : str
        Its stage and its cell, or whatever else it is for.
    log : Path
        Its own log.
    outputs : sequence of str
        The files that it declares.
    local : bool
        Whether it runs on this machine, or was submitted to a cluster.
    since : float
        When it was started or submitted, in seconds since the epoch.
    reason : str
        Why it failed or was stopped, once that has happened.
    slurm : sequence of str
        Its SLURM logs, likewise.
    """

    stage: str
    key: str
    log: Path
    outputs: Sequence[str]
    local: bool
    since: float
    reason: str = ""
    slurm: Sequence[str] = ()

    @classmethod
    def started(cls, record: Any) -> Job:
        """Return the job that Snakemake reports with the event JOB_INFO."""
        log = record.log[0] if record.log else "no log"
        key = found[1] if (found := KEY.search(log)) else "/".join(map(str, record.wildcards.values()))
        return cls(stage_of(record.rule_name), key, Path(log), record.output, record.local, time.time())

    @property
    def name(self) -> str:
        """The stage and the key."""
        return self.stage if self.key == self.stage else f"{self.stage} {self.key}".strip()

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.time() - self.since

    @property
    def written(self) -> bool:
        """Whether it has written to its log; older lines are those of an earlier attempt."""
        try:
            return self.log.stat().st_mtime >= self.since - 1
        except OSError:
            return False

    @property
    def state(self) -> str:
        """Whether it is running, in the queue, failed, or stopped by a signal."""
        if self.reason:
            return "stopped" if STOPPED in self.reason else "failed"
        return "running" if self.local or self.written else "in the queue"

    def end(self, slurm: Sequence[str]) -> None:
        """Note why it ended without success, according to its log, and its logs of SLURM."""
        self.reason, self.slurm = last_line(self.log).removeprefix(f"{self.key}: "), slurm

    def describe(self) -> list[str]:
        """Return lines with its log, the end of that, and what SLURM's logs say about why it ended."""
        slurm = [f"{log}: {why_ended(Path(log))}".removesuffix(": ") for log in self.slurm]
        below = [*before_last(self.log), self.reason, *slurm]
        return [f"  {self.name} ({self.log})", *(f"    {line}" for line in below)]


def _logs(results: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield each job's stage, name and log."""
    for stage in STAGES:
        folder = results / "logs" / stage
        for log in sorted(folder.rglob("*.log")):
            yield stage, str(log.relative_to(folder)).removesuffix(".log"), log


def _logs_of(results: Path, stage: str, name: str, log: Path, folders: Sequence[Path]) -> JobLogs:
    """Return a job's logs, including those that the executor plugin had SLURM write for it or its group."""
    slurm = [path for folder in folders for path in (folder / f"rule_{stage}" / wildcards(name)).glob("*.log")]
    grouped = [path for folder in folders for path in folder.glob("group_*/**/*.log")]
    slurm += [path for path in grouped if f"logs/{stage}/{name}.log" in path.read_text(errors="replace")]
    slurm.sort(key=lambda path: (path.stat().st_mtime, path.name))
    return JobLogs(stage, name, log, tuple(slurm), (results / STAGES[stage].record_path(name)).exists())


def wildcards(name: str) -> str:
    """Write a cell's name the way the plugin does: ``d/m/l/seed0`` -> ``d_m_l_0``."""
    return re.sub(r"(^|/)seed(\d+)$", r"\1\2", name).replace("/", "_")


def find(results: Path, name: str) -> Iterator[JobLogs]:
    """Find the logs of the jobs whose name contains `name`.

    `name` is the name of a cell (``digits/mlp/mixup2/seed0``) or part of it, the cell's folder, its name in squeue's
    comment (``digits_mlp_mixup2_0``), or a job number.
    """
    name = name.removeprefix("./").removeprefix("results/").removeprefix("runs/")
    folders = [results / place for place in SLURM_LOGS]
    for stage, key, log in _logs(results):
        named = name in f"{key}/" or name == wildcards(key)
        if named or name.isdecimal():  # searching SLURM's logs for every job of a large grid would take long
            job = _logs_of(results, stage, key, log, folders)
            if named or name in {path.stem for path in job.slurm}:
                yield job


def describe_logs(job: JobLogs, most: int = 3) -> str:
    """Format a job's logs as text, each with its path and last lines."""
    shown = [f"{job.stage} {job.name}", f"  {job.path}"]
    shown += [f"    {line}" for line in [*before_last(job.path, most - 1), job.last]]
    for log in job.slurm:
        shown += [f"  {log}", *(f"    {line}" for line in filter(None, [why_ended(log)]))]
    return "\n".join(shown)
