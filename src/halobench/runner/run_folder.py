"""A run's own folder in its results: the lock that its process holds, its configuration, and notes on SLURM jobs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
from pathlib import Path
from typing import TextIO

from halobench.core.errors import RefusedError
from halobench.runner import slurm
from halobench.runner.end_of_run import say
from halobench.storage.files import check_writable

FOLDER = ".run"  # below the results
LOCK = "lock"  # says which process holds it
CONFIGURATION = "config.yaml"  # of the latest run, which its jobs read
PATIENCE = 8.0  # seconds to wait for a run that is ending
_held: dict[Path, TextIO] = {}  # locks that this process keeps until it ends


def folder_of(results: Path) -> Path:
    """Return the folder in which runs keep what they need besides results."""
    return results / FOLDER


def take(results: Path) -> None:
    """Lock a results folder until this process ends; do nothing if this process has already locked it.

    The system releases the lock of a process that is killed. RefusedError is raised if another run holds the lock, from
    this host or another one that shares the folder, or if the file system has no locks.
    """
    folder = folder_of(results.resolve())
    if folder in _held:
        return
    check_writable(results)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as unless_taken:
        lock = unless_taken.enter_context((folder / LOCK).open("a+", encoding="utf-8"))
        last = time.monotonic() + PATIENCE
        while not _locked(lock, results):
            if time.monotonic() > last:
                lock.seek(0)
                what = f"{lock.read() or 'another run'} is writing to this folder"
                raise RefusedError(str(results), f"{what}; wait for it to end, or write to another one (--results)")
            time.sleep(0.2)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        _held[folder] = lock
        unless_taken.pop_all()


def _locked(lock: TextIO, results: Path) -> bool:
    """Lock a file and return True, or return False if another process has locked it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        what = f"no file can be locked there ({error.strerror}), and runs know of each other by locks"
        advice = "have the file system mounted with locks (Lustre: -o flock), or write to a folder on another one"
        raise RefusedError(str(results), f"{what}; {advice}") from None
    return True


def settle_left_jobs(results: Path) -> None:
    """Cancel the pending SLURM jobs of dead runs, wait for the running ones, and forget these runs."""
    folder = folder_of(results)
    runs = slurm.noted(folder)
    try:
        settled = slurm.settle(runs, lambda line: say(f"jobs of a run that died: {line}"))
    except slurm.SlurmError as error:
        where = f"jobs of run {', '.join(runs)} may still be in a cluster's queue"
        right = f"run this where SLURM responds, or remove {folder}/*.slurm if that cluster no longer exists"
        raise slurm.SlurmError(f"{where}, which can't be queried ({error}); {right}") from None
    if settled:
        say(f"jobs of a run that died: found {len(settled)} in the queue; none are left")
    for run in runs:
        slurm.forget(folder, run)
