"""What a cluster can't do is told before any job is submitted, in one message, with nothing lost."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from onslurm import slow_workspace, without_slurm

from conftest import Workspace, needs
from halobench.runner.slurm.local_cluster import OneHost
from halobench.runner.slurm.queries import Runs

pytestmark = [pytest.mark.cluster, pytest.mark.faults]
MINUTE = 60


def refused(workspace: Workspace, arguments: Sequence[str], environment: dict[str, str]) -> str:
    """What a run says that ends within a minute with code 1, before any job, with what was there untouched."""
    kept = workspace.folder / "results/runs/other/mlp/slow/seed0/train.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("{}")
    before = results_of(workspace)
    command = [sys.executable, "-m", "halobench.cli.main", "run", "--workflow-profile", "profiles/slurm", *arguments]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=workspace.folder, env=environment, capture_output=True, text=True, timeout=2 * MINUTE
    )
    assert time.monotonic() - began < MINUTE
    assert done.returncode == 1, done.stderr[-3000:]
    assert results_of(workspace) == before
    assert Runs(workspace.folder / ".snakemake/halobench").names() == []
    assert not any((workspace.folder / ".snakemake/locks").glob("*"))
    assert "Traceback" not in done.stderr
    return done.stderr


def results_of(workspace: Workspace) -> list[Path]:
    """All files of results but the requests, which say what would be asked of jobs."""
    files = (path for path in workspace.folder.glob("results/**/*") if path.is_file())
    return sorted(path for path in files if path.parent.name != "requests")


def never_asked(cluster: OneHost) -> bool:
    """Whether no job of a run was ever in the queue."""
    return "rule_" not in cluster.ask("scontrol", "show", "job")


def resources(*pairs: str) -> list[str]:
    return ["--set-resources", *(f"train:{pair}" for pair in pairs)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            [*resources("gpu=9"), "--resources", "gpu=16"],
            "train: gpu = 9: expected at most 2, the GPUs of the largest node in partition gpu",
        ),
        (
            resources("gpu_model=h100"),
            "train: gpu = 1: expected at most 0, the GPUs of model h100 of the largest node in partition gpu",
        ),
        (
            resources("slurm_partition=gpus"),
            "slurm_partition = gpus: expected one of gpu, urgent (did you mean 'gpu'?)",
        ),
        (resources("slurm_account=physics"), "train: slurm_account = physics: expected none, since this cluster keeps"),
        (resources("gpu_model=a100-sxm4"), "train: gpu_model = a100-sxm4: Invalid GPU model format"),
        (resources("slurm_extra='--mem=5G'"), "train: slurm_extra = --mem=5G: "),
        (resources("constraint=nvlink"), "Invalid feature specification"),
        (resources("runtime=1441"), "train: runtime = 1441: expected at most 1440 minutes, the limit of partition gpu"),
        (
            resources("mem_mb=100000"),
            "mem_mb = 100000: expected at most 64000, the memory in MiB of the largest node in",
        ),
        (resources("cpus_per_task=many"), "train: cpus_per_task = many: expected a whole number"),
        (resources("runtime=0"), "train: runtime = 0: expected a whole number of at least 1"),
        (
            ["--slurm-status-command", "sacct"],
            "slurm-status-command = sacct: expected squeue, since no accounting database answers here (sacct: ",
        ),
    ],
    ids=[
        *("gpus", "model", "partition", "account", "model's name", "extra", "constraint", "runtime", "memory"),
        *("type", "no time", "sacct"),
    ],
)
def test_what_the_cluster_cannot_give(cluster, tmp_path, arguments, told):
    said = refused(slow_workspace(tmp_path / "w"), arguments, cluster.environment)
    assert told in said, said[-3000:]
    problems = said[said.index("The cluster has problems:\n") :].strip().splitlines()[1:]
    assert len(problems) == 1, said[-3000:]
    assert "The cluster has problems:" in said
    assert never_asked(cluster)


def test_a_path_that_shells_would_read_otherwise(cluster, tmp_path):
    said = refused(slow_workspace(tmp_path / "a $HOME"), [], cluster.environment)
    assert "expected a path without $, which shells on the way to a node would read otherwise" in said
    assert never_asked(cluster)


def test_no_sbatch_on_path(slurm, tmp_path):
    environment = {"PATH": f"{without_slurm(tmp_path / 'bin')}"}
    said = refused(slow_workspace(tmp_path / "w"), [], environment)
    assert "executor = slurm: expected SLURM's commands on PATH, as on a cluster's login node (not found: " in said


def test_a_cluster_that_does_not_answer(cluster, tmp_path):
    environment = cluster.environment
    cluster.kill_controller()
    said = refused(slow_workspace(tmp_path / "w"), [], environment)
    assert "executor = slurm: expected a cluster that answers (sinfo: " in said


def hide(cluster: OneHost, folder: Path | str) -> None:
    """Let another, empty file system lie where nodes look for a folder."""
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
    told = f"working directory = {workspace.folder}: expected a directory that compute nodes see under the same path: "
    assert f"{told}a shared file system (node node" in said, said[-3000:]
    assert never_asked(cluster)


def test_a_python_that_nodes_do_not_see(cluster, tmp_path):
    hide(cluster, sys.prefix)
    said = refused(slow_workspace(tmp_path / "w"), [], cluster.environment)
    assert f"Python = {sys.executable}: expected a Python with halobench and snakemake that compute nodes see" in said
    assert never_asked(cluster)
