"""Run Snakemake, and distinguish a working directory's live runs from dead ones.

A run holds its own lock, ``.snakemake/halobench/runs/HOST-PROCESS.lock``, for as long as its process lives, and
removes that file when it ends normally. Snakemake's locks don't record their owner, and they outlive a killed run.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import itertools
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from halobench.core.errors import SpecError
from halobench.core.formatting import count
from halobench.experiment.jobs import Job
from halobench.results import status
from halobench.runner import fork_server, outcome
from halobench.runner.arguments import TARGETS, Arguments, check_arguments, read_arguments
from halobench.runner.loaded import Loaded, load
from halobench.runner.slurm import queue
from halobench.storage import files
from halobench.storage.layout import STAGES

STATE = Path(".snakemake/halobench")
SUBMITTED = STATE / "slurm"  # notes on runs that submit jobs
LOGGER = "--logger=halobench"  # the plug-in that shows a run
# Options that determine where Snakemake keeps its locks.
UNLOCKING = ("directory", "profile", "workflow_profile", "persistence_backend", "persistence_backend_db_url")
MOST_LINES = 20  # about trained cells that will be replaced
KEEP = "`halobench run --results FOLDER` keeps them and writes to another folder"
_held: dict[Path, FileLock] = {}  # locks that this process keeps until it ends


def name() -> str:
    """Return the name that identifies this process among a working directory's runs."""
    return f"{platform.node()}-{os.getpid()}"


def enrol(folder: Path) -> None:
    """Register this process as a run in the working directory `folder` until it ends. A second call does nothing."""
    path = _locks(folder) / f"{name()}.lock"
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _deciding(folder):
        _held[path] = FileLock(path, thread_local=False)
        _held[path].acquire()
    atexit.register(path.unlink, missing_ok=True)


def other_runs(folder: Path) -> tuple[list[str], list[Path]]:
    """Return the names of a working directory's other runs that may be alive, and the locks that dead ones left.

    A lock taken on another host may not be visible on this one, so a run on another host counts as alive until its
    file is gone.
    """
    left = {path: _is_free(path) for path in sorted(_locks(folder).glob("*.lock")) if path not in _held}
    dead = [path for path, free in left.items() if free and path.stem.rpartition("-")[0] == platform.node()]
    return [path.stem for path in left if path not in dead], dead


def _is_free(path: Path) -> bool:
    """Return True if no process known to this host holds a lock; during this check, no other run can check or enrol."""
    with _deciding(path.parents[3]), contextlib.suppress(Timeout), FileLock(path, timeout=0):
        return True
    return False


def _locks(folder: Path) -> Path:
    return folder.absolute() / STATE / "runs"


def _deciding(folder: Path) -> FileLock:
    """Return the lock that one run at a time holds for a few seconds to enrol and clean up after dead runs."""
    return FileLock(_locks(folder).with_name("deciding.lock"), is_singleton=True)


def run(arguments: Sequence[str], results: Path | None = None, cancel: bool = False) -> int:
    """Run Snakemake with these arguments, after unlocking its working directory if only dead runs locked it.

    Snakemake gets the configuration as one file, so that jobs which start later use that of the start, and a list of
    the results that aren't current. Jobs that dead runs left in a cluster's queue are ended, or waited for if they are
    running and `cancel` is false. A dry run changes nothing, and says what would run and why.

    Parameters
    ----------
    arguments : sequence of str
    results : Path, optional
        The results folder; by default, that of the configuration.
    cancel : bool

    Returns
    -------
    int
        Snakemake's exit code.

    Raises
    ------
    SlurmError
        If such jobs may exist and SLURM doesn't answer.
    OSError
        If there is no workflow, a profile or a configuration can't be read, nothing can be written, ``--touch`` is
        given, or ``--unlock`` is given while a run is alive.
    """
    asked = _read(arguments, results)
    options = asked.options
    if options.touch:
        why = "whether a result is current depends on its record, not on its time"
        raise OSError(f"--touch is not supported, since {why}; `halobench status` lists outdated results")
    check_arguments(asked)
    if options.dry_run:
        _name_left(options.directory)
    if options.about or options.unlock or not asked.is_ours:
        return _pass_on(asked, cancel)
    loaded = load(asked)
    if loaded is None:
        return 1
    jobs, states = loaded.survey()
    needed = _needed(asked.targets, jobs, loaded.named)
    if not needed:  # a target of another experiment, or none of ours
        everything = loaded.survey(everything=True)
        if needed := _needed(asked.targets, everything[0], loaded.named):
            jobs, states = everything
    chosen = {name: job for name, job in status.to_run(jobs, states).items() if not needed or name in needed}
    if options.dry_run:
        print("\n".join(status.report(jobs, states)), flush=True)
        return _snakemake(
            asked.with_options("--quiet", "rules", "host", "reason", *_decided(asked, loaded, needed, states))
        )
    files.check_writable(options.directory / STATE)
    files.check_writable(loaded.results)
    files.require_sane_clock([loaded.results / job.record for job in jobs if states[job.name].record], time.time())
    if problems := unwritable(chosen.values(), loaded.results):
        print("\n".join(["The results have problems:", *problems]), file=sys.stderr)
        return 1
    if _is_local(options):
        check_devices(chosen.values())
    for line in replaced(chosen, states):
        outcome.say(line)
    _enrol_in_shared(loaded.results, options.directory)
    frozen = loaded.freeze(options.directory / STATE)
    asked = dataclasses.replace(asked, files=(str(frozen),), entries=())
    return _pass_on(asked, cancel, _decided(asked, loaded, needed, states))


def _read(arguments: Sequence[str], results: Path | None) -> Arguments:
    """Read Snakemake's arguments; a results folder is one more value of the configuration, and the last."""
    asked = read_arguments(arguments)
    return asked if results is None else dataclasses.replace(asked, entries=(*asked.entries, f"results={results}"))


def print_status(arguments: Sequence[str], results: Path | None = None, each: bool = False) -> int:
    """Print which results aren't current, and why, for the configuration that Snakemake's arguments specify."""
    asked = _read(arguments, results)
    check_arguments(asked)
    if not asked.is_ours:
        raise OSError(f"{asked.snakefile}: expected halobench's own Snakefile; `snakemake -n` shows another one's jobs")
    loaded = load(asked)
    if loaded is None:
        return 1
    print("\n".join(status.report(*loaded.survey(), each)))
    return 0


def _pass_on(asked: Arguments, cancel: bool, further: Sequence[str] = ()) -> int:
    """Run Snakemake with these arguments and further options, as a run that others see."""
    options = asked.options
    if options.dry_run or options.about:
        return _snakemake(asked.with_options(*further))
    if options.unlock:
        _forget_other_hosts(options.directory)
    files.check_writable(options.directory / STATE)
    alive = _enrol_unlocked(options)
    if not alive and not options.unlock:
        _settle_left(options.directory, cancel)  # which may take hours
    if _is_local(options):
        fork_server.start()
    return _snakemake(asked.with_options(*further, *([] if options.logger else [LOGGER])))


def _is_local(options: argparse.Namespace) -> bool:
    """Return whether all jobs run on this machine."""
    return options.executor in (None, "local") and not options.workflow_profile


def check_devices(jobs: Iterable[Job]) -> None:
    """Raise SpecError if a job that would run on this machine asks for a GPU that isn't here."""
    devices = {job.spec.get("train", {}).get("device", "auto") for job in jobs}
    for device in sorted(devices - {"auto", "cpu"}):
        from halobench.training.device import resolve_device

        resolve_device(device)


def _decided(
    asked: Arguments, loaded: Loaded, needed: Container[status.Name], states: Mapping[status.Name, status.State]
) -> list[str]:
    """Return the options that have Snakemake run what isn't current, whatever it remembers.

    Missing results it runs by itself. The trigger that is left, besides times, is that of software environments, which
    no rule has. As Snakemake runs all that is forced, only what the targets need may be. Targets that aren't in the job
    list, such as `partial`, are left to Snakemake.
    """
    if asked.options.rerun_triggers or not needed:
        return []
    outdated = [
        f"{loaded.named}/{STAGES[name[0]].record_path(name[1])}"
        for name, made in states.items()
        if made.kind == "changed" and name in needed
    ]
    forced = [*asked.options.forcerun, *outdated]
    return ["--rerun-triggers", "software-env", *(["--forcerun", *forced] if forced else [])]


def _needed(targets: Sequence[str], jobs: Sequence[Job], results: str) -> set[status.Name]:
    """Return the jobs that targets need, or none if no job in the list makes one of the targets."""
    makers = {f"{results}/{path}": [job.name] for job in jobs for path in job.paths}
    makers |= {
        target: [job.name for job in jobs if not stages or job.stage in stages] for target, stages in TARGETS.items()
    }
    found = [makers.get(os.path.normpath(target), []) for target in targets]
    return status.needed(jobs, itertools.chain(*found)) if all(found) else set()


def _enrol_in_shared(results: Path, folder: Path) -> None:
    """Register this run in a results folder outside the working directory too, and name other runs that write there."""
    place = results.resolve()
    if place.is_relative_to(folder.resolve()):
        return
    for other in other_runs(place)[0]:
        outcome.say(_words(other))
    enrol(place)


def unwritable(chosen: Iterable[Job], results: Path) -> list[str]:
    """Return a line for each folder that jobs can't write their outputs or logs to.

    Snakemake would end the run at the first such job, and may have removed the job's earlier outputs by then.
    """
    folders = Counter(
        folder for job in chosen for folder in {(results / job.record).parent, (results / job.log).parent}
    )
    blocked: Counter[Path] = Counter()
    for folder, number in folders.items():
        place = files.nearest_existing(folder)
        if not os.access(place, os.W_OK | os.X_OK):
            blocked[place] += number
    problems = [SpecError("folder", str(path), f"write access for {count(n, 'job')}") for path, n in blocked.items()]
    return list(map(str, problems[:MOST_LINES]))


def replaced(chosen: Iterable[status.Name], states: Mapping[status.Name, status.State]) -> list[str]:
    """List, one per line, the trained cells that a run will replace, and why."""
    why = Counter(
        "; ".join(states[name].reasons) or "an earlier job makes what it reads"
        for name in chosen
        if name[0] == "train" and states[name].record is not None
    )
    lines = [f"{count(n, 'trained cell')} will be replaced: {reason}" for reason, n in why.most_common(MOST_LINES)]
    return [*lines, KEEP] if lines else []


def _enrol_unlocked(options: argparse.Namespace) -> list[str]:
    """Enrol, and remove the locks of dead runs if no other run is alive; return the live ones."""
    folder = options.directory
    (folder / STATE).mkdir(parents=True, exist_ok=True)
    with _deciding(folder):
        alive, dead = other_runs(folder)  # a dead run may have had the same number, as in a container
        enrol(folder)
        for other in alive:
            outcome.say(_words(other))
        if dead and not alive:
            # Unlock without our workflow, which is slow to read; the run itself will report anything wrong with it.
            values = {key: getattr(options, key) for key in UNLOCKING}
            kept = [f"--{key.replace('_', '-')}={value}" for key, value in values.items() if value]
            command = [sys.executable, "-m", "snakemake", "--unlock", f"--snakefile={os.devnull}", *kept]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                outcome.say("the run that locked this directory is dead; unlocked it")
                for path in {*dead} - {*_held}:
                    path.unlink(missing_ok=True)
    return alive


def _forget_other_hosts(folder: Path) -> None:
    """Take the user's ``--unlock`` to mean that runs on other hosts are dead, unless one is known to be alive."""
    for path in (_locks(folder) / f"{run}.lock" for run in other_runs(folder)[0]):
        if not _is_free(path):
            raise OSError(f"--unlock: expected no live run in this directory ({_words(path.stem)})")
        path.unlink(missing_ok=True)


def _words(run: str) -> str:
    """Explain what to do about another run."""
    host, _, process = run.rpartition("-")
    if host == platform.node():
        since = _since(int(process))
        return f"run {process} on {host} has been running here{since}; if both write the same files, wait for it to end"
    advice = "if you know that it isn't, use `halobench run --unlock`, then repeat this command"
    return f"run {process} on another host, {host}, may still be alive; {advice}"


def _since(process: int) -> str:
    """Return when a process on this host started, as ``since 11:49``, with the day if that isn't today."""
    try:
        began = datetime.fromtimestamp(psutil.Process(process).create_time())
    except psutil.Error:  # in another container
        return ""
    return f" since {began:%H:%M}" if began.date() == datetime.now().date() else f" since {began:%d %B %H:%M}"


def _snakemake(arguments: Sequence[str]) -> int:
    """Run Snakemake in this process; return its exit code. A signal that stops it stops its jobs too."""
    from snakemake.cli import main

    from halobench.runner import stopping

    sys.argv = ["snakemake", *arguments]
    try:
        with stopping.with_jobs():
            main(list(arguments))
    except SystemExit as end:
        if not isinstance(end.code, str):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


def _name_left(folder: Path) -> None:
    """List the jobs that dead runs left in a cluster's queue, if SLURM answers."""
    if not queue.noted(folder / SUBMITTED):
        return
    with contextlib.suppress(queue.SlurmError):
        if left := queue.queued(queue.noted(folder / SUBMITTED, other_runs(folder)[0])):
            what = "a run without -n cancels the pending ones and waits for the others"
            outcome.say(f"jobs of a run that died are still in the queue: {', '.join(map(str, left))}; {what}")


def _settle_left(folder: Path, cancel: bool) -> None:
    """Make sure that no jobs of dead runs remain in a cluster's queue, then forget those runs."""
    runs = queue.noted(folder / SUBMITTED)
    try:
        settled = queue.settle(runs, cancel, lambda line: outcome.say(f"jobs of a run that died: {line}"))
    except queue.SlurmError as error:
        where = f"jobs of run {', '.join(runs)} may still be in a cluster's queue"
        right = f"run this where SLURM responds, or remove {folder / SUBMITTED} if that cluster no longer exists"
        raise queue.SlurmError(f"{where}, which can't be queried ({error}); {right}") from None
    if settled:
        outcome.say(f"jobs of a run that died: found {len(settled)} in the queue, none left now")
    for run_ in runs:
        queue.forget(folder / SUBMITTED, run_)
