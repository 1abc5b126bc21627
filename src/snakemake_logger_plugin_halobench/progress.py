"""Count the jobs of a run by stage, and estimate the time left."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from halobench.runner.job_names import PlannedJob
from halobench.storage import job_logs, layout

TARGETS = ("all", "partial", "total")  # rules that only gather files, and Snakemake's total
LEAST = 3  # number of finished jobs needed to estimate the time left
TAIL = 4096  # bytes read from a log's end to see how far its job is
EPOCH = re.compile(r"^epoch (\d+)/(\d+) ", re.M)
PROBED = re.compile(r"^(?:probe (\S+) around .*: done|saved at (.+))$", re.M)


def stage_of(rule: str) -> str:
    """Return a rule's stage; individual figures and tables share one, and partial results count with full ones."""
    return PlannedJob(rule).kind.removeprefix("partial_")


@dataclass(frozen=True)
class Started:
    """A job started at `since` (seconds since the epoch) or, if not `local`, submitted to a cluster then."""

    job: PlannedJob
    log: Path | None
    since: float
    local: bool = True

    @property
    def stage(self) -> str:
        """The name of the job's stage."""
        return stage_of(self.job.rule)

    @property
    def begun(self) -> bool:
        """Whether it is running; a submitted job counts as running once it has written to its log."""
        return self.local or (self.log is not None and _changed(self.log) >= self.since)

    @property
    def progress(self) -> str:
        """How far it is according to the end of its log, such as ``epoch 3 of 50``; empty if that doesn't show it."""
        if self.log is None or _changed(self.log) < self.since - 1:
            return ""  # the log is from an earlier attempt
        return read_progress(tail(self.log))


class Run:
    """A run's jobs: how many each stage has, and how many are done, running, failed and stopped."""

    def __init__(self) -> None:
        self.total: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.running: dict[int, Started] = {}  # by Snakemake's job number
        self.failed: dict[int, Started] = {}  # jobs that weren't started again
        self.stopped: dict[int, Started] = {}  # likewise, but stopped by a signal; saved, to be resumed
        self.outputs: list[str] = []  # outputs of finished jobs
        self.began = time.time()
        self.started = False  # whether any job was started
        self._seconds: dict[str, list[float]] = {}

    def plan(self, stats: Mapping[str, int]) -> None:
        """Record the number of jobs of each rule."""
        for rule, jobs in stats.items():
            if rule not in TARGETS:
                self.total[stage_of(rule)] += jobs
        self.began = time.time()

    def start(self, record: Any) -> None:
        """Record a job when it starts or restarts."""
        if record.rule_name in TARGETS:
            return
        wildcards = {key: str(value) for key, value in record.wildcards.items()}
        job = PlannedJob(record.rule_name, tuple(record.output), wildcards, record.log[0] if record.log else "")
        log = Path(record.log[0]) if record.log else None
        self.failed.pop(record.jobid, None)
        self.stopped.pop(record.jobid, None)
        self.started = True
        self.running[record.jobid] = Started(job, log, time.time(), record.local)

    def finish(self, number: int) -> tuple[Started, float] | None:
        """Count a job as done, and return it with the seconds it took; return None for a target."""
        started = self.running.pop(number, None)
        if started is None:
            return None
        seconds = time.time() - started.since
        self.done[started.stage] += 1
        self._seconds.setdefault(started.stage, []).append(seconds)
        self.outputs += started.job.outputs
        return started, seconds

    def fail(self, number: int) -> tuple[Started, str] | None:
        """Count a job as failed or stopped until it is started again, and return it with its log's last line.

        Returns None if the job never started.
        """
        started = self.running.pop(number, None)
        if started is None:
            return None
        log = started.log
        reason = job_logs.last_line(log) if log is not None and log.exists() else job_logs.SILENT
        (self.stopped if job_logs.STOPPED in reason else self.failed)[number] = started
        return started, reason.removeprefix(f"{started.job.label}: ")

    def seconds_left(self) -> float | None:
        """Estimate the seconds left; None until `LEAST` jobs have finished.

        A stage's jobs are assumed to take the mean of its finished jobs; if there are none, they are assumed to take
        the mean of all finished jobs or, if that is longer, twice as long as its running jobs have taken so far. The
        number of jobs that run at once is assumed to stay as it has been so far.
        """
        if self.done.total() < LEAST:
            return None
        now = time.time()
        means = {stage: fmean(seconds) for stage, seconds in self._seconds.items()}
        overall = fmean(second for seconds in self._seconds.values() for second in seconds)
        spent = [(job.stage, now - job.since) for job in list(self.running.values())]
        for stage, seconds in spent:
            if stage not in self._seconds:
                means[stage] = max(means.get(stage, overall), 2 * seconds)
        waiting = self.total - self.done - Counter(stage for stage, _ in spent)
        waiting -= Counter(job.stage for job in [*self.failed.values(), *self.stopped.values()])
        work = sum(jobs * means.get(stage, overall) for stage, jobs in waiting.items())
        work += sum(max(means.get(stage, overall) - seconds, 0.0) for stage, seconds in spent)
        busy = sum(map(sum, self._seconds.values())) + sum(seconds for _, seconds in spent)
        return work * (now - self.began) / busy if busy else None

    def stages(self) -> list[str]:
        """Return the run's stages in the order in which they run."""
        order = list(layout.STAGES)
        return sorted(self.total, key=lambda stage: order.index(stage) if stage in order else len(order))


def _changed(path: Path) -> float:
    """Return when a file last changed, in seconds since the epoch; 0 if it is missing."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def tail(log: Path) -> str:
    """Return the end of a log; empty if it can't be read."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def read_progress(text: str) -> str:
    """Return how far a job is according to the end of its log; empty if that doesn't show it."""
    if epochs := EPOCH.findall(text):
        return "epoch {} of {}".format(*epochs[-1])
    if probes := PROBED.findall(text):
        probe, saved = probes[-1]
        return f"probe {probe} done" if probe else saved
    return ""
