"""The steps of a run on SLURM before its first job and after its last, and the notes that it passes on to its jobs.

Each job runs under its own Snakemake, which reads the workflow again on another machine, perhaps days later. It must
compute what was requested when the run was started, so the configuration and code are noted in a file whose path is in
the job's environment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.spec_codec import to_json
from halobench.experiment import code_version
from halobench.runner.run import STATE
from halobench.storage import files

NOTED = "HALOBENCH_STARTED"  # environment variable with the path of the file that records what a run was started with
LOGS = Path(".snakemake/slurm_logs")  # where the executor plugin puts logs by default


def start(config: Mapping[str, Any]) -> None:
    """Note what the run was started with, for its jobs."""
    os.environ[NOTED] = str(note_start(config).absolute())


def note_start(config: Mapping[str, Any]) -> Path:
    """Write down what a run was started with, that is, its configuration and all code maps that it has requested."""
    content = {"config": json.loads(json.dumps(config)), "code": code_version.maps_in_use()}
    path = STATE / "started" / f"{hashlib.sha256(to_json(content).encode()).hexdigest()[:16]}.json"
    if not path.exists():
        files.write_json(path, content)
    return path


def started_with() -> dict[str, Any] | None:
    """Return the configuration that a job's run was started with, and adopt the run's code map (in a job's Snakemake).

    The result is None if the run noted nothing.
    """
    path = os.environ.get(NOTED)
    if not path:
        return None
    noted = files.read_json(path, ["config", "code"])
    code_version.freeze(noted["code"])
    return noted["config"]


def logs(workflow: Any) -> Path | None:
    """Return the folder of a run's SLURM logs."""
    return (
        Path(workflow.executor_settings.logdir or LOGS) if executor(workflow) in ("slurm", "halobench-slurm") else None
    )


def executor(workflow: Any) -> str | None:
    """Return the name of the executor: ``local`` if jobs run on this machine, as children of Snakemake's process."""
    return getattr(workflow.executor_plugin, "name", None)
