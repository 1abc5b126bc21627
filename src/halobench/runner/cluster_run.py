"""What a run on SLURM does before its first job and after its last, and what it passes on to its jobs.

Jobs run under Snakemakes of their own, which read the workflow again, on another machine and perhaps days later. They
are to compute what was asked when the run was started, so that configuration and code are noted in a file, whose path
their environment holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halobench.core.spec_codec import to_json
from halobench.experiment import code_version
from halobench.experiment.config_loader import ConfigError
from halobench.runner import run as masters
from halobench.runner.slurm import executor_patch
from halobench.runner.slurm.queries import ResourceRequest, Runs, check, look, queued
from halobench.storage import files

NOTED = "HALOBENCH_STARTED"  # the file that tells what a run was started with
# Resources that are whole numbers, and the least one, if there is any.
WHOLE = {"gpu": 0, "mem_mb": None, "runtime": 1, "cpus_per_task": None, "nodes": 1}
LOGS = Path(".snakemake/slurm_logs")  # where the executor plugin puts logs unless told otherwise


def start(workflow: Any, config: Mapping[str, Any]) -> None:
    """Check, before any job, that no jobs of a dead run are left and that the cluster takes those of this one.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        As it is when it starts to run jobs.
    config : mapping
        The merged configuration.

    Raises
    ------
    ConfigError
        With what stands against it.
    SlurmError
        If SLURM doesn't answer.
    """
    runs = Runs(masters.STATE)
    dead = runs.of_others({path.name for path in masters.alive(Path())}) if runs.names() else []
    if left := queued(dead):
        what = "no jobs of a run that died: `halobench run` waits for them, `halobench run --orphans cancel` ends them"
        raise ConfigError([f"queue = {', '.join(map(str, left))}: expected {what}"])
    for run in dead:
        runs.forget(run)
    if not _on_slurm(workflow):
        return
    settings = workflow.executor_settings
    _check_path(Path.cwd())
    # Snakemake would let jobs end that run or wait, however long: a batch job's master would be killed before.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    executor_patch.improve(workflow.scheduler._executor, settings.init_seconds_before_status_checks)
    jobs = requests(workflow)
    if problems := [line for alike in jobs.values() for line in _refused(alike[0])]:
        raise ConfigError(problems)
    wanted = {request: {job.rule.name for job in alike} for request, alike in jobs.items()}
    check(wanted, settings.status_command, settings.init_seconds_before_status_checks)
    facts = {"master": masters.name(), "started": datetime.now(UTC).isoformat(timespec="seconds")}
    mark = runs.note(_run(workflow), facts)
    for request in sorted(wanted, key=lambda request: request.gpu or 0)[-1:]:
        try:
            remark = look(request, Path.cwd(), mark.absolute(), masters.STATE / "seen")
        except ConfigError:
            runs.forget(_run(workflow))
            raise
        if remark:
            print(f"halobench: {remark}", file=sys.stderr)
    os.environ[NOTED] = str(note_start(config).absolute())


def end(workflow: Any) -> None:
    """Forget a run that ended in good order: its jobs have all ended, or were cancelled."""
    if _on_slurm(workflow):
        Runs(masters.STATE).forget(_run(workflow))


def requests(workflow: Any) -> dict[ResourceRequest, list[Any]]:
    """Return what the jobs that will be submitted ask of the cluster: each distinct request with its jobs."""
    jobs: dict[ResourceRequest, list[Any]] = {}
    for job in workflow.dag.needrun_jobs():
        if not job.is_local and not job.is_norun:
            jobs.setdefault(ResourceRequest.of(job.resources, job.threads), []).append(job)
    return jobs


def _check_path(folder: Path) -> None:
    """Refuse a path that the shells between SLURM and a stage would read otherwise."""
    if wrong := sorted(set(str(folder)) & set('$`"\\')):
        what = f"a path without {' '.join(wrong)}, which shells on the way to a node would read otherwise"
        raise ConfigError([f"working directory = {folder}: expected {what}"])


def _refused(job: Any) -> list[str]:
    """Return what the executor plugin would say of a job when it submits it, after other jobs have run."""
    from snakemake_executor_plugin_slurm.utils import set_gres_string
    from snakemake_executor_plugin_slurm.validation import validate_slurm_extra
    from snakemake_interface_common.exceptions import WorkflowError

    problems = []
    for name, least in WHOLE.items():
        value = job.resources.get(name)
        if value is not None and (not isinstance(value, int) or (least is not None and value < least)):
            what = "a whole number" + ("" if least is None else f" of at least {least}")
            problems.append(f"{job.rule.name}: {name} = {value}: expected {what}")
    if problems:
        return problems
    for names, validate in ((("gpu_model", "gres"), set_gres_string), (("slurm_extra",), validate_slurm_extra)):
        try:
            validate(job)
        except WorkflowError as error:
            setting = ", ".join(f"{name} = {job.resources.get(name)}" for name in names if job.resources.get(name))
            problems.append(f"{job.rule.name}: {setting}: {' '.join(str(error).split())}")
    return problems


def note_start(config: Mapping[str, Any]) -> Path:
    """Write what a run was started with: its configuration, and the maps of all code that it has asked for."""
    content = {"config": json.loads(json.dumps(config)), "code": code_version.maps_in_use()}
    path = masters.STATE / "started" / f"{hashlib.sha256(to_json(content).encode()).hexdigest()[:16]}.json"
    if not path.exists():
        files.write_json(path, content)
    return path


def started_with() -> dict[str, Any] | None:
    """In a job's Snakemake: the configuration that its run was started with, whose code map then counts as well.

    None where the run noted none. From here on the process also survives the signal that warns of a time limit, which
    is meant for the stage below it.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    path = os.environ.get(NOTED)
    if not path:
        return None
    noted = files.read_json(path, ["config", "code"])
    code_version.freeze(noted["code"])
    return noted["config"]


def logs(workflow: Any) -> Path | None:
    """Where the logs of a run's SLURM jobs lie."""
    return Path(workflow.executor_settings.logdir or LOGS) if _on_slurm(workflow) else None


def is_local(workflow: Any) -> bool:
    """Whether jobs run on this machine, as children of Snakemake's process."""
    return getattr(workflow.executor_plugin, "name", None) == "local"


def _on_slurm(workflow: Any) -> bool:
    return getattr(workflow.executor_plugin, "name", None) == "slurm"


def _run(workflow: Any) -> str:
    """Return the name that all jobs of a run have in the queue."""
    return workflow.scheduler._executor.run_uuid
