"""Where jobs' logs lie, and what they say at the end: each stage's own, and those of SLURM around it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from halobench.storage.job_logs import DONE, SILENT, before_last, last_line, why_ended
from halobench.storage.layout import STAGES

SLURM_LOGS = ("logs/slurm", "../.snakemake/slurm_logs")  # from the results: as profiles/slurm says, and by default


@dataclass(frozen=True)
class JobLogs:
    """The logs of one job: its stage, its cell (or whatever else it is for), its log and SLURM's, oldest first.

    `ended` tells whether what it was to make is there.
    """

    stage: str
    name: str
    path: Path
    slurm: tuple[Path, ...] = ()
    ended: bool = False


def slurm_logs(folder: Path, stage: str, name: str) -> tuple[Path, ...]:
    """Return the logs that the executor plugin had SLURM write of a job, or of its group, oldest first."""
    log = f"logs/{stage}/{name}.log"
    grouped = [path for path in folder.glob("group_*/**/*.log") if log in path.read_text(errors="replace")]
    return _by_age([*single_logs(folder, stage, name), *grouped])


def single_logs(folder: Path, stage: str, name: str) -> tuple[Path, ...]:
    """Those of a job that was in no group, which are found without reading any."""
    return _by_age((folder / f"rule_{stage}" / wildcards(name)).glob("*.log"))


def _by_age(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(paths, key=lambda path: (path.stat().st_mtime, path.name)))


def wildcards(name: str) -> str:
    """Return a cell's name as the plugin writes it: ``d/m/l/seed0`` -> ``d_m_l_0``."""
    return re.sub(r"(^|/)seed(\d+)$", r"\1\2", name).replace("/", "_")


def find(results: Path, name: str, slurm: Path | None = None) -> Iterator[JobLogs]:
    """Return the logs of the jobs whose name holds `name`.

    That is a cell (``digits/mlp/mixup2/seed0``) or a part of one, its folder, what squeue's comment calls it
    (``digits_mlp_mixup2_0``), or a job's number.

    Parameters
    ----------
    slurm : Path, optional
        The folder of SLURM's logs; where profiles put them, if not given.
    """
    name = name.removeprefix("./").removeprefix("results/").removeprefix("runs/")
    folders = [results / place for place in SLURM_LOGS] if slurm is None else [slurm]
    for folder in sorted(path for path in (results / "logs").glob("*") if path.is_dir() and path.name != "slurm"):
        for log in sorted(folder.rglob("*.log")):
            key = str(log.relative_to(folder)).removesuffix(".log")
            named = name in f"{key}/" or name == wildcards(key)
            if not named and not name.isdecimal():
                continue  # looking for SLURM's logs of every job would take long in a large grid
            around = tuple(path for each in folders for path in slurm_logs(each, folder.name, key))
            if named or name in {path.stem for path in around}:
                stage = STAGES.get(folder.name)
                ended = stage is not None and (results / stage.record_path(key)).exists()
                yield JobLogs(folder.name, key, log, around, ended)


def describe_logs(job: JobLogs, most: int = 3) -> str:
    """Return a job's logs as text: the path of each with its last lines."""
    shown = [f"{job.stage} {job.name}", f"  {job.path}"]
    last = last_line(job.path)
    shown += [
        f"    {line}" for line in [*before_last(job.path, most - 1), DONE if last == SILENT and job.ended else last]
    ]
    for log in job.slurm:
        shown += [f"  {log}", *(f"    {line}" for line in filter(None, [why_ended(log)]))]
    return "\n".join(shown)
