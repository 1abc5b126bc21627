"""What `halobench run` prints to a file; for a cell that fails, see test_faults.py."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import SOAK, Workspace, children, few_cells, heed_interrupts, one_cell

pytestmark = pytest.mark.workflow
FINISHED = re.compile(r"\[ *(\d+)/(\d+)\] \S+(?: \S+)?  [\d.]+ (?:s|min)(?:  about [\d.]+ (?:s|min|h) left)?")


def printed(workspace: Workspace, *arguments: str) -> list[str]:
    """The lines that `halobench run` prints, which go to standard error."""
    done = workspace.module("halobench.cli.main", "run", *arguments)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    return done.stderr.splitlines()


def test_a_run_prints_a_line_per_job_and_where_its_results_are(tmp_path):
    workspace = Workspace(tmp_path, few_cells())
    lines = printed(workspace, "--cores", "2")
    jobs = [match for match in map(FINISHED.fullmatch, lines) if match]
    total = int(jobs[0][2])
    assert [(int(match[1]), int(match[2])) for match in jobs] == [(n + 1, total) for n in range(total)]
    names = [line.split("] ")[1].split("  ")[0] for line in lines if FINISHED.fullmatch(line)]
    cells = [f"{stage} noisy/mlp/{loss}/seed0" for stage in ("train", "probe", "calibrate")
             for loss in ("cross_entropy", "mixup2")]  # fmt: skip
    drawn = ["manifest tiny", "aggregate tiny", "claims tiny", "figure tiny/summary", "overview tiny", "explorer"]
    assert {"source digits", "reference noisy/seed0", *cells, *drawn} <= set(names)
    # A cell's stages come one after the other.
    for loss in ("cross_entropy", "mixup2"):
        order = [names.index(f"{stage} noisy/mlp/{loss}/seed0") for stage in ("train", "probe")]
        assert order == sorted(order)
    assert names.index("figure tiny/summary") > max(map(names.index, cells))
    assert any("left" in match[0] for match in jobs)
    assert len(lines) <= total + 20
    assert not any("Select jobs" in line or "steps (" in line for line in lines)
    rest = "\n".join(line for line in lines if not FINISHED.fullmatch(line))
    assert re.search(rf"^{total} jobs done in ", rest, re.M)
    assert "Figures: results/figures/tiny/summary.png" in rest
    assert "Start at results/index.html: it leads to all pages." in rest
    again = printed(workspace, "--cores", "2")
    assert any(line.startswith("Nothing to be done") for line in again)
    assert len(again) <= 4


@pytest.mark.faults
def test_a_signal_to_the_main_process_alone_stops_its_jobs_and_says_how_to_go_on(tmp_path):
    """This is how supervisors stop a program. The training saves its progress rather than run to its end, in hours."""
    config = one_cell()
    config["train"]["epochs"] = 10**6
    workspace = Workspace(tmp_path, config)
    cell = "noisy/mlp/mixup2/seed0"
    target, log = f"results/runs/{cell}/train.json", tmp_path / f"results/logs/train/{cell}.log"
    command = [sys.executable, "-m", "halobench.cli.main", "run", target, "--cores", "1"]
    signals = [(signal.SIGTERM, "1 of 2 jobs"), *([(signal.SIGINT, "0 of 1 job")] if SOAK else [])]
    for number, count in signals:
        log.unlink(missing_ok=True)
        options = {"stderr": subprocess.PIPE, "text": True, "preexec_fn": heed_interrupts}
        process = subprocess.Popen(command, cwd=workspace.folder, **options)
        while not (log.exists() and "\nepoch " in log.read_text()):
            assert process.poll() is None
            time.sleep(0.1)
        if sys.platform.startswith("linux"):
            programs = {each: Path(f"/proc/{each}/cmdline").read_bytes() for each in children(process.pid)}
            (server,) = (each for each, program in programs.items() if b"serve()" in program)
            assert children(server), "the training is a fork of the run's server"
        os.kill(process.pid, number)
        said = process.communicate(timeout=600)[1]
        assert process.returncode == 1
        assert re.search(rf"\] train {cell}  stopped after .*: stopped by SIGINT; saved at epoch ", said)
        assert re.search(rf"\nThe run was stopped: {count} done in .*\. The same command resumes it\.\n$", said)
        assert not any((tmp_path / ".snakemake/locks").glob("*.lock"))
    assert not SOAK or "\nresuming at epoch " in log.read_text()
