"""Stop a run's jobs along with the run: a parent process passes signals on to the run's whole process group.

Ctrl-C in a terminal reaches all processes, but a batch system or ``kill`` signals only one, and Snakemake would then
let the running jobs finish, however long they take.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType

from halobench.runner.end_of_run import say

AGAIN = 5.0  # seconds between two signals to the group, since jobs may have been starting
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HANDLED = {*STOPPING, signal.SIGTSTP, signal.SIGCONT, signal.SIGALRM}


def supervise() -> int | None:
    """Fork, and return None in the child, which leads a process group; in the parent, return the child's exit code.

    The parent sends SIGINT to the group, on which all jobs end in an orderly way, when it receives a signal that it
    doesn't ignore. If the parent is killed, the child stops its group itself. The exit code of an incomplete run that a
    signal stopped is 128 plus the signal's number, as shells report it.
    """
    reader, writer = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until it is known which process should receive them
    if child := os.fork():
        os.close(reader)
        with contextlib.suppress(OSError):  # the child may have done so already
            os.setpgid(child, child)
        return _follow(child)
    os.close(writer)
    os.setpgid(0, 0)
    # Jobs must react to SIGINT even if this run was started by a script in the background, which ignores it.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # from a terminal that stops what isn't in its foreground group
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    threading.Thread(target=_stop_without_parent, args=[reader], daemon=True).start()
    return None


def _interrupt(number: int, _: FrameType | None) -> None:
    """Interrupt this process, and ignore later interrupts, which would interrupt Snakemake's own clean-up."""
    signal.signal(number, lambda *_: None)  # a handler, unlike SIG_IGN, isn't inherited by jobs
    raise KeyboardInterrupt


def _stop_without_parent(reader: int) -> None:
    """Wait until the parent has ended, which closes the pipe, and interrupt this process's group until it ends too."""
    os.read(reader, 1)
    while True:
        os.killpg(0, signal.SIGINT)
        time.sleep(AGAIN)


def _follow(child: int) -> int:
    """Pass signals on to the child's group until the child ends, and return the exit code."""
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if not received:
            received.append(number)
            say("stopping; jobs that train or probe save their progress")
            signal.setitimer(signal.ITIMER_REAL, 1e-6, AGAIN)

    def pause(*_: object) -> None:
        _send(child, signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGSTOP)

    for number in STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup ignores SIGHUP
            signal.signal(number, stop)
    signal.signal(signal.SIGTSTP, pause)
    signal.signal(signal.SIGCONT, lambda *_: _send(child, signal.SIGCONT))
    signal.signal(signal.SIGALRM, lambda *_: _send(child, signal.SIGINT))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.setitimer(signal.ITIMER_REAL, 0)
    if code < 0:  # killed, so that its jobs are left
        _send(child, signal.SIGINT)
        say(f"Snakemake's process was ended by {signal.Signals(-code).name}; the same command resumes the run")
    if code and received:
        return 128 + received[0]
    return code if code >= 0 else 128 - code


def _send(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has just ended
        os.killpg(group, number)
