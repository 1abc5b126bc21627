"""Find out which of a working directory's runs are alive, and clean up after dead runs.

A run holds its own lock, ``.snakemake/halobench/runs/HOST-PROCESS.lock``, for as long as its process lives, and removes
the file when it ends normally. Snakemake's own locks don't record their owners, and outlive a killed run.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from halobench.core.errors import RefusedError
from halobench.runner import end_of_run
from halobench.runner.slurm import queue

STATE = Path(".snakemake/halobench")
SUBMITTED = STATE / "slurm"  # notes on runs that submit jobs
# Options that determine where Snakemake keeps its locks.
UNLOCKING = ("directory", "workflow_profile", "persistence_backend", "persistence_backend_db_url")  # and profiles
_held: dict[Path, FileLock] = {}  # locks that this process keeps until it ends


def name() -> str:
    """Return the name that identifies this process among a working directory's runs."""
    return f"{platform.node()}-{os.getpid()}"


def enrol(folder: Path) -> None:
    """Register this process as a run in `folder` until the process ends; a second call does nothing."""
    path = _locks(folder) / f"{name()}.lock"
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _deciding(folder):
        _held[path] = FileLock(path, thread_local=False)
        _held[path].acquire()
    atexit.register(_withdraw, path)


def _withdraw(path: Path) -> None:
    """Remove a run's lock, unless Snakemake's locks are left: the next run then knows that a dead run left these."""
    if not any((path.parents[2] / "locks").glob("*")):
        path.unlink(missing_ok=True)


def other_runs(folder: Path) -> tuple[list[str], list[Path]]:
    """Return the names of a working directory's other runs that may be alive, and the locks that dead runs left.

    A lock taken on another host may not be visible on this host, so a run on another host counts as alive until its
    file is gone.
    """
    left = {path: _is_free(path) for path in sorted(_locks(folder).glob("*.lock")) if path not in _held}
    dead = [path for path, free in left.items() if free and path.stem.rpartition("-")[0] == platform.node()]
    return [path.stem for path in left if path not in dead], dead


def _is_free(path: Path) -> bool:
    """Return whether no process known to this host holds a lock; during the check, no other run can check or enrol."""
    with _deciding(path.parents[3]), contextlib.suppress(Timeout), FileLock(path, timeout=0):
        return True
    return False


def _locks(folder: Path) -> Path:
    return folder.absolute() / STATE / "runs"


@contextlib.contextmanager
def _deciding(folder: Path) -> Iterator[None]:
    """Hold the lock that runs take, one at a time, to enrol and to clean up after dead runs."""
    # Without locks, filelock would wait for any file of this name, also one that was copied here.
    lock = FileLock(_locks(folder).with_name("deciding.lock"), is_singleton=True, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        what = f"no file can be locked there ({error.strerror}), and runs know of each other by locks"
        advice = "have the file system mounted with locks (Lustre: -o flock), or work in a folder on another one"
        raise RefusedError(str(folder.absolute()), f"{what}; {advice}") from None
    try:
        yield
    finally:
        lock.release()


def enrol_in_shared(results: Path, folder: Path, records: Collection[str]) -> None:
    """Also register this run in a results folder outside the working directory, with the records of its jobs.

    A line is printed about each other run that writes to this folder. OSError is raised if another run has some of the
    same jobs.
    """
    place = results.resolve()
    if place.is_relative_to(folder.resolve()):
        return
    _locks(place).mkdir(parents=True, exist_ok=True)
    with _deciding(place):
        for other in other_runs(place)[0]:
            if shared := sorted({*_listed(place, other)} & {*records}):
                host, _, process = other.rpartition("-")
                more = f" and {len(shared) - 1:,} more" if len(shared) > 1 else ""
                what = f"run {process} on {host} writes {shared[0]}{more} in {results} too"
                raise OSError(f"{what}; wait for it to end, or write to another folder (--results)")
            end_of_run.say(_words(other))
        path = _locks(place) / f"{name()}.jobs"
        path.write_text("\n".join(records), encoding="utf-8")
        atexit.register(path.unlink, missing_ok=True)
        enrol(place)


def _listed(folder: Path, run: str) -> list[str]:
    """Return the records of the jobs with which a run is registered in a results folder; [] if the run has no list."""
    with contextlib.suppress(OSError):
        return (_locks(folder) / f"{run}.jobs").read_text(encoding="utf-8").splitlines()
    return []


def enrol_unlocked(options: argparse.Namespace) -> list[str]:
    """Enrol this run, and unlock the directory if only dead runs locked it; return other runs that may be alive."""
    folder = options.directory
    (folder / STATE).mkdir(parents=True, exist_ok=True)
    with _deciding(folder):
        alive, dead = other_runs(folder)  # a dead run may have had the same process number, for example in a container
        enrol(folder)
        for other in alive:
            end_of_run.say(_words(other))
        if dead and not alive:
            # Unlock without the workflow, which is slow to read; the run itself will report any problem with it.
            values = {key: getattr(options, key) for key in UNLOCKING}
            kept = [f"--{key.replace('_', '-')}={value}" for key, value in values.items() if value]
            kept += [f"--profile={profile}" for profile in options.profile or ()]
            command = [sys.executable, "-m", "snakemake", "--unlock", f"--snakefile={os.devnull}", *kept]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                end_of_run.say("the run that locked this directory is dead; unlocked it")
                for path in {*dead} - {*_held}:
                    path.unlink(missing_ok=True)
    return alive


def forget_other_hosts(folder: Path) -> None:
    """Remove the locks of other runs, as the user's ``--unlock`` asks; raise OSError if one is known to be alive."""
    for path in (_locks(folder) / f"{run}.lock" for run in other_runs(folder)[0]):
        if not _is_free(path):
            host, _, process = path.stem.rpartition("-")
            here = "is still running here" if host == platform.node() else "still holds its lock"
            raise OSError(f"--unlock refused: run {process} on {host} {here}; wait for it to end, or stop it")
        path.unlink(missing_ok=True)


def _words(run: str) -> str:
    """Return a line that says on which host another run is, and what the user can do about it."""
    host, _, process = run.rpartition("-")
    if host == platform.node():
        return f"run {process} on {host} is running here; if both write the same files, wait for it to end"
    advice = "if you know that it isn't, use `halobench run --unlock`, then repeat this command"
    return f"run {process} on another host, {host}, may still be alive; {advice}"


def name_left_jobs(folder: Path) -> None:
    """Print the jobs that dead runs left in a cluster's queue, if SLURM responds."""
    if not queue.noted(folder / SUBMITTED):
        return
    with contextlib.suppress(queue.SlurmError):
        if left := queue.queued(queue.noted(folder / SUBMITTED, other_runs(folder)[0])):
            what = "a run without -n cancels the pending ones and waits for the others"
            end_of_run.say(f"jobs of a run that died are still in the queue: {', '.join(map(str, left))}; {what}")


def settle_left_jobs(folder: Path, cancel: bool) -> None:
    """Cancel the pending jobs of dead runs, wait for the running ones (or `cancel` them too), and forget these runs."""
    runs = queue.noted(folder / SUBMITTED)
    try:
        settled = queue.settle(runs, cancel, lambda line: end_of_run.say(f"jobs of a run that died: {line}"))
    except queue.SlurmError as error:
        where = f"jobs of run {', '.join(runs)} may still be in a cluster's queue"
        right = f"run this where SLURM responds, or remove {folder / SUBMITTED} if that cluster no longer exists"
        raise queue.SlurmError(f"{where}, which can't be queried ({error}); {right}") from None
    if settled:
        end_of_run.say(f"jobs of a run that died: found {len(settled)} in the queue; none are left")
    for run_ in runs:
        queue.forget(folder / SUBMITTED, run_)
