"""The check that tests leave nothing behind finds what it should."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import traces


@pytest.fixture
def outside(tmp_path) -> Path:
    """A folder with a file that isn't the watched test's own; the folder of its run is another."""
    for name in ("own", "runs/this", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "outside/old").write_text("old")
    return tmp_path / "outside"


def watched(outside: Path, alone: bool = True):
    return traces.watched(
        alone, f"{outside.parent}/own", f"{outside.parent}/runs/this", {"PYTEST_CURRENT_TEST", "OURS"}
    )


def left(outside: Path, act, alone: bool = True) -> str:
    """What the check says after an act; empty if it has nothing to say."""
    try:
        with watched(outside, alone):
            act()
    except pytest.fail.Exception as failed:
        return failed.msg
    return ""


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda folder: (folder / "new").touch(), "the file .*/outside/new"),
        (lambda folder: (folder / "new/below").mkdir(parents=True), "the file .*/outside/new"),
        (lambda folder: (folder / "old").write_text("new"), "a change of .*/outside/old"),
        (lambda folder: (folder / "old").unlink(), "a change of .*/outside/old"),
        (lambda folder: (folder / "old").rename(folder.parent / "own/old"), "a change of .*/outside/old"),
        (lambda folder: os.environ.update(LEFT="1"), "the variable LEFT"),
        (lambda folder: os.chdir(folder), "the working folder .*/outside"),
    ],
)
def test_what_is_left_is_named(outside, monkeypatch, act, said):
    monkeypatch.setenv("LEFT", "0")
    monkeypatch.chdir(outside.parent)
    assert re.search(said, left(outside, lambda: act(outside)))


def test_an_open_socket_is_named(outside):
    kept = []
    assert "the open socket" in left(outside, lambda: kept.extend(socket.socketpair()))
    for each in kept:
        each.close()


def test_what_a_test_may_do_passes(outside):
    def act() -> None:
        (outside / "brief").touch()
        (outside / "brief").unlink()
        (outside.parent / "own/mine").write_text("mine")
        (outside.parent / "runs/this/shared").write_text("of all")
        (outside / "old").read_text()
        os.environ["OURS"] = "1"
        first, second = socket.socketpair()
        first.close()
        second.close()

    assert left(outside, act) == ""
    del os.environ["OURS"]


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: subprocess.run([sys.executable, "-c", ""], check=True), "starts a process"),
        (lambda: os.system("true"), "starts a process"),
        (lambda: urllib.request.urlopen("http://127.0.0.1:9"), "uses the network"),
        (lambda: socket.getaddrinfo("localhost", 80), "uses the network"),
    ],
)
def test_processes_and_the_network_are_refused_to_unit_tests(outside, act, said):
    assert said in left(outside, act)


@pytest.mark.process
def test_a_process_that_lives_on_is_named(outside):
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    started = []
    said = left(outside, lambda: started.append(subprocess.Popen(command, stdout=subprocess.PIPE)), alone=False)
    assert said == f"the test leaves the process {started[0].pid}"
    with started[0] as process:
        process.kill()
