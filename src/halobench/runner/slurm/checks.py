"""Check whether a cluster accepts a run's jobs, using test submissions like those the executor plugin will make."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from halobench.experiment.config_loader import ConfigError
from halobench.runner.slurm.queue import PATIENCE, SlurmError, ask

# What a job requests from the cluster, by the names used in profiles.
ASKED = (
    *("slurm_partition", "slurm_account", "qos", "gpu", "gpu_model", "gres", "constraint"),
    *("mem_mb", "runtime", "cpus_per_task", "nodes", "slurm_extra"),
)
SINFO = ("sinfo", "-h", "-e", "-o", "%P: %l, %G, %m MiB, %c CPUs")
LOOK = 15  # seconds to wait for a free node to check
KEPT = 86_400  # seconds for which a node's check of the working directory remains valid


def check(workflow: Any, jobs: Iterable[Any]) -> list[Any]:
    """Check that the cluster can take the jobs; return one job from each group with the same requests.

    Raises
    ------
    ConfigError
        With a line for each problem.
    """
    kinds = {(job.name, job.threads, *(str(job.resources.get(key)) for key in ASKED)): job for job in jobs}
    try:
        pools = ask(*SINFO).splitlines()
        problems = _status_problems(workflow.executor_settings)
    except SlurmError as error:
        raise ConfigError([f"executor = slurm: expected a cluster that responds ({error})"]) from None
    for job in kinds.values():
        problems += [f"{job.name}: {problem}" for problem in _problems(workflow, job, pools)]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return list(kinds.values())


def _status_problems(settings: Any) -> list[str]:
    """Return why job states can't be queried, if they can't; a run would then wait for its first job forever."""
    from snakemake_executor_plugin_slurm.job_status_query import get_min_job_age

    status, first, age = settings.status_command, settings.init_seconds_before_status_checks, get_min_job_age() or 0
    if shutil.which("sacct") is None or (status == "squeue" and age >= 3 * first):
        return []
    try:
        ask("sacct", "-X", "-n", "--starttime", "now-1minutes")
    except SlurmError as error:
        if status != "squeue":
            right = "squeue, since no accounting database responds here"
            return [f"slurm-status-command = {status}: expected {right} ({error})"]
        right = f"at most {age // 3}, since squeue here drops a job {age} s after it ends"
        return [f"slurm-init-seconds-before-status-checks = {first}: expected {right} ({error})"]
    return []


def _problems(workflow: Any, job: Any, pools: list[str]) -> list[str]:
    """List what the plugin and sbatch would refuse in a job, and what would wait forever, without submitting it."""
    from snakemake_executor_plugin_slurm.accounts import validate_account
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string
    from snakemake_executor_plugin_slurm.validation import validate_slurm_extra
    from snakemake_interface_common.exceptions import WorkflowError

    executor, runtime = workflow.scheduler._executor, job.resources.get("runtime")
    options = {key: job.resources.get(key) for key in ASKED if job.resources.get(key) not in (None, "")}
    settings = ", ".join(f"{key} = {value}" for key, value in options.items())
    accounts = re.findall(r"[^,\s]+", str(options.get("slurm_account", "")))
    try:
        if not all(validate_account(account, executor.logger) for account in accounts):
            return [f"slurm_account = {options['slurm_account']}: expected none, since this cluster has no accounts"]
        validate_slurm_extra(job)
        where = {"account": next(executor.get_account_arg(job)), "partition": executor.get_partition_arg(job)}
        where |= {"run_uuid": "test", "slurm_logfile": os.devnull, "comment_str": "", "workdir": ""}
        command = get_submit_command(job, where, settings=workflow.executor_settings) + set_gres_string(job)
        ask(*shlex.split(command), "--test-only", "--wrap=true")
    except (WorkflowError, TypeError) as error:
        return [f"{settings}: {' '.join(str(error).split())}"]
    except SlurmError as error:
        return [f"{settings}: expected resources that a cluster node has ({error}); available: {'; '.join(pools)}"]
    names = str(options.get("slurm_partition", "")).split(",")
    named = [line for line in pools if line.split(": ")[0].rstrip("*") in names or (names == [""] and "*: " in line)]
    longest = max((minutes(line.split(": ")[1].split(",")[0]) for line in named), default=float("inf"))
    if isinstance(runtime, int) and not 1 <= runtime <= longest:  # sbatch would accept it
        return [f"runtime = {runtime}: expected 1 to {longest:g} minutes, the limit of its partition"]
    return []


def minutes(text: str) -> float:
    """Convert a time in SLURM's notation (``1-02:00:00``, ``30:00``) to minutes; no limit becomes infinity."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not match:
        return float("inf")
    days, hours, mins, seconds = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + mins + seconds / 60


def look(job: Any, mark: Path, seen: Path) -> str:
    """Let a compute node check that it sees the working directory and Python; return a remark if none was free.

    Parameters
    ----------
    job : snakemake.jobs.Job
        A job that will be submitted; it determines the kind of node.
    mark : Path
        A file just written to the working directory.
    seen : Path
        The file in which a positive answer is noted; the answer is valid for a day.

    Raises
    ------
    ConfigError
        If the node doesn't see them.
    """
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    options = {"slurm_partition": "partition", "slurm_account": "account", "qos": "qos", "constraint": "constraint"}
    where = [f"--{option}={job.resources.get(key)}" for key, option in options.items() if job.resources.get(key)]
    where += set_gres_string(job).split()
    what = " ".join([sys.executable, *where])
    if seen.exists() and seen.read_text() == what and time.time() - seen.stat().st_mtime < KEPT:
        return ""
    # The command is silent, so the last line is srun's own, which includes the node's name.
    python = f"{shlex.quote(sys.executable)} -c 'import halobench, snakemake'"
    script = f"test -f {shlex.quote(str(mark.absolute()))} || exit 71; ({python}) 2>/dev/null || exit 72"
    quick = [f"--immediate={LOOK}", "--job-name=halobench-look", "--ntasks=1", "--mem=500", "--time=2"]
    try:
        ask("srun", *quick, *where, "sh", "-c", script, timeout=LOOK + PATIENCE)
    except SlurmError as error:
        match = re.search(r"(\S+): task 0: Exited with exit code (7[12])", str(error))
        if not match:
            return f"could not check whether compute nodes see this directory ({error}); submitting jobs anyway"
        setting, right = {
            "71": (f"working directory = {Path.cwd()}", "a directory"),
            "72": (f"Python = {sys.executable}", "a Python with halobench and snakemake"),
        }[match[2]]
        shared = f"{right} that compute nodes see under the same path, on a shared file system"
        raise ConfigError([f"{setting}: expected {shared} (node {match[1]} doesn't see it)"]) from None
    seen.write_text(what)
    return ""
