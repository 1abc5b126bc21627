"""`halobench watch` beside a run on a cluster: which of its jobs run, and which wait in the queue."""

from __future__ import annotations

import re

import pytest
from onslurm import Run, job_of, slow_workspace, wait_until

from halobench.runner.monitor.monitor import opened
from halobench.runner.run import Lookout
from halobench.runner.slurm.local_cluster import OneHost
from halobench.runner.snakemake_args import Selection

pytestmark = [pytest.mark.cluster, pytest.mark.workflow]
TRAINED = ("noisy/mlp/slow/seed0", "noisy/mlp/slow/seed1")


def test_running_and_pending_jobs(slurm, tmp_path, monkeypatch):
    """Two trainings are submitted to a cluster with one GPU: one runs and tells its epochs, the other is pending."""
    workspace = slow_workspace(tmp_path / "w", seeds=2, epochs=40)
    with (
        OneHost(nodes=1, gpus=1, settings={"MinJobAge": "3600"}) as cluster,
        Run(workspace, cluster, "--resources", "gpu=2", step=0.5) as run,
    ):
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        wait_until(lambda: Lookout(workspace.folder).alive() or run.process.poll() is not None, "the run goes on")
        watch = opened(workspace.folder / "results", Selection())
        assert (watch.most.remote, watch.most.gpus) == (True, 2)

        def frame_of_both():
            watch.queue._asked = float("-inf")
            found = watch.look(wait=True)
            assert run.process.poll() is None, run.said()[-3000:]
            both = found.total.queued == 1 and [job for job in found.running if job.stage == "train" and job.progress]
            return found if both else None

        found = wait_until(frame_of_both, "one training runs and one is in the queue")
        (job,) = [job for job in found.running if job.stage == "train"]
        (other,) = set(TRAINED) - {job.name}
        number = job_of(cluster, f"train_wildcards_noisy_mlp_slow_{job.name[-1]}")
        assert re.fullmatch(rf"job {number} on node1", job.where)
        assert re.fullmatch(r"epoch \d+ of 40", job.progress)
        train = next(row for row in found.rows if row.stage == "train")
        assert (train.done, train.running, train.failed, train.waiting, train.queued) == (0, 1, 0, 1, 1)
        states = dict(line.split("|") for line in cluster.ask("squeue", "-h", "--format=%i|%T").splitlines())
        assert states[number] == "RUNNING"
        assert states[job_of(cluster, f"train_wildcards_noisy_mlp_slow_{other[-1]}")] == "PENDING"
        shown = workspace.module("halobench.cli.main", "watch", "--once")
        assert shown.returncode == 0, shown.stderr
        assert f"job {number} on node1" in shown.stdout
        assert "1 job of those that wait is in the cluster's queue" in shown.stdout
        # Its master dies: what runs on the cluster is known, and that no run is going on.
        run.kill()
        watch.queue._asked = float("-inf")
        after = watch.look(wait=True)
        assert not after.goes_on
        assert [each.name for each in after.running] == [job.name]
        assert any("1 job of a run that died still runs on the cluster" in note for note in after.notes), after.notes
    with OneHost(nodes=1, gpus=1, settings={"MinJobAge": "3600"}) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        with Run(workspace, cluster, "--resources", "gpu=2", step=0.0) as run:
            run.ends_well()
        final = workspace.module("halobench.cli.main", "watch", "--once")
        assert final.returncode == 0, final.stdout
        assert "all is done" in final.stdout
