"""Advisory locks (flock) on files, which a process holds for as long as it keeps the file open.

The kernel drops a lock when its holder ends, however it ends, so a lock that can be taken has no living owner. Child
processes don't inherit a lock: the descriptor is closed when another program starts, and this process isn't forked
while it holds one.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path


def hold(path: Path | str) -> int | None:
    """Lock a file, which is created if missing; return its descriptor, or None if another process holds the lock.

    Closing the descriptor releases the lock. The file's content is left as it is.

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
    """Return True if a living process holds the lock of a file, or if that can't be found out."""
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
