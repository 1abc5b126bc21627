"""Forks of a warm server do what jobs do by themselves: the same bytes, codes and signals, and none is left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import needs
from halobench.core.specs import SourceSpec
from halobench.data import sources
from halobench.runner import fork_server
from halobench.storage.requests import Request, write_request

SPEC = {
    "dataset": {"source": "digits", "train": 120, "val": 60, "test": 60, "noise": {"p": 0.5}},
    "model": {"name": "cnn", "options": {"width": 4}},
    "loss": {"name": "mixup", "options": {"points": 3}},
    "train": {"epochs": 3, "lr": 0.003},
}
LONG = SPEC | {"train": {"epochs": 100_000, "lr": 0.001, "batch": 10}}
PROBES = {"sphere": {"kind": "sphere", "points": 6, "control": 4, "radii": [0.0, 2.0], "relative_radii": [0.5]}}
# As it is now: libraries that tests import add to it.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in (fork_server.PLACE, "PYTEST_CURRENT_TEST")}
STARTER = """
import os, sys, time
from halobench.runner import fork_server as warm
warm.start()
print(os.environ.get(warm.PLACE, ""), flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs Linux: there are servers only there"
)


def python(*arguments: str, place: Path | None = None, **variables: str) -> subprocess.Popen:
    """A command of the package, beside a server or by itself."""
    environment = ENVIRONMENT | variables
    if place is not None:
        environment[fork_server.PLACE] = str(place)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *arguments], env=environment, text=True, **pipes)


class Starter:
    """A process that has started servers, as a run does."""

    def __init__(self, **variables: str):
        self.process = python("-c", STARTER, **variables)
        self.place = Path(self.process.stdout.readline().strip())

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def servers(self) -> dict[str, int]:
        """Process numbers by name."""
        found = {pid: Path(words[-1]).name for pid, words in processes() if words[-1].startswith(str(self.place))}
        return {name: pid for pid, name in found.items() if parent(pid) not in found}

    def forks(self) -> list[int]:
        servers = self.servers().values()
        return [pid for pid, _ in processes() if parent(pid) in servers]


def processes() -> list[tuple[int, list[str]]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            continue
        found.append((int(path.parent.name), words))
    return found


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def until(true, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    made = Starter()
    yield made
    made.end()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    sources.write_source(SourceSpec("digits"), folder)
    return folder


def train(source: Path, out: Path, spec: dict = SPEC, place: Path | None = None, **variables: str) -> subprocess.Popen:
    words = ["--source", str(source), "--seed", "1", "--out", str(out), "--spec", json.dumps(spec)]
    return python("-m", "halobench.cli.main", "train", *words, place=place, **variables)


def under_way(process: subprocess.Popen) -> None:
    """Wait until a training heeds signals."""
    while not process.stdout.readline().startswith("epoch 1/"):
        assert process.poll() is None


def done(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_the_same_bytes_as_by_itself(starter, source, tmp_path):
    parts = {key: SPEC[key] for key in ("dataset", "model")} | {"probes": PROBES, "train": {}}
    metrics = {"calibrators": ["none", "exact"], "bins": 15, "draws": 20, "floor_draws": 2}
    for name, place in (("cold", None), ("warm", starter.place)):
        cell = tmp_path / name
        assert done(train(source, cell, place=place))[0] == 0
        more = ["--seed", "1", "--run", str(cell)]
        probe = ["probe", "--source", str(source), "--spec", json.dumps(parts), *more]
        calibrate = ["calibrate", "--spec", json.dumps(metrics), *more]
        for words in (probe, calibrate):
            code, _, err = done(python("-m", "halobench.cli.main", *words, place=place))
            assert code == 0, err
    names = sorted(path.name for path in (tmp_path / "cold").iterdir())
    assert {"model.safetensors", "radii.parquet", "metrics.csv"} <= set(names)
    assert names == sorted(path.name for path in (tmp_path / "warm").iterdir())
    for name in names:
        cold, hot = ((tmp_path / kind / name).read_bytes() for kind in ("cold", "warm"))
        if name in ("train.json", "probe.json", "calibrate.json"):
            cold, hot = (json.loads(text) for text in (cold, hot))
            assert cold["started"] < hot["started"]
            assert cold["outputs"] == hot["outputs"]
            assert cold["code"] == hot["code"]
            assert cold["versions"] == hot["versions"]
        else:
            assert cold == hot, name


def test_forks_are_the_servers(starter, source, tmp_path):
    process = train(source, tmp_path / "cell", LONG, starter.place)
    until(starter.forks)
    [fork] = starter.forks()
    assert parent(fork) == starter.servers()["torch"]
    assert Path(f"/proc/{fork}/comm").read_text() == "halobench train\n"
    under_way(process)
    process.send_signal(signal.SIGTERM)
    code, _, err = done(process)
    assert code == 128 + signal.SIGTERM
    assert "SIGTERM" in err
    assert (tmp_path / "cell/.train.safetensors").exists(), "the fork saved where it was"
    assert not starter.forks()


def test_bad_input_is_told_as_by_itself(starter, source, tmp_path):
    bad = SPEC | {"loss": {"name": "mixup", "options": {"points": 1}}}
    found = [done(train(source, tmp_path / "cell", bad, place)) for place in (None, starter.place)]
    assert found[0] == found[1]
    assert found[0][0] == 2
    assert "points = 1" in found[0][2]
    usage = [done(python("-m", "halobench.cli.main", "train", "--nonsense", place=p)) for p in (None, starter.place)]
    assert [code for code, _, _ in usage] == [2, 2]
    assert usage[0][2].splitlines()[-1] == usage[1][2].splitlines()[-1]


def test_a_killed_job_takes_its_fork_with_it(starter, source, tmp_path):
    process = train(source, tmp_path / "cell", LONG, starter.place)
    until(starter.forks)
    process.kill()
    process.communicate()
    until(lambda: not starter.forks(), 10)


def test_a_fork_that_is_killed_ends_its_job_so(starter, source, tmp_path):
    process = train(source, tmp_path / "cell", LONG, starter.place)
    until(starter.forks)
    os.kill(starter.forks()[0], signal.SIGKILL)
    assert done(process)[0] == -signal.SIGKILL


def test_a_killed_server_ends_its_jobs_and_later_ones_run_by_themselves(source, tmp_path):
    starter = Starter()
    process = train(source, tmp_path / "cell", LONG, starter.place)
    until(starter.forks)
    [fork] = starter.forks()
    os.kill(starter.servers()["torch"], signal.SIGKILL)
    assert done(process)[0] == -signal.SIGKILL
    until(lambda: parent(fork) == 0, 10)
    assert done(train(source, tmp_path / "other", place=starter.place))[0] == 0
    starter.end()


def test_servers_outlive_their_run_by_their_forks_alone(source, tmp_path):
    starter = Starter()
    process = train(source, tmp_path / "cell", LONG, starter.place)
    until(starter.forks)
    starter.process.kill()
    starter.process.wait()  # its servers hold its standard error
    until(lambda: list(starter.servers()) == ["torch"], 10)
    assert starter.forks()
    assert process.poll() is None
    under_way(process)
    process.send_signal(signal.SIGTERM)
    assert done(process)[0] == 128 + signal.SIGTERM
    until(lambda: not starter.servers() and not starter.place.exists(), 10)


@pytest.mark.parametrize("variables", [{"OMP_NUM_THREADS": "2"}, {"MKL_CBWR": "COMPATIBLE"}])
def test_another_environment_is_not_forked(starter, source, tmp_path, variables):
    process = train(source, tmp_path / "cell", LONG, starter.place, **variables)
    under_way(process)
    assert not starter.forks()
    assert process.poll() is None
    process.kill()
    process.communicate()


def request(**changed) -> dict:
    return {**fork_server._request(["calibrate"]), **changed}


def test_what_is_refused(tmp_path, monkeypatch):
    for name in fork_server.THREADS:
        monkeypatch.setenv(name, "1")
    server = fork_server.Server(tmp_path / "s", lambda arguments: 0)
    monkeypatch.setattr(server, "_load", lambda request: True)
    assert server._fits(request())
    assert not server._fits(request(python=["/usr/bin/python3", *request()["python"][1:]]))
    assert not server._fits(request(path=[*sys.path, "/more"]))
    assert not server._fits(request(environment=dict(os.environ) | {"OMP_NUM_THREADS": "2"}))
    assert not server._fits(request(environment=dict(os.environ) | {"LD_PRELOAD": "x.so"}))
    assert server._fits(request(environment=dict(os.environ) | {"SHLVL": "3"}))
    edited = dict(server.read)
    edited[next(iter(edited))] = (0, 0)
    monkeypatch.setattr(server, "read", edited)
    assert not server._fits(request()), "a file of the package was edited"
    server.listener.close()


def test_what_a_request_names_is_imported_before_the_fork(tmp_path, monkeypatch):
    server = fork_server.Server(tmp_path / "s", lambda arguments: 0)
    asked = Request("calibrate", {"calibrators": ["none", "isotonic"]}, {})
    path = write_request(tmp_path, asked).relative_to(tmp_path)
    server._load(request(arguments=["calibrate", "--request", str(path)], folder=str(tmp_path)))
    assert "sklearn.isotonic" in server.loaded
    assert "scipy.optimize" not in server.loaded
    server.listener.close()


def test_none_is_started_where_the_variable_is_set():
    starter = Starter(**{fork_server.PLACE: ""})
    assert starter.place == Path()
    starter.end()


def test_the_warm_modules_start_no_threads():
    """But for one of Arrow's allocator, which starts it anew in a fork: other threads would be missing there."""
    modules = {name for names in fork_server.STAGES.values() for name in names} | {"halobench.pipeline.stage"}
    modules |= set(fork_server.CALIBRATORS.values())
    for name in fork_server.FOREIGN:
        needs(bool(__import__(name)), name)
    code = f"""
import importlib
from halobench.runner import fork_server as warm
for name in {sorted(modules | set(fork_server.FOREIGN))!r}:
    importlib.import_module(name)
print(warm._threads())
"""
    assert done(python("-c", code, **dict.fromkeys(fork_server.THREADS, "1")))[1] == "[]\n"
