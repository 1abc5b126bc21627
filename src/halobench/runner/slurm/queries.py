"""What SLURM is asked before and between the jobs of a run: whether it can take them, and which a dead run left behind.

Every question is bounded in time: with a dead slurmctld each of SLURM's commands would wait for minutes.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import math
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from halobench.core.errors import one_of
from halobench.core.spec_codec import to_json
from halobench.experiment.config_loader import ConfigError
from halobench.storage import files

PATIENCE = 20  # seconds for an answer of SLURM
LOOK = 15  # seconds for a node to be free for a look at it
KEPT = 86_400  # seconds for which a node's look at the working directory counts
SINFO = ("sinfo", "-h", "-e", "-o", "%P|%l|%G|%m|%c")
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
# Of jobs that may still write: whatever else squeue lists has ended.
ALIVE = {"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "STOPPED"}
ALIVE |= {"RESIZING", "SIGNALING", "STAGE_OUT", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "REQUEUE_FED"}


class SlurmError(OSError):
    """SLURM doesn't answer."""


@dataclass(frozen=True)
class ResourceRequest:
    """What a job asks of the cluster, by the names that a profile has for it; None where it asks nothing."""

    slurm_partition: str | None = None
    slurm_account: str | None = None
    qos: str | None = None
    gpu: int | None = None
    gpu_model: str | None = None
    gres: str | None = None
    constraint: str | None = None
    mem_mb: int | None = None
    runtime: int | None = None
    cpus_per_task: int | None = None
    nodes: int | None = None
    slurm_extra: str | None = None
    slots_per_gpu: int | None = None  # not SLURM's: how many stages enter one GPU, by `halobench.pipeline.gpu_slots`

    @classmethod
    def of(cls, resources: Mapping[str, Any], threads: int) -> ResourceRequest:
        """Return the request that the executor plugin makes of a job's resources and threads."""
        values = {name: resources.get(name) for name in cls.__dataclass_fields__}
        # What Snakemake can't tell yet, or was left empty, isn't asked; no GPU of a model is.
        kept: dict[str, Any] = {
            name: value for name, value in values.items() if isinstance(value, (int, str)) and value not in ("", 0)
        }
        if values["gpu"] == 0:
            kept["gpu"] = 0
        return cls(**{"cpus_per_task": threads, **kept})

    @property
    def arguments(self) -> list[str]:
        """The same as arguments of sbatch."""
        named = {
            "--partition": self.slurm_partition,
            "--account": self.slurm_account,
            "--qos": self.qos,
            "--gres": self.gres,
            "--constraint": self.constraint,
            "--mem": self.mem_mb,
            "--time": self.runtime,
            "--cpus-per-task": self.cpus_per_task if (self.cpus_per_task or 0) > 0 else None,
            "--nodes": self.nodes,
            "--gpus": f"{self.gpu_model}:{1 if self.gpu is None else self.gpu}" if self.gpu_model else self.gpu or None,
        }
        arguments_ = [f"{name}={value}" for name, value in named.items() if value is not None]
        return [*arguments_, *shlex.split(self.slurm_extra or "")]


# What profiles and rules ask for: `ResourceRequest`, Snakemake's own, and the workflow's.
RESOURCES = {*ResourceRequest.__dataclass_fields__, "mem", "mem_mib", "mem_mb_per_cpu", "tmpdir"}
RESOURCES |= {"disk", "disk_mb", "disk_mib", "tasks", "clusters", "shard", "submit", "checkpoint_seconds"}


@dataclass(frozen=True)
class Pool:
    """A partition: its longest time in minutes (None: without limit), and what each kind of its nodes has.

    `gpus` counts them by model, and `shards` those of one GPU; `memory` is in MiB.
    """

    name: str
    default: bool
    longest: float | None
    gpus: tuple[Mapping[str, int], ...] = ()
    shards: tuple[int, ...] = ()
    memory: tuple[int, ...] = ()
    cpus: tuple[int, ...] = ()

    def most_gpus(self, model: str | None) -> int:
        """GPUs of the node that has most of them, of a model if one is named."""
        return max((sum(n for kind, n in node.items() if model in (None, kind)) for node in self.gpus), default=0)


@dataclass(frozen=True)
class QueuedJob:
    """A job in the queue: its number, state, the run that submitted it, what it is for, and its node or reason.

    `seconds` tells for how long it has run.
    """

    number: str
    state: str
    run: str
    what: str
    where: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.number} ({self.what}, {self.state} {self.where})"


def ask(*command: str, timeout: float = PATIENCE) -> str:
    """Return the standard output of one of SLURM's commands.

    Raises
    ------
    SlurmError
        If it isn't there, fails, or doesn't answer in `timeout` seconds; with what it said.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: not found on PATH") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer in {timeout:g} s") from None
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = said[-1].removeprefix(f"{command[0]}: ").removeprefix("error: ") if said else ""
        raise SlurmError(f"{command[0]}: {last or f'exit code {done.returncode}'}")
    return done.stdout


def minutes(text: str) -> float | None:
    """Return a time as SLURM writes it (``1-02:00:00``, ``30:00``), in minutes; None for no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if not match:
        return None
    days, hours, mins, seconds = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + mins + seconds / 60


def by_model(text: str, what: str = "gpu") -> dict[str, int]:
    """GPUs, or shards of them, in generic resources as SLURM writes them: ``gpu:h100:4(S:0),shard:8`` -> {h100: 4}."""
    counts: dict[str, int] = {}
    kinds = re.findall(rf"(?:^|,){what}(?::([A-Za-z][\w.-]*))?:(\d+)", re.sub(r"\([^)]*\)", "", text))
    for model, count in kinds:
        counts[model] = counts.get(model, 0) + int(count)
    return counts


def pools(text: str) -> dict[str, Pool]:
    """Return the partitions in what `SINFO` prints, a line for each kind of node."""
    pools_by_name: dict[str, Pool] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, longest, gres, memory, cpus = line.split("|")
        key, gpus = name.rstrip("*"), by_model(gres)
        shards = sum(by_model(gres, "shard").values()) // max(sum(gpus.values()), 1)
        before = pools_by_name.get(key, Pool(key, name.endswith("*"), minutes(longest)))
        pools_by_name[key] = replace(
            before,
            gpus=(*before.gpus, gpus),
            shards=(*before.shards, shards),
            memory=(*before.memory, int(memory.rstrip("+"))),
            cpus=(*before.cpus, int(cpus.rstrip("+"))),
        )
    return pools_by_name


def check(wanted: Mapping[ResourceRequest, Iterable[str]], status: str | None, first_look: int) -> None:
    """Check that the cluster can take what will be asked of it.

    Parameters
    ----------
    wanted : mapping
        Each distinct request, and the rules that make it.
    status : str or None
        The command that jobs' states will be asked of: ``squeue`` or ``sacct``.
    first_look : int
        Seconds from a job's submission to the first time that its state is asked.

    Raises
    ------
    ConfigError
        A line for each problem.
    """
    if lacking := [name for name in COMMANDS if shutil.which(name) is None]:
        where = "SLURM's commands on PATH, as on a cluster's login node"
        raise ConfigError([f"executor = slurm: expected {where} (not found: {', '.join(lacking)})"])
    try:
        partitions = pools(ask(*SINFO))
        problems = _status_problems(status, first_look)
    except SlurmError as error:
        raise ConfigError([f"executor = slurm: expected a cluster that answers ({error})"]) from None
    for request, rules in wanted.items():
        problems_here = _pool_problems(request, partitions) + _account_problems(request)
        # What sbatch says is less clear, and of the same.
        problems_here = problems_here or _submission_problems(request)
        problems += [f"{', '.join(sorted(set(rules)))}: {problem}" for problem in problems_here]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _status_problems(status: str | None, first_look: int) -> list[str]:
    """Whether the states of jobs can be had: else a run would wait for its first job for ever."""
    if shutil.which("sacct") is None:
        return []
    age = re.search(r"^MinJobAge\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.M)
    kept = int(age[1]) if age else 0
    if status == "squeue" and kept >= 3 * first_look:
        return []
    try:
        ask("sacct", "-X", "-n", "--starttime", "now-1minutes")
    except SlurmError as error:
        if status != "squeue":
            right = "squeue, since no accounting database answers here"
            return [f"slurm-status-command = {status}: expected {right} ({error})"]
        right = f"at most {kept // 3}, since squeue here forgets a job {kept} s after its end"
        return [f"slurm-init-seconds-before-status-checks = {first_look}: expected {right} ({error})"]
    return []


def _pool_problems(request: ResourceRequest, partitions: Mapping[str, Pool]) -> list[str]:
    """Return what no node of the request's partitions can ever give."""
    names = (
        request.slurm_partition.split(",")
        if request.slurm_partition
        else [n for n in partitions if partitions[n].default]
    )
    unknown = [name for name in names if name not in partitions]
    if unknown:
        return [f"slurm_partition = {unknown[0]}: expected {one_of(sorted(partitions), unknown[0])}"]
    pools = [partitions[name] for name in names]
    within = pools or list(partitions.values())
    problems, where = [], f"partition {', '.join(names)}" if names else "any partition"
    most = max((pool.most_gpus(request.gpu_model) for pool in within), default=0)
    gpus = (1 if request.gpu_model else 0) if request.gpu is None else request.gpu
    if gpus > most:
        kind = f" of model {request.gpu_model}" if request.gpu_model else ""
        problems.append(f"gpu = {gpus}: expected at most {most}, the GPUs{kind} of the largest node in {where}")
    for key, what, have in (("mem_mb", "memory in MiB", "memory"), ("cpus_per_task", "CPUs", "cpus")):
        value, limit = getattr(request, key), max((n for pool in within for n in getattr(pool, have)), default=0)
        if value is not None and value > limit:
            problems.append(f"{key} = {value}: expected at most {limit}, the {what} of the largest node in {where}")
    shards = sum(by_model(request.gres or "", "shard").values())
    largest = max((most for pool in within for most in pool.shards), default=0)
    if shards > largest:  # sbatch would take it, and it would wait for ever
        problems.append(f"gres = {request.gres}: expected at most shard:{largest}, those of one GPU in {where}")
    elif shards and (request.slots_per_gpu or 1) < largest // shards:  # the rest would hold shards and wait
        sharing = f"at least {largest // shards}: as many jobs with shard:{shards} share a GPU in {where}"
        problems.append(f"slots_per_gpu = {request.slots_per_gpu or 1}: expected {sharing}")
    limits = [math.inf if pool.longest is None else pool.longest for pool in pools]
    if request.runtime and limits and request.runtime > max(limits):
        problems.append(f"runtime = {request.runtime}: expected at most {max(limits):g} minutes, the limit of {where}")
    return problems


def _account_problems(request: ResourceRequest) -> list[str]:
    """Whether the account is one of this user's, asked as the executor plugin asks before each submission."""
    if not request.slurm_account:
        return []
    who, problems = getpass.getuser(), []
    for command in (
        ("sacctmgr", "-n", "-s", "list", "user", who, "format=account%256"),
        ("sshare", "-U", "--format", "Account%256", "--noheader"),
    ):
        try:
            lines = sorted({line.strip() for line in ask(*command).splitlines() if line.strip()})
        except SlurmError as error:
            problems.append(str(error))
            continue
        if lines:
            names = request.slurm_account.split(",")
            wrong = [name for name in names if name.lower() not in map(str.lower, lines)]
            return [f"slurm_account = {wrong[0]}: expected {one_of(lines, wrong[0])}"] if wrong else []
    why = f" ({'; '.join(problems)})" if problems else ""
    return [f"slurm_account = {request.slurm_account}: expected none, since this cluster keeps no accounts{why}"]


def _submission_problems(request: ResourceRequest) -> list[str]:
    """Return what sbatch says of the request, without submitting it."""
    try:
        ask("sbatch", "--test-only", *request.arguments, "--wrap", "true")
    except SlurmError as error:
        arguments = " ".join(request.arguments)
        return [f"{arguments}: expected what the cluster can give ({str(error).removeprefix('sbatch: ')})"]
    return []


def look(request: ResourceRequest, folder: Path, mark: Path, cache: Path) -> str:
    """Let a compute node look whether it sees the working directory and Python; a remark if none was free for it.

    Parameters
    ----------
    request : ResourceRequest
        A request of the jobs, which decides the kind of node.
    folder, mark : Path
        The working directory, and a file in it that was just written.
    cache : Path
        Where good answers are noted: they count for a day.

    Raises
    ------
    ConfigError
        If the node doesn't see them.
    """
    key = hashlib.sha256(to_json([str(folder), sys.executable, request.arguments]).encode()).hexdigest()[:16]
    noted = cache / key
    with contextlib.suppress(OSError):
        if time.time() - noted.stat().st_mtime < KEPT:
            return ""
    python = f"{shlex.quote(sys.executable)} -c 'import halobench, snakemake'"
    script = f"echo node $SLURMD_NODENAME; test -f {shlex.quote(str(mark))} || exit 71; {python} || exit 72"
    quick = ResourceRequest(**{**vars(request), "mem_mb": 500, "runtime": 2, "slurm_extra": None})
    command = ["srun", f"--immediate={LOOK}", "--job-name=halobench-look", "--ntasks=1", *quick.arguments]
    try:
        done = subprocess.run(
            [*command, "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=LOOK + PATIENCE,
            stdin=subprocess.DEVNULL,
            cwd=folder,
        )
    except (OSError, subprocess.TimeoutExpired):
        done = None
    node = re.search(r"^node (.*)$", done.stdout, re.M) if done else None
    if done is None or node is None:
        return "no compute node was free to look whether it sees this directory: jobs are submitted without that"
    if "exit code 71" in done.stderr or done.returncode == 71:
        right = "a directory that compute nodes see under the same path: a shared file system"
        raise ConfigError([f"working directory = {folder}: expected {right} (node {node[1]} does not see {mark.name})"])
    if done.returncode:
        said = ([line for line in done.stderr.splitlines() if "Error" in line] or ["it fails there"])[-1]
        right = "a Python with halobench and snakemake that compute nodes see under the same path"
        raise ConfigError([f"Python = {sys.executable}: expected {right} (node {node[1]}: {said.strip()})"])
    cache.mkdir(parents=True, exist_ok=True)
    noted.touch()
    return ""


def queued(runs: Iterable[str]) -> list[QueuedJob]:
    """Return the jobs of these runs that are still in the queue, whether they wait or run.

    Raises
    ------
    SlurmError
        If squeue doesn't answer.
    """
    runs = sorted(set(runs))
    if not runs:
        return []
    text = ask("squeue", "--noheader", "--states=all", "--me", f"--name={','.join(runs)}", "--format=%i|%T|%j|%k|%M|%R")
    jobs = [_queued(*map(str.strip, line.split("|", 5))) for line in filter(None, text.splitlines())]
    return [job for job in jobs if job.run in runs and job.state in ALIVE]


def _queued(number: str, state: str, run: str, comment: str, elapsed: str, where: str) -> QueuedJob:
    """Return a job as squeue prints it."""
    return QueuedJob(number, state, run, _cell_of(comment), where, 60 * (minutes(elapsed) or 0.0))


def _cell_of(comment: str) -> str:
    """Return what a job is for: ``rule_train_wildcards_clean_mlp_mixup2_0`` -> ``train clean_mlp_mixup2_0``."""
    return comment.removeprefix("rule_").removeprefix("group_").replace("_wildcards_", " ")


def settle(runs: Iterable[str], cancel: bool, tell: Callable[[str], object], every: float = 5.0) -> list[QueuedJob]:
    """See to it that no job of these runs is left: end those that wait, and wait for those that run, or end them too.

    Parameters
    ----------
    runs : iterable of str
        The runs' names, as SLURM knows them by. No other job is touched.
    cancel : bool
        Whether to end those that run; they leave resume points.
    tell : callable
        Gets a line now and then.
    every : float
        Seconds between two looks at the queue.

    Returns
    -------
    list of QueuedJob
        What was found at first.

    Raises
    ------
    SlurmError
        If SLURM doesn't answer.
    """
    runs, reported = list(runs), None
    first = left = queued(runs)
    while left:
        ended = [job for job in left if cancel or job.state in WAITING]
        if ended:
            ask("scancel", *(job.number for job in ended))
        running = [job for job in left if job not in ended]
        if running != reported and running:
            reported = running
            tell(f"waiting for {len(running)} running: {', '.join(map(str, running))}")
        time.sleep(0.5 if ended else every)
        left = queued(runs)
    return first


class Runs:
    """The runs of a working directory that submit to SLURM, noted until they end in good order."""

    def __init__(self, state: Path):
        self.folder = state / "slurm"

    def note(self, run: str, facts: Mapping[str, Any]) -> Path:
        """Note a run before its first job is submitted; the file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(self.folder / f"{run}.json", dict(facts))
        return self.folder / f"{run}.json"

    def names(self) -> list[str]:
        """Return the runs that are noted."""
        return sorted(path.stem for path in self.folder.glob("[!.]*.json"))

    def of_others(self, masters: Collection[str]) -> list[str]:
        """Return the runs that were noted by none of these masters, by their `halobench.runner.run.name`."""
        notes = {run: files.read_json(self.folder / f"{run}.json") for run in self.names()}
        return [run for run, facts in notes.items() if facts.get("master") not in masters]

    def forget(self, run: str) -> None:
        """Forget a run whose jobs have all ended."""
        (self.folder / f"{run}.json").unlink(missing_ok=True)
