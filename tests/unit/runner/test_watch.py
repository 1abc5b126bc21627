"""What `halobench watch` sees in files, how much time it says is left, and what a frame shows."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from conftest import ROOT, tiny_config
from halobench.cli.main import main
from halobench.core.errors import SpecError
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.runner import run, snakemake_args
from halobench.runner.dry_run import parse_jobs
from halobench.runner.forecast import plan
from halobench.runner.forecast.plan import AROUND, Limits
from halobench.runner.monitor import polling, view
from halobench.runner.monitor.eta import DRAWN, Rest, TimeLeft, seconds_left, time_left
from halobench.runner.monitor.monitor import Watch, began, jobs_of, opened, progress
from halobench.runner.monitor.view import Failed, Frame, Row, Running
from halobench.runner.slurm import queries
from halobench.runner.snakemake_args import Selection
from halobench.storage import files, records

CELL = "clean/mlp/mixup2/seed0"
LATER = 5.0  # seconds, by which a folder counts as settled


@pytest.fixture
def folder(tmp_path) -> Path:
    """A working directory of two cells, with nothing computed."""
    config = tiny_config()
    config["experiments"]["tiny"]["grid"][0] |= {"datasets": ["clean"], "models": ["mlp"], "seeds": [0]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "results").mkdir()
    return tmp_path


@pytest.fixture
def alive(monkeypatch):
    """A run that goes on since a minute."""
    living = [run.Master("process 7 on here", time.time() - 60, ())]
    monkeypatch.setattr(run.Lookout, "alive", lambda self: list(living))
    return living


def seen(folder: Path) -> Watch:
    return opened(folder / "results", Selection())


def job_of(watch: Watch, stage: str, name: str = CELL):
    return next(job for job in watch.jobs if (job.stage, job.name) == (stage, name))


def keep(watch: Watch, stage: str, name: str = CELL, seconds: float = 4.0, **changed) -> Path:
    """Write the record that the configuration asks for, with what differs."""
    job = job_of(watch, stage, name)
    made = {"spec": json.loads(job.asked.spec), "code": dict(job.asked.code), "seconds": seconds, "device": "cpu"}
    made |= {"hardware": {"host": "here", "processor": "EPYC"}, "outputs": {}}
    path = watch.results / job.record
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(records.seal(made | changed)))
    return path


def mark(watch: Watch, stage: str, name: str = CELL, number: str | None = None, age: float = 10.0) -> Path:
    """Snakemake's mark of a job that it started."""
    code = urlsafe_b64encode(f"results/{job_of(watch, stage, name).record}".encode()).decode()
    path = watch.folder / polling.INCOMPLETE / code
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"external_jobid": number}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def write_log(watch: Watch, stage: str, text: str, name: str = CELL, age: float = 9.0) -> Path:
    path = watch.results / job_of(watch, stage, name).log
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"$ halobench {stage} --seed 0\n{text}")
    os.utime(path, (time.time() - age,) * 2)
    return path


def row(found: Frame, stage: str) -> tuple[int, int, int, int]:
    """Done, running, failed, waiting."""
    one = next(each for each in found.rows if each.stage == stage)
    return one.done, one.running, one.failed, one.waiting


def test_nothing_has_run(folder):
    found = seen(folder).look()
    assert {each.stage: each.waiting for each in found.rows}["train"] == 2
    assert found.total.total == found.total.waiting
    assert (found.goes_on, found.complete, found.code) == (False, False, 1)


def test_a_record_that_is_as_asked_is_done_and_another_waits(folder, alive):
    watch = seen(folder)
    keep(watch, "train")
    assert row(watch.look(), "train") == (1, 0, 0, 1)
    keep(watch, "train", spec={"loss": "other"})
    assert row(watch.look(), "train") == (0, 0, 0, 2)
    keep(watch, "train", code={"losses/mixup": "0" * 16})
    assert row(watch.look(), "train") == (0, 0, 0, 2)
    path = keep(watch, "train")
    assert row(watch.look(), "train") == (1, 0, 0, 1)
    path.unlink()
    assert row(watch.look(), "train") == (0, 0, 0, 2)
    path.write_text("{")
    assert row(watch.look(), "train") == (0, 0, 0, 2)


def test_a_record_whose_outputs_are_gone_waits(folder, alive):
    watch = seen(folder)
    path = keep(watch, "train", outputs={"history.csv": "0", "model.safetensors": "1"})
    assert row(watch.look(), "train") == (0, 0, 0, 2)
    (path.parent / "history.csv").write_text("epoch\n")
    path.unlink()
    keep(watch, "train", outputs={"history.csv": "0", "model.safetensors": "1"})
    assert row(watch.look(), "train") == (1, 0, 0, 1)  # weights may be deleted


def test_a_mark_of_this_run_is_a_job_that_runs(folder, alive):
    watch = seen(folder)
    keep(watch, "train", "clean/mlp/cross_entropy/seed0", seconds=30.0)
    mark(watch, "train", age=12.0)
    write_log(watch, "train", "epoch 1/3  loss 2  lr 1e-3  9 s left\nepoch 2/3  loss 2  lr 1e-3  7 s left\n", age=2.0)
    found = watch.look()
    assert row(found, "train") == (1, 1, 0, 0)
    (job,) = found.running
    assert (job.stage, job.name, job.progress) == ("train", CELL, "epoch 2 of 3")
    assert job.seconds == pytest.approx(12, abs=3)
    assert job.expected == pytest.approx(30.0)  # by another loss of as many steps


def test_the_log_of_an_earlier_attempt_tells_nothing(folder, alive):
    watch = seen(folder)
    mark(watch, "train", age=3.0)
    write_log(watch, "train", "epoch 2/3  loss 2  lr 1e-3  7 s left\n", age=30.0)
    assert watch.look().running[0].progress == ""


def test_a_mark_of_an_earlier_run_is_none(folder, alive):
    watch = seen(folder)
    mark(watch, "train", age=3600.0)
    assert row(watch.look(), "train") == (0, 0, 0, 2)


def test_a_log_of_this_run_without_mark_and_record_is_a_failure(folder, alive):
    watch = seen(folder)
    write_log(watch, "train", f"epoch 1/3\nhalobench: error: {CELL}: loss is nan in epoch 2\n")
    found = watch.look()
    assert row(found, "train") == (0, 0, 1, 1)
    assert found.failed == (Failed("train", CELL, f"{CELL}: loss is nan in epoch 2"),)
    assert found.code == 1
    # Its probe and calibration, and what is drawn of all, can't run.
    assert found.left.blocked == 2 + sum(each.stage in DRAWN for each in watch.jobs)
    mark(watch, "train", age=1.0)  # it is tried again
    assert row(watch.look(), "train") == (0, 1, 0, 1)


def test_a_fresh_log_without_mark_and_record_is_no_failure_yet(folder, alive):
    """Snakemake marks a job after it has started it."""
    watch = seen(folder)
    log = write_log(watch, "train", "", age=0.0)
    assert row(watch.look(), "train") == (0, 0, 0, 2)
    os.utime(log, (time.time() - 60,) * 2)
    assert row(watch.look(), "train") == (0, 0, 1, 1)
    os.utime(log)
    alive.clear()  # a run that has ended starts nothing
    assert row(watch.look(), "train") == (0, 0, 1, 1)


def test_a_failure_of_an_earlier_run_waits_in_this_one(folder, alive):
    watch = seen(folder)
    write_log(watch, "train", "halobench: error: loss is nan\n", age=3600.0)
    assert row(watch.look(), "train") == (0, 0, 0, 2)
    alive.clear()
    assert row(watch.look(), "train") == (0, 0, 1, 1)


def test_what_was_stopped_by_a_signal_has_not_failed(folder, alive):
    watch = seen(folder)
    write_log(watch, "train", f"halobench: {CELL}: stopped by SIGTERM; saved at epoch 2\n")
    found = watch.look()
    assert row(found, "train") == (0, 0, 0, 2)
    assert found.notes == ("1 job was stopped by a signal, and can go on",)


def test_jobs_of_a_dead_run_were_cut_off(folder):
    watch = seen(folder)
    mark(watch, "train")
    write_log(watch, "train", "epoch 1/3\n")
    found = watch.look()
    assert row(found, "train") == (0, 0, 0, 2)
    assert found.notes == ("1 job was cut off when the last run died; `halobench run` goes on",)
    assert "no run is going on" in view.heading(found)


@pytest.mark.parametrize(
    ("state", "expected", "queued"), [("PENDING", (0, 0, 0, 2), 1), ("RUNNING", (0, 1, 0, 1), 0), (None, None, 0)]
)
def test_a_submitted_job_is_what_the_queue_says(folder, alive, state, expected, queued):
    watch = seen(folder)
    mark(watch, "train", number="41", age=10.0)
    watch.queue._asked = time.monotonic()
    if state:
        watch.queue.jobs = {"41": queries.QueuedJob("41", state, "run", "train x", "node1", 90.0)}
        found = watch.look()
        assert row(found, "train") == expected
        assert found.total.queued == queued
        assert [(job.seconds, job.where) for job in found.running] == [(90.0, "job 41 on node1")] * expected[1]
        return
    # Without the queue: it runs once it has written to its log.
    assert row(watch.look(), "train") == (0, 0, 0, 2)
    write_log(watch, "train", "", age=5.0)
    assert row(watch.look(), "train") == (0, 1, 0, 1)


@pytest.mark.parametrize(("state", "expected"), [("PENDING", (0, 0, 0, 2)), ("RUNNING", (0, 1, 0, 1))])
def test_a_job_that_started_on_a_node_is_found_in_the_queue_by_its_name(folder, state, expected):
    """Its mark has lost the number; put back into the queue it waits there. Also of a run that died."""
    watch = seen(folder)
    mark(watch, "train", age=10.0)
    watch.queue._asked = time.monotonic()
    watch.queue.jobs = {"41": queries.QueuedJob("41", state, "run", "train clean_mlp_mixup2_0", "node1", 90.0)}
    found = watch.look()
    assert row(found, "train") == expected
    assert [job.where for job in found.running] == ["job 41 on node1"] * expected[1]
    assert found.total.queued == expected[3] - 1


def test_slurms_log_tells_why_a_job_that_never_started_failed(folder, alive):
    watch = seen(folder)
    watch.most = Limits(2, 10, 2, True)
    log = watch.results / "logs/slurm/rule_train/clean_mlp_mixup2_0/7.log"
    log.parent.mkdir(parents=True)
    log.write_text("x\n/bin/sh: 3: /opt/python: not found\n")
    assert row(watch.look(), "train") == (0, 0, 0, 2)  # fresh
    os.utime(log, (time.time() - 9,) * 2)
    found = watch.look()
    assert found.failed == (Failed("train", CELL, "/bin/sh: 3: /opt/python: not found"),)


def test_long_names_of_marks_are_split_into_folders(tmp_path):
    record = f"runs/{'d' * 150}/{'m' * 150}/mixup/seed0/train.json"
    code = urlsafe_b64encode(f"results/{record}".encode()).decode()
    place = tmp_path / polling.INCOMPLETE / f"@{code[:254]}" / code[254:]
    place.parent.mkdir(parents=True)
    place.write_text('{"external_jobid": 12}')
    (tmp_path / polling.INCOMPLETE / "migration_underway").write_text("")
    assert {key: value.number for key, value in polling.Marks(tmp_path, {record}).look().items()} == {record: "12"}


def test_what_has_not_changed_is_not_read_again(folder, alive, monkeypatch):
    watch = seen(folder)
    path = keep(watch, "train")
    for place in (path, path.parent):
        os.utime(place, (time.time() - LATER,) * 2)
    watch.look()
    read = []
    monkeypatch.setattr(polling, "read_plain", lambda path: read.append(path))
    assert row(watch.look(), "train") == (1, 0, 0, 1)
    assert read == []
    with files.replacing(path) as temporary:  # the same file, written anew
        temporary.write_text("{}")
    watch.look()
    assert read == [str(path)]


def test_looking_writes_nothing_and_locks_nothing(folder, monkeypatch):
    watch = seen(folder)
    place = folder / run.STATE / "masters"
    place.mkdir(parents=True)
    (place / f"{platform.node()}-999999999").write_text("process 999999999 on here")
    keep(watch, "train")
    mark(watch, "probe")
    monkeypatch.setattr(run.locks, "is_held", lambda path: pytest.fail("locked"))
    monkeypatch.setattr(run.fcntl, "flock", lambda *arguments: pytest.fail("locked"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert watch.look().masters == ()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_figures_are_done_if_they_are_of_the_present_cells(finished):
    """Of a finished grid all is done; not so once a cell was made anew with other numbers, or a seed was added."""
    watch = seen(finished.folder)
    found = watch.look()
    assert (found.complete, found.code, found.left) == (True, 0, None), found
    (drawn,) = watch.drawn
    newest = max(watch.records.current.values())
    # Younger cells of the same bytes leave them done, and others don't.
    drawn._seen = ()
    assert len(list(drawn._look(newest + 10**12))) == len(drawn.jobs)
    manifest = files.read_json(drawn._manifest)
    manifest["cells"][0]["outputs"]["metrics.csv"] = "0" * 64
    drawn._manifest = finished.folder.parent / "edited.json"
    files.write_json(drawn._manifest, manifest)
    assert list(drawn._look(newest + 10**14)) == []
    raw = yaml.safe_load((finished.folder / "config.yaml").read_text())
    raw["experiments"]["tiny"]["grid"][0]["seeds"] = [0]
    fewer = Watch(load_config(raw), finished.folder, finished.folder / "results", Limits(1)).look()
    assert row(fewer, "train") == (8, 0, 0, 0)
    assert row(fewer, "aggregate") == (0, 0, 0, 3)


def test_the_jobs_are_those_of_snakemake(finished):
    """As a dry run names them that is to make all anew: each by the record that it writes."""
    watch = seen(finished.folder)
    done = finished.snakemake("-n", "--forceall", "--quiet", "progress")
    jobs = parse_jobs(done.stdout)
    assert len(jobs) == len(watch.jobs), done.stderr[-2000:]
    outputs = {path: job for job in jobs for path in job.outputs}
    for job in watch.jobs:
        assert outputs[f"results/{job.record}"].kind == job.stage
        assert f"results/{job.log}" in done.stdout


# The time left -------------------------------------------------------------------------------------------------------


def cells(many: int, train: float | None, probe: float | None, calibrate: float | None, **facts) -> list[Rest]:
    stages = {"train": train, "probe": probe, "calibrate": calibrate}
    return [Rest(stage, f"c{i}", s, **(facts if stage != "calibrate" else {}))
            for i in range(many) for stage, s in stages.items()]  # fmt: skip


@pytest.mark.parametrize(("many", "cores", "expected"), [(8, 4, 8 * 17 / 4), (1, 4, 10 + 5), (2, 1, 34.0)])
def test_time_left_of_cells_on_cores(many, cores, expected):
    """Work over cores, or the longest chain of a training and the longer of probe and calibration."""
    assert seconds_left(cells(many, 10, 5, 2), Limits(cores)) == pytest.approx(expected)


def test_time_left_counts_threads_and_what_is_drawn_after_all():
    drawn = [Rest("aggregate", "a", 3), Rest("claims", "b", 2), *(Rest("figure", f"f{i}", 4) for i in range(4))]
    assert seconds_left(drawn, Limits(2)) == pytest.approx(3 + 2 + 8)
    assert seconds_left([*cells(4, 10, None, None, threads=2), *drawn], Limits(4)) == pytest.approx(20 + 3 + 2 + 4)


def test_time_left_on_a_cluster():
    """Each submission costs time around it, but for those that are submitted; slots are the scarcer cap."""
    most = Limits(2, 100, 3, True)
    away = cells(6, 60, 30, 0, away=True)
    assert seconds_left(away, most) == pytest.approx(6 * (90 + 2 * AROUND) / 3)
    running = [Rest("train", "r", 7, away=True, submitted=True)]
    assert seconds_left(running, most) == pytest.approx(7)
    assert seconds_left(away, Limits(2, 2, None, True)) == pytest.approx(6 * (90 + 2 * AROUND) / 2)


def test_jobs_without_a_like_record_make_it_a_lower_bound():
    left = time_left([*cells(1, 10, None, 1), Rest("reference", "x", None)], Limits(1), 12)
    assert (left.seconds, left.unknown, left.known, left.records) == (11, 2, 2, 12)
    told = view.left_told(Frame(("e",), (Row("train", waiting=1),), masters=("run",), left=left))
    assert told == "time left: at least 11 s, from 12 like records; 2 jobs have no like record: a lower bound"


def test_the_time_left_of_a_watched_run_is_that_of_its_like_records(folder, alive):
    """Trainings of 30 s and 40 s tell of each other's seed; what runs counts with what it has left."""
    raw = yaml.safe_load((folder / "config.yaml").read_text())
    raw["experiments"]["tiny"]["grid"][0] |= {"seeds": [0, 1, 2, 3]}
    watch = Watch(load_config(raw), folder, folder / "results", Limits(1))
    for seed, seconds in ((0, 30.0), (1, 40.0)):
        for loss in ("mixup2", "cross_entropy"):
            keep(watch, "train", f"clean/mlp/{loss}/seed{seed}", seconds)
    mark(watch, "train", "clean/mlp/mixup2/seed2", age=15.0)
    found = watch.look()
    trainings = 3 * 35 + 20  # three that wait, one that has run for 15 s
    assert found.left.seconds == pytest.approx(trainings, abs=3)
    assert (found.left.records, found.left.known) == (4, 4)
    assert found.left.unknown == sum(job.stage not in ("train", "manifest") for job in watch.jobs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epoch 1/10  loss 2.28  lr 1.5e-03  70 s left\nepoch 2/10  loss 1.99  lr 3e-03  64 s left\nwarning: x\n",
         ("epoch 2 of 10", 64.0)),
        ("probe sphere around 6 training points: done\n", ("probe sphere done", None)),
        ("saved at 40 points of sphere\n", ("40 points of sphere", None)),
        ("$ halobench train\n", ("", None)),
    ],
)  # fmt: skip
def test_progress(text, expected):
    assert progress(text) == expected


# Frames --------------------------------------------------------------------------------------------------------------

LONG = "a-data-set-with-a-long-name-noise25/an_own_model_of_mine/label_smoothing/seed11"
FULL = Frame(
    ("demo", "theory"),
    (
        Row("source", done=3),
        Row("train", done=5982, running=2, failed=1, waiting=6015, queued=7),
        Row("probe", waiting=12000),
    ),
    (
        Running("train", LONG, 125.0, 300.0, "epoch 5 of 30", "job 41 on node1"),
        Running("probe", "a/b/c/seed0", 3.0),
    ),
    (Failed("train", "noisy/bad/mixup2/seed0", "noisy/bad/mixup2/seed0: loss is inf in epoch 1 of 3"),),
    ("run of process 7 on login1, for 3 min",),
    TimeLeft(7300.0, 12, 3, 2, 40),
    ("1 job was stopped by a signal, and can go on",),
)


def text_of(shown: Frame, width: int, height: int | None = None) -> list[str]:
    from rich.console import Console

    console = Console(width=width, highlight=False, emoji=False, markup=False)
    with console.capture() as got:
        console.print(view.rendered(shown, width, height))
    return got.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 250])
def test_a_frame_shows_all_at_every_width(width):
    lines = text_of(FULL, width)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    for part in (
        "demo, theory: run of process 7 on login1",
        "5,982/12,000 2 1 6,015",
        "0/12,000 – – 12,000",
        "5,985/24,003 2 1 18,015",
        "epoch 5 of 30, 2 min of about 5 min, job 41 on node1",
        "loss is inf in epoch 1 of 3",
        "at least 2.0 h, from 12 like records; 3 jobs have no like record: a lower bound; 2 jobs can't run",
        "1 job was stopped by a signal",
    ):
        assert part in words or part.replace(" ", "") in words.replace(" ", ""), part
    joined = "".join("".join(lines).split())
    assert LONG in joined
    assert joined.count("noisy/bad/mixup2/seed0") == 1  # not twice


def test_a_frame_fits_the_height():
    many = tuple(Running("train", f"d/m/l/seed{i}", 1.0) for i in range(90))
    shown = Frame(("demo",), FULL.rows, many, tuple(Failed("train", f"x{i}", "why") for i in range(50)), FULL.masters)
    lines = text_of(shown, 100, 30)
    assert len(lines) <= 30
    assert sum("more" in line for line in lines) == 2
    assert "  and 82 more" in text_of(shown, 100)


@pytest.mark.parametrize("counts", [(5982, 1, 2, 6015), (0, 0, 0, 5), (1, 1, 1, 1), (99999, 1, 1, 0), (3, 0, 0, 0)])
@pytest.mark.parametrize("width", [4, 6, 24])
def test_a_bar_hides_no_part(counts, width):
    shares = view.share(counts, width)
    assert sum(shares) == width
    assert [many > 0 for many in shares] == [many > 0 for many in counts]


@pytest.mark.parametrize(
    ("rows", "masters", "code"),
    [
        ((Row("train", done=2),), (), 0),
        ((Row("train", done=1, waiting=1),), ("run",), 0),
        ((Row("train", done=1, failed=1),), ("run",), 1),
        ((Row("train", done=1, waiting=1),), (), 1),
    ],
)
def test_exit_codes(rows, masters, code):
    assert Frame(("e",), rows, masters=masters).code == code


def test_a_line_for_a_log():
    told = view.line(FULL)
    assert "5,985 of 24,003 jobs done, 2 running, 1 failed, 18,015 waiting (7 of them in the queue); time left:" in told
    assert "\n" not in told


# Masters and configurations ------------------------------------------------------------------------------------------


def enrolled(folder: Path, name: str, age: float = 0.0) -> Path:
    path = folder / run.STATE / "masters" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"process {name.rpartition('-')[2]} on x, started 2026-01-02T03:04:05+00:00\n")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_master_on_this_host_lives_as_its_process_does(tmp_path):
    code = "import sys; sys.stdin.read()"
    command = [sys.executable, "-c", code, "-m", "snakemake", "--configfile", "a.yaml", "--cores", "3"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    path = enrolled(tmp_path, f"{platform.node()}-{process.pid}", age=1e4)
    lookout = run.Lookout(tmp_path)
    (found,) = lookout.alive()
    assert found.arguments == ("--configfile", "a.yaml", "--cores", "3")
    assert found.began == pytest.approx(1767323045.0)
    assert began([found], tmp_path) == found.began
    process.communicate()
    assert lookout.alive() == []
    assert path.exists()
    other = subprocess.Popen(["sleep", "60"])
    enrolled(tmp_path, f"{platform.node()}-{other.pid}")  # its number went to another program
    assert lookout.alive() == []
    other.kill()
    assert lookout.alive() == []  # a zombie by now
    other.wait()


def test_a_master_elsewhere_lives_as_long_as_it_touches_its_file(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(run.time, "monotonic", lambda: clock[0])
    fresh, old = enrolled(tmp_path, "elsewhere-7", age=10.0), enrolled(tmp_path, "elsewhere-8", age=500.0)
    lookout = run.Lookout(tmp_path)
    assert [master.said.split()[1] for master in lookout.alive()] == ["7"]
    clock[0] += run.WATCH
    os.utime(old)
    assert [master.said.split()[1] for master in lookout.alive()] == ["8"]
    os.utime(fresh)
    assert len(lookout.alive()) == 2


def test_layers_merge_as_snakemake_merges_them():
    base = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": 3}
    over = {"a": {"b": {"f": 2}, "d": [3], "g": None}, "e": {"h": 1}}
    merged = json.loads(json.dumps(base))
    update_config(merged, over)
    assert snakemake_args.laid_over(base, over) == merged


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--cores", "3"],
        ["-c", "1", "--resources", "gpu=2"],
        ["--workflow-profile", "profiles/slurm"],
        ["--workflow-profile", "profiles/slurm", "--jobs", "7", "--local-cores", "4", "--resources", "gpu=3", "a=9"],
        ["--workflow-profile", "none", "--cores", "2"],
    ],
)  # fmt: skip
def test_limits_are_those_that_snakemake_has(arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert snakemake_args.limits(arguments, ROOT) == plan.limits(arguments)


def test_the_selected_configuration(folder):
    (folder / "more.yaml").write_text("train: {epochs: 7}\n")
    chosen = Selection(("more.yaml",), ("train={lr: 0.5}", "run=[tiny]"))
    assert snakemake_args.read_selected(chosen, folder, folder)["train"] == {"epochs": 7, "lr": 0.5}
    with pytest.raises(SpecError, match=r"--config = 'run': expected KEY=VALUE"):
        snakemake_args.read_selected(Selection((), ("run",)), folder)
    with pytest.raises(ConfigError, match="no such file"):
        snakemake_args.read_selected(Selection(), folder / "nowhere")


def test_the_configuration_of_a_living_run_is_taken(folder, monkeypatch):
    (folder / "more.yaml").write_text("experiments: {other: {grid: [{datasets: [noisy], models: [mlp],"
                                      " losses: [mixup2], seeds: [5]}]}}\nrun: [other]\n")  # fmt: skip
    living = run.Master("process 7", 0.0, ("--configfile", "more.yaml", "--cores", "3"))
    monkeypatch.setattr(run.Lookout, "alive", lambda self: [living])
    watch = seen(folder)
    assert watch.experiments == ("other",)
    assert watch.most.cores == 3
    assert opened(folder / "results", Selection((), ("run=[tiny]",))).experiments == ("tiny",)


def test_bad_input(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    for arguments, told in (
        (["--results", "nowhere"], "--results = 'nowhere': expected the folder of results"),
        (["--config", "run=[tyny]"], "run = 'tyny': expected one of tiny"),
        (["--configfile", "nope.yaml"], "nope.yaml: expected a text file"),
    ):
        assert main(["watch", "--once", *arguments]) == 2
        said = capsys.readouterr().err
        assert told in said, said
        assert len(said.splitlines()) == 1
    assert main(["watch", "--once"]) == 1
    assert "tiny: no run is going on" in capsys.readouterr().out


def test_watching_imports_neither_torch_nor_snakemake(folder):
    code = "import sys; from halobench.cli.main import main; main(['watch', '--once']);"
    code += "print('imported:', *sorted({'torch', 'snakemake', 'matplotlib', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported:"


def test_jobs_are_in_the_order_in_which_they_need_each_other(config):
    made = set()
    for job in jobs_of(load_config(config), ["demo", "theory"]):
        assert set(job.needs) <= made, job
        made.add(job.record)
