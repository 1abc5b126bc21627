"""Run jobs in forks of a process that has already imported the modules that stages need (Linux only).

Importing torch and pandas can take longer than training a small cell. A job's `halobench` process sends the server
its arguments, environment and standard streams. It then passes signals on to its fork, and ends with the fork's exit
code. If the job's process or the run's main process is killed, the fork is killed too. A job that might behave
differently in a fork runs without one.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

PLACE = "HALOBENCH_WARM"  # environment variable with the server's address; empty if there is no server
PROGRAM = """import os, sys; sys.path = [folder or sys.prefix for folder in sys.path]  # not from where this runs
from halobench.cli.main import main; from halobench.runner.fork_server import serve
serve(); code = main(); sys.stdout.flush(); sys.stderr.flush(); os._exit(code)  # a teardown takes half a second"""
# The server imports these libraries, if installed, for the first job that needs them, besides the stage's modules.
# Optimisers import torch's compiler.
TORCH_MODULES = ["torch._dynamo", "timm"]
TABLE_MODULES = ["pyarrow.parquet", "pyarrow.dataset", "seaborn", "matplotlib.backends.backend_pdf"]
# Numpy and torch read these variables on import; Snakemake sets all of them to a rule's number of threads.
THREADS = ["VECLIB_MAXIMUM_THREADS", *(f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "GOTO", "NUMEXPR"))]
# Only read while a job runs. The last two say where data are; in a module of another workflow, its rules set them.
VARYING = {PLACE, "PWD", "OLDPWD", "SHLVL", "_", "TMPDIR", "TMP", "TEMP", "TEMPDIR"}
VARYING |= {"HALOBENCH_DATA", "HALOBENCH_FETCH"}
PATIENCE = 2.0  # seconds within which a connected process must send its job
FORWARDED = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGQUIT]
FORWARDED += [signal.SIGTSTP, signal.SIGCONT]
_started: list[Any] = []  # keeps the server's standard input open for as long as this process lives


def start(folder: Path | str = ".") -> None:
    """Start a server that lives as long as this process, and put its address in the environment.

    On systems other than Linux, or if the variable `PLACE` is already set, nothing happens. The server works in
    `folder`, the folder of the jobs, where matplotlib looks for its settings.
    """
    import subprocess

    if not sys.platform.startswith("linux") or PLACE in os.environ:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("")  # to an address chosen by the system, which isn't a file
        listener.listen(128)  # from now on, jobs can connect and wait until the server is ready
        options: dict[str, Any] = {"pass_fds": [listener.fileno()], "start_new_session": True}  # jobs pass Ctrl-C on
        command, one = [sys.executable, "-c", PROGRAM, str(listener.fileno())], dict.fromkeys(THREADS, "1")
        _started.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | one, cwd=folder, **options))
        os.environ[PLACE] = listener.getsockname()[1:].decode()


def ask(arguments: list[str]) -> int | None:
    """Let a fork run `arguments`; return its exit code as a shell would, or None if this process has to run them."""
    variables = {name: os.environ[name] for name in VARYING & os.environ.keys()} | {PLACE: ""}  # no forks of forks
    job = {"arguments": arguments, "folder": os.getcwd(), "path": sys.path, "vary": variables, "setting": _setting()}
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def pass_on(number: int, _: object) -> None:
        pause = number == signal.SIGTSTP
        with contextlib.suppress(ProcessLookupError):  # the fork has just ended
            os.kill(fork, signal.SIGSTOP if pause else number)
        if pause:
            os.kill(os.getpid(), signal.SIGSTOP)

    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until it is known which process should receive them
    try:
        line.connect(f"\0{os.environ[PLACE]}")
        if not _is_ours(line):
            return None
        socket.send_fds(line, [json.dumps(job).encode()], [0, 1, 2])
        fork = int(line.recv(16))
        for number in FORWARDED:
            signal.signal(number, pass_on)
    except (OSError, ValueError):  # there is no server, or it declined
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    if not (reply := line.recv(16)):  # the process that should report was killed
        pass_on(signal.SIGKILL, None)
    if (code := int(reply or -signal.SIGKILL)) < 0:
        memory = ", as the system does if memory runs out" if code == -signal.SIGKILL else ""
        print(f"halobench: error: killed by {signal.Signals(-code).name}{memory}", file=sys.stderr)
    return code if code >= 0 else 128 - code  # as shells report it


def _is_ours(line: socket.socket) -> bool:
    """Return whether the process at the other end of a socket is this user's, since any user can connect."""
    credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)  # process, user, group
    return int.from_bytes(credentials[4:8], sys.byteorder) == os.getuid()


def _setting() -> str:
    """Return, as text, what determines how Python, the package and libraries load.

    The server forks only for a job whose text equals its own.
    """
    variables = sorted(item for item in os.environ.items() if item[0] not in VARYING)
    files = sorted((str(path), path.lstat().st_mtime_ns) for path in Path(__file__).parents[1].rglob("*.py"))
    return repr([sys.prefix, sys.version, sys.flags, sys.path[1:], variables, files])


def serve() -> None:
    """Fork for each accepted job until standard input ends; return only in forks, which become the jobs' processes."""
    setting, listener = _setting(), socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps forks
    while 0 not in select.select([0, listener.fileno()], [], [])[0]:
        fork = -1
        with listener.accept()[0] as line:
            job, files = _receive(line)
            with contextlib.suppress(OSError):
                if job.get("setting") == setting and _load(job["arguments"][1]):
                    # Ctrl-C would leave a traceback while Python sets up the fork; the job itself then gets it.
                    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
                    fork = os.fork()
            if fork == 0:
                listener.close()
                _become(job, files, line)
                return
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        for file in files:
            os.close(file)
    os._exit(0)


def _receive(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the requested job and its open files, which are both empty if there is no valid request.

    Other users' requests are ignored. A process that sends nothing, such as a stopped job, is waited for only
    `PATIENCE` seconds; jobs send their messages as soon as they are connected.
    """
    job, files = dict[str, Any](), list[int]()
    if _is_ours(line):
        line.settimeout(PATIENCE)
        with contextlib.suppress(OSError, ValueError):
            message, files, _, _ = socket.recv_fds(line, 2**20, 3)
            job = json.loads(message)
    return job, files


def _load(stage: str) -> bool:
    """Import a stage's modules; return whether only the main thread and that of Arrow's allocator are then running."""
    from halobench.core import plugins
    from halobench.experiment.code_version import read_ahead, stage_modules
    from halobench.storage.layout import STAGES

    with contextlib.suppress(Exception):  # the job will fail in the same way and report it
        for name in (*stage_modules(stage), *(TORCH_MODULES if STAGES[stage].device else TABLE_MODULES)):
            with contextlib.suppress(Exception):
                __import__(name)
        plugins.load("stages", stage)
        read_ahead(stage)
    gc.freeze()  # so that forks don't copy these pages
    others = [path / "comm" for path in Path("/proc/self/task").iterdir() if path.name != str(os.getpid())]
    return {path.read_text() for path in others} <= {"jemalloc_bg_thd\n"}


def _become(job: dict[str, Any], files: list[int], line: socket.socket) -> None:
    """Fork again to become the job's process; the parent reports how the fork ends, and kills it if the job is gone."""
    import tempfile

    from halobench.storage import provenance

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ended, held = os.pipe()  # `held` is open while the fork lives
    if fork := os.fork():
        os.close(held)
        with contextlib.suppress(OSError):
            line.send(b"%d" % fork)
        if ended not in select.select([0, line.fileno(), ended], [], [])[0]:
            os.kill(fork, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
        with contextlib.suppress(OSError):
            line.send(b"%d" % code)
        os._exit(0)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # A stream that was opened for a file fails if the job's is a pipe.
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))
    os.chdir(job["folder"])
    os.environ |= job["vary"]
    sys.argv, sys.path[:] = ["halobench", *job["arguments"]], job["path"]
    tempfile.tempdir = None  # may have been derived from the server's environment
    provenance.begin()
