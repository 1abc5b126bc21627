"""Locks that die with their holder: advisory locks (flock) on files, held as long as a process keeps them open.

The kernel drops a lock when its last holder ends, however it ends, so a lock that can be had has no living owner. No
child process inherits one: descriptors are closed when another program is started, and forks are not made here.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path


def hold(path: Path | str) -> int | None:
    """Lock a file, made if it isn't there; return its descriptor, or None where another process holds it.

    Closing the descriptor gives the lock back. The file is opened without being emptied.

    Raises
    ------
    OSError
        If the file can't be opened, or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return descriptor


def is_held(path: Path | str) -> bool:
    """Whether a living process holds the lock of a file; also True where that can't be told."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
