"""Processes that die in all sorts of ways: in the end, the results are those of an undisturbed run, byte for byte.

`make soak` runs as many trials as it takes to be convincing, and `make check` a sample of them.
"""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conftest import SOAK, Workspace, few_cells, heed_interrupts
from halobench.storage import files

pytestmark = pytest.mark.faults

EPOCHS = 80
DATASET = {"source": "digits", "train": 600, "val": 100, "test": 100, "noise": {"p": 0.5}}
MODEL = {"name": "mlp", "options": {"width": 512}}
TRAIN = {
    "dataset": DATASET,
    "model": MODEL,
    "loss": {"name": "mixup", "options": {"points": 3}},
    "train": {"lr": 0.003, "epochs": EPOCHS, "batch": 100},
}
SEARCHES = {kind: {"kind": kind, "points": 64, "control": 0, "threshold": 0.2} for kind in ("certified", "adversarial")}
WALKS = {kind: {"kind": kind, "points": 600, "control": 100, "directions": 2} for kind in ("sphere", "manifold")}
PROBE = {"dataset": DATASET, "model": MODEL, "train": {}, "probes": SEARCHES | WALKS}
WRITTEN = {
    "train": ("model.safetensors", "logits.safetensors", "history.csv"),
    "probe": ("neighbourhood.parquet", "radii.parquet"),
}


class Stage:
    """A stage's command on one cell, with its log in a file."""

    def __init__(self, base: Path, cell: Path, stage: str, every: float = 0.1, name: str = "log", epochs: int = EPOCHS):
        self.cell, self.stage, self.log = cell, stage, cell / f"{stage}.{name}"
        self.point = cell / f".{stage}.safetensors"
        train = TRAIN | {"train": TRAIN["train"] | {"epochs": epochs}}
        spec = json.dumps(train if stage == "train" else PROBE)
        where = ["--out" if stage == "train" else "--run", str(cell)]
        own = ["--every", str(every), "--source", str(base / "digits")]
        command = [sys.executable, "-m", "halobench.cli.main", "stage", stage]
        command += ["--seed", "3", "--spec", spec, *where, *own]
        cell.mkdir(parents=True, exist_ok=True)
        with open(self.log, "a") as log:
            environment = os.environ | {"PYTHONUNBUFFERED": "1"}
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, preexec_fn=heed_interrupts
            )

    def lines(self, start: str) -> list[str]:
        """The lines of the log that begin with `start`."""
        return [line for line in self.log.read_text().splitlines() if line.startswith(start)]

    def wait_for(self, seen) -> bool:
        """Wait until `seen()`, checking often since some moments are short; return False if the process ends first."""
        while self.process.poll() is None:
            if seen():
                return True
            time.sleep(0.0003)
        return False

    def writing(self) -> bool:
        """Whether the resume point is being written at this moment."""
        return any(self.cell.glob(f"{files.TEMPORARY}{self.point.stem}-*"))

    def save_once(self) -> None:
        """Let it go on until it has saved again, and pause it while it writes nothing, since it would keep its lock."""
        before, process = len(self.lines("saved at")), psutil.Process(self.process.pid)
        process.resume()
        assert self.wait_for(lambda: len(self.lines("saved at")) > before), self.log.read_text()[-1500:]
        while process.status() != psutil.STATUS_STOPPED or self.writing():
            process.resume()
            time.sleep(0.001)
            process.suspend()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(timeout=300)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A source, and an undisturbed cell to compare with."""
    folder = tmp_path_factory.mktemp("kills")
    command = [sys.executable, "-m", "halobench.cli.main", "stage", "source", "--spec", '{"loader": "digits"}']
    subprocess.run([*command, "--out", str(folder / "digits")], check=True, capture_output=True)
    for stage in ("train", "probe"):
        assert Stage(folder, folder / "undisturbed", stage, every=1e6).end() == 0
    return folder


def prepare(base: Path, cell: Path, stage: str) -> None:
    """Create a cell's folder with what the stage reads."""
    cell.mkdir(parents=True)
    if stage == "probe":
        for name in WRITTEN["train"]:
            (cell / name).write_bytes((base / "undisturbed" / name).read_bytes())


def assert_undisturbed(base: Path, cell: Path, stage: str) -> None:
    """The stage's outputs are those of the undisturbed cell, its record is correct, and nothing else is left."""
    for name in WRITTEN[stage]:
        assert (cell / name).read_bytes() == (base / "undisturbed" / name).read_bytes(), name
    record = files.read_json(cell / f"{stage}.json")
    assert record["outputs"] == {name: files.checksum(cell / name) for name in WRITTEN[stage]}
    assert [place.split(" (")[0] for place in record["made_on"]] == [platform.node()]
    assert not (cell / f".{stage}.safetensors").exists()


def kill_once(base: Path, cell: Path, stage: str, how: str, rng: random.Random) -> dict[str, bool]:
    """Kill a stage once (``writing``: while it writes its resume point; ``any``: at a random time), then finish it."""
    prepare(base, cell, stage)
    first = Stage(base, cell, stage)
    if how == "writing":
        wanted = rng.randint(1, 6)
        first.wait_for(lambda: len(first.lines("saved at")) >= wanted and first.writing())
    else:
        line, most = ("epoch ", EPOCHS * 3 // 4) if stage == "train" else ("saved at", 8)
        wanted = rng.randint(1, most)
        first.wait_for(lambda: len(first.lines(line)) >= wanted)
        time.sleep(rng.uniform(0, 0.1))
    alive = first.process.poll() is None
    first.kill()
    torn = first.writing()
    saved, epochs = len(first.lines("saved at")), len(first.lines("epoch "))
    again = Stage(base, cell, stage)
    assert again.end() == 0, again.log.read_text()[-2000:]
    assert_undisturbed(base, cell, stage)
    resumed = again.lines("resuming")
    if stage == "train" and resumed:  # epochs of both processes: none before the resume point is repeated
        done = int(resumed[0].split()[3]) - 1
        assert len(again.lines("epoch ")) == epochs + EPOCHS - done
    return {
        "killed": alive,
        "resumed": bool(resumed),
        "past_epoch_0": bool(resumed) and (stage == "probe" or int(resumed[0].split()[3]) > 1),
        "while_writing": torn and alive and saved > 0,
    }


TRIALS = [("train", "writing"), ("probe", "any")]
if SOAK:
    TRIALS = [("train", "writing")] * 10 + [("train", "any")] * 14 + [("probe", "writing")] * 4 + [("probe", "any")] * 8


def test_killed_trainings_and_probes_end_with_the_same_bytes(base, tmp_path, record_property):
    """They get SIGKILL, which can't be caught, even while they write the resume point."""
    rng, seen = random.Random(7), []
    for number, (stage, how) in enumerate(TRIALS):
        seen.append(kill_once(base, tmp_path / f"cell{number}", stage, how, rng))
    count = {key: sum(trial[key] for trial in seen) for key in seen[0]}
    print(f"{len(seen)} trials: {count}")
    record_property("kills", count)
    if SOAK:
        assert count["killed"] >= 30
        assert count["past_epoch_0"] >= 20
        assert count["while_writing"] >= 3
    else:
        assert count["killed"] >= 1
        assert count["resumed"] >= 1


SIGNALS = {"train": [signal.SIGTERM, signal.SIGINT], "probe": [signal.SIGTERM]}
if SOAK:
    SIGNALS["train"] += [signal.SIGUSR1, signal.SIGURG]


@pytest.mark.parametrize("stage", ["train", pytest.param("probe", marks=pytest.mark.soak)])
def test_a_signal_saves_ends_and_is_gone_on_from(base, tmp_path, stage):
    """On each signal in turn, a cell's process ends by itself, says how far it got, and exits non-zero."""
    cell = tmp_path / "cell"
    prepare(base, cell, stage)
    for number in SIGNALS[stage]:
        run = Stage(base, cell, stage, every=1e6, name=number.name)
        started = ("epoch ",) if stage == "train" else ("probe certified", "resuming")
        assert run.wait_for(lambda run=run, started=started: any(map(run.lines, started)))
        run.process.send_signal(number)
        began = time.monotonic()
        assert run.end() == 128 + number
        print(f"{stage}, {number.name}: ended {time.monotonic() - began:.2f} s after the signal")
        last = run.log.read_text().splitlines()[-1]
        assert f": stopped by {number.name}; saved at " in last
        assert run.point.exists()
        assert not (cell / f"{stage}.json").exists()
    last = Stage(base, cell, stage, every=1e6, name="last")
    assert last.end() == 0
    assert len(last.lines("resuming")) == 1
    assert_undisturbed(base, cell, stage)


@pytest.mark.parametrize("trial", range(5 if SOAK else 1))
@pytest.mark.parametrize("stage", ["train", pytest.param("probe", marks=pytest.mark.soak)])
def test_two_processes_on_one_cell_end_with_the_same_bytes(base, tmp_path, stage, trial):
    """An orphan of a killed run and its twin save in turns, and then at the same time."""
    cell = tmp_path / stage
    prepare(base, cell, stage)
    twins = []
    try:
        for name in ("first", "second"):
            twins.append(Stage(base, cell, stage, every=0.02, name=name))
            twins[-1].save_once()
        for twin in twins:
            twin.save_once()
        for twin in twins:
            twin.process.send_signal(signal.SIGCONT)
        assert [twin.end() for twin in twins] == [0, 0], [twin.log.read_text()[-1500:] for twin in twins]
    finally:
        for twin in twins:
            twin.kill()
    assert_undisturbed(base, cell, stage)
    assert not any(cell.glob(f"{files.TEMPORARY}*"))


@pytest.mark.soak
@pytest.mark.parametrize("orphan_ends", ["last", "first"])
def test_an_orphan_of_an_older_spec_does_not_overwrite_what_the_newer_one_made(base, tmp_path, orphan_ends):
    """The orphan keeps training with the old number of epochs while its edited cell is trained again."""
    cell = tmp_path / "cell"
    old, new = (400, 20) if orphan_ends == "last" else (20, 400)
    orphan = Stage(base, cell, "train", name="orphan", epochs=old)
    assert orphan.wait_for(lambda: orphan.lines("epoch 1/"))
    newer = Stage(base, cell, "train", name="newer", epochs=new)
    assert newer.end() == 0
    assert orphan.end() == (2 if orphan_ends == "last" else 0)
    if orphan_ends == "last":
        last = orphan.log.read_text().splitlines()[-1]
        assert "has already written another result here" in last
        assert "was discarded" in last
    found = files.read_json(cell / "train.json")
    assert found["spec"]["train"]["epochs"] == new
    assert found["outputs"] == {name: files.checksum(cell / name) for name in WRITTEN["train"]}
    assert len((cell / "history.csv").read_text().splitlines()) == new + 1


@pytest.mark.parametrize("trial", range(30 if SOAK else 2))
def test_any_number_of_interrupts_at_any_time_leaves_no_traceback_and_no_lock(tmp_path, trial):
    """Ctrl-C reaches the run and all of its jobs, as in a terminal; the next run needs no --unlock."""
    rng, workspace = random.Random(trial), Workspace(tmp_path, few_cells())
    log = tmp_path / "run.log"
    with open(log, "w") as file:
        run = subprocess.Popen(
            [sys.executable, "-m", "halobench.cli.main", "run", "--cores", "2"],
            cwd=tmp_path,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )
    time.sleep(rng.uniform(1, 20))
    for _ in range(rng.randint(1, 5)):
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGINT)
        time.sleep(rng.choice([0.02, 0.3, 1.0]))
    run.wait(60)
    said = log.read_text()
    assert "Traceback" not in said, said[-3000:]
    again = workspace.halobench("run", "--cores", "1", "calibrations")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "LockException" not in again.stderr
