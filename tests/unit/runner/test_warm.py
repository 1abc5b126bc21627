"""Forks of the server act like standalone jobs, with the same bytes, codes and signals, and none is left over."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import children, needs
from halobench.core.specs.data import SourceSpec
from halobench.data import sources
from halobench.runner import fork_server

DATASET = {"source": "digits", "train": 120, "val": 60, "test": 60, "noise": {"p": 0.5}}
CELL = {"dataset": DATASET, "model": {"name": "cnn", "options": {"width": 4}}}
SPEC = CELL | {"loss": {"name": "mixup", "options": {"points": 3}}, "train": {"epochs": 3, "lr": 0.003}}
LONG = SPEC | {"train": {"epochs": 1_000_000, "batch": 10}}
BAD = SPEC | {"loss": {"name": "mixup", "options": {"points": 1}}}
SPHERE = {"kind": "sphere", "points": 6, "control": 4, "radii": [0.0, 2.0], "relative_radii": [0.5]}
PROBE = CELL | {"probes": {"sphere": SPHERE}, "train": {}}
CALIBRATE = {"calibrators": ["none", "exact"], "bins": 15, "draws": 20, "floor_draws": 2}
PYTHON = (sys.executable, "-c")
STARTER = """import os, sys; from halobench.runner import fork_server as module; module.start()
print(os.environ[module.PLACE], *(server.pid for server in module._started), flush=True); sys.stdin.read()"""
# A process that has run a job by itself has imported pandas.
JOB = """import sys; from halobench.cli.main import main; code = main()
print("by itself" if "pandas" in sys.modules else "by a fork"); sys.exit(code)"""
ENVIRONMENT = os.environ | dict.fromkeys(fork_server.THREADS, "1")  # before libraries imported by tests add to it
ENVIRONMENT.pop(fork_server.PLACE, None)
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is a server on Linux alone")


def command(*words: str, **variables: str) -> subprocess.Popen:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(words, env=ENVIRONMENT | variables, text=True, **pipes)


@pytest.fixture
def start():
    """Starts processes that start a server, as a run does; returns each, its server's number (if any) and variables."""
    started = []

    def begin(**variables: str) -> tuple[subprocess.Popen, int, dict[str, str]]:
        started.append(command(*PYTHON, STARTER, **variables))
        place, *servers = started[-1].stdout.readline().rstrip("\n").split(" ")
        return started[-1], int(*servers), variables | {fork_server.PLACE: place}

    yield begin
    for process in started:
        process.communicate(timeout=300)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    sources.write_source(SourceSpec("digits"), folder := tmp_path_factory.mktemp("digits"))
    return str(folder)


def train(source: str, out: Path, spec: dict, *program: str, **variables: str) -> subprocess.Popen:
    words = ["--source", source, "--seed", "1", "--out", str(out), "--spec", json.dumps(spec)]
    return command(*(program or (*PYTHON, JOB)), "stage", "train", *words, **variables)


def ending(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit code, who ran the job, and its standard error."""
    out, error = process.communicate(timeout=300)
    return process.returncode, out.rstrip().rpartition("\n")[2], error


@pytest.mark.process
def test_the_same_bytes_and_lines_as_by_itself(start, source, tmp_path):
    """The first job comes before the server is ready, and waits for it."""
    files, lines, probe, calibrate = [], set(), json.dumps(PROBE), json.dumps(CALIBRATE)
    for who, variables in (("by itself", {}), ("by a fork", start()[2])):
        cell = tmp_path / who
        more = ["--seed", "1", "--run", str(cell), "--spec"]
        assert ending(train(source, cell, SPEC, **variables)) == (0, who, "")
        for words in (["probe", "--source", source, *more, probe], ["calibrate", *more, calibrate]):
            assert ending(command(*PYTHON, JOB, "stage", *words, **variables)) == (0, who, "")
        code, did, line = ending(train(source, tmp_path / "bad", BAD, **variables))
        assert (code, did, "points = 1" in line) == (2, who, True)
        lines.add(line)
        files.append({path.name: path.read_bytes() for path in cell.iterdir()})
    assert {"model.safetensors", "radii.parquet", "metrics.csv"} <= files[0].keys()
    for name in ("train.json", "probe.json", "calibrate.json"):
        first, second = (json.loads(each.pop(name)) for each in files)
        assert first["started"] < second["started"]
        assert all(first[key] == second[key] for key in ("outputs", "code", "versions"))
    assert files[0] == files[1]
    assert len(lines) == 1


@pytest.mark.process
@pytest.mark.parametrize("aim", ["fork", "job", "run", "server"])
def test_a_fork_ends_with_its_job_and_run_and_a_job_with_its_fork(start, source, tmp_path, aim):
    """Each is killed in turn. Pipes are read to the end, which comes once no process that holds them is left."""
    run, server, variables = start()
    job = train(source, tmp_path, LONG, str(Path(sys.executable).with_name("halobench")), **variables)
    while not job.stdout.readline().startswith("epoch 1/"):
        assert job.poll() is None
    (fork,) = children(*children(server))
    os.kill({"fork": fork, "job": job.pid, "run": run.pid, "server": server}[aim], signal.SIGKILL)
    if aim == "server":
        assert ending(train(source, tmp_path / "other", BAD, **variables))[:2] == (2, "by itself")
        job.send_signal(signal.SIGTERM)
    code, _, error = ending(job)
    if aim == "server":
        assert (code, (tmp_path / ".train.safetensors").exists()) == (128 + signal.SIGTERM, True)
        assert "stopped by SIGTERM; saved at" in error
    else:
        assert code == (-signal.SIGKILL if aim == "job" else 128 + signal.SIGKILL)
    assert ("killed by SIGKILL, as the system does if memory runs out" in error) == (aim in ("fork", "run"))


@pytest.mark.process
def test_a_paused_job_pauses_its_fork(start, source, tmp_path):
    """Ctrl-Z reaches the job alone, as its fork is in another session."""
    _, server, variables = start()
    job = train(source, tmp_path, LONG, str(Path(sys.executable).with_name("halobench")), **variables)
    while not job.stdout.readline().startswith("epoch 1/"):
        assert job.poll() is None
    both = [job.pid, *children(*children(server))]

    def paused() -> list[bool]:
        assert job.poll() is None
        time.sleep(0.05)
        return [Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T" for process in both]

    for number, expected in ((signal.SIGTSTP, [True, True]), (signal.SIGCONT, [False, False])):
        job.send_signal(number)
        while paused() != expected:
            pass
    job.send_signal(signal.SIGTERM)
    assert ending(job)[0] == 128 + signal.SIGTERM


@pytest.mark.process
def test_a_job_runs_by_itself_where_a_fork_could_differ(start, source, tmp_path):
    _, _, variables = start()
    assert ending(train(source, tmp_path, BAD, **variables, OMP_NUM_THREADS="2"))[:2] == (2, "by itself")
    assert ending(train(source, tmp_path, BAD, **variables, TMPDIR=str(tmp_path)))[:2] == (2, "by a fork")
    assert not any(start(**{fork_server.PLACE: ""})[1:2])


def test_a_fork_could_differ_by_variables_and_files_that_libraries_read_at_their_start(tmp_path, monkeypatch):
    module = tmp_path / "runner/fork_server.py"
    module.parent.mkdir()
    module.touch()
    monkeypatch.setattr(fork_server, "__file__", str(module))
    before = fork_server._setting()
    for name in ("SHLVL", "TMPDIR", "HALOBENCH_FETCH", fork_server.PLACE):
        monkeypatch.setenv(name, "7")
        assert fork_server._setting() == before, name
    for name in ("OMP_NUM_THREADS", "MKL_CBWR", "PYTHONPATH"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "/more")
            assert fork_server._setting() != before, name
    os.utime(module, (0, 0))
    assert fork_server._setting() != before


def test_the_server_hears_its_own_user_alone_and_waits_for_nobody(monkeypatch):
    """What another user sends isn't even read, and neither that user nor a silent job makes others wait."""
    monkeypatch.setattr(fork_server, "PATIENCE", 0.01)
    server, job = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with server, job:
        assert fork_server._receive(server) == ({}, [])
        message = json.dumps({"arguments": ["train"]}).encode()
        socket.send_fds(job, [message], [0])
        received, (copy,) = fork_server._receive(server)
        os.close(copy)
        assert received == {"arguments": ["train"]}
        job.send(b"no JSON")
        assert fork_server._receive(server) == ({}, [])
        job.send(message)
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        assert fork_server._receive(server) == ({}, [])
        assert server.recv(100) == message


@pytest.mark.process
def test_what_the_server_imports_is_there_and_starts_no_threads():
    """Threads would be missing in forks, except the one that Arrow's allocator restarts there."""
    names = ", ".join(fork_server.TORCH_MODULES + fork_server.TABLE_MODULES)
    text = f"import {names}; from halobench.runner.fork_server import _load; print(_load('train') and _load('figure'))"
    code, said, error = ending(command(*PYTHON, text))
    needs("No module named 'timm'" not in error, "timm")
    assert (code, said) == (0, "True"), error
