"""Signals that stop a run reach its whole process group, whoever receives them, and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.process

# A run whose child starts a job, and ends with exit code 7 once it is interrupted and its job has ended.
PROGRAM = """
import subprocess, sys
from halobench.runner import supervisor
if (code := supervisor.supervise()) is not None:
    sys.exit(code)
job = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=sys.stdout)
try:
    job.wait()
except KeyboardInterrupt:
    job.wait()
    sys.exit(7)
sys.exit(job.returncode)
"""
JOB = """
import signal, sys, time
def stop(*_):
    print("interrupted", flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def start():
    """Start a run with a job; at the end, kill whatever is left of it."""
    started: list[tuple[subprocess.Popen, list[psutil.Process]]] = []

    def begin(ignored: tuple[int, ...] = ()) -> tuple[subprocess.Popen, ...]:
        def prepare() -> None:
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

        command = [sys.executable, "-c", PROGRAM, JOB]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=prepare)
        assert process.stdout.readline() == "ready\n"
        (child,) = psutil.Process(process.pid).children()
        started.append((process, [child, *child.children()]))
        return process, child, *child.children()

    yield begin
    for process, children in started:
        for each in (process, *children):
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                each.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_signal_to_the_parent_interrupts_the_jobs_in_order(start, number):
    process, _, job = start()
    process.send_signal(number)
    assert process.stdout.readline() == "interrupted\n"
    assert process.wait(timeout=600) == 128 + number
    psutil.wait_procs([job], timeout=600)
    assert not job.is_running()


def test_a_run_in_the_background_of_a_script_and_one_under_nohup_heed_what_they_are_sent(start):
    """The script's shell ignores SIGINT, and nohup SIGHUP; jobs are interrupted all the same."""
    process, _, _ = start(ignored=(signal.SIGINT, signal.SIGHUP))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "interrupted\n"
    assert process.wait(timeout=600) == 128 + signal.SIGTERM


def test_a_killed_parent_and_a_killed_child_leave_no_job(start):
    process, child, _ = start()
    process.kill()
    assert process.stdout.readline() == "interrupted\n"
    psutil.wait_procs([child], timeout=600)
    process, child, _ = start()
    child.kill()
    assert process.stdout.readline() == "interrupted\n"
    assert process.wait(timeout=600) == 128 + signal.SIGKILL


def test_a_run_that_is_paused_goes_on_with_its_jobs(start):
    process, child, job = start()
    process.send_signal(signal.SIGTSTP)
    for each in (psutil.Process(process.pid), child, job):
        until(each, {psutil.STATUS_STOPPED})
    process.send_signal(signal.SIGCONT)
    for each in (psutil.Process(process.pid), child, job):
        until(each, {psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING})
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "interrupted\n"


def until(process: psutil.Process, states: set[str]) -> None:
    last = time.monotonic() + 300
    while process.status() not in states:
        assert time.monotonic() < last, process
        time.sleep(0.01)


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_the_childs(code):
    assert subprocess.run([sys.executable, "-c", PROGRAM, f"raise SystemExit({code})"], check=False).returncode == code


def test_a_process_group_of_its_own_leaves_the_callers_alone(start):
    """``make`` and the scripts that start a run aren't in the group that is interrupted."""
    process, child, job = start()
    assert os.getpgid(process.pid) == os.getpgid(0)
    assert os.getpgid(child.pid) == os.getpgid(job.pid) == child.pid
