"""What a test may leave behind: nothing. An audit hook sees what this process opens, writes and starts.

Files that child processes write aren't seen here; `.ci/run` therefore checks that the tests leave the clone as it was.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

STARTS = {
    "subprocess.Popen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
}
CONNECTS = {"socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS = {"open": 1, "os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2}
PATHS |= {"os.truncate": 1, "os.chmod": 1, "os.utime": 1}  # how many of the first arguments of an event are paths
CACHES = ("/__pycache__", "/.cache/", "/.config/matplotlib", "/torchinductor_")  # of Python and libraries


@dataclass
class Traces:
    """What one test leaves; `alone` forbids it to start processes and to use the network."""

    alone: bool
    own: str  # its tmp_path, or a folder that doesn't exist
    run: str  # the folder of all tests of this run: what a test makes there, it may leave to others
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: str = field(default_factory=os.getcwd)
    sockets: set[int] = field(default_factory=lambda: open_sockets())
    children: set[psutil.Process] = field(default_factory=set)
    new: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not self.alone:
            self.children = set(psutil.Process().children())

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take note of an event of the interpreter; fail the test if it is one that the test may not cause."""
        if event in STARTS and self.alone:
            pytest.fail(f"a unit test starts a process ({event}): mark it `process`")
        elif event in CONNECTS and self.alone:
            pytest.fail(f"a unit test uses the network ({event} {arguments[-1]}): mark it `process`")
        elif event in PATHS and (event != "open" or arguments[2] & WRITES):
            first = 1 if event == "os.symlink" else 0  # where a link points to stays as it is
            for path in map(self.absolute, arguments[first : PATHS[event]]):
                if path and path not in self.new and not (event == "os.mkdir" and os.path.isdir(path)):
                    (self.changed if os.path.lexists(path) else self.new).add(path)

    def absolute(self, path: Any) -> str | None:
        """A path outside the test's own folder, or None."""
        if isinstance(path, int) or path is None:
            return None
        found = os.path.abspath(os.fsdecode(path))
        if f"{found}/".startswith((f"{self.own}/", "/dev/")) or any(part in found for part in CACHES):
            return None
        # Locks are there for others, and pytest clears away older runs, whose folders lie beside that of this one.
        older = found.startswith(f"{os.path.dirname(self.run)}/") and not f"{found}/".startswith(f"{self.run}/")
        if older or found.endswith("lock"):
            return None
        return found

    def left(self, ours: Collection[str]) -> list[str]:
        """What the test left, in words; `ours` are variables that others set in this process."""
        now = {key: value for key, value in os.environ.items() if key not in ours}
        before = {key: value for key, value in self.environment.items() if key not in ours}
        found = [f"the variable {key}" for key in sorted({key for key, _ in now.items() ^ before.items()})]
        if (folder := os.getcwd()) != self.folder:
            found.append(f"the working folder {folder}")
        found += [f"the open socket {number}" for number in sorted(open_sockets() - self.sockets)]
        if not self.alone:
            new = set(psutil.Process().children()) - self.children
            found += [f"the process {each.pid}" for each in psutil.wait_procs(new, timeout=10)[1]]
        elsewhere = (path for path in sorted(self.new) if not path.startswith(f"{self.run}/"))
        found += [f"the file {path}" for path in elsewhere if os.path.lexists(path)]
        return found + [f"a change of {path}" for path in sorted(self.changed)]


def open_sockets() -> set[int]:
    """The descriptors of this process that are sockets."""
    return {number for number in map(int, os.listdir("/dev/fd")) if is_socket(number)}


def is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:  # the descriptor by which the folder was listed
        return False


_current: list[Traces] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _current and (event in PATHS or event in STARTS or event in CONNECTS):
        seen = _current.pop()  # what it looks up itself isn't the test's
        try:
            seen.see(event, arguments)
        finally:
            _current.append(seen)


sys.addaudithook(_hook)


@contextlib.contextmanager
def watched(alone: bool, own: str, run: str, ours: Collection[str]) -> Iterator[None]:
    """Fail if what runs in this context leaves traces; `ours` are variables that others set in this process."""
    traces = Traces(alone, own, run)
    _current.append(traces)
    try:
        yield
    finally:
        _current.remove(traces)
    if left := traces.left(ours):
        pytest.fail(f"the test leaves {', '.join(left)}")
