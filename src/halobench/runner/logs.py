"""Find the logs of jobs, both the stages' own and SLURM's, and report their contents."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.storage.job_logs import DONE, SILENT, STOPPED, before_last, last_line, last_words, why_ended
from halobench.storage.layout import CELL, CELL_STAGES, STAGES

STAGE = re.compile(rf"(?:^|_)({'|'.join(STAGES)})(?:_|$)")  # in a rule's name, which may have a module's prefix
KEY = re.compile(r"(?:^|/)logs/[^/]+/(.+)\.log$")  # in the path of a stage's own log
SLURM_LOGS = ("logs/slurm", "../.snakemake/slurm_logs")  # below the results; by profiles/slurm, and by default


def stage_of(rule: str) -> str:
    """Return the stage of a rule, such as ``figure`` for the rule of any figure; other names are returned unchanged."""
    return match[1] if (match := STAGE.search(rule)) else rule


@dataclass
class Job:
    """A job that Snakemake has started."""

    stage: str
    key: str  # its cell, or whatever else it works on
    log: Path
    outputs: Sequence[str]  # the files that it declares
    since: float  # when it was started or submitted, in seconds since the epoch
    reason: str = ""  # why it failed or was stopped, once it has
    slurm: Sequence[str] = ()  # its SLURM logs, once it has ended

    @classmethod
    def started(cls, record: Any) -> Job:
        """Return the job that Snakemake reports with the event JOB_INFO."""
        log = record.log[0] if record.log else "no log"
        key = match[1] if (match := KEY.search(log)) else "/".join(map(str, record.wildcards.values()))
        return cls(stage_of(record.rule_name), key, Path(log), record.output, time.time())

    @property
    def name(self) -> str:
        """Return the job's stage and key."""
        return self.stage if self.key == self.stage else f"{self.stage} {self.key}".strip()

    @property
    def age(self) -> float:
        """Return the seconds since the job was started or submitted."""
        return time.time() - self.since

    @property
    def written(self) -> bool:
        """Return whether this attempt at the job has written to its log, which may have lines of an earlier attempt."""
        try:
            return self.log.stat().st_mtime >= self.since - 1
        except OSError:
            return False

    @property
    def state(self) -> str:
        """Return how the job ended without success: "failed" or, after a signal, "stopped"."""
        return "stopped" if STOPPED in self.reason else "failed"

    def end(self, slurm: Sequence[str]) -> None:
        """Note why the job ended without success, as its logs say, and note the paths of its SLURM logs."""
        last = last_line(self.log) if self.written else SILENT  # an older log is that of another attempt
        self.reason, self.slurm = last.removeprefix(f"{self.key}: "), slurm
        if self.reason == SILENT:
            reasons = (find(Path(log)) for find in (why_ended, last_words) for log in reversed(slurm))
            self.reason = next(filter(None, reasons), SILENT)

    def describe(self) -> list[str]:
        """Return lines with the log's path, its last lines, and the reason in SLURM's logs why the job ended."""
        ends = {log: why_ended(Path(log)) for log in self.slurm}
        slurm = [log if end in ("", self.reason) else f"{log}: {end}" for log, end in ends.items()]
        below = [*(before_last(self.log) if self.written else ()), self.reason, *slurm]
        return [f"  {self.name} ({self.log})", *(f"    {line}" for line in below)]


def describe_logs(results: Path, cell: str, most: int = 3) -> list[str]:
    """Return lines with the path of the log of each of a cell's stages, the log's last lines, and the SLURM logs."""
    lines = []
    for stage in CELL_STAGES:
        log = results / stage.log.replace(CELL, cell)
        if log.is_file():
            last = last_line(log)
            ended = last == SILENT and (results / stage.record_path(cell)).exists()
            ends = [*before_last(log, most - 1), DONE if ended else last]
            lines += [f"{stage.name}: {log}", *(f"    {line}" for line in ends)]
            for slurm in _slurm_logs(results, stage.name, cell):
                lines += [f"    {slurm}", *(f"        {line}" for line in filter(None, [why_ended(slurm)]))]
    return lines


def _slurm_logs(results: Path, stage: str, cell: str) -> list[Path]:
    """Return the paths of the logs that SLURM wrote for a cell's job, or for the group that it ran in, oldest first."""
    name = re.sub(r"(^|/)seed(\d+)$", r"\1\2", cell).replace("/", "_")  # as written by the executor plug-in
    paths: list[Path] = []
    for folder in (results / place for place in SLURM_LOGS):
        paths += (folder / f"rule_{stage}" / name).glob("*.log")
        grouped = folder.glob("group_*/**/*.log")
        paths += [path for path in grouped if f"logs/{stage}/{cell}.log" in path.read_text(errors="replace")]
    return sorted(paths, key=lambda path: (path.stat().st_mtime, path.name))
