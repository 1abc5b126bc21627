"""Run Snakemake, and distinguish the living runs of a working directory from those that died.

A run holds a lock of its own, ``.snakemake/halobench/runs/HOST-PROCESS.lock``, for as long as its process lives, and
removes that file when it ends in good order. Snakemake's locks don't say whose they are, and outlive a killed run.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import platform
import re
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
# Options that say where Snakemake keeps its locks.
UNLOCKING = ("directory", "profile", "workflow_profile", "persistence_backend", "persistence_backend_db_url")
DRY = re.compile(r"--dry-?run|-[npqkrF]*n[npqkrF]*")  # short options may stand together
_held: dict[Path, FileLock] = {}  # locks that this process keeps to its end
_started: list[str] = []  # the runs that `run` has started in this process


def name() -> str:
    """Return the name of this process among the runs of a working directory."""
    return f"{platform.node()}-{os.getpid()}"


def is_run() -> bool:
    """Return True if this process was started by `run` for a run that isn't dry."""
    return bool(_started)


def enrol(folder: Path) -> None:
    """Note this process as a run in the working directory `folder`, until it ends. Does nothing the second time."""
    path = _locks(folder) / f"{name()}.lock"
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _deciding(folder):
        _held[path] = FileLock(path, thread_local=False)
        _held[path].acquire()
    atexit.register(path.unlink, missing_ok=True)


def other_runs(folder: Path) -> tuple[list[str], list[Path]]:
    """Return the other runs of a working directory that may be alive, by name, and the locks that dead ones left.

    A lock that another host took may be unknown on this one, so that a run of another host counts as alive until its
    file is gone.
    """
    left = {path: _is_free(path) for path in sorted(_locks(folder).glob("*.lock")) if path not in _held}
    dead = [path for path, free in left.items() if free and path.stem.rpartition("-")[0] == platform.node()]
    return [path.stem for path in left if path not in dead], dead


def _is_free(path: Path) -> bool:
    """Whether nobody whom this host knows of holds a lock; nobody else asks or enrols at that moment."""
    with _deciding(path.parents[3]), contextlib.suppress(Timeout), FileLock(path, timeout=0):
        return True
    return False


def _locks(folder: Path) -> Path:
    return folder.absolute() / STATE / "runs"


def _deciding(folder: Path) -> FileLock:
    """Return the lock under which runs enrol and remove what dead ones left: one at a time, for a few seconds."""
    return FileLock(_locks(folder).with_name("deciding.lock"), is_singleton=True)


def run(arguments: Sequence[str], cancel: bool = False) -> int:
    """Run Snakemake with these arguments, its working directory unlocked first if only dead runs locked it.

    Jobs that dead runs left in a cluster's queue are ended, or waited for where they run and `cancel` is false. A dry
    run changes nothing, and only names them.

    Returns
    -------
    int
        Snakemake's exit code.

    Raises
    ------
    SlurmError
        If such jobs may be there and SLURM doesn't answer.
    OSError
        If there is no workflow, a profile or a configuration can't be read, nothing can be written, ``--touch`` is
        asked for, or ``--unlock`` while a run is alive.
    """
    options = _asked(arguments)
    if options.touch:
        what = "no such option: a result is current if its record is what is asked for now, whatever its time"
        raise OSError(f"--touch: expected {what}; `halobench why` names those that aren't")
    dry_run.check_snakefile(arguments)
    dry_run.check_profile(arguments)
    dry_run.check_configfiles(arguments)
    if options.dry_run:
        _name_left(options.directory)
        code = _snakemake(arguments)
        for say in outcome.at_end_of_dry_run if code == 0 else ():
            say()
        return code
    if options.unlock:
        _forget_other_hosts(options.directory)
    files.check_writable(options.directory / STATE)
    _started.append(name())
    alive = _enrol_unlocked(options)
    if not alive and not options.unlock:
        _settle_left(options.directory, cancel)  # which may take hours
    code = _snakemake(arguments if options.logger else [LOGGER, *arguments])
    for line in outcome.left_out:
        outcome.say(line)
    return code or int(bool(outcome.left_out))


def _enrol_unlocked(options: argparse.Namespace) -> list[str]:
    """Enrol, and undo the locks of dead runs if no other is alive; those that are."""
    folder = options.directory
    (folder / STATE).mkdir(parents=True, exist_ok=True)
    with _deciding(folder):
        alive, dead = other_runs(folder)  # a dead one may have had this one's number, as in a container
        enrol(folder)
        for other in alive:
            outcome.say(_words(other))
        if dead and not alive:
            # Without our workflow: it takes long to read, and the run itself reports whatever is wrong with it.
            values = {key: getattr(options, key) for key in UNLOCKING}
            kept = [f"--{key.replace('_', '-')}={value}" for key, value in values.items() if value]
            command = [sys.executable, "-m", "snakemake", "--unlock", f"--snakefile={os.devnull}", *kept]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                outcome.say("the run that had locked this directory is dead; unlocked")
                for path in {*dead} - {*_held}:
                    path.unlink(missing_ok=True)
    return alive


def _forget_other_hosts(folder: Path) -> None:
    """Take the user's word, by ``--unlock``, that runs of other hosts are dead, but not if one is known to be alive."""
    for path in (_locks(folder) / f"{run}.lock" for run in other_runs(folder)[0]):
        if not _is_free(path):
            raise OSError(f"--unlock: expected no living run in this directory ({_words(path.stem)})")
        path.unlink(missing_ok=True)


def _words(run: str) -> str:
    """Say what to do about another run."""
    host, _, process = run.rpartition("-")
    if host == platform.node():
        since = _since(int(process))
        return f"run {process} on {host} has worked here{since}; if both make the same files, wait for it"
    advice = "`halobench run --unlock` once you know that it isn't, then the same command again"
    return f"run {process} on {host}, another host, may be alive; {advice}"


def _since(process: int) -> str:
    """Return since when a process of this host has run: ``since 11:49``, with the day if that isn't today."""
    try:
        began = datetime.fromtimestamp(psutil.Process(process).create_time())
    except psutil.Error:  # of another container
        return ""
    return f" since {began:%H:%M}" if began.date() == datetime.now().date() else f" since {began:%d %B %H:%M}"


def _snakemake(arguments: Sequence[str]) -> int:
    """Run Snakemake in this process, which signals then reach as they reach it by itself; its exit code."""
    from snakemake.cli import main

    sys.argv = ["snakemake", *arguments]
    try:
        main(list(arguments))
    except SystemExit as end:
        if not isinstance(end.code, str):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


def _name_left(folder: Path) -> None:
    """Name the jobs that dead runs left in a cluster's queue, as far as SLURM answers."""
    if not queue.noted(folder / SUBMITTED):
        return
    with contextlib.suppress(queue.SlurmError):
        if left := queue.queued(queue.noted(folder / SUBMITTED, other_runs(folder)[0])):
            what = "a run without -n ends those that wait, and waits for the others"
            outcome.say(f"jobs of a run that died are in the queue: {', '.join(map(str, left))}; {what}")


def _settle_left(folder: Path, cancel: bool) -> None:
    """See to it that no jobs of dead runs are left in a cluster's queue, and forget those runs."""
    runs = queue.noted(folder / SUBMITTED)
    try:
        settled = queue.settle(runs, cancel, lambda line: outcome.say(f"jobs of a run that died: {line}"))
    except queue.SlurmError as error:
        where = f"jobs of run {', '.join(runs)} may be left in the queue of a cluster"
        right = f"start it where SLURM answers, or remove {folder / SUBMITTED} if that cluster is gone"
        raise queue.SlurmError(f"{where}, and it can't be asked ({error}): {right}") from None
    if settled:
        outcome.say(f"jobs of a run that died: {len(settled)} were left in the queue, and none is now")
    for run_ in runs:
        queue.forget(folder / SUBMITTED, run_)


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what counts here among Snakemake's arguments."""
    parser = argparse.ArgumentParser("halobench run", add_help=False, allow_abbrev=False)
    parser.add_argument("--directory", "-d", type=Path, default=Path())
    for key in UNLOCKING[1:]:
        parser.add_argument(f"--{key.replace('_', '-')}")
    parser.add_argument("--logger", nargs="+")
    parser.add_argument("--unlock", action="store_true")
    parser.add_argument("--touch", "-t", action="store_true")
    options = parser.parse_known_args(arguments)[0]
    options.dry_run = any(DRY.fullmatch(argument) for argument in arguments)
    return options
