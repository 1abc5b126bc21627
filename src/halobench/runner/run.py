"""Which Snakemake masters are alive in a working directory, and unlocking it after one that died.

A master locks a file of its own under ``.snakemake/halobench/masters`` for as long as it lives. Snakemake's own locks
outlive a killed master, and don't say whose they are. Since a lock may be unknown to other hosts that share the folder,
a master also touches that file at a steady beat.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import fcntl
import os
import platform
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from halobench.core import file_locks
from halobench.runner import dry_run
from halobench.runner.slurm import queries

STATE = Path(".snakemake/halobench")
HANDED_ON = "HALOBENCH_MASTER"  # a descriptor that outlives exec, for `enrol` to find
LOGGER = "--logger=halobench"  # the plug-in that shows a run
DRY = re.compile(r"--dry-?run|-[npqkrF]*n[npqkrF]*")  # short options may stand together
BEAT = 15.0  # seconds between two signs of life
WATCH = 3 * BEAT  # seconds to look for one
_held: dict[Path, int] = {}  # descriptors that this process keeps open to its end


def enrol(folder: Path) -> None:
    """Note this process as a master in the working directory `folder`, until it ends. Does nothing the second time."""
    path = _own(folder)
    inherited = os.environ.pop(HANDED_ON, None)
    if inherited is not None and file_locks.is_held(
        path
    ):  # this process was `halobench run` before it became Snakemake
        os.set_inheritable(int(inherited), False)
        _held[path] = int(inherited)
        _show_life(path)
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = file_locks.hold(path)
    if descriptor is not None:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}, started {started}\n".encode())
        _held[path] = descriptor
        _show_life(path)


def _show_life(path: Path) -> None:
    """Touch a file at a steady beat from now on, and remove it when this process ends in good order."""

    def beat() -> None:
        while True:
            time.sleep(BEAT)
            with contextlib.suppress(OSError):
                os.utime(path)

    threading.Thread(target=beat, daemon=True).start()
    atexit.register(path.unlink, missing_ok=True)


def hand_on(folder: Path) -> None:
    """Enrol, and keep that when this process becomes another program, which is to call `enrol` itself."""
    enrol(folder)
    descriptor = _held[_own(folder)]
    os.set_inheritable(descriptor, True)
    os.environ[HANDED_ON] = str(descriptor)


def name() -> str:
    """What this process is known by: it keeps its number when it becomes another program."""
    return f"{platform.node()}-{os.getpid()}"


def _own(folder: Path) -> Path:
    """The file of this process."""
    return folder.absolute() / STATE / "masters" / name()


def alive(folder: Path) -> list[Path]:
    """The files of the living masters of a working directory but this process; files of dead ones are removed.

    Takes up to `WATCH` seconds where a master on another host may be alive.
    """
    others = [path for path in sorted((folder / STATE / "masters").glob("*")) if path.absolute() != _own(folder)]
    unlocked = [path for path in others if not file_locks.is_held(path)]
    dead = set(unlocked) - _beating([path for path in unlocked if not path.name.startswith(f"{platform.node()}-")])
    for path in dead:
        path.unlink(missing_ok=True)
    return [path for path in others if path not in dead]


def living(folder: Path) -> list[str]:
    """The same in words."""
    return [path.read_text().strip() or path.name for path in alive(folder)]


def _beating(paths: Sequence[Path]) -> set[Path]:
    """The files that are touched while this looks."""
    if not paths:
        return set()
    told = ", ".join(path.name for path in paths)
    print(
        f"halobench: looking for {WATCH:.0f} s whether a run on another host lives ({told})",
        file=sys.stderr,
        flush=True,
    )
    alive: set[Path] = set()
    first, limit = {path: _touched(path) for path in paths}, time.monotonic() + WATCH
    while len(alive) < len(paths) and time.monotonic() < limit:
        time.sleep(min(1.0, WATCH / 10))
        alive |= {path for path in paths if _touched(path) not in (None, first[path])}
    return alive


def _touched(path: Path) -> int | None:
    """When a file was touched, as its file system's server knows: asked anew by opening it; None if it is gone."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return os.fstat(file.fileno()).st_mtime_ns
    return None


def is_locked(folder: Path) -> bool:
    """Whether Snakemake's own locks lie in a working directory."""
    return any((folder / ".snakemake/locks").glob("*.lock"))


@contextlib.contextmanager
def deciding(folder: Path) -> Iterator[None]:
    """Hold off others that decide at this moment whether to unlock. They are few and quick: waiting is short."""
    (folder / STATE).mkdir(parents=True, exist_ok=True)
    with open(folder / STATE / "deciding", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unlock(folder: Path) -> None:
    """Remove Snakemake's locks, as ``snakemake --unlock`` does."""
    shutil.rmtree(folder / ".snakemake/locks", ignore_errors=True)


def run(arguments: Sequence[str], cancel: bool = False) -> None:
    """Become Snakemake with these arguments, its working directory unlocked first if only dead masters locked it.

    Jobs that dead masters left in a cluster's queue are ended, or waited for where they run and `cancel` is false. A
    dry run changes nothing, and only names them.

    Raises
    ------
    SlurmError
        If such jobs may be there and SLURM doesn't answer.
    """
    asked = _asked(arguments)
    folder = asked.directory
    dry_run.check_profile(arguments)
    dry_run.check_configfiles(arguments)
    if asked.dry_run:
        tell_left(folder)
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *arguments])
        return
    with deciding(folder):
        others = living(folder)
        if is_locked(folder) and not others:
            unlock(folder)
            print("halobench: the run that had locked this directory is dead; unlocked", file=sys.stderr)
        for other in others:
            advice = "if both make the same files Snakemake refuses this one; then wait for the other, and don't unlock"
            print(f"halobench: a run is going on here: {other}; {advice}", file=sys.stderr)
        hand_on(folder)
    if not others:  # outside of that decision, since it may take hours
        settle_left(folder, cancel)
    logger = [] if asked.logger else [LOGGER]
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *logger, *arguments])


def tell_left(folder: Path) -> None:
    """Name the jobs that dead masters left in a cluster's queue, as far as SLURM answers."""
    runs = queries.Runs(folder / STATE)
    if not runs.names():
        return
    dead = runs.of_others({path.name for path in alive(folder)})
    with contextlib.suppress(queries.SlurmError):
        if left := queries.queued(dead):
            what = "a run without -n ends those that wait, and waits for the others"
            told = ", ".join(map(str, left))
            print(f"halobench: jobs of a run that died are in the queue: {told}; {what}", file=sys.stderr)


def settle_left(folder: Path, cancel: bool) -> None:
    """See to it that no jobs of dead masters are left in a cluster's queue, and forget those masters."""

    def tell(line: str) -> None:
        print(f"halobench: jobs of a run that died: {line}", file=sys.stderr, flush=True)

    runs = queries.Runs(folder / STATE)
    names = runs.names()
    try:
        found = queries.settle(names, cancel, tell)
    except queries.SlurmError as error:
        where = f"jobs of run {', '.join(names)} may be left in the queue of a cluster"
        right = f"start it where SLURM answers, or remove {runs.folder} if that cluster is gone"
        raise queries.SlurmError(f"{where}, and it can't be asked ({error}): {right}") from None
    if found:
        tell(f"{len(found)} were left in the queue, and none is now")
    for name in names:
        runs.forget(name)


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    """What counts here among Snakemake's arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--directory", "-d", type=Path, default=Path())
    parser.add_argument("--logger", nargs="+")
    asked = parser.parse_known_args(arguments)[0]
    asked.dry_run = any(DRY.fullmatch(argument) for argument in arguments)
    return asked


def working_directory(arguments: Sequence[str]) -> Path:
    """Where Snakemake will work: its ``--directory``, or here."""
    return _asked(arguments).directory
