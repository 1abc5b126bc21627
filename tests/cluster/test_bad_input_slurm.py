"""What a cluster can't do is reported before any job is submitted, in one message, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from one_host import OneHost
from onslurm import slow_workspace, without_slurm

from conftest import SOAK, Workspace, needs
from halobench.runner.run import SUBMITTED
from halobench.runner.slurm import queue

pytestmark = [pytest.mark.cluster, pytest.mark.faults]


def refused(workspace: Workspace, arguments: Sequence[str], environment: dict[str, str]) -> str:
    """Return what a run prints that must end with code 1, before any job, and leave existing files untouched."""
    kept = workspace.folder / "results/runs/other/mlp/slow/seed0/train.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("{}")
    before = results_of(workspace)
    command = [sys.executable, "-m", "halobench.cli.main", "run", "--workflow-profile", "profiles/slurm", *arguments]
    done = subprocess.run(command, cwd=workspace.folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr[-3000:]
    assert results_of(workspace) == before
    assert queue.noted(workspace.folder / SUBMITTED) == []
    assert not any((workspace.folder / ".snakemake/locks").glob("*"))
    assert "Traceback" not in done.stderr
    return done.stderr


def results_of(workspace: Workspace) -> list[Path]:
    """All result files except the requests, which only say what jobs would be started with."""
    files = (path for path in workspace.folder.glob("results/**/*") if path.is_file())
    return sorted(path for path in files if path.parent.name != "requests")


def never_asked(cluster: OneHost) -> bool:
    """Whether no job of a run was ever in the queue."""
    return "rule_" not in cluster.ask("scontrol", "show", "job")


def resources(*pairs: str) -> list[str]:
    return ["--set-resources", *(f"train:{pair}" for pair in pairs)]


NODES = "available: gpu*: 1-00:00:00, gpu:2, 64000 MiB, 8 CPUs; urgent: 1-00:00:00, gpu:2, 64000 MiB, 8 CPUs"
WHY = "sbatch: allocation failure: Requested node configuration is not available"
NONE = f"expected resources that a cluster node has ({WHY}); {NODES}"


CANNOT = {
    "two nodes": ([*resources("gpu=3"), "--resources", "gpu=16"], "gpu = 3", NONE),  # would take two nodes
    "account": (
        resources("slurm_account=physics"),
        "slurm_account = physics",
        "expected none, since this cluster has",
    ),
    "runtime": (resources("runtime=1441"), "runtime = 1441", "expected 1 to 1440 minutes, the limit of its partition"),
    "type": (resources("cpus_per_task=many"), "cpus_per_task = many", "cpus_per_task must be an integer, but is many"),
    "partition": (resources("slurm_partition=gpus"), "slurm_partition = gpus", "Invalid partition name specified"),
    "extra": (resources("slurm_extra='--mem=5G'"), "slurm_extra = --mem=5G", "The --memory option is not allowed"),
}
SAMPLE = ("two nodes", "account", "runtime", "type")  # each is refused at a different point


@pytest.mark.parametrize("what", CANNOT if SOAK else SAMPLE)
def test_what_the_cluster_cannot_give(cluster, tmp_path, what):
    arguments, setting, told = CANNOT[what]
    said = refused(slow_workspace(tmp_path / "w"), arguments, cluster.environment)
    (problem,) = said[said.index("The cluster has problems:\n") :].strip().splitlines()[1:]
    assert problem.startswith("train: ") or "slurm-status-command" in setting
    assert setting in problem
    assert told in problem
    assert never_asked(cluster)


def test_a_path_that_shells_would_read_otherwise(cluster, tmp_path):
    said = refused(slow_workspace(tmp_path / "a $HOME"), [], cluster.environment)
    assert "expected a path without $, which shells on the way to a node would interpret" in said
    assert never_asked(cluster)


def test_no_sbatch_on_path(slurm, tmp_path):
    environment = os.environ | {"PATH": without_slurm(tmp_path / "bin")}
    said = refused(slow_workspace(tmp_path / "w"), [], environment)
    assert "executor = slurm: expected a cluster that responds (sinfo: not found on PATH)" in said


@pytest.mark.soak
def test_a_cluster_that_does_not_answer(cluster, tmp_path):
    environment = cluster.environment
    cluster.kill_controller()
    said = refused(slow_workspace(tmp_path / "w"), [], environment)
    assert "executor = slurm: expected a cluster that responds (sinfo: " in said


def hide(cluster: OneHost, folder: Path | str) -> None:
    """Make nodes see another, empty file system in place of a folder."""
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(folder)]
    done = subprocess.run([*hidden, "true"], capture_output=True)
    needs(done.returncode == 0, "root, to let nodes see other files than the master")
    for name in cluster.nodes:
        cluster.kill_node(name)
        cluster.start_node(name, before=hidden)


def test_results_that_nodes_do_not_see(cluster, tmp_path):
    workspace = slow_workspace(tmp_path / "w")
    hide(cluster, workspace.folder)
    said = refused(workspace, [], cluster.environment)
    told = f"working directory = {workspace.folder}: expected a directory that compute nodes see under the same path, "
    assert f"{told}on a shared file system (node node" in said, said[-3000:]
    assert never_asked(cluster)


@pytest.mark.soak
def test_a_python_that_nodes_do_not_see(cluster, tmp_path):
    hide(cluster, sys.prefix)
    said = refused(slow_workspace(tmp_path / "w"), [], cluster.environment)
    assert f"Python = {sys.executable}: expected a Python with halobench and snakemake that compute nodes see" in said
    assert never_asked(cluster)
