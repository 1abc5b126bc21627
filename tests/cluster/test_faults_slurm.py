"""Jobs that SLURM ends early: in the end, the results are those of an undisturbed run, byte for byte.

`make check` cancels a job and kills a main process; `make soak` has all other disturbances too.
"""

from __future__ import annotations

import os
import signal

import pytest
from one_host import OneHost
from onslurm import (
    SLOW,
    Run,
    assert_same_training,
    assert_undisturbed,
    epochs_done,
    facts,
    hurry,
    job_of,
    record,
    slow_config,
    slow_workspace,
    stage_log,
    start_now,
    wait_until,
)

from conftest import Workspace, finished_workspace

pytestmark = [pytest.mark.cluster, pytest.mark.faults]
SEEDS = 3
EPOCHS, STEP = 60, 0.4  # 48 s, unless a test lets it hurry after disturbing it; it is saved every 2 s
SAVED = ("--set-resources", "train:checkpoint_seconds=2")


@pytest.fixture
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The training runs of all seeds, done here at full speed."""
    aims = [f"results/runs/noisy/mlp/slow/seed{seed}/train.json" for seed in range(SEEDS)]
    return finished_workspace(tmp_path_factory, "slow", slow_config(SEEDS, EPOCHS), *aims, own={"slow.py": SLOW})


def start_training(folder, cluster, *arguments, step: float = STEP, **environment: str):
    """Start a run and wait until its training is past its first epoch and saved; return workspace, run and job ID."""
    workspace = slow_workspace(folder, epochs=EPOCHS)
    run = Run(workspace, cluster, *SAVED, *arguments, step=step, **environment)
    try:

        def under_way() -> bool:
            return epochs_done(workspace) >= 4 and "saved at" in stage_log(workspace)

        wait_until(lambda: under_way() or run.process.poll() is not None, "the training is under way")
        assert run.process.poll() is None, run.said()
        return workspace, run, job_of(cluster, "rule_train")
    except BaseException:
        run.kill()
        raise


def test_scancel_of_a_running_training(cluster, tmp_path, undisturbed):
    workspace, run, job = start_training(tmp_path / "w", cluster)
    with run:
        cluster.ask("scancel", job)
        hurry(workspace)
        run.ends_well()
    assert_undisturbed(workspace, undisturbed)
    assert record(workspace)["hardware"]["slurm"]["job"] != job


@pytest.mark.soak
def test_a_node_dies_with_its_job(cluster, tmp_path, undisturbed):
    workspace, run, job = start_training(tmp_path / "w", cluster)
    with run:
        node = facts(cluster, job)["NodeList"]
        cluster.kill_node(node)
        hurry(workspace)
        start_now(cluster, job)  # once the cluster has noticed
        run.ends_well()
    assert_undisturbed(workspace, undisturbed)
    made = record(workspace)["hardware"]["slurm"]
    assert (made["job"], made["node"]) == (job, next(name for name in cluster.nodes if name != node))
    assert facts(cluster, job)["Restarts"] == "1"


def preempt(cluster: OneHost, job: str) -> None:
    """Submit a more urgent job that needs all slots of the node on which a job runs."""
    node = facts(cluster, job)["NodeList"]
    urgent = ["--partition=urgent", "--nodes=1", f"--nodelist={node}", "--gpus=2", "--output=/dev/null"]
    cluster.ask("sbatch", *urgent, "--job-name=urgent", "--wrap", "sleep 5")


def requeue(cluster: OneHost, job: str) -> None:
    cluster.ask("scontrol", "requeue", job)


@pytest.mark.soak
@pytest.mark.parametrize("disturb", [requeue, preempt])
def test_a_job_that_is_put_back_into_the_queue(cluster, tmp_path, undisturbed, disturb):
    workspace, run, job = start_training(tmp_path / "w", cluster)
    with run:
        disturb(cluster, job)
        hurry(workspace)
        start_now(cluster, job)
        run.ends_well()
    assert_undisturbed(workspace, undisturbed)
    assert record(workspace)["hardware"]["slurm"]["job"] == job
    assert facts(cluster, job)["Restarts"] == "1"


@pytest.mark.soak
def test_preemption_that_cancels(slurm, tmp_path, undisturbed):
    """On a cluster that doesn't requeue preempted jobs, the executor plugin alone would wait forever."""
    with OneHost(settings={"MinJobAge": "3600", "PreemptMode": "CANCEL"}) as cluster:
        workspace, run, job = start_training(tmp_path / "w", cluster)
        with run:
            preempt(cluster, job)
            wait_until(lambda: facts(cluster, job)["JobState"] == "PREEMPTED", "the training is preempted")
            hurry(workspace)
            run.ends_well()
    assert_undisturbed(workspace, undisturbed)
    assert record(workspace)["hardware"]["slurm"]["job"] != job


@pytest.mark.soak
def test_jobs_that_the_queue_forgot_are_known_by_their_files(slurm, tmp_path, undisturbed):
    """The main process sleeps, as on a laptop, until SLURM has forgotten the jobs that ended in the meantime."""
    with OneHost(settings={"MinJobAge": "6"}) as cluster:
        workspace, run, job = start_training(tmp_path / "w", cluster)
        with run:
            run.snakemake.suspend()
            hurry(workspace)
            try:
                made = workspace.folder / "results/runs/noisy/mlp/slow/seed0/train.json"
                wait_until(made.exists, "the training is done")
                wait_until(lambda: job not in cluster.ask("squeue", "--noheader", "--states=all"), "it is forgotten")
            finally:
                run.snakemake.resume()
            run.ends_well()
    assert record(workspace)["hardware"]["slurm"]["job"] == job
    assert_same_training(workspace, undisturbed)


@pytest.mark.soak
def test_a_time_limit_is_warned_of_and_gone_on_from(cluster, tmp_path, undisturbed):
    """Training takes ninety seconds, and a job may take one minute."""
    workspace, run, job = start_training(
        tmp_path / "w", cluster, "train:runtime=1", "train:slurm_extra='--signal=URG@30'", "--retries", "15",
        step=0.75,
    )  # fmt: skip
    with run:
        assert facts(cluster, job)["TimeLimit"] == "00:01:00"
        run.ends_well(900)
    assert_undisturbed(workspace, undisturbed)
    logs = sorted((workspace.folder / "results/logs/slurm/rule_train/noisy_mlp_slow_0").glob("*.log"))
    assert len(logs) >= 2
    assert record(workspace)["hardware"]["slurm"]["job"] != job


def test_a_killed_master_is_gone_on_from_and_other_jobs_survive(cluster, tmp_path, undisturbed):
    """One or two cells are finished, the others are training or waiting, and two jobs of the same user aren't ours."""
    workspace = slow_workspace(tmp_path / "w", SEEDS, EPOCHS)
    others = [
        cluster.ask("sbatch", "--parsable", "--output=/dev/null", "-D", str(folder), "--wrap", "sleep 600").strip()
        for folder in (workspace.folder, tmp_path)
    ]
    cells = [f"noisy/mlp/slow/seed{seed}" for seed in range(SEEDS)]

    def done() -> set[str]:
        return {cell for cell in cells if (workspace.folder / f"results/runs/{cell}/train.json").exists()}

    hurry(workspace)
    with Run(workspace, cluster, *SAVED, "--resources", "gpu=2", step=1.0) as run:
        wait_until(lambda: done() or run.process.poll() is not None, "a cell is trained")
        (workspace.folder / "hurry").unlink()

        def moment() -> bool:  # at which a job is under way that the next run will find, since it takes longer to start
            return any(2 <= epochs_done(workspace, cell) <= EPOCHS // 3 for cell in set(cells) - done())

        wait_until(lambda: moment() or run.process.poll() is not None, "another is in training")
        assert run.process.poll() is None, run.said()
        run.kill()
    assert {cell for cell in cells if job_of(cluster, cell.replace("/seed", "_").replace("/", "_"))}
    before = {cell: record(workspace, cell=cell) for cell in done()}
    assert before
    with Run(workspace, cluster, *SAVED, "--resources", "gpu=2", step=STEP) as again:
        waits = "jobs of a run that died: waiting for"
        wait_until(lambda: waits in again.said() or again.process.poll() is not None, "the orphans are waited for")
        hurry(workspace)
        again.ends_well()
    assert waits in again.said()
    for cell, made in before.items():
        assert record(workspace, cell=cell) == made
    for cell in cells:
        assert_same_training(workspace, undisturbed, cell)
    states = {job: facts(cluster, job)["JobState"] for job in others}
    assert set(states.values()) == {"RUNNING"}, states
    # An edit also reruns cells that finished after the main process had died, which it therefore hadn't noted.
    config = workspace.folder / "config.yaml"
    config.write_text(config.read_text().replace(f"epochs: {EPOCHS}", f"epochs: {EPOCHS - 1}"))
    assert workspace.dry_run()[1]["train"] == SEEDS
    # No cell was trained by two jobs.
    assert len({record(workspace, cell=cell)["hardware"]["slurm"]["job"] for cell in cells}) == SEEDS


def assert_cancelled_and_gone_on_from(workspace: Workspace, cluster: OneHost, run: Run, job: str, other: Workspace):
    """After a signal to the main process alone, it ends, its job saves and ends, and the next run resumes."""
    assert run.end() != 0
    # The job is COMPLETING until its processes, which save first, have ended.
    wait_until(lambda: facts(cluster, job)["JobState"] not in ("RUNNING", "COMPLETING"), "the job has ended")
    assert facts(cluster, job)["JobState"] == "CANCELLED", run.said()
    assert "stopped by SIGTERM; saved at epoch " in stage_log(workspace)
    with Run(workspace, cluster) as again:
        again.ends_well()
    assert_undisturbed(workspace, other)


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_master_cancels_its_jobs_which_save(cluster, tmp_path, undisturbed, number):
    """The signal comes between two looks at the queue, ten minutes apart; it doesn't wait for the next."""
    seldom = ["--halobench-slurm-init-seconds-before-status-checks", "600"]
    workspace, run, job = start_training(tmp_path / "w", cluster, *seldom, step=1.0)
    with run:
        os.kill(run.process.pid, number)
        assert_cancelled_and_gone_on_from(workspace, cluster, run, job, undisturbed)


@pytest.mark.soak
def test_a_master_stopped_while_it_looks_at_the_queue(cluster, tmp_path, undisturbed):
    """The executor plugin alone would cancel none of the jobs that it is asking about at that moment.

    Nor would it look as often: only six times in the three minutes that the training takes.
    """
    slow, looks, hold, looking = (tmp_path / name for name in ("slow", "looks", "hold", "looking"))
    slow.mkdir()
    looks.touch()
    waits = f"[ ! -e {hold} ] || {{ touch {looking}; while [ -e {hold} ]; do sleep 0.1; done; }}"
    script = f'#!/bin/sh\necho >> {looks}\n{waits}\nexec {cluster.folder}/bin/squeue "$@"\n'
    (slow / "squeue").write_text(script)
    (slow / "squeue").chmod(0o755)
    path = os.pathsep.join([str(slow), cluster.environment["PATH"]])
    workspace, run, job = start_training(tmp_path / "w", cluster, step=1.5, PATH=path)
    with run:
        wait_until(lambda: len(looks.read_text()) >= 8, "it has looked eight times")
        hold.touch()
        wait_until(looking.exists, "it looks at the queue")
        assert facts(cluster, job)["JobState"] == "RUNNING"
        os.kill(run.process.pid, signal.SIGINT)
        wait_until(lambda: facts(cluster, job)["JobState"] != "RUNNING", "the job is cancelled")
        hold.unlink()
        assert_cancelled_and_gone_on_from(workspace, cluster, run, job, undisturbed)


@pytest.mark.soak
def test_orphans_that_the_user_cancels_are_gone_on_from(cluster, tmp_path, undisturbed):
    workspace, run, job = start_training(tmp_path / "w", cluster, step=1.5)
    run.kill()
    refused = workspace.module("snakemake", "--workflow-profile", "profiles/slurm", environment=cluster.environment)
    assert refused.returncode == 1
    assert f"job {job} (train noisy_mlp_slow_0, RUNNING node" in refused.stderr
    gone = workspace.module(
        "halobench.cli.main", "run", "--cores", "1", environment={"PATH": "/usr/bin:/bin"} | no_slurm(cluster)
    )
    assert gone.returncode == 2
    assert "may still be in a cluster's queue, which can't be queried" in gone.stderr
    with Run(workspace, cluster, *SAVED, step=0.0) as again:
        waits = "jobs of a run that died: waiting for"
        wait_until(lambda: waits in again.said() or again.process.poll() is not None, "the orphan is waited for")
        cluster.ask("scancel", job)
        again.ends_well()
    assert facts(cluster, job)["JobState"] == "CANCELLED"
    assert_undisturbed(workspace, undisturbed)


def no_slurm(cluster: OneHost) -> dict[str, str]:
    """Variables with which SLURM's commands find no cluster."""
    return {"SLURM_CONF": str(cluster.folder / "nowhere.conf")}
