"""A SLURM cluster on one host, for tests and for trying things out. It has real daemons and stand-in GPUs.

    python tests/cluster/one_host.py                          # a shell in which sbatch, squeue, ... talk to it
    python tests/cluster/one_host.py -- halobench run --workflow-profile profiles/slurm --resources gpu=4

munged, slurmctld and one slurmd per node run in the foreground as children of this process and under the same user.
Their configuration, keys, state and logs are in a temporary folder, and nothing is outside it: neither /etc nor systemd
is used. The daemons end with the process that started them, however it ends. A GPU slot is a character device that
every Linux has. SLURM counts and binds slots as on a real cluster and sets CUDA_VISIBLE_DEVICES, but no job gets a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import platform
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
OPTIONAL = ("sacct", "sacctmgr", "sshare", "salloc", "sattach", "sprio", "sstat", "sdiag")
ADVICE = "Debian and Ubuntu have them in: apt install slurmctld slurmd slurm-client munge"
# Character devices to count as GPUs. SLURM requires distinct files, but doesn't open them.
STAND_INS = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "kmsg")
WRAPPERS = ".onehost"  # a file next to them
SYSTEM = ("/usr/sbin", "/sbin")
PATIENCE = 30  # seconds that a daemon may take to start
ENDING = 10  # seconds that a daemon may take to end before it is killed
LONGEST = 90  # characters in the folder's path, because a socket's path is limited to 107

SLURM_CONF = """\
ClusterName=onehost
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
SwitchType=
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
MinJobAge=300
JobRequeue=1
ReturnToService=2
KillWait=5
SlurmdTimeout=10
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu{shard}
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory} "
    "Gres=gpu:{gpus}{shards} State=UNKNOWN\n"
)
PARTITIONS = (
    "PartitionName=gpu Nodes=ALL Default=YES MaxTime=1-0 State=UP PriorityTier=1\n"
    "PartitionName=urgent Nodes=ALL MaxTime=1-0 State=UP PriorityTier=2 PreemptMode=OFF\n"
)


class ClusterError(OSError):
    """A cluster can't be started because a package is missing or a daemon didn't come up."""


def find(program: str) -> str | None:
    """Return a program's path; daemons are in folders that aren't on an ordinary user's PATH."""
    places = [*os.environ.get("PATH", os.defpath).split(os.pathsep), *SYSTEM]
    # If this cluster is started inside another one, that one's wrappers must be skipped.
    return shutil.which(program, path=os.pathsep.join(place for place in places if not Path(place, WRAPPERS).exists()))


def missing() -> list[str]:
    """Return the programs that a cluster needs but that aren't installed."""
    return [name for name in (*DAEMONS, *CLIENTS) if find(name) is None]


class OneHost:
    """A cluster on this host, which runs while its context manager is open.

    Parameters
    ----------
    nodes, gpus : int
        The number of nodes, and of GPU slots on each (up to 8).
    shards : int
        The total number of shares that a node's GPUs are split into; 0 for none.
    cpus, memory : int
        What each node claims to have (memory in MiB); the host needn't have it.
    settings : mapping
        Lines of slurm.conf to add or replace, e.g. ``{"MinJobAge": "5"}``.
    folder : Path, optional
        Where all files go; by default, a temporary folder that is removed at the end.

    Raises
    ------
    ClusterError
        On entry, if programs are missing or a daemon doesn't start; the message says what to install or shows the log.
    """

    def __init__(
        self,
        nodes: int = 2,
        gpus: int = 2,
        shards: int = 0,
        cpus: int = 8,
        memory: int = 64_000,
        settings: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ):
        if not 1 <= gpus <= len(STAND_INS):
            raise ClusterError(f"gpus = {gpus}: expected 1 to {len(STAND_INS)}, one for each stand-in device")
        self.nodes = [f"node{i + 1}" for i in range(nodes)]
        self.gpus, self.shards, self.cpus, self.memory = gpus, shards, cpus, memory
        self.settings = dict(settings or {})
        self._given = folder
        self.folder = Path()
        self._processes: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> OneHost:
        if lacking := missing():
            raise ClusterError(f"{', '.join(lacking)} not found; {ADVICE}")
        self.folder = Path(tempfile.mkdtemp(prefix="onehost-")) if self._given is None else self._given
        if len(str(self.folder)) > LONGEST:
            raise ClusterError(f"{self.folder}: expected a path of at most {LONGEST} characters, for sockets")
        try:
            self._configure()
            self._start_all()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, in which SLURM's commands talk to this cluster."""
        # Commands find it through small wrappers, since jobs lose all variables that begin with SLURM_.
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", os.defpath)])
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
        return kept | {"PATH": path}

    def ask(self, *command: str, timeout: float = PATIENCE) -> str:
        """Run a SLURM command here and return its standard output.

        Raises
        ------
        subprocess.SubprocessError
            If it fails or takes longer than `timeout` seconds.
        """
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=True
        )
        return done.stdout

    def stop(self) -> None:
        """End all daemons and any jobs still running, each by its process ID, and remove the folder."""
        if "slurmctld" in self._processes and self._processes["slurmctld"].poll() is None:
            with contextlib.suppress(subprocess.SubprocessError, OSError):
                self.ask("scancel", "--me", "--state=PENDING", timeout=5)
        for name in self.nodes:
            self.kill_node(name)
        for process in reversed(self._processes.values()):
            _end(process)
        self._processes.clear()
        if self._given is None and self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill_node(self, name: str) -> None:
        """Kill a node: its daemon, the daemon's helpers and all processes of its jobs."""
        # The helpers (slurmstepd) have detached from the daemon, but write to its log; jobs are their descendants.
        for process in _paused_writers(self._log(name)):
            with contextlib.suppress(psutil.Error):
                process.kill()
        if daemon := self._processes.pop(name, None):
            daemon.kill()
            daemon.wait()

    def start_node(self, name: str, before: Sequence[str] = ()) -> None:
        """Start a node's daemon, under the command `before` if given, and wait until the node is up."""
        command = [*before, str(find("slurmd")), "-D", "-N", name, "-f", str(self.folder / "slurm.conf")]
        now = datetime.now().isoformat(timespec="seconds")
        self._launch(name, command)
        self._wait(name, lambda: self._registered(name) >= now and self._state(name) in ("idle", "mixed", "allocated"))

    def kill_controller(self) -> None:
        """Kill slurmctld; from then on, SLURM's commands get no answer."""
        daemon = self._processes.pop("slurmctld")
        daemon.kill()
        daemon.wait()

    def _log(self, name: str) -> Path:
        return self.folder / f"slurmd-{name}.log"

    def _state(self, name: str) -> str:
        with contextlib.suppress(subprocess.SubprocessError):
            return self.ask("sinfo", "-h", "-n", name, "-o", "%T", timeout=10).split("\n")[0].strip("*").strip()
        return ""

    def _registered(self, name: str) -> str:
        """When a node's daemon started, according to the controller; empty if it doesn't know."""
        with contextlib.suppress(subprocess.SubprocessError):
            match = re.search(r"SlurmdStartTime=(\d\S*)", self.ask("scontrol", "show", "node", name, timeout=10))
            return match[1] if match else ""
        return ""

    def _configure(self) -> None:
        """Write slurm.conf, the files that go with it, and the wrappers for SLURM's commands."""
        for name in ("state", "munge", "bin", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "munge").chmod(0o711)  # as munged requires
        key = self.folder / "munge/munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        host, user = platform.node().split(".")[0], pwd.getpwuid(os.geteuid()).pw_name
        ports = free_ports(1 + len(self.nodes))
        shard = ",shard" if self.shards else ""
        text = SLURM_CONF.format(host=host, user=user, port=ports[0], folder=self.folder, shard=shard)
        lines = [
            line for line in text.splitlines() if line.split("=")[0] not in self.settings and not line.endswith("=")
        ]
        lines += [f"{key}={value}" for key, value in self.settings.items()]
        shards = f",shard:{self.shards}" if self.shards else ""
        nodes = [
            NODE.format(
                name=name, host=host, port=port, cpus=self.cpus, memory=self.memory, gpus=self.gpus, shards=shards
            )
            for name, port in zip(self.nodes, ports[1:], strict=True)
        ]
        (self.folder / "slurm.conf").write_text("\n".join(lines) + "\n" + "".join(nodes) + PARTITIONS)
        gres = [f"NodeName={node} Name=gpu File=/dev/{file}" for node in self.nodes for file in STAND_INS[: self.gpus]]
        gres += [f"NodeName={node} Name=shard Count={self.shards}" for node in self.nodes if self.shards]
        (self.folder / "gres.conf").write_text("\n".join(gres) + "\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        (self.folder / "bin" / WRAPPERS).touch()
        for name in (*CLIENTS, *OPTIONAL):
            if program := find(name):
                wrapper = self.folder / "bin" / name
                wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {program} "$@"\n')
                wrapper.chmod(0o755)

    def _start_all(self) -> None:
        munge = self.folder / "munge"
        places = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid", "log-file": "munged.log"}
        places |= {"seed-file": "munged.seed"}
        options = [f"--{key}={munge / value}" for key, value in places.items()]
        self._launch("munged", [str(find("munged")), "--foreground", "--force", *options])
        self._wait("munged", (munge / "munge.sock").exists)
        conf = ["-f", str(self.folder / "slurm.conf")]
        self._launch("slurmctld", [str(find("slurmctld")), "-D", *conf])
        self._wait("slurmctld", lambda: bool(self._state(self.nodes[0])))
        for name in self.nodes:
            self.start_node(name)

    def _launch(self, name: str, command: Sequence[str]) -> None:
        environment = self.environment | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        with open(self.folder / f"{name}.out", "ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
                start_new_session=True,  # Ctrl-C is for the command that uses the cluster
            )

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait until a daemon is ready; raise ClusterError with its last output if it ends or takes too long."""
        limit = time.monotonic() + PATIENCE
        while not ready():
            if self._processes[name].poll() is not None or time.monotonic() > limit:
                logs = [self.folder / f"{name}.{kind}" for kind in ("out", "log")]
                logs += [self._log(name), self.folder / "munge/munged.log"]
                words = [line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()]
                raise ClusterError(f"{name} did not start:\n" + "\n".join(words[-8:]))
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return ports of this host that nothing is listening on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _end_with_parent() -> None:
    """Make a new child process end with its parent, however that ends (Linux), and its jobs heed SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored if a shell runs this in the background
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _end(process: subprocess.Popen) -> None:
    """End a process that this one started, and wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _paused_writers(file: Path) -> list[psutil.Process]:
    """Pause the processes that have a file open and all their descendants, and return them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(opened.path == str(file) for opened in process.open_files()):
                found += _paused(process)
    return found


def _paused(process: psutil.Process) -> list[psutil.Process]:
    """Pause a process and its descendants, each before its children are listed, so that none is missed."""
    found = [process]
    with contextlib.suppress(psutil.Error):
        process.suspend()
        for child in process.children():
            found += _paused(child)
    return found


@contextlib.contextmanager
def _leaving_signals_to_the_command() -> Iterator[Callable[[subprocess.Popen], None]]:
    """Survive Ctrl-C, which the terminal sends to the command too; pass SIGTERM on to it, now or once it starts."""
    processes: list[subprocess.Popen] = []
    stopping = threading.Event()  # a SIGTERM may arrive while the command is being started

    def terminate(*_: object) -> None:
        stopping.set()
        for process in processes:
            process.terminate()

    def pass_on(process: subprocess.Popen) -> None:
        processes.append(process)
        if stopping.is_set():
            process.terminate()

    handlers = {signal.SIGINT: lambda *_: None, signal.SIGTERM: terminate}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield pass_on
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Start a cluster, run a command (or a shell) in it, stop the cluster, and return the command's exit code."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="nodes (default: 2)")
    parser.add_argument("--gpus", type=int, default=2, metavar="N", help="stand-in GPU slots per node (default: 2)")
    parser.add_argument("--shards", type=int, default=0, metavar="N", help="shares of a node's GPUs (default: 0)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run (default: a shell)")
    args = parser.parse_args(arguments)
    command = args.command[args.command[:1] == ["--"] :] or [os.environ.get("SHELL", "/bin/sh")]
    try:
        with OneHost(nodes=args.nodes, gpus=args.gpus, shards=args.shards) as cluster:
            what = f"nodes: {args.nodes}, stand-in GPU slots on each: {args.gpus}"
            print(f"one_host: a SLURM cluster ({what}) runs in {cluster.folder}", file=sys.stderr, flush=True)
            with _leaving_signals_to_the_command() as pass_on:
                process = subprocess.Popen(command, env=cluster.environment)
                pass_on(process)
                code = process.wait()
    except OSError as error:
        print(f"one_host: error: {error}", file=sys.stderr)
        return 2
    print("one_host: the cluster is stopped", file=sys.stderr)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
