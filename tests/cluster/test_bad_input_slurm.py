"""What a cluster can't do ends a run within seconds, in one line, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from one_host import OneHost
from onslurm import FIRST_LOOK, Run, job_of, record, slow_workspace, wait_until, without_slurm

from conftest import Workspace, needs
from halobench.runner import run_folder, slurm

pytestmark = [pytest.mark.cluster, pytest.mark.faults]
FAST = ("--halobench-slurm-init-seconds-before-status-checks", FIRST_LOOK)


def refused(workspace: Workspace, arguments: Sequence[str], environment: dict[str, str]) -> str:
    """Return what a run prints that must end with code 1, before any job starts, and leave existing files untouched."""
    kept = workspace.folder / "results/runs/other/mlp/slow/seed0/train.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("{}")
    command = [sys.executable, "-m", "halobench.cli.main", "run", "--workflow-profile", "profiles/slurm", *arguments]
    done = subprocess.run(command, cwd=workspace.folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr[-3000:]
    assert list(workspace.folder.glob("results/runs/**/*.json")) == [kept]
    assert slurm.noted(run_folder.folder_of(workspace.folder / "results")) == []
    assert not any((workspace.folder / ".snakemake/locks").glob("*"))
    assert "Traceback" not in done.stderr
    return done.stderr


def never_asked(cluster: OneHost) -> bool:
    """Whether no job of a run was ever in the queue."""
    return "rule_" not in cluster.ask("scontrol", "show", "job")


def resources(*pairs: str) -> list[str]:
    return ["--set-resources", *(f"train:{pair}" for pair in pairs)]


WHY = "sbatch: error: Batch job submission failed: Requested node configuration is not available"
CANNOT = {
    "gpus": ([*resources("gpu=9"), "--resources", "gpu=16"], "gpu = 9", WHY),
    "two nodes": ([*resources("gpu=3"), "--resources", "gpu=16"], "gpu = 3", WHY),
    "partition": (resources("slurm_partition=gpus"), "slurm_partition = gpus", "Invalid partition name specified"),
    "runtime": (resources("runtime=1441"), "runtime = 1441", "would wait forever: PartitionTimeLimit"),
}


@pytest.mark.parametrize("what", ["gpus", *(pytest.param(w, marks=pytest.mark.soak) for w in CANNOT if w != "gpus")])
def test_what_the_cluster_cannot_give(cluster, tmp_path, what):
    """The first job of its kind ends the run in seconds, with a line that names the rule and the option."""
    arguments, setting, told = CANNOT[what]
    said = refused(slow_workspace(tmp_path / "w", seeds=3), [*arguments, *FAST], cluster.environment)
    problems = dict.fromkeys(line for line in said.splitlines() if line.startswith("train: "))
    assert len(problems) == 1, said
    (problem,) = problems
    assert setting in problem, said
    assert told in problem
    assert said.count(" failed after ") <= 3, "no job is tried again"
    assert cluster.ask("squeue", "--noheader") == ""


@pytest.mark.soak
def test_a_path_that_shells_would_read_otherwise(cluster, tmp_path):
    workspace = slow_workspace(tmp_path / 'a $HOME "`b`', epochs=2)
    with Run(workspace, cluster, "--until", "train") as run:
        run.ends_well()
    assert record(workspace)["hardware"]["slurm"]["job"]


def test_no_sbatch_on_path(slurm, tmp_path):
    environment = os.environ | {"PATH": without_slurm(tmp_path / "bin")}
    said = refused(slow_workspace(tmp_path / "w"), [], environment)
    assert "the cluster doesn't respond (squeue: not found on PATH)" in said


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
    assert f"doesn't see {workspace.folder}, or can't import halobench with {sys.executable}" in said, said[-3000:]
    assert never_asked(cluster)


@pytest.mark.soak
def test_jobs_that_end_before_their_stages_start_say_why_and_end_the_run(cluster, tmp_path):
    """Not all of their attempts are made. Here, the nodes read a configuration that was damaged while jobs waited."""
    workspace = slow_workspace(tmp_path / "w", seeds=4, epochs=4)
    full = ["--output=/dev/null", "--nodes=1", "--gpus=2", "--array=1-2", "--wrap", "sleep 600"]
    others = cluster.ask("sbatch", "--parsable", *full).strip()
    with Run(workspace, cluster, "--retries", "5") as run:
        wait_until(lambda: job_of(cluster, "rule_train") or run.process.poll() is not None, "a training is submitted")
        frozen = workspace.folder / "results/.run/config.yaml"
        frozen.write_text(frozen.read_text().replace("lr: 0.003", "lr: fast"))
        cluster.ask("scancel", others)
        assert run.end() == 1, run.said()
    why = "train.lr = 'fast': expected a number"
    assert f"3 jobs ended before their stages started, which no retry would change: {why}" in run.said()
    assert "train noisy/mlp/slow/seed0  failed after " in run.said()
    assert run.said().count("failed after") < 4 * 6
    assert "(no output" not in run.said()
