"""Which Snakemake masters are alive in a working directory, and unlocking it after one that died.

A master locks a file of its own under ``.snakemake/halobench/masters`` for as long as it lives. Snakemake's own locks
outlive a killed master, and don't say whose they are.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from halobench import locks

STATE = Path(".snakemake/halobench")
HANDED_ON = "HALOBENCH_MASTER"  # a descriptor that outlives exec, for `enrol` to find
_held: dict[Path, int] = {}  # descriptors that this process keeps open to its end


def enrol(folder: Path) -> None:
    """Note this process as a master in the working directory `folder`, until it ends. Does nothing the second time."""
    path = _own(folder)
    inherited = os.environ.pop(HANDED_ON, None)
    if inherited is not None and locks.is_held(path):  # this process was `halobench run` before it became Snakemake
        os.set_inheritable(int(inherited), False)
        _held[path] = int(inherited)
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = locks.hold(path)
    if descriptor is not None:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}, started {started}\n".encode())
        _held[path] = descriptor


def hand_on(folder: Path) -> None:
    """Enrol, and keep that when this process becomes another program, which is to call `enrol` itself."""
    enrol(folder)
    descriptor = _held[_own(folder)]
    os.set_inheritable(descriptor, True)
    os.environ[HANDED_ON] = str(descriptor)


def _own(folder: Path) -> Path:
    """The file of this process: a process keeps its number when it becomes another program."""
    return folder.absolute() / STATE / "masters" / f"{platform.node()}-{os.getpid()}"


def living(folder: Path) -> list[str]:
    """The living masters of a working directory but this process, in words; files of dead ones are removed."""
    found = []
    for path in sorted((folder / STATE / "masters").glob("*")):
        if path.absolute() == _own(folder):
            continue
        if locks.is_held(path):
            found.append(path.read_text().strip() or path.name)
        else:
            path.unlink(missing_ok=True)
    return found


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


def run(arguments: Sequence[str]) -> None:
    """Become Snakemake with these arguments, its working directory unlocked first if only dead masters locked it."""
    folder = working_directory(arguments)
    with deciding(folder):
        others = living(folder)
        if is_locked(folder) and not others:
            unlock(folder)
            print("halobench: the run that had locked this directory is dead; unlocked", file=sys.stderr)
        for other in others:
            print(f"halobench: a run is going on here: {other}", file=sys.stderr)
        hand_on(folder)
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *arguments])


def working_directory(arguments: Sequence[str]) -> Path:
    """Where Snakemake will work: its ``--directory``, or here."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--directory", "-d", type=Path, default=Path())
    return parser.parse_known_args(arguments)[0].directory
