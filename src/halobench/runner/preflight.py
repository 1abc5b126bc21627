"""Checks of earlier results and of the claims, made before any job runs."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import time as now
from typing import Any

from halobench.core.errors import SpecError, describe_error
from halobench.core.formatting import count
from halobench.core.spec_codec import to_json
from halobench.experiment.config_loader import ConfigError
from halobench.experiment.grid import Config
from halobench.experiment.jobs import Job, drawn_jobs, jobs
from halobench.runner.forecast.explain import changes
from halobench.storage import files, records
from halobench.storage.requests import STALE, differences, write_request

MOST_LINES = 20  # about results that don't match, since there can be one per cell
KEEP = "`halobench run --results FOLDER` keeps them and writes to another folder"
LARGE = 1_000_000_000  # bytes; above this, checking a file's checksum is left to the stages that read it


def check_results(config: Config, results: Path) -> None:
    """Check what an earlier run left behind for the experiments that will run.

    A record that no longer matches its request is backdated, so Snakemake runs its job. A file newer than its record
    may be damaged. Snakemake would take it for a new input and, before the jobs that read it fail, would delete what
    was computed from the intact file.

    Raises
    ------
    ConfigError
        With a line for each record that can't be read, and for each file that doesn't match its record.
    """
    problems, stale = [], []
    for job in _looked_at(config):
        path = results / job.record
        if not os.path.exists(path):  # nothing has been computed there yet
            continue
        try:
            record = _read(path, job)
            if not job.scope and _other(record, job):
                stale.append(job)
                continue
            _restore_time(path, record)
            _check_newer_outputs(path, record)
        except SpecError as error:
            problems.append(error)
    _refuse(problems)
    _set_back(stale, results)


def _refuse(problems: Sequence[SpecError]) -> None:
    """Raise ConfigError if there are problems, listing the first `MOST_LINES`."""
    rest = [f"and {len(problems) - MOST_LINES} more"] if len(problems) > MOST_LINES else []
    if problems:
        raise ConfigError([*map(str, problems[:MOST_LINES]), *rest])


def _set_back(stale: Sequence[Job], results: Path) -> None:
    """Make records older than the requests that they don't match, whatever Snakemake remembers about them.

    Snakemake remembers nothing about results that were copied here or touched. Afterwards, the request is newer than
    the record and, since it is rewritten, isn't the one whose checksum Snakemake may remember.
    """
    for job in stale:
        with contextlib.suppress(OSError):  # a dry run may read a folder that can't be written
            os.utime(results / job.record, (STALE, STALE))
    for request in {job.request.name: job.request for job in stale}.values():
        with contextlib.suppress(OSError):
            write_request(results, request, again=True)


def _restore_time(path: Path, record: Mapping[str, Any]) -> None:
    """Restore the time of a backdated record, since it matches its request again."""
    if path.stat().st_mtime == STALE:
        outputs = (path.parent / name for name in record.get("outputs", ()))
        time = max((output.stat().st_mtime for output in outputs if output.exists()), default=now())
        with contextlib.suppress(OSError):
            os.utime(path, (time, time))


def check_folders_writable(to_run: Iterable[Any]) -> None:
    """Raise ConfigError, with a line per folder, if Snakemake's jobs can't write their outputs or logs.

    Snakemake would end the run at the first such job, and may have removed the job's earlier outputs by then.
    """
    folders = Counter(
        folder for job in to_run for folder in {os.path.dirname(path) for path in (*job.output, *job.log)}
    )
    blocked: Counter[Path] = Counter()
    for folder, number in folders.items():
        place = files.nearest_existing(Path(folder))
        if not os.access(place, os.W_OK | os.X_OK):
            blocked[place] += number
    _refuse([SpecError("folder", str(path), f"write access for {count(n, 'job')}") for path, n in blocked.items()])


def replaced_cells(config: Config, results: Path, outputs: Container[str]) -> list[str]:
    """List, one per line, the trained cells that a run will replace by writing `outputs`, and why."""
    cells: Counter[str] = Counter()
    for job in jobs(config):
        path = results / job.record
        if job.stage == "train" and str(path) in outputs and path.exists():
            with contextlib.suppress(SpecError):  # a record that can't be read doesn't belong to a trained cell
                request = job.request
                if why := changes(_read(path, job), request.spec, request.code):
                    cells["; ".join(why)] += 1
    lines = [f"{count(n, 'trained cell')} will be replaced: {why}" for why, n in cells.most_common(MOST_LINES)]
    return [*lines, KEEP] if lines else []


def _looked_at(config: Config) -> Iterator[Job]:
    """Yield a run's jobs and those that made partial tables."""
    yield from jobs(config)
    for experiment in config.run:
        partial = drawn_jobs(config, experiment, scope="partial/")
        yield Job("manifest", experiment, {}, scope="partial/")
        yield from (job for job in partial if job.stage in ("aggregate", "claims"))


def _read(path: Path, job: Job) -> dict[str, Any]:
    """Return a job's record; the manifest is its own record."""
    if job.stage != "manifest":
        return records.read_record(path, ["spec", "seed", "code"])
    manifest = files.read_json(path, ["experiment", "cells", "references"])
    records.check_seal(path, manifest)
    return manifest


def _other(record: Mapping[str, Any], job: Job) -> list[str]:
    """Say how a record differs from its job's request."""
    if job.stage != "manifest":
        return differences(record, job.request, job.seed)
    listed = {key: record[key] for key in job.spec}
    for key in ("cells", "references"):
        listed[key] = [{name: entry[name] for name in entry if name != "outputs"} for entry in record[key]]
    return [] if to_json(listed) == to_json(job.spec) else ["spec"]


def _check_newer_outputs(path: Path, record: Mapping[str, Any]) -> None:
    """Raise SpecError if an output newer than its record doesn't match that record."""
    written = path.stat().st_mtime_ns
    for name, digest in record.get("outputs", {}).items():
        file = path.parent / name
        if file.is_file() and file.stat().st_mtime_ns > written and file.stat().st_size <= LARGE:
            files.check_sum(file, digest, f"the content recorded in {path.name}")


def check_claims(path: Path | str) -> None:
    """Check the claims file now, since claims are only judged once everything else has been computed.

    Raises
    ------
    ConfigError
        With the first problem found.
    """
    from halobench.results.claims import load_claims

    try:
        load_claims(path)
    except OSError as error:
        raise ConfigError([f"{path}: expected a claims file ({describe_error(error)})"]) from None
    except SpecError as error:
        raise ConfigError([str(error)]) from None
