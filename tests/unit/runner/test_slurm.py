"""Queries to SLURM, and how the answers are read; its commands are stand-ins here."""

from __future__ import annotations

import importlib
import math
import os
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from halobench.experiment.config_loader import ConfigError
from halobench.runner.slurm import checks, queue


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands, alone on PATH; `say(name, text, code)` makes one print a text."""
    importlib.import_module("snakemake_executor_plugin_slurm")  # it looks for programs on import
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def say(name: str, text: str = "", code: int = 0) -> None:
        path = folder / name
        asked = f'echo "$@" >> {folder}/{name}.asked\n'
        path.write_text(f"#!/bin/sh\n{asked}printf '%s' {shlex.quote(text)}\nexit {code}\n")
        path.chmod(0o755)

    say.folder = folder
    return say


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1-02:00:00", 1560.0), ("30:00", 30.0), ("2:30:30", 150.5), ("infinite", math.inf), ("0:45", 0.75)],
)
def test_minutes(text, expected):
    assert checks.minutes(text) == expected


def test_states_are_asked_where_they_are_kept(commands, monkeypatch):
    """If squeue soon forgets jobs, the plugin asks sacct; whichever it asks must be able to answer."""

    def problems(status: str, first: int) -> list[str]:
        settings = SimpleNamespace(status_command=status, init_seconds_before_status_checks=first)
        return checks._status_problems(settings)

    assert problems("squeue", 20) == [], "no sacct"
    commands("scontrol", "Configuration data as of now\nMinJobAge               = 30 sec\n")
    commands("sacct", "Slurm accounting storage is disabled\n", 1)
    assert problems("squeue", 10) == []
    assert problems("sacct", 10) == [
        "slurm-status-command = sacct: expected squeue, since no accounting database responds here "
        "(sacct: Slurm accounting storage is disabled)"
    ]
    (problem,) = problems("squeue", 20)
    assert problem.startswith(
        "slurm-init-seconds-before-status-checks = 20: expected at most 10, since squeue here drops a job 30 s"
    )
    commands("sacct", "")
    assert problems("sacct", 20) == problems("squeue", 20) == []


def test_a_command_that_hangs_is_given_up(commands):
    commands.folder.joinpath("squeue").write_text(f"#!/bin/sh\nexec {'/bin/sleep'} 30\n")
    commands.folder.joinpath("squeue").chmod(0o755)
    with pytest.raises(queue.SlurmError, match=r"squeue: no response within 0\.2 s"):
        queue.ask("squeue", timeout=0.2)


QUEUE = """\
11|RUNNING|rule_train_wildcards_clean_mlp_mixup2_0|node1
12|PENDING|rule_probe_wildcards_clean_mlp_mixup2_1|(Resources)
13|COMPLETED|rule_probe_wildcards_clean_mlp_mixup2_2|node1
"""


def test_only_living_jobs_of_these_runs_count(commands):
    commands("squeue", QUEUE)
    assert list(map(str, queue.queued(["run-a", "run-b"]))) == [
        "11 (train clean_mlp_mixup2_0, RUNNING node1)",
        "12 (probe clean_mlp_mixup2_1, PENDING (Resources))",
    ]
    assert queue.queued([]) == []
    (asked,) = (commands.folder / "squeue.asked").read_text().splitlines()
    assert "--me" in asked
    assert "--name=run-a,run-b" in asked


@pytest.mark.parametrize(("cancel", "ended"), [(False, [["12"]]), (True, [["11", "12"]])])
def test_waiting_jobs_are_ended_and_running_ones_waited_for(monkeypatch, cancel, ended):
    found = (queue.QueuedJob("11", "RUNNING", "train a", "n"), queue.QueuedJob("12", "PENDING", "train b", ""))
    answers = [found, found[:1], ()] if not cancel else [found, ()]
    monkeypatch.setattr(queue, "queued", lambda runs: list(answers.pop(0)))
    asked, told = [], []
    monkeypatch.setattr(queue, "ask", lambda *command: asked.append(list(command)))
    monkeypatch.setattr(queue.time, "sleep", lambda seconds: None)
    assert queue.settle(["r"], cancel, told.append) == list(found)
    assert asked == [["scancel", *numbers] for numbers in ended]
    assert told == ([] if cancel else ["waiting for 1 to end: 11 (train a, RUNNING n)"])
    assert answers == []


def test_runs_are_noted_until_forgotten(tmp_path):
    assert queue.noted(tmp_path / "notes") == []
    path = queue.note(tmp_path / "notes", "b", "login.site.org-7")
    queue.note(tmp_path / "notes", "a", "login.site.org-8")
    assert path.exists()
    assert sorted(queue.noted(tmp_path / "notes")) == ["a", "b"]
    assert queue.noted(tmp_path / "notes", ["login.site.org-8"]) == ["b"]
    queue.forget(tmp_path / "notes", "b")
    queue.forget(tmp_path / "notes", "b")
    assert queue.noted(tmp_path / "notes") == ["a"]


@pytest.fixture
def srun(commands) -> Path:
    """srun runs the command here, as node7 would."""
    path = commands.folder / "srun"
    path.write_text(
        '#!/bin/sh\nexport PATH=/bin:/usr/bin\nwhile [ "$1" != sh ]; do shift; done\n"$@"\n'
        'c=$?; [ $c = 0 ] || echo "srun: error: node7: task 0: Exited with exit code $c" >&2; exit $c\n'
    )
    path.chmod(0o755)
    return path


def test_a_node_looks_for_the_directory_and_for_python(srun, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mark, seen = tmp_path / "mark", tmp_path / "seen"
    one, two = (SimpleNamespace(resources={"gpu": gpu, "slurm_partition": "gpu"}) for gpu in (1, 2))
    with pytest.raises(ConfigError) as caught:
        checks.look(one, mark, seen)
    assert list(caught.value.problems) == [
        f"working directory = {tmp_path}: expected a directory that compute nodes see under the same path, "
        "on a shared file system (node node7 doesn't see it)"
    ]
    mark.touch()
    with monkeypatch.context() as patched:
        patched.setattr(checks.sys, "executable", "/opt/nowhere/python")
        with pytest.raises(ConfigError, match="Python = /opt/nowhere/python: expected a Python with halobench and"):
            checks.look(one, mark, seen)
    assert checks.look(one, mark, seen) == ""
    srun.write_text("#!/bin/sh\nexit 1\n")
    assert checks.look(one, mark, seen) == "", "a good answer is kept"
    remark = checks.look(two, mark, seen)
    assert remark.startswith("could not check whether compute nodes see this directory (srun: exit code 1)")
    os.utime(seen, (0, 0))
    assert checks.look(one, mark, seen) == remark, "but for a day only"
