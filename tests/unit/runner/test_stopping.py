"""Signals that stop a run are passed on to its jobs, and to nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from conftest import heed_interrupts
from halobench.runner import stopping

WAIT = "#!{}\nimport time; print(flush=True); time.sleep(600)"


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "passed"),
    [
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGINT),
        pytest.param(signal.SIGTERM, signal.SIGTERM, id="SIGINT ignored, as by what a script starts in the background"),
    ],
)
def test_jobs_are_interrupted_until_the_run_ends(tmp_path, number, passed):
    """Whatever a signal's handler does; a job that starts afterwards is interrupted too, but no command of SLURM."""
    for name in ("halobench", "squeue"):
        (tmp_path / name).write_text(WAIT.format(sys.executable))
        (tmp_path / name).chmod(0o755)

    def start(name: str) -> subprocess.Popen:
        command = [str(tmp_path / name), "train"]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        if passed == signal.SIGINT:
            options["preexec_fn"] = heed_interrupts
        process = subprocess.Popen(command, **options)
        process.stdout.readline()
        return process

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler if passed == signal.SIGINT else signal.SIG_IGN)
    try:
        with stopping.with_jobs():
            signal.signal(number, lambda *_: None)  # as Snakemake's scheduler sets its own
            job, other = start("halobench"), start("squeue")
            os.kill(os.getpid(), number)
            assert job.wait(timeout=600) == -passed
            assert start("halobench").wait(timeout=600) == -passed
            assert other.poll() is None
            other.kill()
            other.wait()
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert signal.getsignal(signal.SIGTERM) == before[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_or_a_lost_terminal_before_the_first_job_ends_the_run_in_an_orderly_way(number):
    """Unless the run was started by nohup, which ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may have been started by it
    try:
        with stopping.with_jobs() as received, pytest.raises(SystemExit, match="halobench: stopped by SIGTERM"):
            signal.raise_signal(number)
        assert received == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stopping.with_jobs() as received:
            signal.raise_signal(signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)
