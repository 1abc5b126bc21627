"""Describe the resources that jobs request from a cluster, and check that a node sees the files that jobs need."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

from halobench.runner.slurm.queue import PATIENCE, SlurmError, ask

# The resources that a job can request, by their names in profiles.
ASKED = (
    *("slurm_partition", "slurm_account", "qos", "gpu", "gpu_model", "gres", "constraint"),
    *("mem_mb", "runtime", "cpus_per_task", "nodes", "slurm_extra"),
)
# The resources that determine the kind of node, and srun's options for them.
NODE = {"slurm_partition": "partition", "slurm_account": "account", "qos": "qos", "constraint": "constraint"}
NODE |= {"gpu": "gpus", "gres": "gres"}
FREE = 15  # seconds to wait for a free node


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
