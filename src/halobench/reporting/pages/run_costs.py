"""Read what a grid was run with, and what it cost, from the records of its jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.core import formatting
from halobench.storage.layout import stage_records
from halobench.storage.provenance import short
from halobench.storage.records import read_record

KEYS = ("stage", "commit", "versions", "hardware", "device", "started", "finished", "seconds", "peak_memory_mib")
TABLE_RECORDS = ("aggregate.json", "claims.json")


@dataclass(frozen=True)
class FinishedJob:
    """A job by its record: seconds of wall time, peak memory in MiB, times in UTC."""

    stage: str
    seconds: float
    peak: float
    gpu: bool
    started: str
    finished: str
    commit: str
    machine: str
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Cost:
    """The cost of all jobs of a stage together; `longest` (seconds) and `peak` (MiB) are those of one job."""

    stage: str
    jobs: int
    cpu: float
    gpu: float
    longest: float
    peak: float


def read_jobs(manifest: Mapping[str, Any], results: Path, tables: Path) -> list[FinishedJob]:
    """Return the jobs that an experiment's tables come from, by their records.

    Parameters
    ----------
    manifest : mapping
        As `halobench.results.manifest.read_manifest` gives it.
    results, tables : Path
        The results folder and the experiment's tables.

    Raises
    ------
    SpecError
        If a record is missing, damaged or edited.
    """
    sources: dict[str, None] = {}
    jobs = []
    for path in _paths(manifest, results, tables):
        record = read_record(path, KEYS)
        jobs.append(as_job(record))
        if isinstance(record["spec"].get("dataset"), Mapping):
            sources[record["spec"]["dataset"]["source"]] = None
    # A source that was put there by hand has no record.
    paths = (results / "sources" / source / "source.json" for source in sorted(sources))
    return [as_job(read_record(path, KEYS)) for path in paths if path.is_file()] + jobs


def _paths(manifest: Mapping[str, Any], results: Path, tables: Path) -> Iterator[Path]:
    """Yield the records of cells, references and tables."""
    for cell in manifest["cells"]:
        for name in stage_records(cell["probe"]):
            yield results / "runs" / cell["path"] / name
    for reference in manifest["references"]:
        yield results / "references" / reference["path"] / "reference.json"
    for name in TABLE_RECORDS:
        yield tables / name


def as_job(record: Mapping[str, Any]) -> FinishedJob:
    """Return the job of a record."""
    return FinishedJob(
        stage=record["stage"],
        seconds=float(record["seconds"]),
        peak=float(record["peak_memory_mib"]),
        gpu=str(record["device"]).startswith("cuda"),
        started=record["started"],
        finished=record["finished"],
        commit=record["commit"] or "outside git",
        machine=machine(record["hardware"]),
        versions=tuple(sorted(record["versions"].items())),
    )


def machine(hardware: Mapping[str, Any]) -> str:
    """Return a host, its processor, cores and card in words."""
    card = f", {hardware['gpu']}" if "gpu" in hardware else ""
    return f"{hardware['host']}: {hardware['processor']}, {hardware['cores']} cores{card}"


def costs(jobs: Iterable[FinishedJob]) -> list[Cost]:
    """Return the cost of each stage, in the order in which stages first come."""
    by: dict[str, list[FinishedJob]] = {}
    for job in jobs:
        by.setdefault(job.stage, []).append(job)
    return [
        Cost(
            stage,
            len(jobs_of_stage),
            sum(job.seconds for job in jobs_of_stage if not job.gpu),
            sum(job.seconds for job in jobs_of_stage if job.gpu),
            max(job.seconds for job in jobs_of_stage),
            max(job.peak for job in jobs_of_stage),
        )
        for stage, jobs_of_stage in by.items()
    ]


def versions(jobs: Sequence[FinishedJob]) -> dict[str, list[str]]:
    """Return the versions of each package that jobs ran with, Python and halobench first."""
    versions_of: dict[str, set[str]] = {}
    for job in jobs:
        for name, version in job.versions:
            versions_of.setdefault(name, set()).add(version)
    first = ("python", "halobench")
    names = [*(n for n in first if n in versions_of), *sorted(versions_of.keys() - set(first))]
    return {name: sorted(versions_of[name]) for name in names}


def machines(jobs: Iterable[FinishedJob]) -> list[tuple[str, int]]:
    """Return machines with the number of jobs that each ran, the busiest first."""
    return _most_first(job.machine for job in jobs)


def commits(jobs: Iterable[FinishedJob]) -> list[tuple[str, int]]:
    """Return commits, shortened, with the number of jobs run at each, the most first."""
    return _most_first(short(job.commit) for job in jobs)


def _most_first(values: Iterable[str]) -> list[tuple[str, int]]:
    return sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))


def span(jobs: Sequence[FinishedJob]) -> tuple[str, str]:
    """Return when the first job started and the last one ended, to the minute."""
    begun, ended = min(job.started for job in jobs), max(job.finished for job in jobs)
    return f"{begun[:16].replace('T', ' ')} UTC", f"{ended[:16].replace('T', ' ')} UTC"


def duration(seconds: float) -> str:
    """Return seconds in the unit that reads best, and a bare 0 for none.

    Examples
    --------
    >>> duration(0), duration(9.87), duration(100), duration(3000), duration(86400)
    ('0', '9.9 s', '100 s', '50 min', '24.0 h')
    """
    return formatting.duration(seconds) if seconds else "0"
