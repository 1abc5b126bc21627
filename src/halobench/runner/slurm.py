"""Query SLURM's queue, handle the jobs that dead runs left there, and check that nodes see the files that jobs need.

Every query has a timeout because, with slurmctld down, each SLURM command would wait for minutes.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE = 20  # seconds to wait for an answer from SLURM
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "REQUEUE_FED"}
# States of jobs that may still write; any others listed by squeue have ended.
ALIVE = {"RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", *WAITING}

# The resources that a job can request, by their names in profiles.
ASKED = (
    *("slurm_partition", "slurm_account", "qos", "gpu", "gpu_model", "gres", "constraint"),
    *("mem_mb", "runtime", "cpus_per_task", "nodes", "slurm_extra"),
)
# The resources that determine the kind of node, and srun's options for them.
NODE = {"slurm_partition": "partition", "slurm_account": "account", "qos": "qos", "constraint": "constraint"}
NODE |= {"gpu": "gpus", "gres": "gres"}
FREE = 15  # seconds to wait for a free node


class SlurmError(OSError):
    """Raised if SLURM doesn't respond, or refuses a request."""


class QueuedJob(NamedTuple):
    """A job in the queue: its number, state and purpose, and its node or the reason why it is waiting."""

    number: str
    state: str
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.number} ({self.what}, {self.state} {self.where})"


def ask(*command: str, timeout: float = PATIENCE) -> str:
    """Return the output of a SLURM command; raise SlurmError if the command is missing, fails or takes too long."""
    try:
        # In a session of its own, so that the interrupt that stops a run doesn't stop its questions.
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: not found on PATH") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no response within {timeout:g} s") from None
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = lines[-1].removeprefix(f"{command[0]}: ").removeprefix("error: ") if lines else ""
        raise SlurmError(f"{command[0]}: {last or f'exit code {done.returncode}'}")
    return done.stdout


def states(run: str) -> dict[str, tuple[str, str]]:
    """Return the states of a run's jobs that squeue lists, by number, with SLURM's codes for why they are waiting."""
    return {number: (state, reason) for number, state, reason in _rows([run], "%i|%T|%r")}


def queued(runs: Iterable[str]) -> list[QueuedJob]:
    """Return the jobs of these runs that are in the queue and haven't ended."""
    jobs = (QueuedJob(*row) for row in _rows(runs, "%i|%T|%k|%R"))
    # The comment that the executor plugin puts on a job, such as rule_train_wildcards_clean_mlp_mixup2_0.
    named = (job._replace(what=job.what.removeprefix("rule_").replace("_wildcards_", " ")) for job in jobs)
    return [job for job in named if job.state in ALIVE]


def _rows(runs: Iterable[str], form: str) -> list[list[str]]:
    """Return squeue's fields for each job of these runs, counting each element of an array as a job."""
    if not (names := ",".join(runs)):
        return []
    text = ask("squeue", "--array", "--noheader", "--states=all", "--me", f"--name={names}", f"--format={form}")
    return [[*map(str.strip, line.split("|", form.count("|")))] for line in text.splitlines() if line.strip()]


def settle(runs: Collection[str], report: Callable[[str], object]) -> list[QueuedJob]:
    """Cancel the runs' pending jobs, wait until none of the others is left, and return all that were in the queue."""
    reported = ""
    first = left = queued(runs)
    while left:
        waiting = [job.number for job in left if job.state in WAITING]
        if waiting:
            ask("scancel", *waiting)
        running = [str(job) for job in left if job.number not in waiting]
        if running and ", ".join(running) != reported:
            reported = ", ".join(running)
            report(f"waiting for {len(running)} to end (scancel ends them sooner): {reported}")
        time.sleep(0.5 if waiting else 5.0)
        left = queued(runs)
    return first


def note(folder: Path, run: str) -> Path:
    """Note in a folder, before the first job is submitted, that a run submits jobs; return the note's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run}.slurm"
    path.touch()
    return path


def noted(folder: Path) -> list[str]:
    """Return the noted runs."""
    return [path.stem for path in sorted(folder.glob("*.slurm"))]


def forget(folder: Path, run: str) -> None:
    """Remove the note on a run whose jobs have all ended."""
    (folder / f"{run}.slurm").unlink(missing_ok=True)


def asked(job: Any) -> str:
    """Return a job's requested resources, such as ``gpu = 1, mem_mb = 4000``."""
    values = {key: job.resources.get(key) for key in ASKED}
    return ", ".join(f"{key} = {value}" for key, value in values.items() if value not in (None, ""))


def unseen(job: Any, mark: Path) -> str:
    """Return a problem if a free node of the requested kind doesn't see `mark` or can't import halobench; else, ""."""
    where = [f"--{option}={job.resources.get(key)}" for key, option in NODE.items() if job.resources.get(key)]
    file, python = shlex.quote(str(mark.absolute())), shlex.quote(sys.executable)
    look = f"test -f {file} && {python} -c 'import halobench, snakemake'"
    quick = [f"--immediate={FREE}", "--job-name=halobench-look", "--ntasks=1", "--mem=500", "--time=2"]
    try:
        ask("srun", *quick, *where, "sh", "-c", f"({look}) 2>/dev/null || exit 71", timeout=FREE + PATIENCE)
    except SlurmError as error:
        if node := re.search(r"(\S+): task 0: Exited with exit code 71", str(error)):
            what = f"the node {node[1]} doesn't see {Path.cwd()}, or can't import halobench with {sys.executable}"
            return f"{what}; both must be on a shared file system, under the same paths on all nodes"
    return ""
