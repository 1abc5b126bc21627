"""Run Snakemake, and distinguish a working directory's live runs from dead ones.

A run holds its own lock, ``.snakemake/halobench/runs/HOST-PROCESS.lock``, for as long as its process lives, and
removes that file when it ends normally. Snakemake's locks don't record their owner, and they outlive a killed run.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from halobench.runner import dry_run, outcome
from halobench.runner.slurm import queue
from halobench.storage import files

STATE = Path(".snakemake/halobench")
SUBMITTED = STATE / "slurm"  # notes on runs that submit jobs
LOGGER = "--logger=halobench"  # the plug-in that shows a run
# Options that determine where Snakemake keeps its locks.
UNLOCKING = ("directory", "profile", "workflow_profile", "persistence_backend", "persistence_backend_db_url")
_held: dict[Path, FileLock] = {}  # locks that this process keeps until it ends
_started: list[str] = []  # the runs that `run` has started in this process


def name() -> str:
    """Return the name that identifies this process among a working directory's runs."""
    return f"{platform.node()}-{os.getpid()}"


def is_run() -> bool:
    """Return True if `run` has started a run, other than a dry run, in this process."""
    return bool(_started)


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


def run(arguments: Sequence[str], cancel: bool = False) -> int:
    """Run Snakemake with these arguments, after unlocking its working directory if only dead runs locked it.

    Jobs that dead runs left in a cluster's queue are ended, or waited for if they are running and `cancel` is false. A
    dry run changes nothing and only lists them.

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
    options = dry_run.read_options(arguments)
    if options.touch:
        why = "whether a result is up to date depends on its record, not on its timestamp"
        raise OSError(f"--touch is not supported, since {why}; `halobench why` lists outdated results")
    dry_run.check_options(options)
    if options.dry_run:
        _name_left(options.directory)
        code = _snakemake(arguments)
        for say in outcome.at_end_of_dry_run if code == 0 else ():
            say()
        if code == 0:
            outcome.say("`halobench why` explains the reasons in words, and `halobench plan` estimates the time needed")
        return code
    if options.unlock:
        _forget_other_hosts(options.directory)
    files.check_writable(options.directory / STATE)
    _started.append(name())
    alive = _enrol_unlocked(options)
    if not alive and not options.unlock:
        _settle_left(options.directory, cancel)  # which may take hours
    return _snakemake(arguments if options.logger else [LOGGER, *arguments])


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
