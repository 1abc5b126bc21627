"""A view of a run that goes on: what is done, runs, failed and waits, and the time left.

All is read off files, and of a run on a cluster off its queue: results and the run itself aren't touched. A job is done
by its record; it runs by the mark that Snakemake sets when it has started or submitted a job, and removes when that has
ended; it failed if it has neither, but a log of this run that isn't fresh. The mark of a submitted job has its number
until it starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from rich.live import Live

from halobench.core import console as terminal
from halobench.core.errors import SpecError, require
from halobench.core.formatting import count, duration
from halobench.core.spec_codec import to_json
from halobench.experiment.code_version import code_map
from halobench.experiment.config_loader import load_config
from halobench.experiment.grid import Cell, Config
from halobench.experiment.jobs import asked_of_cell
from halobench.runner import logs
from halobench.runner.forecast.estimates import LIKE, PLACES, Estimate, Past, keys_of, made_of, read_made
from halobench.runner.forecast.plan import Limits
from halobench.runner.monitor.eta import DRAWN, Rest, TimeLeft, time_left
from halobench.runner.monitor.polling import Asked, Drawn, Job, Logs, Mark, Marks, Records, changed
from halobench.runner.monitor.view import Failed, Frame, Row, Running, line, rendered
from halobench.runner.run import STATE, Lookout, Master
from halobench.runner.slurm import queries
from halobench.runner.snakemake_args import Selection, limits, read_selected, selected
from halobench.storage import job_logs
from halobench.storage.layout import stage_records

ROWS = ("source", "weights", "train", "probe", "calibrate", "reference", "aggregate", "table", "figure", "pages")
PART_OF = {
    "manifest": "aggregate",
    "claims": "aggregate",
    "overview": "pages",
    "explorer": "pages",
}  # stages that share a row with another
QUEUE = 15.0  # seconds between two looks at a cluster's queue
EASY = 20  # times what a look costs must pass before the next
FRESH = 5.0  # seconds: Snakemake marks a job just after it has started it, so that its log may be there first
TAIL = 4096  # bytes of a log's end that tell how far its job is
EPOCH = re.compile(r"^epoch (\d+)/(\d+) .*?(\d+) s left$", re.M)
PROBED = re.compile(r"^(?:probe (\S+) around .*: done|saved at (.+))$", re.M)
STOPPED = "stopped by SIG"


def jobs_of(config: Config, experiments: Iterable[str]) -> Iterator[Job]:
    """The jobs of experiments up to their cells and references, each after those that it needs."""
    experiments = list(experiments)
    cells = sorted({cell for name in experiments for cell in config.cells(name)})
    probed = {cell for name in experiments for cell in config.probed(name)}
    for name in sorted({config.datasets[cell.dataset].source for cell in cells}):
        asked = Asked(to_json(config.source_spec(name)), code_map("source", [("data", config.sources[name].loader)]))
        yield Job("source", name, f"sources/{name}/source.json", asked)
    for name in sorted({cell.model for cell in cells if config.models[cell.model].pretrained}):
        asked = Asked(to_json(config.weights_spec(name)), code_map("weights"))
        yield Job("weights", name, f"weights/{name}/weights.json", asked)
    known: dict[Any, dict[str, Asked]] = {}
    for cell in cells:
        yield from _jobs_of_cell(config, cell, cell in probed, known)
    for dataset in sorted({cell.dataset for cell in cells}):
        asked = Asked(to_json(config.reference_spec(dataset)), code_map("reference", config.sampler(dataset)))
        needs = (f"sources/{config.datasets[dataset].source}/source.json",)
        for seed in sorted({cell.seed for cell in cells if cell.dataset == dataset}):
            name = f"{dataset}/seed{seed}"
            yield Job("reference", name, f"references/{name}/reference.json", asked, needs)


def _jobs_of_cell(config: Config, cell: Cell, probed: bool, known: dict[Any, dict[str, Asked]]) -> Iterator[Job]:
    """A cell's jobs; what they are asked is made once (`known`) for cells that differ in their seed alone."""
    key = (cell.dataset, cell.model, cell.loss, probed)
    if key not in known:
        given = asked_of_cell(config, cell, probed)
        known[key] = {stage: Asked(to_json(spec), code) for stage, (spec, code) in given.items()}
    threads = config.recipes[cell.dataset, cell.model].threads
    first = [f"sources/{config.datasets[cell.dataset].source}/source.json"]
    first += [f"weights/{cell.model}/weights.json"] if config.models[cell.model].pretrained else []
    trained = f"runs/{cell.path}/train.json"
    for stage, asked in known[key].items():
        needs = tuple(first) if stage == "train" else (trained,)
        record = f"runs/{cell.path}/{stage}.json"
        yield Job(stage, cell.path, record, asked, needs, 1 if stage == "calibrate" else threads)


def jobs_drawn(config: Config, experiment: str) -> Iterator[Job]:
    """The jobs that make tables and figures of an experiment's cells."""
    tables = f"tables/{experiment}"
    yield Job("manifest", experiment, f"manifests/{experiment}.json", Asked(None, {}))
    for stage in ("aggregate", "claims", "overview"):
        yield Job(stage, experiment, f"{tables}/{stage}.json", Asked(None, code_map(stage)))
    for kind, named in (("tables", config.tables(experiment)), ("figures", config.figures(experiment))):
        stage = kind.removesuffix("s")
        for name in named:
            asked = Asked(None, code_map(stage, [(kind, name)]))
            yield Job(stage, f"{experiment}/{name}", f"{kind}/{experiment}/{name}.json", asked)


def explorer_job() -> Job:
    """The job that makes a page of all experiments' tables."""
    return Job("explorer", "explorer", "explorer.json", Asked(None, code_map("explorer")))


class Estimates:
    """What jobs take, from the records that are read while a run is watched.

    Those of cells that the configuration doesn't have are read once, where jobs would be without a like record.
    """

    def __init__(self, folder: Path, jobs: Iterable[Job]):
        self.past = Past(folder, DRAWN, sizes=False)
        self._jobs = list(jobs)
        self._specs: dict[str, Any] = {}  # each spec once, however many records hold it
        self._read: set[str] = set()
        # Jobs that differ in nothing that counts here share an estimate, made anew when another record counts.
        self._groups: dict[Job, tuple[Any, ...]] = {}
        self._keys: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._found: dict[tuple[Any, ...], Estimate | None] = {}
        self._widened = False

    def add(self, job: Job, found: Mapping[str, Any]) -> None:
        """Let a record count that was read; one that can't be understood doesn't."""
        if job.stage not in LIKE or job.stage in DRAWN or job.record in self._read:
            return
        self._read.add(job.record)
        with contextlib.suppress(SpecError):
            spec = self._specs.setdefault(to_json(found.get("spec")), found.get("spec"))
            self.past.add(job.stage, made_of(PurePosixPath("results") / job.record, {**found, "spec": spec}))
            self._found.clear()

    def of(self, job: Job) -> Estimate | None:
        """What a job takes; None where there is no like record."""
        if job.stage not in LIKE:
            return None
        group = self._groups.get(job)
        if group is None:
            part = job.name.partition("/")[0] if job.stage == "calibrate" else job.record if job.stage in DRAWN else ""
            group = self._groups[job] = (job.stage, job.asked, part)
        if group not in self._found:
            self._found[group] = self._alike(job, group)
        return self._found[group]

    def _alike(self, job: Job, group: tuple[Any, ...]) -> Estimate | None:
        """The same for all jobs that are alike."""
        if group not in self._keys:
            spec = None if job.asked.spec is None else json.loads(job.asked.spec)
            keys = keys_of(job.stage, PurePosixPath("results") / job.record, spec)
            self._keys[group] = (keys, devices(job.stage, spec), spec)
        return self.past.alike(*self._keys[group])

    def widen(self) -> None:
        """Read what else has run here of the kinds of which a job has no like record; once."""
        if self._widened:
            return
        self._widened = True
        lacking = {job.stage for job in self._jobs if job.stage in PLACES and self.of(job) is None}
        for stage in lacking - set(DRAWN):
            for pattern in PLACES[stage]:
                for path in (self.past.folder / "results").glob(pattern):
                    place = PurePosixPath(path.relative_to(self.past.folder).as_posix())
                    if str(PurePosixPath(*place.parts[1:])) not in self._read:
                        with contextlib.suppress(SpecError):
                            self.past.add(stage, read_made(self.past.folder, place))
        self._found.clear()


def devices(stage: str, spec: Any) -> tuple[str, ...]:
    """Kinds of device whose records count, best first, as `forecast.estimates.devices` has them for a job of the
    workflow: one that leaves its device open asks for a GPU."""
    if stage not in ("train", "probe"):
        return ("",)
    return ("cpu", "cuda") if spec.get("train", {}).get("device", "auto") == "cpu" else ("cuda", "cpu")


class Queue:
    """A cluster's queue, asked now and then in the background: an answer may take SLURM long."""

    def __init__(self, state: Path):
        self._runs = queries.Runs(state)
        self.jobs: dict[str, queries.QueuedJob] = {}
        self.problem = ""
        self._thread: threading.Thread | None = None
        self._asked = float("-inf")

    def look(self, wait: bool = False) -> None:
        """Ask anew if it is time to; `wait` for the answer."""
        if self._thread and self._thread.is_alive():
            return
        if time.monotonic() - self._asked >= QUEUE:
            self._asked = time.monotonic()
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()
            if wait:
                self._thread.join()

    def _ask(self) -> None:
        try:
            self.jobs = {job.number: job for job in queries.queued(self._runs.names())}
            self.problem = ""
        except (OSError, SpecError) as error:
            self.problem = f"SLURM's queue can't be asked: {error}"

    def of(self, job: Job, mark: Mark) -> queries.QueuedJob | None:
        """A marked job's place in the queue; None where it has none, or nothing is known.

        By its number, which its mark loses as it starts on a node, or else by what the queue says that it is for.
        """
        if mark.number in self.jobs:
            return self.jobs[mark.number]
        what = f"{job.stage} {logs.wildcards(job.name)}"
        return next((each for each in self.jobs.values() if each.what == what), None)

    @property
    def running(self) -> list[queries.QueuedJob]:
        """The jobs that run, as far as was last told."""
        return [job for job in self.jobs.values() if job.state not in queries.WAITING]


def began(masters: Iterable[Master], folder: Path) -> float:
    """When the run that is going on began, by the clock of the file system where its lock tells; 0 without one."""
    times = [master.began for master in masters]
    if not times:
        return 0.0
    locks = [changed(str(path)) / 1e9 for path in (folder / ".snakemake/locks").glob("*.lock")]
    return min(filter(None, locks), default=min(times))


class Watch:
    """A run in a working directory, looked at again and again.

    Parameters
    ----------
    config : Config
    folder, results : Path
        The working directory and its results.
    most : Limits
        What the run may use at once.
    """

    def __init__(self, config: Config, folder: Path, results: Path, most: Limits):
        self.experiments, self.folder, self.results, self.most = config.run, folder, results, most
        cells = list(jobs_of(config, config.run))
        drawn = {name: list(jobs_drawn(config, name)) for name in config.run}
        self.explorer = explorer_job()
        self.jobs = [*cells, *(job for jobs in drawn.values() for job in jobs), self.explorer]
        self.estimates = Estimates(folder, self.jobs)
        self.records = Records(results, cells, self.estimates.add)
        self.drawn = [
            Drawn(config, name, folder, results, _needed(config, name), [*jobs, self.explorer])
            for name, jobs in drawn.items()
        ]
        self.logs = Logs(results, self.jobs)
        self.marks = Marks(folder, {job.record for job in self.jobs})
        self.lookout, self.queue = Lookout(folder), Queue(folder / STATE)
        self._whys: dict[str, tuple[int, str]] = {}
        self._slurm = [results / place for place in logs.SLURM_LOGS]

    def look(self, wait: bool = False) -> Frame:
        """How the run stands; `wait` for the cluster's queue, if there is one."""
        # In this order: a run that is dead now has written all that it will, and a job leaves its record before its
        # mark goes.
        masters = self.lookout.alive()
        self.queue.look(wait)
        self.logs.look()
        marks = self.marks.look()
        self.records.look()
        since = began(masters, self.folder)
        drawn = [each.look(self.records) for each in self.drawn]
        done = set(self.records.current).union(*drawn)
        if not all(self.explorer.record in found for found in drawn):  # it is of all experiments
            done.discard(self.explorer.record)
        found = _Found(self, since, bool(masters), marks, done)
        self.estimates.widen()
        notes = [self.queue.problem if marks or masters else "", *found.notes()]
        told = tuple(_master(master) for master in masters)
        left = found.left()
        return Frame(
            self.experiments,
            found.rows(),
            tuple(found.running),
            tuple(found.failed),
            told,
            left,
            tuple(filter(None, notes)),
        )

    def why(self, job: Job, log: str | None) -> str:
        """The line that tells why a job that isn't done ended."""
        places = [log] if log else []
        around = [path for folder in self._slurm for path in logs.single_logs(folder, job.stage, job.name)]
        stamp = changed(log) if log else 0
        stamp += changed(str(around[-1])) if around else 0
        if self._whys.get(job.record, (0, ""))[0] != stamp:
            last = job_logs.last_line(Path(places[0])) if places else job_logs.SILENT
            ended = job_logs.why_ended(around[-1]) if around and last == job_logs.SILENT else ""
            self._whys[job.record] = (stamp, ended or last)
        return self._whys[job.record][1]


def _master(master: Master) -> str:
    """A living master in words."""
    return f"run of {master.said.partition(', started')[0]}, for {duration(max(time.time() - master.began, 0.0))}"


def _needed(config: Config, experiment: str) -> Iterator[str]:
    """The records of an experiment's cells and references."""
    probed = config.probed(experiment)
    for cell in config.cells(experiment):
        for name in stage_records(cell in probed):
            yield f"runs/{cell.path}/{name}"
    for dataset, seed in config.references(experiment):
        yield f"references/{dataset}/seed{seed}/reference.json"


class _Found:
    """What one look found, sorted into states."""

    def __init__(self, watch: Watch, since: float, alive: bool, marks: Mapping[str, Mark], done: set[str]):
        self.watch, self.since, self.alive, self.marks, self.done = watch, since, alive, marks, done
        self.counts: Counter[tuple[str, str]] = Counter()
        self.running: list[Running] = []
        self.failed: list[Failed] = []
        self.rests: list[Rest] = []
        self.blocked = self.cut = self.stopped = 0
        self._lost: set[str] = set()  # records that this run won't make
        self._estimates: dict[int, Estimate] = {}
        for job in watch.jobs:
            self._sort(job)

    def _sort(self, job: Job) -> None:
        row = PART_OF.get(job.stage, job.stage)
        if job.record in self.done:
            self.counts[row, "done"] += 1
            return
        mark, log = self.marks.get(job.record), self.watch.logs.of(job)
        state, queued = self._state(job, mark, log)
        self.counts[row, state] += 1
        if state == "running" and mark is not None:
            self._run(job, mark, log, queued)
        elif state == "failed":
            self._lost.add(job.record)
            self.failed.append(Failed(job.stage, job.name, self.watch.why(job, log)))
        else:
            waits = queued is not None or (mark is not None and mark.number is not None and self.alive)
            self.counts[row, "queued"] += waits
            self._wait(job, waits)

    def _state(self, job: Job, mark: Mark | None, log: str | None) -> tuple[str, queries.QueuedJob | None]:
        """Whether a job that isn't done runs, waits or failed; and its place in the cluster's queue, if it has one."""
        queued = self.watch.queue.of(job, mark) if mark else None
        if queued is not None:
            return "waiting" if queued.state in queries.WAITING else "running", queued
        if mark and self.alive and mark.since >= self.since - 1:
            if mark.number is None:
                return "running", None
            # Submitted, and the queue doesn't tell: it has started if it has written to its log.
            return "running" if log and changed(log) / 1e9 >= mark.since else "waiting", None
        if mark:
            self.cut += not self.alive
            return "waiting", None
        return self._ended(job, log), None

    def _ended(self, job: Job, log: str | None) -> str:
        """Whether a job that isn't done, and doesn't run, failed."""
        if job.record in self.watch.records.others or (job.stage in DRAWN and self._is_there(job)):
            return "waiting"  # made, but not as is asked now
        written = changed(log) / 1e9 if log else self._submitted(job)
        if not written or written < self.since - 1:
            return "waiting"  # never started, or in an earlier run
        if self.alive and time.time() - written < FRESH:
            return "waiting"  # it has just ended, or will be marked in a moment
        if STOPPED in self.watch.why(job, log):
            self.stopped += 1
            return "waiting"
        return "failed"

    def _is_there(self, job: Job) -> bool:
        return changed(str(self.watch.results / job.record)) > 0

    def _submitted(self, job: Job) -> float:
        """When SLURM last wrote to a log of a job that has none of its own; 0 where there is none."""
        if not self.watch.most.remote or job.stage not in ("train", "probe"):
            return 0.0
        around = (logs.single_logs(folder, job.stage, job.name) for folder in self.watch._slurm)
        return max((changed(str(path)) / 1e9 for paths in around for path in paths), default=0.0)

    def _run(self, job: Job, mark: Mark, log: str | None, queued: queries.QueuedJob | None) -> None:
        now = time.time()
        seconds = queued.seconds if queued else now - mark.since
        estimate = self._estimate(job)
        text = tail(log) if log and changed(log) / 1e9 >= mark.since - 1 else ""
        words, left = progress(text)
        where = f"job {queued.number} on {queued.where}" if queued else f"job {mark.number}" if mark.number else ""
        expected = estimate.seconds if estimate else None
        self.running.append(Running(job.stage, job.name, seconds, expected, words, where))
        rest = None if expected is None else max(expected - seconds, 0.0)
        if left is not None and log:
            rest = max(left - (now - changed(log) / 1e9), 0.0)
        self.rests.append(Rest(job.stage, _chain(job), rest, job.threads, self._away(job), submitted=True))

    def _wait(self, job: Job, submitted: bool) -> None:
        if any(record in self._lost for record in job.needs) or (job.stage in DRAWN and self._lost):
            self._lost.add(job.record)
            self.blocked += 1
        elif job.stage in LIKE:
            estimate = self._estimate(job)
            seconds = estimate.seconds if estimate else None
            self.rests.append(Rest(job.stage, _chain(job), seconds, job.threads, self._away(job), submitted))

    def _away(self, job: Job) -> bool:
        return self.watch.most.remote and job.stage in ("train", "probe")

    def _estimate(self, job: Job) -> Estimate | None:
        found = self.watch.estimates.of(job)
        if found is not None:
            self._estimates[id(found)] = found
        return found

    def rows(self) -> tuple[Row, ...]:
        """The counts by stage."""
        keys = ("done", "running", "failed", "waiting", "queued")
        made = (Row(stage, **{key: self.counts[stage, key] for key in keys}) for stage in ROWS)
        return tuple(row for row in made if row.total)

    def left(self) -> TimeLeft | None:
        """The time left; None if nothing is."""
        if not self.rests and not self.blocked:
            return None
        records = len({id(made) for estimate in self._estimates.values() for made in estimate.made})
        return time_left(self.rests, self.watch.most, records, self.blocked)

    def notes(self) -> Iterator[str]:
        """What the counts don't tell."""
        if queued := sum(self.counts[row, "queued"] for row in ROWS):
            yield f"{count(queued, 'job')} of those that wait {'is' if queued == 1 else 'are'} in the cluster's queue"
        if self.cut:
            yield f"{count(self.cut, 'job')} {_was(self.cut)} cut off when the last run died; `halobench run` goes on"
        if self.stopped:
            yield f"{count(self.stopped, 'job')} {_was(self.stopped)} stopped by a signal, and can go on"
        if not self.alive and (left := self.watch.queue.running):
            yield f"{count(len(left), 'job')} of a run that died still run{'s' * (len(left) == 1)} on the cluster"


def _was(many: int) -> str:
    return "was" if many == 1 else "were"


def _chain(job: Job) -> str:
    """What jobs share that wait for each other: their cell, or else nothing but themselves."""
    return job.name if job.stage in ("train", "probe", "calibrate") else job.record


def tail(log: str) -> str:
    """The end of a log."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def progress(text: str) -> tuple[str, float | None]:
    """How far a log's end says that its job is, and how many seconds it has left, if it tells."""
    if epochs := EPOCH.findall(text):
        done, total, left = epochs[-1]
        return f"epoch {done} of {total}", float(left)
    if probes := PROBED.findall(text):
        probe, saved = probes[-1]
        return (f"probe {probe} done" if probe else saved), None
    return "", None


def opened(results: Path, chosen: Selection, profile: str | None = None) -> Watch:
    """A watch over the run of a results folder.

    Parameters
    ----------
    results : Path
    chosen : Selection
        The configuration; where it names nothing, that of the run that is going on, as far as this host can tell.
    profile : str, optional
        The workflow profile that tells what a run may use, where none is going on.

    Raises
    ------
    SpecError
        If there are neither results nor a run.
    ConfigError
        If the configuration has problems.
    """
    folder = results.absolute().parent
    masters = Lookout(folder).alive()
    what = "the folder of results, beside config.yaml, that `halobench run` makes"
    require(results.is_dir() or bool(masters), "--results", str(results), what)
    # What a run was started with, unless it runs on another host.
    told = next((master.arguments for master in masters if master.arguments), ())
    own = Selection() != chosen
    raw = read_selected(chosen if own else selected(told), folder, None if own else folder)
    if str(folder) not in sys.path:  # for `module:object`, as in a run
        sys.path.insert(0, str(folder))
    asked = [*told, "--workflow-profile", profile] if profile else told
    return Watch(load_config(raw), folder, results, limits(asked, folder))


def watch(found: Watch, once: bool = False, every: float = 2.0) -> int:
    """Show a run until it ends, and return the exit code that tells how.

    Parameters
    ----------
    found : Watch
    once : bool
        Show it as it is now.
    every : float
        Seconds between two looks at least; more where a look takes long.
    """
    console = terminal.console()
    if once:
        frame = found.look(wait=True)
        console.print(rendered(frame, console.width))
        return frame.code
    try:
        if console.is_terminal:
            return _live(found, console, every)
        return _logged(found, every)
    except KeyboardInterrupt:
        return 130


def frames(found: Watch, every: float) -> Iterator[Frame]:
    """Look after look, until all is done or no run is going on."""
    first = True
    while True:
        before = time.monotonic()
        frame = found.look(wait=first)
        first = False
        yield frame
        if frame.complete or not (frame.goes_on or found.queue.running):
            return
        cost = time.monotonic() - before
        time.sleep(max(every, EASY * cost))


def _live(found: Watch, console: Any, every: float) -> int:
    """In a terminal: one picture that changes."""
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        for frame in frames(found, every):
            live.update(rendered(frame, console.width, console.height), refresh=True)
    return frame.code


def _logged(found: Watch, every: float) -> int:
    """Elsewhere: a line when something changed, and one for each job that failed."""
    last, told = None, set()
    for frame in frames(found, every):
        for job in frame.failed:
            if (job.stage, job.name) not in told:
                told.add((job.stage, job.name))
                print(f"{time.strftime('%H:%M:%S')}  failed: {job.stage} {job.name}: {job.why}", flush=True)
        state = (frame.rows, frame.goes_on)
        if state != last:
            print(line(frame), flush=True)
        last = state
    for note in frame.notes:
        print(note, flush=True)
    return frame.code
