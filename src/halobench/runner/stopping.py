"""Stop a run's jobs along with the run.

Ctrl-C in a terminal reaches the main process and its jobs, so the jobs end. A supervisor may signal only the main
process; Snakemake would then let the running jobs finish, however long they take.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from halobench.runner import end_of_run


@contextlib.contextmanager
def with_jobs() -> Iterator[list[int]]:
    """Interrupt the jobs at the first SIGINT or SIGTERM, in addition to Snakemake's own handling.

    Yield a list, to which the number of this signal is added. A lost terminal (SIGHUP) counts as SIGTERM.

    Jobs receive SIGINT, on which all jobs end in an orderly way. If jobs inherit that SIGINT is ignored, as in a run
    that a script starts in the background, they get SIGTERM. Snakemake sets handlers of its own, so signals are read
    from a socket, to which Python writes their numbers too. Only the first SIGINT interrupts this process, since a
    second one would interrupt Snakemake's own clean-up.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    passed = signal.SIGTERM if ignored else signal.SIGINT
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    received: list[int] = []
    watcher = threading.Thread(target=_watch, args=[reader, passed, received], daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(writer.fileno()), signal.signal(signal.SIGTERM, _exit)
    hanging_up = signal.getsignal(signal.SIGHUP)
    if hanging_up != signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    interrupting = signal.SIG_IGN if ignored else signal.signal(signal.SIGINT, _interrupt)
    try:
        yield received
    finally:
        signal.set_wakeup_fd(before[0])
        signal.signal(signal.SIGTERM, before[1])
        signal.signal(signal.SIGHUP, hanging_up)
        if signal.getsignal(signal.SIGINT) is _interrupt:  # not interrupted, so later interrupts count
            signal.signal(signal.SIGINT, interrupting)
        writer.close()
        watcher.join()  # it closes its socket


def _interrupt(number: int, _: object) -> None:
    """Interrupt this process, and ignore later interrupts; a handler, unlike SIG_IGN, isn't inherited by jobs."""
    signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def _exit(number: int, _: object) -> None:
    """End this process in an orderly way; Snakemake replaces this handler once it runs jobs."""
    sys.exit(f"halobench: stopped by {signal.Signals(number).name}")


def _watch(signals: socket.socket, passed: signal.Signals, received: list[int]) -> None:
    """Wait for a signal, note that it was `received`, then send `passed` to the jobs repeatedly until the run ends."""
    while (number := signals.recv(1)) and number[0] not in (signal.SIGINT, signal.SIGTERM):
        pass
    if number:
        received.append(number[0])
        end_of_run.say("stopping; jobs that train or probe save their progress")
        signals.settimeout(5.0)
    while number:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if _is_job(process.cmdline()):
                    process.send_signal(passed)
        with contextlib.suppress(TimeoutError):  # repeat, since jobs may have been starting
            number = signals.recv(1)
    signals.close()


def _is_job(command: list[str]) -> bool:
    """Return whether a command runs a stage; a new child that still has this process's command doesn't count."""
    return "halobench" in {Path(word).name for word in command[:2]} and command != psutil.Process().cmdline()
