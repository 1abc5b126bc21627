"""A process that has imported what stages need, and forks itself for each job of a run on this machine.

Importing torch and pandas takes seconds, of every job anew, while many a cell trains in less. So a run starts a server
beside it. The `halobench` of a job hands its arguments, environment and open files to that server and waits for the
fork, whose end becomes its own: exit code or signal. It passes on the signals that it gets; if it is killed, so is the
fork.

A job runs by itself, as it would without a server, wherever the fork could differ from it in anything but speed: if
another Python, another environment or other numbers of threads are asked for, if the package has been edited since the
server read it, or if there is no server.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PLACE = "HALOBENCH_WARM"  # the folder of the servers' sockets
PACKAGE = Path(__file__).parents[1]
# What each stage imports, so that its forks don't. An optimiser imports torch's compiler when it is built.
TORCH = ("halobench.training.cell", "safetensors.torch", "torch._dynamo")
TABLES = ("halobench.results.aggregate", "pyarrow.parquet", "pyarrow.dataset")
STAGES = {
    "source": (),
    "weights": (),
    "train": TORCH,
    "probe": (*TORCH, "halobench.probing.probe", "pyarrow.parquet"),
    "calibrate": ("halobench.calibration.evaluate",),
    "reference": ("halobench.calibration.evaluate",),
    "manifest": (),
    "aggregate": ("halobench.results.aggregate", "pyarrow.parquet"),
    "claims": ("halobench.results.claims", *TABLES),
    "figure": ("halobench.reporting.labels", "halobench.reporting.plotting.panel_grid", "scipy.stats", *TABLES),
    "table": ("halobench.reporting.labels", "halobench.reporting.print_tables.layout", *TABLES),
    "explorer": ("halobench.reporting.explorer", "plotly.offline", *TABLES),
    "overview": ("halobench.reporting.pages.overview", "halobench.reporting.pages.cells", *TABLES),
}
Main = Callable[[Sequence[str]], int]  # the command line
SERVERS = ("torch", "plain")  # two, since a fork's memory is counted with what it inherits
# Imported as well where a spec names them: models that begin so, and calibrators.
FOREIGN = ("timm", "torchvision")
CALIBRATORS = {"vector": "scipy.optimize", "ensemble": "scipy.optimize", "isotonic": "sklearn.isotonic"}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read when numpy and torch load
# What may differ in a job's environment: how it is started, and what is read only while it runs.
PASSING = {PLACE, "PWD", "OLDPWD", "SHLVL", "_", "TMPDIR", "TMP", "TEMP", "TEMPDIR", *THREADS}
PASSING |= {"GOTO_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"}
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGQUIT)
LONGEST = 90  # characters of the sockets' folder: a socket's path may have 107
PATIENCE = 10.0  # seconds that a job may take to say what it wants


def start() -> None:
    """Start servers that live as long as this process, and name them in the environment. Does nothing off Linux."""
    import subprocess
    import tempfile

    if not sys.platform.startswith("linux") or PLACE in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="halobench-")  # that only this user may enter
    if len(folder) > LONGEST:
        os.rmdir(folder)
        return
    for name in SERVERS:
        process = subprocess.Popen(
            [sys.executable, "-m", "halobench.cli.server", os.path.join(folder, name)],
            stdin=subprocess.PIPE,  # nothing else holds the other side: it tells the server when this process ends
            env=dict.fromkeys(THREADS, "1") | os.environ,  # as `cli.main` has it
            start_new_session=True,  # a terminal's Ctrl-C reaches the forks by way of their jobs, once
        )
        _started.append(process)
    os.environ[PLACE] = folder


_started: list[Any] = []  # kept, so that the servers' standard input stays open


# A job's side ---------------------------------------------------------------------------------------------------------


def ask(arguments: Sequence[str]) -> int | None:
    """Let a fork of the server do what `arguments` say.

    Returns
    -------
    int or None
        Its exit code; None if this process has to do it itself. Where a signal ended the fork, this process ends by it.
    """
    if not os.environ.get(PLACE) or not arguments or arguments[0] not in STAGES:
        return None
    with HeldSignals() as signals, contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
        line.connect(os.path.join(os.environ[PLACE], SERVERS[TORCH[0] not in STAGES[arguments[0]]]))
        request = json.dumps(_request(arguments)).encode()
        socket.send_fds(line, [len(request).to_bytes(4, "big")], [0, 1, 2])
        line.sendall(request)
        replies = line.makefile()
        if replies.readline() == "yes\n":
            signals.forward(line)
            kind, _, number = replies.readline().partition(" ")
            if kind == "exit":
                return int(number)
            # Without a word the server was killed, and its forks with it.
            signals.end_by(int(number) if kind == "signal" else signal.SIGKILL)
    signals.raise_again()
    return None


def _request(arguments: Sequence[str]) -> dict[str, Any]:
    mask = os.umask(0)
    os.umask(mask)
    return {
        "arguments": list(arguments),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "umask": mask,
        "python": _python(),
        "path": sys.path,
        "ignored": [number for number in FORWARDED if signal.getsignal(number) is signal.SIG_IGN],
    }


def _python() -> list[Any]:
    return [sys.executable, sys.version, str(PACKAGE), sys.flags.optimize]


class HeldSignals:
    """Notes what signals come while in use, but for those that are ignored, and passes them on once told where to."""

    def __init__(self) -> None:
        self.noted: list[int] = []
        self._line: socket.socket | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> HeldSignals:
        heeded = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        self.noted.append(number)
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.send(bytes([number]))

    def forward(self, line: socket.socket) -> None:
        """Pass on what has come, and what comes from now on."""
        self._line = line
        line.send(bytes(self.noted))

    def end_by(self, number: int) -> None:
        """End this process as the fork was ended."""
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def raise_again(self) -> None:
        """Let this process have what came for a fork that there isn't."""
        for number in self.noted:
            os.kill(os.getpid(), number)


# The server's side ----------------------------------------------------------------------------------------------------


class Server:
    """Forks for jobs until the process that it was started by has ended, and all forks have."""

    def __init__(self, place: Path, main: Main):
        import selectors

        self.main = main
        self.read = _state()  # of the package, before most of it is imported
        self.environment = dict(os.environ)  # before a library adds to it
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(place))
        self.listener.listen(64)
        self.woken, self.wake = socket.socketpair()
        self.wake.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.loaded: set[str] = set()
        self.jobs: dict[int, socket.socket] = {}  # by the fork's process number
        self.open = True

    def serve(self) -> None:
        for number in FORWARDED:
            signal.signal(number, signal.SIG_IGN)  # what ends the run ends this too, by way of standard input
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake.fileno(), warn_on_full_buffer=False)
        self._watch(self.listener, self._accept)
        self._watch(self.woken, self._reap)
        self._watch(sys.stdin, self._close)
        while self.open or self.jobs:
            for key, _ in self.selector.select():
                if key.fd >= 0 and key.fileobj in self.selector.get_map():  # it may have gone in this round
                    key.data()

    def _watch(self, file: Any, act: Callable[[], None]) -> None:
        self.selector.register(file, 1, act)  # 1: EVENT_READ

    def _close(self) -> None:
        if not os.read(0, 1):
            self.open = False
            self.selector.unregister(sys.stdin)
            self.selector.unregister(self.listener)
            self.listener.close()

    def _accept(self) -> None:
        line, _ = self.listener.accept()
        line.settimeout(PATIENCE)
        files: list[int] = []
        pid = None
        try:
            head, files, _, _ = socket.recv_fds(line, 4, 3)
            request = json.loads(_exactly(line, int.from_bytes(head, "big")))
            if len(files) == 3 and self._fits(request):
                line.settimeout(None)
                line.sendall(b"yes\n")
                pid = self._fork(request, files, line)
            else:
                line.sendall(b"no\n")
        except (OSError, ValueError):
            pass  # the job is gone
        for file in files:
            os.close(file)
        if pid is None:
            line.close()
        else:
            self.jobs[pid] = line
            self._watch(line, lambda: self._heed(pid, line))

    def _fits(self, request: Mapping[str, Any]) -> bool:
        """Whether a fork would do what the job does by itself; imports what its stage needs, the first time."""
        wanted, present = request["environment"], self.environment
        same = request["python"] == _python() and request["path"][1:] == sys.path[1:]
        same &= all(wanted.get(name, "1") == present[name] for name in THREADS)
        same &= _lasting(wanted) == _lasting(present)
        return same and self._load(request) and _state() == self.read

    def _load(self, request: Mapping[str, Any]) -> bool:
        import gc
        import importlib

        arguments = request["arguments"]
        text = " ".join(arguments)
        if "--request" in arguments[:-1]:
            text += Path(request["folder"], arguments[arguments.index("--request") + 1]).read_text()
        wanted = ["halobench.pipeline.stage", *STAGES[arguments[0]], *(name for name in FOREIGN if f'"{name}/' in text)]
        if arguments[0] == "calibrate":
            wanted += [module for name, module in CALIBRATORS.items() if f'"{name}"' in text]
        with contextlib.suppress(Exception):  # it will be the job's, which says what is wrong
            for name in wanted:
                if name not in self.loaded:
                    importlib.import_module(name)
                    self.loaded.add(name)
                    gc.freeze()  # forks leave these pages alone
        return self.loaded.issuperset(wanted) and not _threads()

    def _fork(self, request: Mapping[str, Any], files: Sequence[int], line: socket.socket) -> int:
        server = os.getpid()
        # What is sent to the fork before it heeds signals as a new process does waits until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        with warnings.catch_warnings():
            # From 3.12 on Python warns of any thread. There is none but that of Arrow's allocator (`_threads`).
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            return pid
        code = 1
        try:
            _end_with(server, f"halobench {request['arguments'][0]}")
            signal.set_wakeup_fd(-1)
            self.selector.close()
            for each in (self.listener, self.woken, self.wake, line, *self.jobs.values()):
                each.close()
            code = _work(self.main, request, files)
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Tell the jobs whose forks have ended."""
        self.woken.recv(4096)
        while self.jobs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            line = self.jobs.pop(pid)
            self.selector.unregister(line)
            ending = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
            with contextlib.suppress(OSError):
                line.sendall(f"{ending}\n".encode())
            line.close()

    def _heed(self, pid: int, line: socket.socket) -> None:
        """Pass on a job's signals; kill its fork if it is gone, as it is before its fork only if it was killed."""
        try:
            numbers = line.recv(64)
        except OSError:
            numbers = b""
        for number in numbers or [signal.SIGKILL]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _lasting(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what may decide how a library loads."""
    return {name: value for name, value in environment.items() if name not in PASSING}


def _exactly(line: socket.socket, count: int) -> bytes:
    """So many bytes; ValueError if fewer come."""
    received = bytearray()
    while len(received) < count:
        part = line.recv(count - len(received))
        if not part:
            raise ValueError("the request ends early")
        received += part
    return bytes(received)


def _state() -> dict[str, tuple[int, int]]:
    """When each file of the package was written, and how long it is."""
    times = {}
    for folder, _, names in os.walk(PACKAGE):
        for name in names:
            if name.endswith(".py"):
                status = os.stat(os.path.join(folder, name))
                times[os.path.join(folder, name)] = (status.st_mtime_ns, status.st_size)
    return times


def _threads() -> list[str]:
    """Threads beside the first, which a fork would lack, but for the one that Arrow's allocator starts anew in it."""
    places = [Path("/proc/self/task", number, "comm") for number in os.listdir("/proc/self/task")]
    names = [place.read_text().strip() for place in places if place.parent.name != str(os.getpid())]
    return [name for name in names if name != "jemalloc_bg_thd"]


def _end_with(server: int, name: str) -> None:
    """Have the system kill this fork when the server ends, however it ends, and show it under a name."""
    import ctypes

    library = ctypes.CDLL(None)
    library.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    library.prctl(15, name.encode()[:15])  # PR_SET_NAME
    if os.getppid() != server:
        os._exit(1)


def _work(main: Main, request: Mapping[str, Any], files: Sequence[int]) -> int:
    """Become the job: what is done here is what a new process would have come with."""
    import tempfile
    import traceback

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.environ.pop(PLACE, None)
    tempfile.tempdir = None  # may have been found out by the environment before
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in FORWARDED:
        normal: Any = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else normal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    sys.argv, sys.path[:] = ["halobench", *request["arguments"]], request["path"]
    from halobench.storage import provenance

    provenance.begin()
    try:
        code = main(request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def run(place: Path, main: Main) -> None:
    """Serve forks that run `main` at a socket, and remove it with its folder at the end."""
    import shutil

    try:
        Server(place, main).serve()
    finally:
        shutil.rmtree(place.parent, ignore_errors=True)
