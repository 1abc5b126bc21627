"""Grids on a SLURM cluster: slots, nodes, and results as in a local run.

`make check` runs one grid; `make soak` has all other ways to submit jobs too.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from one_host import OneHost
from onslurm import FIRST_LOOK, QUIET, Run, edit_profile, facts, job_of, record, slow_workspace, wait_until

from conftest import Workspace, assert_same_cells, few_cells, two_modules
from halobench.runner import logs, run_folder, slurm
from halobench.storage.records import read_record

pytestmark = [pytest.mark.cluster, pytest.mark.workflow]
CAP = 3
OTHER = "results/references/noisy/seed7/reference.json"  # belongs to no cell


class Job:
    """A job as ``scontrol show job`` reports it."""

    def __init__(self, text: str):
        self.facts = dict(pair.split("=", 1) for pair in text.split() if "=" in pair)
        self.number, self.state, self.node = (self.facts[key] for key in ("JobId", "JobState", "NodeList"))
        self.stage = re.sub(r"^rule_(\w+?)_wildcards.*", r"\1", self.facts.get("Comment", ""))
        self.bound = [found for found in re.findall(r"\bGRES=(\S*)", text) if found]

    @property
    def slots(self) -> int:
        return int(self.facts["TresPerJob"].removeprefix("gres/gpu:"))


def all_jobs(cluster: OneHost) -> list[Job]:
    """All jobs on the cluster so far."""
    return [Job(line) for line in cluster.ask("scontrol", "-o", "-d", "show", "job").splitlines() if "JobId=" in line]


@contextmanager
def watched(cluster: OneHost, every: float = 0.3) -> Iterator[list[list[Job]]]:
    """The running jobs, moment by moment."""
    moments, over = [], threading.Event()

    def watch() -> None:
        while not over.wait(every):
            moments.append([job for job in all_jobs(cluster) if job.state == "RUNNING" and job.stage != job.number])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield moments
    finally:
        over.set()
        thread.join()


def test_a_grid(cluster, finished, tmp_path):
    config = few_cells()
    config["experiments"]["tiny"]["grid"][0]["seeds"] = [0, 1]
    workspace = Workspace(tmp_path, config)
    with watched(cluster) as moments, Run(workspace, cluster, "--resources", f"gpu={CAP}") as run:
        run.ends_well(900)
    jobs = [job for job in all_jobs(cluster) if job.stage in ("train", "probe")]
    assert sorted(job.stage for job in jobs) == ["probe"] * 4 + ["train"] * 4
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert {job.slots for job in jobs} == {1}
    assert {job.node for job in jobs} == set(cluster.nodes)
    slots = [sum(job.slots for job in moment if job.stage in ("train", "probe")) for moment in moments]
    assert max(slots) == CAP
    bound = [job for moment in moments for job in moment if job.stage in ("train", "probe")]
    assert {len(job.bound) for job in bound} == {1}
    assert all(re.fullmatch(r"gpu\S*:1\(IDX:[01]\)", job.bound[0]) for job in bound)
    visible = visible_devices(workspace)
    assert set(visible) == {job.number for job in jobs}
    assert any(
        one.node == other.node and visible[one.number] != visible[other.number]
        for moment in moments
        for one, other in itertools.combinations([job for job in moment if job.number in visible], 2)
    )
    # No slot was given to two jobs at once.
    for moment in moments:
        held = [(job.node, job.bound[0]) for job in moment if job.stage in ("train", "probe")]
        assert len(set(held)) == len(held)
    assert_same_cells(finished, workspace)
    assert "account" not in run.said(), run.said()
    assert_all_is_told(workspace, run)


@pytest.mark.soak
def test_two_modules_keep_their_configurations_on_the_nodes(cluster, tmp_path):
    workspace = Workspace(tmp_path, {})
    rates = two_modules(workspace)
    with Run(workspace, cluster, "--retries", "0", *rates) as run:
        run.ends_well()
    made = {path: read_record(tmp_path / path) for path in rates}
    assert {path: each["spec"]["train"]["lr"] for path, each in made.items()} == rates
    assert len({each["hardware"]["slurm"]["job"] for each in made.values()}) == 2


def visible_devices(workspace: Workspace) -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES of each job, as the stages saw it."""
    found = {}
    for stage in ("train", "probe"):
        for path in workspace.folder.glob(f"results/runs/*/*/*/*/{stage}.json"):
            cell = str(path.parent.relative_to(workspace.folder / "results/runs"))
            facts: Mapping[str, str] = record(workspace, stage, cell)["hardware"]["slurm"]
            found[facts["job"]] = facts["gpus"]
    return found


def assert_all_is_told(workspace: Workspace, run: Run) -> None:
    """Each job's logs are found by its cell, the successful run is forgotten, and small jobs weren't submitted."""
    lines = logs.describe_logs(workspace.folder / "results", "noisy/mlp/mixup2/seed1")
    for stage in ("train", "probe"):
        number = record(workspace, stage, "noisy/mlp/mixup2/seed1")["hardware"]["slurm"]["job"]
        assert any(line.endswith(f"rule_{stage}/noisy_mlp_mixup2_1/{number}.log") for line in lines)
    assert "slurm" not in record(workspace, "calibrate", "noisy/mlp/mixup2/seed1")["hardware"]
    assert slurm.noted(run_folder.folder_of(workspace.folder / "results")) == []
    again = workspace.module("snakemake", "-n", "--workflow-profile", "profiles/slurm")
    assert "Nothing to be done" in again.stdout, again.stdout[-2000:]
    local = workspace.module("snakemake", "-n")
    assert "Nothing to be done" in local.stdout, local.stdout[-2000:]


@pytest.mark.soak
def test_four_trainings_share_one_gpu(slurm, tmp_path):
    """A slot is split into four shards, one per training run."""
    workspace = slow_workspace(tmp_path / "w", seeds=4, epochs=15)
    shared = {"gpu": 0, "gres": "'shard:1'", "shard": 1, "slots_per_gpu": 4}
    edit_profile(workspace, **{"set-resources": {"train": shared, "probe": shared}, "resources": ["shard=4"]})
    with (
        OneHost(nodes=1, gpus=1, shards=4, settings={"MinJobAge": "3600"}) as cluster,
        watched(cluster) as moments,
        Run(workspace, cluster, step=1.0) as run,
    ):
        run.ends_well()
        jobs = [job for job in all_jobs(cluster) if job.stage == "train"]
    together = max(([job for job in moment if job.stage == "train"] for moment in moments), key=len)
    assert len({job.number for job in together}) == 4
    assert {tuple(job.bound) for job in together} == {("shard:1(1/4)",)}
    visible = visible_devices(workspace)
    assert {visible[job.number] for job in jobs} == {"0"}
    assert {job.facts["TresPerNode"] for job in jobs} == {"gres/shard:1"}


@pytest.mark.soak
def test_small_jobs_can_be_submitted_too(cluster, tmp_path):
    """This is for login nodes that must not compute anything; jobs of one kind are grouped into one."""
    workspace = slow_workspace(tmp_path / "w", seeds=3, epochs=4)
    with (workspace.folder / "config.yaml").open("a") as file:
        file.write("submit: [calibrate, reference, aggregate, claims]\n")
    edit_profile(workspace, **{"groups": {"calibrate": "small"}, "group-components": {"small": 3}})
    with Run(workspace, cluster) as run:
        run.ends_well()
    kinds = [job.stage for job in all_jobs(cluster)]
    assert kinds.count("train") == 3
    for stage in ("reference", "aggregate", "claims"):
        assert kinds.count(stage) >= 1, kinds
    made = {
        record(workspace, "calibrate", f"noisy/mlp/slow/seed{seed}")["hardware"]["slurm"]["job"] for seed in range(3)
    }
    assert len(made) == 1


@pytest.mark.soak
def test_what_is_edited_while_a_run_goes_on_counts_in_the_next(cluster, tmp_path):
    """Jobs that start after the configuration was edited still use the one that their run was started with."""
    workspace = slow_workspace(tmp_path / "w", seeds=2, epochs=12)
    config = workspace.folder / "config.yaml"
    asked = config.read_text()
    assert workspace.module("snakemake", "--cores", "1", "results/sources/digits/meta.json").returncode == 0
    with Run(workspace, cluster, "--resources", "gpu=1", step=0.5) as run:
        wait_until(lambda: job_of(cluster, "rule_train") or run.process.poll() is not None, "a training is submitted")
        # Another run at the same time doesn't take its jobs for orphans or delete its note.
        other = workspace.module(
            "halobench.cli.main", "run", "--cores", "1", OTHER, *QUIET, environment=cluster.environment
        )
        assert other.returncode == 2, other.stderr[-3000:]
        assert f"process {run.snakemake.pid} on " in other.stderr
        assert "is writing to this folder" in other.stderr
        assert len(slurm.noted(run_folder.folder_of(workspace.folder / "results"))) == 1
        config.write_text(asked.replace("epochs: 12", "epochs: 3").replace("lr: 0.003", "lr: 0.1"))
        run.ends_well()
    for seed in (0, 1):
        assert record(workspace, cell=f"noisy/mlp/slow/seed{seed}")["spec"]["train"]["epochs"] == 12
    config.write_text(asked)
    again = workspace.module("snakemake", "-n")
    assert "Nothing to be done" in again.stdout, again.stdout[-3000:]
    assert run.said().count("failed after") == 0


@pytest.mark.soak
def test_code_that_is_edited_while_a_run_goes_on_is_refused(cluster, tmp_path):
    workspace = slow_workspace(tmp_path / "w", seeds=2, epochs=12)
    plugin = workspace.folder / "slow.py"
    with Run(workspace, cluster, "--resources", "gpu=1", "--retries", "0", step=0.5) as run:
        wait_until(lambda: job_of(cluster, "rule_train") or run.process.poll() is not None, "a training is submitted")
        first = wait_until(lambda: record_of_any(workspace), "the first training is done")
        plugin.write_text(plugin.read_text().replace("super().mix(inputs, targets, rng)", "(inputs, targets)"))
        assert run.end() == 1, run.said()[-3000:]
    assert "the code of this job was edited after the run had started" in run.said()
    assert [path for path in workspace.folder.glob("results/runs/noisy/mlp/slow/*/train.json")] == [first]


def record_of_any(workspace: Workspace):
    """The record of any finished training run."""
    return next(workspace.folder.glob("results/runs/noisy/mlp/slow/*/train.json"), None)


@pytest.mark.soak
def test_an_array_waits_and_then_runs(cluster, tmp_path):
    """The queue shows the pending elements of an array in one line, which is no sign that they have gone."""
    workspace = slow_workspace(tmp_path / "w", seeds=3, epochs=4)
    full = ["--output=/dev/null", "--nodes=1", "--gpus=2", "--array=1-2", "--wrap", "sleep 600"]
    others = cluster.ask("sbatch", "--parsable", *full).strip()
    wait_until(lambda: others in cluster.ask("squeue", "-h", "--states=RUNNING", "-o", "%F"), "no slot is free")
    with Run(workspace, cluster, "--halobench-slurm-array-jobs", "train", "--retries", "0", "--until", "train") as run:

        def waiting() -> list[str]:
            shown = cluster.ask("squeue", "-h", "--array", "--states=PENDING", "-o", "%i %k").splitlines()
            return [line.split()[0] for line in shown if "rule_train" in line]

        elements = wait_until(waiting, "the array is in the queue")
        assert [number.partition("_")[2] for number in elements] == ["1", "2", "3"]
        time.sleep(20)  # ten looks
        assert waiting() == elements, run.said()
        cluster.ask("scancel", others)
        run.ends_well()
    trained = [job for job in all_jobs(cluster) if job.stage == "train"]
    assert [job.state for job in trained] == ["COMPLETED"] * 3
    made = {record(workspace, cell=f"noisy/mlp/slow/seed{seed}")["hardware"]["slurm"]["job"] for seed in range(3)}
    assert made == {job.number for job in trained}


@pytest.mark.soak
def test_a_cell_is_one_job_if_its_stages_are_grouped(cluster, tmp_path):
    workspace = slow_workspace(tmp_path / "w", seeds=2, epochs=4)
    cell = dict.fromkeys(("train", "probe", "calibrate"), "cell")
    with (workspace.folder / "config.yaml").open("a") as file:
        file.write("submit: [calibrate]\n")
    edit_profile(workspace, groups=cell)
    with Run(workspace, cluster) as run:
        run.ends_well()
    jobs = [job for job in all_jobs(cluster) if job.facts["JobName"] != "halobench-look"]
    assert {(job.state, job.slots) for job in jobs} == {("COMPLETED", 1)}
    made = [
        {record(workspace, stage, f"noisy/mlp/slow/seed{seed}")["hardware"]["slurm"]["job"] for stage in cell}
        for seed in range(2)
    ]
    assert [len(numbers) for numbers in made] == [1, 1]
    assert len(jobs) == 2


@pytest.mark.soak
def test_all_jobs_in_one_allocation(cluster, tmp_path):
    """SLURM's signal comes in the middle of the training, which saves; the same command resumes."""
    workspace = slow_workspace(tmp_path / "w", epochs=200)
    said = workspace.folder / "master.log"
    log = workspace.folder / "results/logs/train/noisy/mlp/slow/seed0.log"

    def allocate(**variables: str) -> str:
        variables["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in an activated environment
        exported = ",".join(["ALL", *(f"{name}={value}" for name, value in variables.items())])
        asked = ["--parsable", "--gpus=1", "--cpus-per-task=2", "--mem=4000", "--time=20", f"--export={exported}"]
        asked += ["-D", str(workspace.folder), "--output=master.log", "profiles/slurm/one-allocation.sh"]
        return cluster.ask("sbatch", *asked, *QUIET).strip()

    def ended(job: str) -> str:
        wait_until(lambda: facts(cluster, job)["JobState"] not in ("PENDING", "RUNNING", "COMPLETING"), "it ends", 300)
        return facts(cluster, job)["JobState"]

    first = allocate(SLOW_SECONDS="1")
    wait_until(lambda: log.exists() and "epoch 2/" in log.read_text(), "the training is under way", 300)
    cluster.ask("scancel", "--batch", "--signal=INT", first)  # what --signal=B:INT@120 sends when the time is nearly up
    assert ended(first) == "FAILED", said.read_text()[-3000:]
    assert "; saved at epoch " in log.read_text()
    assert ended(allocate()) == "COMPLETED", said.read_text()[-3000:]
    assert record(workspace)["resumed_at"]
    assert not [job for job in all_jobs(cluster) if job.stage == "train"]


@pytest.mark.soak
def test_a_master_that_is_a_job_itself(cluster, tmp_path):
    """As on clusters whose login nodes don't allow long processes."""
    workspace = slow_workspace(tmp_path / "w", epochs=4)
    command = [sys.executable, "-m", "halobench.cli.main", "run", "--workflow-profile", "profiles/slurm"]
    command += ["--halobench-slurm-init-seconds-before-status-checks", FIRST_LOOK, *QUIET]
    asked = ["--parsable", "--time=10", "--mem=2000", "-D", str(workspace.folder), "--output=master.log"]
    master = cluster.ask("sbatch", *asked, "--wrap", shlex.join(command)).strip()
    wait_until(lambda: facts(cluster, master)["JobState"] not in ("PENDING", "RUNNING"), "the master ends", 300)
    said = (workspace.folder / "master.log").read_text()
    assert facts(cluster, master)["JobState"] == "COMPLETED", said[-3000:]
    trained = facts(cluster, record(workspace)["hardware"]["slurm"]["job"])
    assert trained["TresPerJob"] == "gres/gpu:1"
    assert trained["TimeLimit"] == "04:00:00"
    assert trained["MinMemoryNode"] == "4000M"
