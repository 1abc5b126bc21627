"""Which jobs failed or were stopped: those whose log was written in this run and whose output isn't there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from halobench.runner import logs
from halobench.storage import job_logs
from halobench.storage.layout import STAGES


@dataclass(frozen=True)
class Failure:
    """A job that failed: its stage, the cell or whatever else it was for, its log, and the log's last lines.

    Of a job that SLURM ran also the log of its last attempt there, and what that tells of the end.
    """

    stage: str
    name: str
    log: Path
    last: str
    before: tuple[str, ...] = ()
    slurm: Path | None = None
    ended: str = ""


def failed(results: Path, since: float, slurm: Path | None = None) -> list[Failure]:
    """The jobs under `results` that failed after `since` (seconds since the epoch).

    `slurm` is the folder of SLURM's logs, where it ran the jobs.

    Read off the files, so that it holds for jobs of any executor, and for one that was killed without a word.
    """
    failures = []
    for stage in STAGES.values():
        folder = results / "logs" / stage.name
        for log in sorted(folder.rglob("*.log")):
            name = str(log.relative_to(folder)).removesuffix(".log")
            if log.stat().st_mtime >= since and not (results / stage.record_path(name)).exists():
                around = logs.slurm_logs(slurm, stage.name, name) if slurm else ()
                failures.append(_failure(stage.name, name, log, around))
    return failures


def _failure(stage: str, name: str, log: Path, around: Sequence[Path]) -> Failure:
    """A failed job with what its logs say at the end."""
    failure = Failure(stage, name, log, job_logs.last_line(log), tuple(job_logs.before_last(log)))
    return replace(failure, slurm=around[-1], ended=job_logs.why_ended(around[-1])) if around else failure


def table(failures: Sequence[Failure]) -> str:
    """Failed and stopped jobs as text: the last line of a job's log, where the log is, and what came before."""
    stage, name = (max((len(getattr(f, key)) for f in failures), default=0) for key in ("stage", "name"))
    rows = []
    for f in failures:
        below = [f"{f.log}:", *(f"  {line}" for line in (*f.before, f.last))] if f.before else [str(f.log)]
        below += [f"{f.slurm}: {f.ended}".removesuffix(": ")] if f.slurm else []
        rows += [f"  {f.stage:{stage}}  {f.name:{name}}  {f.last}", *(f"  {'':{stage}}  {line}" for line in below)]
    stopped = sum("stopped by SIG" in f.last for f in failures)
    counts = {"failed": len(failures) - stopped, f"{'was' if stopped == 1 else 'were'} stopped": stopped}
    told = " and ".join(f"{n} job{'s' * (n > 1)} {what}" for what, n in counts.items() if n)
    advice = "Run the same command to go on; with the target `partial` it draws what is there."
    return "\n".join([f"{told}; each with the last lines of its log:", *rows, advice])
