"""What a run would take: from which records, scaled by what, and how it is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

import pytest

from conftest import Workspace, needs, tiny_figures, tiny_tables
from halobench.runner.dry_run import PlannedJob, read_events, request_of
from halobench.runner.forecast import estimates, plan
from halobench.runner.forecast.estimates import Past, probing_work, training_work
from halobench.runner.forecast.plan import Limits, Task, duration, gpu_seconds, longest, wall_seconds
from halobench.storage import records as store
from halobench.storage.requests import Request, write_request

DATASET = {"source": "digits", "train": 100, "val": 60, "test": 80}
NOISY = DATASET | {"noise": {"p": 0.5}}
MODEL = {"name": "mlp"}
TRAIN = {"dataset": DATASET, "model": MODEL, "loss": {"name": "mixup"}, "train": {"epochs": 3}}
PROBE = {"dataset": DATASET, "model": MODEL, "train": {}, "probes": {"sphere": {"kind": "sphere", "points": 6}}}
CELL = "clean/mlp/mixup/seed0"
REQUESTS = Path(tempfile.mkdtemp(prefix="halobench-requests-"))
PLACES = {"reference": "references", "source": "sources"}  # where records lie that aren't a cell's


def keep(
    folder: Path, stage: str, spec: object, seconds: float, cell: str = CELL, device: str = "cpu", **facts
) -> Path:
    """Write the sealed record of a stage, and the files that it speaks of: `files` has their bytes by name."""
    return keep_at(folder / f"results/{PLACES.get(stage, 'runs')}/{cell}/{stage}.json", spec, seconds, device, **facts)


def keep_at(path: Path, spec: object, seconds: float, device: str = "cpu", files=None, **facts) -> Path:
    """The same at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, many in (files or {}).items():
        (path.parent / name).write_bytes(bytes(many))
    made = {
        "spec": spec,
        "seconds": seconds,
        "device": device,
        "hardware": {"host": "node1", "processor": "EPYC", **({} if device == "cpu" else {"gpu": "H100"})},
        "peak_memory_mib": 100.0,
        "outputs": dict.fromkeys(files or {}, "0" * 64),
    }
    path.write_text(json.dumps(store.seal(made | facts)))
    return path


def job(kind: str, spec: object = None, cell: str = "clean/mlp/mixup/seed7", **facts) -> PlannedJob:
    """A job as a dry run tells of it."""
    given = {
        "outputs": (f"results/{PLACES.get(kind, 'runs')}/{cell}/{kind}.json",),
        "wildcards": dict(zip(("dataset", "model", "loss", "seed"), cell.split("/"), strict=False)),
        "resources": {"gpu": "1"} if kind in ("train", "probe") else {},
        "inputs": () if spec is None else (str(write_request(REQUESTS, Request(kind, spec, {}))),),
    }
    return PlannedJob(kind, **(given | facts))


def estimate(folder: Path, asked: PlannedJob) -> estimates.Estimate | None:
    return Past(folder, [asked.kind]).estimate(asked)


def tasks(*seconds: float, **facts) -> list[Task]:
    """Trainings that wait for nothing and take these times."""
    like = estimates.LIKE["train"][0]
    return [
        Task(job("train", cell=f"clean/mlp/mixup/seed{i}", **facts), estimates.Estimate(s, None, 0.0, like, ()))
        for i, s in enumerate(seconds)
    ]


def rows(text: str) -> dict[str, list[str]]:
    """The table's lines by kind, each as its cells."""
    table = text.split("\n\n")[1].splitlines()
    return {line.split()[0]: [cell.strip() for cell in line.split("  ")[1:] if cell] for line in table}


def test_a_training_is_like_its_other_seeds(tmp_path):
    keep(tmp_path, "train", TRAIN, 10.0)
    keep(tmp_path, "train", TRAIN, 14.0, "clean/mlp/mixup/seed1", peak_memory_mib=300.0)
    keep(tmp_path, "train", TRAIN | {"loss": {"name": "focal"}}, 99.0, "clean/mlp/focal/seed0")
    keep(tmp_path, "train", TRAIN | {"dataset": NOISY}, 99.0, "noisy/mlp/mixup/seed0")
    found = estimate(tmp_path, job("train", TRAIN))
    assert (found.seconds, found.memory, len(found.origins)) == (12.0, 300.0, 2)


def test_then_like_another_loss(tmp_path):
    for i, loss in enumerate([{"name": "focal"}, {"name": "mixup", "options": {"points": 5}}]):
        keep(tmp_path, "train", TRAIN | {"loss": loss}, 4.0 + i, f"clean/mlp/loss{i}/seed0")
    keep(tmp_path, "train", TRAIN | {"dataset": NOISY}, 99.0, "noisy/mlp/mixup/seed0")
    assert estimate(tmp_path, job("train", TRAIN)).seconds == 4.5


def test_then_like_another_recipe_and_size_scaled_by_steps(tmp_path):
    """3 epochs of 2 steps became 9 of 7: only the loop's 6 of 10 seconds grow, by 63 / 6."""
    keep(tmp_path, "train", TRAIN, 10.0, train_seconds=6.0)
    asked = TRAIN | {"dataset": DATASET | {"train": 370}, "train": {"epochs": 9, "lr": 0.1}}
    found = estimate(tmp_path, job("train", asked))
    assert found.seconds == pytest.approx(4 + 6 * 63 / 6)
    assert "scaled by training steps" in found.like.words
    keep(tmp_path, "train", TRAIN, 10.0)  # a record that doesn't tell of its loop
    assert estimate(tmp_path, job("train", asked)).seconds == pytest.approx(10 * 63 / 6)


@pytest.mark.parametrize(
    ("points", "recipe", "images"),
    [
        (100, {}, 50 * 2 * 50),
        (130, {"epochs": 4, "batch": 50}, 4 * 100),  # the last batch isn't full and is dropped
        (30, {"epochs": 4, "batch": 50}, 4 * 30),
        (130, {"epochs": 4, "batch": 100}, 4 * 100),
    ],
)
def test_a_training_works_by_full_batches(points, recipe, images):
    asked = TRAIN | {"dataset": DATASET | {"train": points}, "train": recipe}
    assert training_work(json.dumps(asked)) == images


def test_a_loss_that_makes_two_images_of_one_works_twice(tmp_path):
    keep(tmp_path, "train", TRAIN, 14.0, train_seconds=10.0)
    found = estimate(tmp_path, job("train", TRAIN | {"loss": {"name": "regmixup"}}))
    assert found.seconds == pytest.approx(4 + 2 * 10)
    assert "another loss" in found.like.words


def test_another_model_or_source_is_not_alike(tmp_path):
    keep(tmp_path, "train", TRAIN, 10.0)
    keep(tmp_path, "probe", PROBE, 10.0)
    for other in (
        {"model": {"name": "cnn"}},
        {"model": MODEL | {"resize": 24}},
        {"dataset": DATASET | {"source": "x"}},
    ):
        assert estimate(tmp_path, job("train", TRAIN | other)) is None
        assert estimate(tmp_path, job("probe", PROBE | other)) is None


def test_a_probe_is_like_those_of_any_loss_and_seed(tmp_path):
    for i, loss in enumerate(("mixup", "focal")):
        keep(tmp_path, "probe", PROBE, 10.0 + i, f"clean/mlp/{loss}/seed{i}")
    keep(tmp_path, "probe", PROBE | {"dataset": NOISY}, 99.0, "noisy/mlp/mixup/seed0")
    found = estimate(tmp_path, job("probe", PROBE))
    assert (found.seconds, found.like.rough) == (10.5, False)


def test_then_like_other_probes_scaled_by_places(tmp_path):
    """80 rays of 1 + 2 + 1 + 5 * 3 places each (60 around all training points but 100, 20 held-out ones of 80)."""
    keep(tmp_path, "probe", PROBE, 10.0)
    probe = {"kind": "sphere", "points": 60, "control": 20, "radii": [1, 2], "relative_radii": [1], "bisections": 3}
    asked = PROBE | {"probes": {"a": probe, "b": probe | {"directions": 2}}}
    assert probing_work(json.dumps(asked)) == (80 + 160) * 19
    before = (6 + 80) * (1 + 11 + 13 + 5 * 6)  # 80 of the 100 test points asked for are there
    found = estimate(tmp_path, job("probe", asked))
    assert found.seconds == pytest.approx(10 * 240 * 19 / before)
    assert found.like.rough


@pytest.mark.parametrize(
    ("device", "resources", "seconds"),
    [
        ("cpu", {"gpu": "0"}, 50.0),
        ("cuda", {"gpu": "1"}, 3.0),
        ("cuda:1", {"gpu": "1"}, 3.0),
        ("auto", {"gpu": "1"}, 3.0),
        ("auto", {"gpu": "0", "shard": "2"}, 3.0),
        ("auto", {}, 50.0),
    ],
)
def test_records_of_the_same_kind_of_device_come_first(tmp_path, device, resources, seconds):
    asked = TRAIN | {"train": {"epochs": 3} | ({} if device == "auto" else {"device": device})}
    keep(tmp_path, "train", asked | {"loss": {"name": "a"}}, 50.0, "clean/mlp/a/seed0")
    keep(tmp_path, "train", asked | {"loss": {"name": "b"}}, 3.0, "clean/mlp/b/seed0", device="cuda:0")
    assert estimate(tmp_path, job("train", asked, resources=resources)).seconds == seconds


def test_a_worse_match_on_the_right_device_beats_a_better_one(tmp_path):
    asked = TRAIN | {"train": {"epochs": 3, "device": "cuda"}}
    keep(tmp_path, "train", asked, 50.0)
    assert estimate(tmp_path, job("train", asked)).of_cpu
    keep(tmp_path, "train", TRAIN | {"dataset": NOISY}, 2.0, "noisy/mlp/mixup/seed0", device="cuda:0")
    found = estimate(tmp_path, job("train", asked))
    assert (found.seconds, found.of_cpu) == (2.0, False)


def test_small_jobs_are_like_their_spec_then_like_any(tmp_path):
    keep(tmp_path, "calibrate", {"bins": 5}, 8.0, "noisy/mlp/mixup/seed0")
    assert estimate(tmp_path, job("calibrate", {})).seconds == 8.0
    keep(tmp_path, "calibrate", {}, 4.0, "noisy/mlp/mixup/seed1")
    assert estimate(tmp_path, job("calibrate", {})).seconds == 4.0
    keep(tmp_path, "calibrate", {}, 1.0)
    found = estimate(tmp_path, job("calibrate", {}))
    assert (found.seconds, found.like.rough) == (1.0, False)
    keep(tmp_path, "reference", {"dataset": DATASET}, 6.0, "clean/seed0")
    assert estimate(tmp_path, job("reference", {"dataset": DATASET}, "clean/seed7")).seconds == 6.0
    assert estimate(tmp_path, job("source", {"loader": "digits"}, "digits")) is None


def test_figures_and_tables_are_like_their_own_last_time(tmp_path):
    figure = PlannedJob("figure_radii", outputs=tuple(f"results/figures/tiny/radii.{kind}" for kind in ("png", "json")))
    claims = PlannedJob(
        "claims", outputs=("results/partial/tables/tiny/claims.csv", "results/partial/tables/tiny/claims.json")
    )
    seconds = []
    for path in ("figures/other/claims", "partial/figures/tiny/radii", "figures/tiny/radii"):
        keep_at(tmp_path / f"results/{path}.json", {}, 2.0 + len(seconds))
        seconds.append(estimate(tmp_path, figure).seconds)
    assert seconds == [2.0, 3.0, 4.0]
    table = PlannedJob("table_paper", outputs=tuple(f"results/tables/tiny/paper.{kind}" for kind in ("csv", "json")))
    keep_at(tmp_path / "results/tables/tiny/aggregate.json", {}, 9.0)  # of another kind, in the same folder
    assert estimate(tmp_path, table) is None
    keep_at(tmp_path / "results/tables/tiny/paper.json", {}, 3.0)
    assert (estimate(tmp_path, table).seconds, estimate(tmp_path, table).like.rough) == (3.0, False)
    assert estimate(tmp_path, claims) is None
    keep_at(tmp_path / "results/tables/tiny/claims.json", {}, 5.0)
    assert estimate(tmp_path, claims).like.rough
    keep_at(tmp_path / f"{claims.outputs[1]}", {}, 6.0)
    assert (estimate(tmp_path, claims).seconds, estimate(tmp_path, claims).like.rough) == (6.0, False)


@pytest.fixture(scope="module", autouse=True)
def _requests():
    yield
    shutil.rmtree(REQUESTS)


def test_a_spec_is_read_from_the_request_if_it_can_be(tmp_path):
    spec = TRAIN | {"model": {"name": 'it\'s --spec >> "here"; $HOME'}}
    assert estimates.asked_spec(job("train", spec), tmp_path) == spec
    relative = write_request(tmp_path / "results", Request("train", TRAIN, {})).relative_to(tmp_path)
    assert estimates.asked_spec(PlannedJob("train", inputs=("a.csv", str(relative))), tmp_path) == TRAIN
    assert estimates.asked_spec(PlannedJob("train", inputs=("results/requests/train-gone.json",)), tmp_path) is None
    assert estimates.asked_spec(PlannedJob("train"), tmp_path) is None


def test_a_dry_run_tells_of_commands_threads_and_resources():
    resources = {"tmpdir": "/tmp", "gpu": "1", "mem_mb": "<TBD>", "mem": "4 GB", "slurm_extra": "'--a --b, c'"}
    command = "halobench train --request results/requests/train-0.json >> a.log 2>&1"
    facts = {
        "event": "job_info",
        "rule": "train",
        "input": ["results/requests/train-0.json"],
        "output": ["a", "b"],
        "reason": "",
        "threads": 4,
    }
    facts |= {"wildcards": {"dataset": "clean", "seed": "0"}, "resources": resources, "shellcmd": command}
    bare = facts | {"rule": "probe", "output": ["c"], "threads": 1, "resources": {}, "shellcmd": None}
    first, second = read_events(map(json.dumps, (facts, bare))).jobs
    assert (first.threads, estimates.gpus(first)) == (4, 1)
    assert request_of(first) == "results/requests/train-0.json"
    assert estimates.amount(first, "mem_mb") == estimates.amount(first, "shard") == 0
    assert first.resources["slurm_extra"] == "'--a --b, c'"
    assert (second.threads, dict(second.resources), second.command) == (1, {}, "")


def test_gpu_hours_are_those_of_slots():
    asked = [
        *tasks(10.0, 20.0),
        *tasks(100.0, resources={"gpu": "2"}),
        *tasks(1000.0, resources={"gpu": "0"}),
        *tasks(1e4, resources={}),
    ]
    assert gpu_seconds(asked) == 230
    assert plan.core_seconds(tasks(10.0, 20.0, threads=4)) == 120


def test_a_run_is_as_long_as_what_holds_it_up_most():
    """Ten trainings of 60 s: on cores, on slots, in a queue, or because one follows another."""
    ten = tasks(*[60.0] * 10)
    assert wall_seconds(ten, Limits(1)) == 600
    assert wall_seconds(ten, Limits(4)) == 150
    assert wall_seconds(ten, Limits(100)) == 60
    assert wall_seconds(ten, Limits(100, gpus=2)) == 300
    assert wall_seconds(tasks(*[60.0] * 10, threads=2), Limits(5, gpus=5)) == 240
    assert wall_seconds(ten, Limits(1, jobs=5, gpus=8, remote=True)) == 2 * (60 + plan.AROUND)
    assert wall_seconds(ten, Limits(1, jobs=100, gpus=2, remote=True)) == 5 * (60 + plan.AROUND)
    assert wall_seconds(ten, Limits(1, remote=True)) == 60 + plan.AROUND
    small = [Task(replace(task.job, rule="calibrate"), task.estimate) for task in ten]
    assert wall_seconds(small, Limits(2, jobs=100, remote=True)) == 300
    small = [
        PlannedJob("calibrate"),
        PlannedJob("calibrate", resources={"submit": "1"}),
        PlannedJob("figure_summary"),
        PlannedJob("train"),
    ]
    assert [plan.runs_here(each) for each in small] == [True, False, True, False]
    known = estimates.Estimate(5.0, None, 0.0, estimates.ANY, ())
    chain = [Task(PlannedJob("train", inputs=(f"{i}",), outputs=(f"{i + 1}", f"x{i}")), known) for i in range(4)]
    side = Task(PlannedJob("train", inputs=("x0", "3", "elsewhere"), outputs=("end",)), known)
    assert longest([side, *chain[::-1]]) == 20
    assert longest([]) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], Limits(1)),
        (["--cores", "3", "--resources", "gpu=2", "mem_mb=8000"], Limits(3, gpus=2)),
        (["-j", "3", "--res", "gpu=4", "--", "results/x"], Limits(3, gpus=4)),
        (["--profile", "mine"], Limits(2, gpus=5)),
        (["--profile", "mine", "--cores", "8", "--resources", "gpu=1"], Limits(8, gpus=1)),
    ],
)
def test_caps_come_from_arguments_and_profiles(tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/profile.yaml").write_text("{cores: 2, resources: [gpu=5]}")
    assert plan.limits(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], Limits(2, 7, 5, remote=True)),
        (["--jobs", "unlimited", "--resources", "gpu=1"], Limits(2, None, 1, remote=True)),
        (["--executor", "local", "--cores", "4"], Limits(4, None, 5)),
    ],
)
def test_on_a_cluster_jobs_are_capped_and_cores_are_those_beside_the_master(tmp_path, monkeypatch, arguments, expected):
    needs(find_spec("snakemake_executor_plugin_slurm") is not None, "snakemake-executor-plugin-slurm")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profile.yaml").write_text("{executor: slurm, jobs: 7, local-cores: 2, resources: [gpu=5]}")
    assert plan.limits(["--profile", "profile.yaml", *arguments]) == expected


def test_records_that_cannot_be_read_are_left_out_and_counted(tmp_path):
    keep(tmp_path, "train", TRAIN, 10.0)
    keep(tmp_path, "train", TRAIN, 99.0, "clean/mlp/mixup/seed1").write_text("{")
    edited = keep(tmp_path, "train", TRAIN, 99.0, "clean/mlp/mixup/seed2")
    edited.write_text(edited.read_text().replace("99.0", "98.0"))
    keep(tmp_path, "train", {"of": "another version"}, 99.0, "clean/mlp/mixup/seed3")
    keep(tmp_path, "train", TRAIN, 99.0, "clean/mlp/mixup/seed4", hardware=None)
    keep(tmp_path, "train", TRAIN | {"train": {"unknown": 1}}, 99.0, "clean/mlp/mixup/seed5")
    keep(tmp_path, "probe", PROBE, 99.0).write_text("{")  # of a kind that isn't asked for
    lines = plan.report([job("train", TRAIN)], Limits(1), tmp_path)
    assert lines[-1] == "5 records can't be read and were left out: see `halobench verify`."
    assert Past(tmp_path, ["train"]).estimate(job("train", TRAIN)).seconds == 10.0


def test_jobs_without_a_record_are_named(tmp_path):
    keep(tmp_path, "train", TRAIN, 1800.0)
    deep = {"model": {"name": "resnet18"}}
    jobs = [job("train", TRAIN)]
    jobs += [job("train", TRAIN | deep, f"clean/resnet18/mixup/seed{i}") for i in (1, 0, 2)]
    jobs += [job("probe", PROBE | deep, f"clean/resnet18/mixup/seed{i}") for i in (1, 0, 2)]
    jobs += [PlannedJob("manifest", outputs=("results/manifests/tiny.json",))]
    text = "\n".join(plan.report(jobs, Limits(1, gpus=4), tmp_path))
    assert "GPUs       at least 0.5 GPU-hours (6 jobs without a record not counted)" in text
    assert "wall time  at least 30 min with 4 GPU slots and 1 core\n" in text
    assert "6 jobs have no record of a like one (train of model resnet18: 3, probe of model resnet18: 3)." in text
    assert text.splitlines()[-2].endswith(": halobench run results/runs/clean/resnet18/mixup/seed0/probe.json")
    found = rows(text)
    assert found["train"][:4] == ["4", "3", "30 min", ">30 min"]
    assert found["probe"] == ["3", "3", "?", "?", "?", "?", "-"]
    assert found["manifest"] == ["1", "-", "-", "-", "-", "-", "-"]
    assert found["total"] == ["8", "6", ">30 min", ">30 min"]


def test_where_nothing_is_known_nothing_is_made_up(tmp_path):
    text = "\n".join(plan.report([job("train", TRAIN), job("probe", PROBE)], Limits(1), tmp_path))
    assert "GPUs       unknown GPU-hours: none has a record of a like one" in text
    assert "wall time  unknown" in text
    assert "disk       unknown; " in text
    assert "Estimated" not in text


def test_hours_of_a_gpu_told_by_a_cpu_are_called_a_guess(tmp_path):
    keep(tmp_path, "train", TRAIN, 10.0)
    keep(tmp_path, "train", TRAIN, 10.0, "clean/mlp/mixup/seed1")
    told = "\n".join(plan.report([job("train", TRAIN)], Limits(1), tmp_path))
    assert "all on cpu (EPYC, host node1):" in told
    assert "1 job by 2 records of the same spec" in told
    assert "The 1 job that asks for a GPU is estimated from records of a CPU" in told
    keep(tmp_path, "train", TRAIN, 10.0, device="cuda:0")
    told = "\n".join(plan.report([job("train", TRAIN)], Limits(1), tmp_path))
    assert "cuda (H100, host node1)" in told
    assert "of a CPU" not in told


def test_places_are_counted_where_there_are_many(tmp_path):
    for i, (host, chip) in enumerate([("a", "EPYC"), ("b", "EPYC"), ("c", "Xeon")]):
        keep(tmp_path, "train", TRAIN, 1.0, f"clean/mlp/mixup/seed{i}", hardware={"host": host, "processor": chip})
    made = estimate(tmp_path, job("train", TRAIN)).origins
    assert plan.places(made) == "cpu (EPYC, 2 hosts), cpu (Xeon, host c)"
    assert plan.places(made, most=1) == "cpu (EPYC, 2 hosts) and 1 more"


def test_slots_that_share_a_gpu_are_told(tmp_path):
    asked = job("train", TRAIN, resources={"gpu": "1", "slots_per_gpu": "2"})
    assert any("2 jobs share a GPU" in line for line in plan.report([asked], Limits(1), tmp_path))


@pytest.mark.parametrize(("peak", "told"), [(1525.0, False), (1530.0, True), (9000.0, True)])
def test_memory_that_is_scarce_is_told(tmp_path, peak, told):
    """2,000 MB are 1,907 MiB, of which 80 % are 1,526."""
    keep(tmp_path, "train", TRAIN, 1.0, peak_memory_mib=peak)
    lines = plan.report([job("train", TRAIN, resources={"mem_mb": "2000"})], Limits(1), tmp_path)
    found = [line for line in lines if "mem_mb=" in line]
    assert len(found) == told
    assert not told or f"--set-resources train:mem_mb={2 * peak * 1.048576:.0f} " in found[0]


def test_disk_counts_files_of_like_jobs_and_logits_by_points(tmp_path):
    """240 points became 480: logits double, weights and the record don't."""
    record = keep(tmp_path, "train", TRAIN, 1.0, files={"model.safetensors": 1000, "logits.safetensors": 2400})
    own = record.stat().st_size
    assert estimate(tmp_path, job("train", TRAIN)).size == 3400 + own
    twice = TRAIN | {"dataset": DATASET | {"train": 340}}
    assert estimate(tmp_path, job("train", twice)).size == pytest.approx(5800 + own)
    keep(tmp_path, "train", TRAIN, 1.0, "clean/mlp/mixup/seed1", files={"model.safetensors": 1})
    (tmp_path / "results/runs/clean/mlp/mixup/seed1/model.safetensors").unlink()
    assert estimate(tmp_path, job("train", TRAIN)).size == 3400 + own  # what was deleted tells of no size
    (record.parent / "logits.safetensors").unlink()
    assert estimate(tmp_path, job("train", TRAIN)).size is None


def test_disk_says_what_is_replaced_and_whether_there_is_room(tmp_path, monkeypatch):
    (tmp_path / "old").write_bytes(bytes(2000))
    like = estimates.LIKE["train"][0]
    asked = [Task(PlannedJob("train", outputs=("old",)), estimates.Estimate(1.0, 5000.0, 0.0, like, ()))]
    usage = type("Usage", (), {"free": 3000})
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: usage)
    assert plan.disk(asked, tmp_path) == "4.88 KiB to write, in place of 1.95 KiB of older files; 2.93 KiB are free"
    usage.free = 2999
    assert plan.disk(asked, tmp_path).endswith("2.93 KiB are free: NOT ENOUGH")
    asked.append(Task(PlannedJob("train", outputs=("new",)), None))
    assert plan.disk(asked, tmp_path).startswith("at least 4.88 KiB (1 job not counted) to write")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (3.14, "3.1 s"),
        (61.0, "61 s"),
        (150.0, "2 min"),
        (7100.0, "118 min"),
        (9000.0, "2.5 h"),
        (5.4e6, "1,500 h"),
    ],
)
def test_times_are_told_in_units_that_read_well(seconds, text):
    assert duration(seconds) == text


def test_planning_does_without_torch():
    code = "import sys, halobench.runner.forecast.plan; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def read(finished: Workspace, stage: str) -> dict[tuple[str, ...], dict]:
    """The finished records of a stage by dataset, model, loss and seed."""
    root = finished.folder / "results/runs"
    return {path.relative_to(root).parts[:4]: json.loads(path.read_text()) for path in root.rglob(f"{stage}.json")}


@pytest.mark.workflow
def test_a_new_seed_takes_the_mean_of_the_others(finished, tiny, tmp_path, monkeypatch, capsys):
    space = finished.copy(tmp_path / "space")
    tiny["experiments"]["tiny"]["grid"][0]["seeds"] = [0, 1, 2]
    space.write(tiny)
    monkeypatch.chdir(space.folder)
    assert plan.plan(["--cores", "1", "--resources", "gpu=1"]) == 0
    printed = capsys.readouterr().out
    trained, probed = read(finished, "train"), read(finished, "probe")
    # A cell's like ones: its two other seeds; of a probe those of both losses.
    training = [fmean(r["seconds"] for k, r in trained.items() if k[:3] == cell) for cell in {k[:3] for k in trained}]
    probing = [fmean(r["seconds"] for k, r in probed.items() if k[:2] == cell[:2]) for cell in {k[:3] for k in probed}]
    table = rows(printed)
    assert table["train"][:4] == ["8", "-", duration(fmean(training)), duration(sum(training))]
    assert table["probe"][:4] == ["8", "-", duration(fmean(probing)), duration(sum(probing))]
    # Besides them eight calibrations, two references, three jobs for tables, two for pages, what is printed and drawn.
    jobs = 31 + len(tiny_tables()) + len(tiny_figures())
    assert printed.startswith(f"{jobs} jobs would run: 8 cells to compute, 16 finished already\n")
    hours = (sum(training) + sum(probing)) / 3600
    assert f"GPUs       {plan.number(hours)} GPU-hours\n" in printed


@pytest.mark.workflow
def test_steps_are_counted_as_trainings_count_them(finished):
    """A record tells how many steps a training took."""
    for record in read(finished, "train").values():
        batch = min(record["spec"]["train"].get("batch", 50), record["spec"]["dataset"]["train"])
        assert training_work(json.dumps(record["spec"])) == record["steps"] * batch


@pytest.mark.workflow
def test_nothing_to_do_bad_input_and_silence_are_told(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(finished.folder)
    assert plan.plan(["--cores", "1"]) == 0
    assert capsys.readouterr().out == "nothing would run: everything is up to date\n"
    assert plan.plan(["--cores", "1", "--forceall", "--quiet"]) == 2
    assert "leave out --quiet" in capsys.readouterr().err
    assert plan.plan(["--cores", "1", "results/no/such.file"]) == 1
    told = capsys.readouterr()
    assert "MissingRuleException" in told.err
    assert "Platform:" not in told.err
    assert told.out == ""
