"""A run that a signal stops; for a cell that fails, see test_faults.py."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import SOAK, Workspace, children, heed_interrupts, one_cell


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
            (snakemake,) = children(process.pid)
            programs = {each: Path(f"/proc/{each}/cmdline").read_bytes() for each in children(snakemake)}
            (server,) = (each for each, program in programs.items() if b"serve()" in program)
            assert children(server), "the training is a fork of the run's server"
        os.kill(process.pid, number)
        said = process.communicate(timeout=600)[1]
        assert process.returncode == 128 + number
        assert re.search(rf"\] train {cell}  stopped after .*: stopped by SIGINT; saved at epoch ", said)
        assert re.search(rf"\nThe run was stopped: {count} done in .*\. The same command resumes it\.\n$", said)
        assert not any((tmp_path / ".snakemake/locks").glob("*.lock"))
    assert not SOAK or "\nresuming at epoch " in log.read_text()
