"""Looks at what a run leaves, made again and again: a folder is opened, and a file read, only when it has changed.

Nothing is written and no lock is taken. A folder's time of change tells that a file in it was made, replaced or
removed, and every file of the workflow's is replaced as a whole, logs aside.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError
from halobench.core.spec_codec import to_json
from halobench.experiment.grid import Config
from halobench.results.manifest import list_files, listing
from halobench.storage import files
from halobench.storage.records import seal

SETTLED = 2 * 10**9  # ns: a change within the same tick of the clock as an earlier one would go unseen
INCOMPLETE = ".snakemake/incomplete"  # Snakemake's marks of the jobs that it has started or submitted


@dataclass(frozen=True, eq=False)
class Asked:
    """What a record is to tell to count as done: its spec as JSON (None: of any) and its code map. Shared by jobs."""

    spec: str | None
    code: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Job:
    """A job of a run: its stage, what it is for, and its record under the results.

    `needs` are the records of the jobs that it waits for; of what waits for all cells see `Drawn`.
    """

    stage: str
    name: str
    record: str
    asked: Asked
    needs: tuple[str, ...] = ()
    threads: int = 1

    @property
    def log(self) -> str:
        """Its log under the results."""
        return f"logs/{self.stage}/{self.name}.log"


def changed(path: str) -> int:
    """When a file or folder changed, in ns; 0 where there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


class Folders:
    """Folders, of which those are told again that have changed since the last look."""

    def __init__(self, paths: Iterable[str]):
        self._seen: dict[str, int] = dict.fromkeys(paths, -1)

    def changed(self) -> Iterator[str]:
        """The folders that have changed since this was last asked, or may have."""
        for path, before in self._seen.items():
            # Before what is in it is looked at: a change during that look is told the next time.
            now = changed(path)
            if now != before:
                self._seen[path] = now if time.time_ns() - now > SETTLED else -1
                yield path


class Records:
    """The records of jobs, and which of them are as the configuration asks.

    Parameters
    ----------
    results : Path
    jobs : iterable of Job
    read : callable
        Gets each job whose record was read, and what that holds.

    Attributes
    ----------
    current, others : dict of record to time of change in ns
        Records that are as the configuration asks, and those of another spec or code.
    """

    def __init__(self, results: Path, jobs: Iterable[Job], read: Callable[[Job, Mapping[str, Any]], object]):
        self.results, self._read = str(results), read
        self.current: dict[str, int] = {}
        self.others: dict[str, int] = {}
        self._jobs: dict[str, list[Job]] = {}
        for job in jobs:
            self._jobs.setdefault(f"{self.results}/{job.record.rpartition('/')[0]}", []).append(job)
        self._folders = Folders(self._jobs)

    def look(self) -> None:
        """Bring both up to date."""
        for folder in self._folders.changed():
            for job in self._jobs[folder]:
                self._look(job)

    def _look(self, job: Job) -> None:
        now = changed(f"{self.results}/{job.record}")
        if now and now in (self.current.get(job.record), self.others.get(job.record)):
            return
        self.current.pop(job.record, None)
        self.others.pop(job.record, None)
        if now:
            (self.current if self._is_current(job) else self.others)[job.record] = now

    def _is_current(self, job: Job) -> bool:
        place = f"{self.results}/{job.record}"
        found = read_plain(place)
        if found is None:
            return False
        self._read(job, found)
        folder = os.path.dirname(place)
        # Weights and logits may be deleted once they have been used.
        kept = (name for name in found["outputs"] if not name.endswith(".safetensors"))
        return is_asked(found, job.asked) and all(os.path.exists(f"{folder}/{name}") for name in kept)


def read_plain(path: str) -> Any:
    """A record, its seal unchecked, which the stages that read it and `halobench verify` see to; None if it is none."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read())
        return found if isinstance(found["outputs"], Mapping) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_asked(found: Mapping[str, Any], asked: Asked) -> bool:
    """Whether a record tells of the spec and the code that are asked for now."""
    same = asked.spec is None or to_json(found.get("spec")) == asked.spec
    return same and found.get("code") == asked.code


class Logs:
    """Which jobs have a log; folders are listed, logs aren't read."""

    def __init__(self, results: Path, jobs: Iterable[Job]):
        self._places = {job: f"{results}/{job.log}".rpartition("/") for job in jobs}
        self._names: dict[str, frozenset[str]] = {}
        self._folders = Folders({folder for folder, _, _ in self._places.values()})

    def look(self) -> None:
        """Bring it up to date."""
        for folder in self._folders.changed():
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._names[folder] = frozenset()

    def of(self, job: Job) -> str | None:
        """The path of a job's log; None if it has none."""
        folder, _, name = self._places[job]
        return f"{folder}/{name}" if name in self._names.get(folder, ()) else None


@dataclass(frozen=True)
class Mark:
    """Snakemake's mark of a job that it started at `since` (seconds), or submitted as job `number` of a cluster.

    The Snakemake that runs a submitted job on its node marks it anew, without the number.
    """

    since: float
    number: str | None = None


class Marks:
    """Snakemake's marks of jobs that it started and hasn't seen end.

    A mark is a file for each output, named by the output's path in base64, and split into folders where that is long.

    Parameters
    ----------
    folder : Path
        The working directory.
    records : collection of str
        The records whose marks count, as paths under the results.
    """

    def __init__(self, folder: Path, records: Collection[str]):
        self.folder, self._records = str(folder / INCOMPLETE), records
        self._known: dict[str, tuple[int, Mark]] = {}  # by the mark's path, with its time of change

    def look(self) -> dict[str, Mark]:
        """The marks that are there, by the path of the record that each job will write."""
        found, kept = {}, {}
        for code, path in marked(self.folder):
            record = decoded(code).removeprefix("results/")
            if record not in self._records:
                continue
            now = changed(path)
            before = self._known.get(path)
            mark = before if before and before[0] == now else (now, Mark(now / 1e9, job_number(path)))
            if now:
                found[record], kept[path] = mark[1], mark
        # One that is being written is read again.
        self._known = {path: mark for path, mark in kept.items() if time.time_ns() - mark[0] > SETTLED}
        return found


def marked(folder: str, lead: str = "") -> Iterator[tuple[str, str]]:
    """The names of all marks in a folder, joined where they are split, with their paths."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("@"):
            yield from marked(entry.path, lead + entry.name[1:])
        else:
            yield lead + entry.name, entry.path


def decoded(code: str) -> str:
    """The path that a mark's name stands for; empty for a file that is no mark."""
    try:
        return urlsafe_b64decode(code).decode()
    except ValueError:
        return ""


def job_number(path: str) -> str | None:
    """The number that a cluster gave the job of a mark; None of one that was started on this machine."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError), open(path, "rb") as file:
        number = json.loads(file.read())["external_jobid"]
        return None if number is None else str(number)
    return None


class Drawn:
    """Which tables and figures of an experiment are made from its present cells, by the checksums in their records.

    Parameters
    ----------
    config : Config
    experiment : str
    folder, results : Path
        The working directory and its results.
    needs : iterable of str
        The records of the experiment's cells and references.
    jobs : iterable of Job
        What is made from them: manifest, aggregate, claims, tables, figures and the explorer.
    """

    def __init__(
        self, config: Config, experiment: str, folder: Path, results: Path, needs: Iterable[str], jobs: Iterable[Job]
    ):
        self.config, self.experiment, self.results, self.jobs = config, experiment, results, list(jobs)
        self.needs = frozenset(needs)
        self._claims = folder / "workflow/claims.yaml"
        self._manifest = results / f"manifests/{experiment}.json"
        folders = (results / kind / experiment for kind in ("tables", "figures"))
        self._places = [str(self._manifest), *map(str, folders), str(results / "explorer.json")]
        self._seen: tuple[Any, ...] = ()
        self._found: frozenset[str] = frozenset()

    def look(self, records: Records) -> frozenset[str]:
        """The records of what is made from the present cells; none while some of those aren't there."""
        if not all(record in records.current for record in self.needs):
            return frozenset()
        newest = max((records.current[record] for record in self.needs), default=0)
        seen = (newest, *map(changed, self._places))
        if seen != self._seen:
            self._found = frozenset(self._look(newest))
            self._seen = seen if time.time_ns() - max(seen) > SETTLED else ()
        return self._found

    def _look(self, newest: int) -> Iterator[str]:
        by_stage = {stage: [job for job in self.jobs if job.stage == stage] for stage in ("manifest", "aggregate")}
        if not self._lists_the_cells(newest):
            return
        yield by_stage["manifest"][0].record
        (aggregate,) = by_stage["aggregate"]
        tables = read_plain(str(self.results / aggregate.record))
        manifest = files.checksum(self._manifest)
        if not tables or not is_asked(tables, aggregate.asked) or tables["spec"]["manifest"] != manifest:
            return
        yield aggregate.record
        sums = dict(tables["outputs"])
        claims = read_plain(str(self.results / f"tables/{self.experiment}/claims.json"))
        sums |= {"claims.parquet": claims["outputs"].get("claims.parquet")} if claims else {}
        for job in self.jobs:
            if job.stage not in by_stage and self._is_current(job, sums):
                yield job.record

    def _is_current(self, job: Job, sums: Mapping[str, str]) -> bool:
        """Whether what was made from tables was made from those with these checksums."""
        found = read_plain(str(self.results / job.record))
        if not found or not is_asked(found, job.asked):
            return False
        with contextlib.suppress(KeyError, TypeError, AttributeError, OSError):
            read, claims = found["spec"]["tables"], found["spec"].get("claims")
            if claims is not None and self._claims.exists() and claims != files.checksum(self._claims):
                return False
            if job.stage == "explorer":  # which reads those of several experiments
                read = read[self.experiment]
            return all(sums.get(f"{name}.parquet") == digest for name, digest in read.items())
        return False

    def _lists_the_cells(self, newest: int) -> bool:
        """Whether the manifest is of the present cells: as young as they are, or else with their checksums."""
        listed = listing(self.config, self.experiment)
        try:
            found = files.read_json(self._manifest, ["cells", "references"])
            bare = {
                key: [{k: v for k, v in entry.items() if k != "outputs"} for entry in found[key]]
                for key in ("cells", "references")
            }
            if any(bare[key] != listed[key] for key in bare):
                return False
            young = changed(str(self._manifest)) >= newest
            return young or found == seal(list_files(listed, self.results))
        except (SpecError, TypeError, AttributeError):
            return False
