"""The steps of a run on SLURM before its first job and after its last, and the notes that it passes on to its jobs.

Each job runs under its own Snakemake, which reads the workflow again on another machine, perhaps days later. It must
compute what was requested when the run was started, so the configuration and code are noted in a file whose path is in
the job's environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.spec_codec import to_json
from halobench.experiment import code_version
from halobench.experiment.config_loader import ConfigError
from halobench.runner import outcome
from halobench.runner.run import STATE, SUBMITTED, name, other_runs
from halobench.runner.slurm import checks, executor_patch, queue
from halobench.storage import files

NOTED = "HALOBENCH_STARTED"  # environment variable with the path of the file that records what a run was started with
LOGS = Path(".snakemake/slurm_logs")  # where the executor plugin puts logs by default


def start(workflow: Any, config: Mapping[str, Any]) -> None:
    """Check, before any job runs, that no jobs of a dead run are left and that the cluster accepts this run's jobs.

    Raises
    ------
    ConfigError
        With the problems found.
    SlurmError
        If SLURM doesn't answer.
    """
    dead = queue.noted(SUBMITTED) and queue.noted(SUBMITTED, other_runs(Path())[0])
    if left := queue.queued(dead):
        what = "no jobs of a dead run; `halobench run` waits for them, or `halobench run --orphans cancel` cancels them"
        raise ConfigError([f"queue = {', '.join(map(str, left))}: expected {what}"])
    for run in dead:
        queue.forget(SUBMITTED, run)
    if executor(workflow) != "slurm":
        return
    if wrong := sorted(set(str(Path.cwd())) & set('$`"\\')):
        what = f"a path without {' '.join(wrong)}, which shells on the way to a node would interpret"
        raise ConfigError([f"working directory = {Path.cwd()}: expected {what}"])
    # Snakemake would let running and pending jobs finish, however long they take; a batch job that runs Snakemake
    # would be killed before that.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    executor_patch.improve(workflow.scheduler._executor, workflow.executor_settings.init_seconds_before_status_checks)
    submitted = (job for job in workflow.dag.needrun_jobs() if not job.is_local and not job.is_norun)
    kinds = checks.check(workflow, submitted)
    mark = queue.note(SUBMITTED, _run(workflow), name())
    for job in sorted(kinds, key=lambda job: job.resources.get("gpu") or 0)[-1:]:
        try:
            remark = checks.look(job, mark, STATE / "seen")
        except ConfigError:
            queue.forget(SUBMITTED, _run(workflow))
            raise
        if remark:
            outcome.say(remark)
    os.environ[NOTED] = str(note_start(config).absolute())


def end(workflow: Any) -> None:
    """Forget a run that ended normally, whose jobs have all ended or been cancelled."""
    if executor(workflow) == "slurm":
        queue.forget(SUBMITTED, _run(workflow))


def note_start(config: Mapping[str, Any]) -> Path:
    """Write down what a run was started with, that is, its configuration and all code maps that it has requested."""
    content = {"config": json.loads(json.dumps(config)), "code": code_version.maps_in_use()}
    path = STATE / "started" / f"{hashlib.sha256(to_json(content).encode()).hexdigest()[:16]}.json"
    if not path.exists():
        files.write_json(path, content)
    return path


def started_with() -> dict[str, Any] | None:
    """Return the configuration that a job's run was started with, and adopt the run's code map (in a job's Snakemake).

    The result is None if the run noted nothing. From then on, the process also survives the signal that warns of a time
    limit, which is meant for the stage that it runs.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    path = os.environ.get(NOTED)
    if not path:
        return None
    noted = files.read_json(path, ["config", "code"])
    code_version.freeze(noted["code"])
    return noted["config"]


def logs(workflow: Any) -> Path | None:
    """Return the folder of a run's SLURM logs."""
    return Path(workflow.executor_settings.logdir or LOGS) if executor(workflow) == "slurm" else None


def executor(workflow: Any) -> str | None:
    """Return the name of the executor: ``local`` if jobs run on this machine, as children of Snakemake's process."""
    return getattr(workflow.executor_plugin, "name", None)


def _run(workflow: Any) -> str:
    """Return the name that all of a run's jobs have in the queue."""
    return workflow.scheduler._executor.run_uuid
