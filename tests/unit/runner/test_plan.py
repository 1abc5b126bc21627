"""The cost estimate of a run: which records it uses, how it scales them, and how it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from conftest import needs, tiny_figures, tiny_tables
from halobench.core.formatting import duration, number
from halobench.runner.dry_run import PlannedJob
from halobench.runner.forecast import plan
from halobench.runner.forecast.estimates import Estimate, Past, work
from halobench.runner.forecast.plan import Limits, Task, wall_seconds
from halobench.storage import records as store
from halobench.storage.layout import STAGES
from halobench.storage.requests import Request, write_request

DATASET = {"source": "digits", "train": 100, "val": 60, "test": 80}
OTHER = {"source": "photos", "train": 54000, "val": 6000, "test": 10000}
MODEL, CNN = {"name": "mlp"}, {"name": "cnn"}
TRAIN = {"dataset": DATASET, "model": MODEL, "loss": {"name": "mixup"}, "train": {"epochs": 3}}
PROBE = {"dataset": DATASET, "model": MODEL, "train": {}, "probes": {"sphere": {"kind": "sphere", "points": 6}}}
SPECS = {"train": TRAIN, "probe": PROBE, "calibrate": {}, "reference": {"dataset": DATASET}, "source": {"loader": "x"}}
CELL = "clean/mlp/mixup/seed0"


def keep(folder: Path, stage: str, spec=None, seconds=10.0, key=CELL, device="cpu", files=None, **facts) -> Path:
    """Write a stage's sealed record and the files that it lists; `files` has their sizes in bytes by name."""
    path = folder / "results" / STAGES[stage].record_path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, many in (files or {}).items():
        (path.parent / name).write_bytes(bytes(many))
    made = {"spec": SPECS.get(stage, {}) if spec is None else spec, "seconds": seconds, "device": device}
    made |= {"hardware": {"host": "node1", "processor": "EPYC", "gpu": "H100"}, "peak_memory_mib": 100.0}
    path.write_text(json.dumps(store.seal(made | {"outputs": dict.fromkeys(files or {}, "0" * 64)} | facts)))
    return path


def job(folder: Path, stage: str, spec=None, key="clean/mlp/mixup/seed7", **facts) -> PlannedJob:
    """A job as a dry run reports it, with its request."""
    request = Request(stage, SPECS.get(stage, {}) if spec is None else spec, {})
    outputs = tuple(f"results/{path}" for path in STAGES[stage].paths(key))
    gpu = {"gpu": "1"} if stage in ("train", "probe") else {}
    common = {"inputs": (str(write_request(folder / "results", request)),), "outputs": outputs, "resources": gpu}
    return PlannedJob(stage, wildcards={"key": key}, **(common | facts))


def estimate(folder: Path, *asked, **facts) -> Estimate | None:
    """Estimate one job from the records in a folder."""
    one = job(folder, *asked, **facts)
    return Past(folder, [one]).estimate(one)


def tasks(*seconds: float, rule: str = "train", **facts) -> list[Task]:
    """Jobs that take these times."""
    return [Task(PlannedJob(rule, outputs=(f"{rule}{i}",), **facts), Estimate(s)) for i, s in enumerate(seconds)]


def cells_of(lines: list[str]) -> dict[str, list[str]]:
    """The table's lines by stage, each as its cells."""
    start = lines.index("") + 1
    table = lines[start : lines.index("", start)]
    return {line.split()[0]: [cell.strip() for cell in line.split("  ")[1:] if cell] for line in table[1:]}


TRAININGS = [
    ("clean/cnn/mixup/seed0", TRAIN | {"model": CNN}, "same stage", True),
    ("photos/mlp/mixup/seed0", TRAIN | {"dataset": DATASET | {"source": "x"}}, "same model, other data", True),
    ("clean/mlp/focal/seed0", TRAIN | {"loss": {"name": "focal"}}, "same data and model", False),
    (CELL, TRAIN, "same spec", False),
]
FIGURES = [
    ("other/claims", {}, "same stage", True),
    ("other/radii", {}, "same elsewhere", True),
    ("tiny/radii", {}, "last time", False),
]


@pytest.mark.parametrize(
    ("stage", "key", "records"), [("train", "clean/mlp/mixup/seed7", TRAININGS), ("figure", "tiny/radii", FIGURES)]
)
def test_the_nearest_records_count(tmp_path, stage, key, records):
    """Records range from those of the same stage to those of the same spec, or of the outputs to be redrawn."""
    for i, (where, spec, near, rough) in enumerate(records):
        keep(tmp_path, stage, spec, 10.0 + i, where)
        found = estimate(tmp_path, stage, key=key)
        assert (found.seconds, found.near, found.rough) == (10.0 + i, near, rough)


def test_records_that_are_as_near_give_their_mean_and_the_largest_peak(tmp_path):
    keep(tmp_path, "train")
    keep(tmp_path, "train", TRAIN, 14.0, "clean/mlp/mixup/seed1", peak_memory_mib=300.0)
    assert (estimate(tmp_path, "train").seconds, estimate(tmp_path, "train").memory) == (12.0, 300.0)
    keep(tmp_path, "aggregate", {}, 9.0, "tiny")  # it is in the folder of tables
    assert estimate(tmp_path, "table", {}, "tiny/paper") is None


def test_a_new_data_set_is_estimated_after_a_demo(tmp_path):
    """Cells on 54,000 images and their other jobs are estimated from one on 100 images; every job has an estimate."""
    records = [("train", CELL, 14.0), ("probe", CELL, 5.0), ("calibrate", CELL, 2.0), ("reference", "clean/seed0", 1.0)]
    for stage, key, seconds in (*records, ("source", "digits", 3.0)):
        keep(tmp_path, stage, None, seconds, key, train_seconds=4.0 if stage == "train" else None)
    specs = [("reference", {"dataset": OTHER}, "photos/seed0"), ("source", {"loader": "photos"}, "photos")]
    for name in ("mlp", "cnn"):
        changed, cell = {"dataset": OTHER, "model": {"name": name}}, f"photos/{name}/mixup/seed0"
        specs += [("train", TRAIN | changed | {"train": {"epochs": 6}}, cell), ("calibrate", {}, cell)]
        specs += [("probe", PROBE | changed, cell)]
    jobs = [job(tmp_path, *each) for each in specs]
    past = Past(tmp_path, jobs)
    found = {each.name: past.estimate(each) for each in jobs}
    assert all(each.rough for each in found.values())
    training = 10 + 4 * 540 * 2  # ten seconds outside the loop; 540 times the images in twice the epochs
    assert found["train photos/mlp/mixup/seed0"].seconds == pytest.approx(training)
    assert found["train photos/cnn/mixup/seed0"].near == "same stage"
    assert found["probe photos/mlp/mixup/seed0"].seconds == pytest.approx(5 * (6 + 100) / (6 + 80))
    assert found["calibrate photos/mlp/mixup/seed0"].seconds == pytest.approx(2 * 16000 / 140)
    assert found["calibrate photos/mlp/mixup/seed0"].near == "same model, other data"
    lines = plan.report(jobs, Limits(2), tmp_path)
    assert cells_of(lines)["train"][:3] == ["2", "~72 min", "~2.4 h"]
    assert f"GPUs       ~{number(2 * (training + 5 * 106 / 86) / 3600)} GPU-hours" in lines
    assert any(line.startswith("~ marks rough estimates") for line in lines)
    assert not any("Can't be estimated" in line for line in lines)


def test_work_is_what_a_model_sees():
    assert work("train", json.dumps(TRAIN)) == 3 * 100
    assert work("train", json.dumps(TRAIN | {"loss": {"name": "regmixup"}})) == 2 * 3 * 100, "two rows of an image"
    assert work("train", json.dumps(TRAIN | {"loss": {"name": "gone"}, "train": {}})) == 50 * 100
    probe = {"kind": "sphere", "points": 60, "control": 20, "radii": [1, 2], "relative_radii": [1], "bisections": 3}
    probes = {"a": probe, "b": probe | {"directions": 2}}
    # 80 rays of 1 + 2 + 1 + 5 x 3 places each, and 160.
    assert work("probe", json.dumps(PROBE | {"probes": probes})) == (80 + 160) * 19
    # 80 samples; three starts and, after TS, two more, with 50 steps each, and gradients.
    attacked = {"kind": "adversarial", "points": 60, "control": 20}
    assert work("probe", json.dumps(PROBE | {"probes": {"a": attacked}})) == 80 * 5 * 50 * 3
    assert work("reference", json.dumps({"dataset": DATASET})) == 60 + 80
    assert work("source", "{}") == 1


@pytest.mark.parametrize(
    ("device", "resources", "right"),
    [
        ("cpu", {"gpu": "0"}, "cpu"),
        ("cuda:1", {"gpu": "1"}, "cuda:0"),
        ("auto", {"gpu": "0", "shard": "2"}, "cuda:0"),
        ("auto", {}, "cpu"),
    ],
)
def test_records_of_the_same_kind_of_device_come_first(tmp_path, device, resources, right):
    """They do even if they are less similar, but not if they are for another model."""
    asked = TRAIN | {"train": {"epochs": 3} | ({} if device == "auto" else {"device": device})}
    keep(tmp_path, "train", asked | {"model": CNN}, 7.0, "clean/cnn/mixup/seed0", device=right)
    keep(tmp_path, "train", asked, 9.0, device="cpu" if right == "cuda:0" else "cuda:0")
    assert estimate(tmp_path, "train", asked, resources=resources).seconds == 9.0
    keep(tmp_path, "train", asked | {"loss": {"name": "focal"}}, 3.0, "clean/mlp/focal/seed0", device=right)
    assert estimate(tmp_path, "train", asked, resources=resources).seconds == 3.0


def test_disk_counts_logits_by_samples_and_says_if_there_is_room(tmp_path, monkeypatch):
    """If 240 samples become 480, the logits double; the weights and the record don't."""
    record = keep(tmp_path, "train", files={"model.safetensors": 1000, "logits.safetensors": 2400})
    twice = estimate(tmp_path, "train", TRAIN | {"dataset": DATASET | {"train": 340}})
    assert twice.size == pytest.approx(5800 + record.stat().st_size)
    record.with_name("model.safetensors").unlink()
    assert estimate(tmp_path, "train").size is None
    (tmp_path / "old").write_bytes(bytes(2000))
    asked = [Task(PlannedJob("train", outputs=("old",)), Estimate(1.0, 5000.0))]
    usage = type("Usage", (), {"free": 3000})
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: usage)
    assert plan.disk(asked, tmp_path) == "4.88 KiB to write, replacing 1.95 KiB of older files; 2.93 KiB free"
    usage.free = 2999
    asked.append(Task(PlannedJob("train", outputs=("new",)), None))
    assert plan.disk(asked, tmp_path).startswith(">4.88 KiB to write (1 job not counted)")
    assert plan.disk(asked, tmp_path).endswith("2.93 KiB free: NOT ENOUGH")


@pytest.mark.parametrize(
    ("resources", "hours"),
    [({"gpu": "2"}, 2), ({"gpu": "1", "slots_per_gpu": "2"}, 0.5), ({"shard": "2", "slots_per_gpu": "4"}, 0.25)],
)
def test_gpu_hours_are_those_of_whole_gpus(resources, hours):
    """Jobs share a GPU through slots or SLURM's shards."""
    lines = plan.totals(tasks(1800.0, 1800.0, resources=resources), Limits(1), Path())
    assert lines[0] == f"GPUs       {number(hours)} GPU-hours"
    lines = plan.totals(tasks(1800.0, resources={"gpu": "<TBD>"}), Limits(1), Path())
    assert lines[0] == "GPUs       no job needs one"


def test_a_run_is_as_long_as_what_holds_it_up_most():
    """Ten 60-second trainings are limited by cores, slots, a queue, or the order of stages."""
    ten = tasks(*[60.0] * 10, resources={"gpu": "1"})
    near = [Limits(1), Limits(4), Limits(100), Limits(100, gpus=2)]
    assert [wall_seconds(ten, most) for most in near] == [600, 150, 60, 300]
    assert wall_seconds(tasks(*[60.0] * 10, threads=2), Limits(5, gpus=5)) == 240
    far = [Limits(1, jobs=5, gpus=8, remote=True), Limits(1, jobs=100, gpus=2, remote=True)]
    assert [wall_seconds(ten, most) / (60 + plan.AROUND) for most in far] == [2, 5]
    small = tasks(*[60.0] * 10, rule="calibrate")
    assert wall_seconds(small, Limits(2, jobs=100, remote=True)) == 300, "next to the main process"
    small = [replace(task, job=replace(task.job, resources={"submit": "1"})) for task in small]
    assert wall_seconds([*ten, *small], Limits(2, remote=True)) == 2 * (60 + plan.AROUND)
    assert wall_seconds([*ten, *tasks(7.0, 1.0, rule="calibrate")], Limits(100)) == 67


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], Limits(1)),
        (["-j", "3", "--res", "gpu=4", "--", "results/x"], Limits(3, gpus=4)),
        (["--profile", "slurm.yaml"], Limits(2, 7, 5, remote=True)),
        (["--profile", "slurm.yaml", "--jobs", "unlimited", "--resources", "gpu=1"], Limits(2, None, 1, remote=True)),
        (["--profile", "slurm.yaml", "--executor", "local", "--cores", "4"], Limits(4, None, 5)),
    ],
)
def test_caps_come_from_arguments_and_profiles(tmp_path, monkeypatch, arguments, expected):
    if "slurm.yaml" in arguments:
        needs(find_spec("snakemake_executor_plugin_slurm") is not None, "snakemake-executor-plugin-slurm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    (tmp_path / "slurm.yaml").write_text("{executor: slurm, jobs: 7, local-cores: 2, resources: [gpu=5]}")
    assert plan.limits(arguments) == expected


def test_records_that_cannot_be_read_are_left_out_and_counted(tmp_path):
    keep(tmp_path, "train", seconds=10.0)
    keep(tmp_path, "train", key="clean/mlp/mixup/seed1").write_text("{")
    edited = keep(tmp_path, "train", seconds=99.0, key="clean/mlp/mixup/seed2")
    edited.write_text(edited.read_text().replace("99.0", "98.0"))
    changes = ({"dataset": {"of": "another version"}}, {"train": {"unknown": 1}}, {})
    for seed, change in enumerate(changes, 3):
        facts = {} if change else {"hardware": None}
        keep(tmp_path, "train", TRAIN | change, key=f"clean/mlp/mixup/seed{seed}", **facts)
    keep(tmp_path, "probe").write_text("{")  # for a stage that won't run
    lines = plan.report([job(tmp_path, "train")], Limits(1), tmp_path)
    assert lines[-1] == "5 unreadable records left out; see `halobench verify`."
    assert cells_of(lines)["train"][1] == "10 s"


def test_a_report_says_what_is_not_known_and_where_records_are_from(tmp_path):
    keep(tmp_path, "train", seconds=1800.0)
    jobs = [job(tmp_path, stage, key=CELL) for stage in ("train", "probe")]
    lines = plan.report(jobs, Limits(1, gpus=4), tmp_path)
    assert "GPUs       >0.5 GPU-hours" in lines
    assert "wall time  >30 min with 4 GPU slots and 1 core" in lines
    assert lines[-3] == "The records are from cpu (EPYC, host node1)."
    assert lines[-2].startswith("1 GPU job estimated from CPU records: ")
    assert lines[-1].startswith("Can't be estimated, since no such job has run here: 1 probe. For an estimate")
    assert lines[-1].endswith(f": halobench run results/runs/{CELL}/probe.json")
    found = cells_of(lines)
    assert found["train"] == ["1", "30 min", "30 min", "30 min", "100 MiB", "same spec"]
    assert found["probe"] == ["1", "?", "?", "?", "?"]
    assert found["total"] == ["2", ">30 min", ">30 min"]
    keep(tmp_path, "train", device="cuda:0")
    assert plan.report(jobs[:1], Limits(1), tmp_path)[-1] == "The records are from cuda (H100, host node1)."


@pytest.mark.workflow
def test_a_new_seed_takes_the_mean_of_the_others(finished, tiny, tmp_path, monkeypatch, capsys):
    space = finished.copy(tmp_path / "space")
    tiny["experiments"]["tiny"]["grid"][0]["seeds"] = [0, 1, 2]
    space.write(tiny)
    monkeypatch.chdir(space.folder)
    assert plan.plan(["--cores", "1", "--resources", "gpu=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # Each cell has two others that differ only in the seed; probes of both losses have the same spec.
    records = {stage: (space.folder / "results/runs").rglob(f"{stage}.json") for stage in ("train", "probe")}
    totals = {stage: sum(json.loads(p.read_text())["seconds"] for p in paths) / 2 for stage, paths in records.items()}
    table = cells_of(lines)
    for stage, total in totals.items():
        assert table[stage] == ["8", duration(total / 8), *[duration(total)] * 2, table[stage][4], "same spec"]
    # Also eight calibrations, two references, three jobs for tables, two for pages, and the printed tables and figures.
    jobs = 31 + len(tiny_tables()) + len(tiny_figures())
    assert lines[0] == f"{jobs} jobs would run: 8 cells to compute, 16 already finished"
    assert f"GPUs       {number(sum(totals.values()) / 3600)} GPU-hours" in lines


@pytest.mark.workflow
def test_nothing_to_do_bad_input_and_silence_are_told(finished, monkeypatch, capsys):
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
