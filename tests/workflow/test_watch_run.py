"""`halobench watch` beside real runs: of a grid, of one with a cell that fails, of one whose master is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import Workspace, heed_interrupts, tiny_config
from halobench.runner.monitor import view
from halobench.runner.monitor.monitor import Watch, opened
from halobench.runner.run import Lookout
from halobench.runner.snakemake_args import Selection

pytestmark = pytest.mark.workflow
QUIET = ("--quiet", "rules", "host", "progress")
LINE = re.compile(
    r"(\d+) of (\d+) jobs done, (\d+) running, (\d+) failed, (\d+) waiting(?: \((\d+) of them in the queue\))?"
)


def small(folder: Path, **grid) -> Workspace:
    """A grid of two cells, or what else is asked."""
    config = tiny_config()
    config["experiments"]["tiny"]["grid"][0] |= {"datasets": ["noisy"], "models": ["mlp"], "seeds": [0]} | grid
    config["experiments"]["tiny"] |= {"figures": ["summary"]}
    config["models"]["bad"] = {"name": "mlp", "width": 16, "recipe": {"optimizer": "sgd", "lr": 1e25}}
    return Workspace(folder, config)


def start(workspace: Workspace, *arguments: str) -> subprocess.Popen:
    """`halobench run` here, going on."""
    command = [sys.executable, "-m", "halobench.cli.main", "run", *arguments, *QUIET]
    out = open(workspace.folder / "run.log", "a")  # noqa: SIM115
    return subprocess.Popen(
        command, cwd=workspace.folder, stdout=out, stderr=out, start_new_session=True, preexec_fn=heed_interrupts
    )


def watching(workspace: Workspace, *arguments: str) -> subprocess.Popen:
    """`halobench watch` here, going on."""
    return subprocess.Popen(
        [sys.executable, "-m", "halobench.cli.main", "watch", *arguments],
        cwd=workspace.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


def seen(workspace: Workspace) -> Watch:
    return opened(workspace.folder / "results", Selection())


def enrolled(workspace: Workspace, process: subprocess.Popen, seconds: float = 120) -> None:
    """Wait until the run is known to go on."""
    last = time.monotonic() + seconds
    while not Lookout(workspace.folder).alive():
        assert process.poll() is None, (workspace.folder / "run.log").read_text()[-3000:]
        assert time.monotonic() < last
        time.sleep(0.1)


def looked_at(workspace: Workspace, process: subprocess.Popen, seconds: float = 400) -> list[view.Frame]:
    """Frames of a run, until it has ended or all is done."""
    enrolled(workspace, process)
    watch, found, last = seen(workspace), [], time.monotonic() + seconds
    while not found or (found[-1].goes_on and not found[-1].complete):
        assert time.monotonic() < last, found[-1]
        found.append(watch.look())
        time.sleep(0.1)
    return found


def test_a_run_is_watched_to_its_end(tmp_path):
    """By looks in this process, and by a command that writes a log: both see counts that add up and only grow."""
    workspace = small(tmp_path)
    process = start(workspace, "--cores", "2")
    enrolled(workspace, process)
    command = watching(workspace, "--every", "0.2")
    frames = looked_at(workspace, process)
    assert process.wait(120) == 0, (workspace.folder / "run.log").read_text()[-3000:]
    assert {each.total.total for each in frames} == {frames[0].total.total}
    done = [each.total.done for each in frames]
    assert done == sorted(done)
    assert done[0] < done[-1]
    assert all(len(each.running) == each.total.running <= 2 for each in frames)
    assert not any(each.failed for each in frames)
    assert {job.stage for each in frames for job in each.running} >= {"train", "probe"}
    # What ran was not done before, and its stages came one after the other.
    stages = [{row.stage: row for row in each.rows} for each in frames]
    for rows in stages:
        if rows["probe"].running or rows["probe"].done:
            assert rows["train"].done
        if rows["figure"].done:
            assert rows["calibrate"].done == rows["calibrate"].total
    assert any(each.left and each.left.known for each in frames)
    assert (frames[-1].complete, frames[-1].left, frames[-1].code) == (True, None, 0)
    out, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (0, "")
    lines = out.splitlines()
    counts = [list(map(int, LINE.search(line).groups("0")))[:5] for line in lines]
    assert all(total == done + running + failed + waiting for done, total, running, failed, waiting in counts)
    assert [row[0] for row in counts] == sorted(row[0] for row in counts)
    assert lines[-1].endswith("all is done")
    assert len(set(lines)) == len(lines) > 3
    after = watching(workspace, "--once")
    assert "all is done" in after.communicate(timeout=60)[0]
    assert after.returncode == 0
    again = workspace.module("halobench.cli.main", "run", "-n")
    assert "Nothing to be done" in again.stdout


def test_a_cell_that_fails_is_told_with_its_reason(tmp_path):
    workspace = small(tmp_path, models=["mlp", "bad"], losses=["mixup2"])
    process = start(workspace, "--cores", "2")
    frames = looked_at(workspace, process)
    assert process.wait(120) != 0
    failed = [each.total.failed for each in frames]
    assert failed == sorted(failed)
    (job,) = frames[-1].failed
    assert (job.stage, job.name) == ("train", "noisy/bad/mixup2/seed0")
    assert "loss is " in job.why
    rows = {row.stage: row for row in frames[-1].rows}
    assert (rows["train"].done, rows["calibrate"].done, rows["probe"].done) == (1, 1, 1)
    assert frames[-1].left.blocked == rows["probe"].waiting + rows["calibrate"].waiting + sum(
        rows[stage].waiting for stage in ("aggregate", "table", "figure", "pages") if stage in rows
    )
    command = watching(workspace)
    out, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (1, "")
    assert "failed: train noisy/bad/mixup2/seed0: noisy/bad/mixup2/seed0: loss is " in out
    assert "no run is going on" in out


def test_after_a_master_was_killed_no_run_is_going_on(tmp_path):
    """Its training lives on for a moment; nothing counts as running, and what was done stays done."""
    workspace = small(tmp_path)
    process = start(workspace, "--cores", "2")
    enrolled(workspace, process)
    watch, last = seen(workspace), time.monotonic() + 300
    found = watch.look()
    while all(job.stage != "train" for job in found.running):
        assert time.monotonic() < last
        time.sleep(0.05)
        found = watch.look()
    command = watching(workspace, "--every", "0.2")
    assert found.goes_on
    assert f"process {process.pid} on " in found.masters[0]
    process.kill()
    process.wait()
    after = watch.look()
    assert not after.goes_on
    assert (after.total.running, after.code) == (0, 1)
    assert after.total.done >= found.total.done
    assert any("cut off when the last run died" in note for note in after.notes) or after.total.done > found.total.done
    out, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (1, "")
    assert "no run is going on" in out
    # Its marks and locks lie as it left them, for the next run.
    assert list(workspace.folder.glob(".snakemake/locks/*.lock"))
    assert list(workspace.folder.glob(".snakemake/halobench/masters/*"))
    again = start(workspace, "--cores", "2")
    frames = looked_at(workspace, again)
    assert again.wait(120) == 0, (workspace.folder / "run.log").read_text()[-3000:]
    assert frames[-1].complete


def test_ctrl_c_ends_it_quietly(tmp_path):
    workspace = small(tmp_path)
    place = workspace.folder / ".snakemake/halobench/masters"
    place.mkdir(parents=True)
    (place / "elsewhere-7").write_text("process 7 on elsewhere, started 2026-01-01T00:00:00+00:00")
    command = watching(workspace)
    assert LINE.search(command.stdout.readline())
    os.kill(command.pid, signal.SIGINT)
    _, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (130, "")
