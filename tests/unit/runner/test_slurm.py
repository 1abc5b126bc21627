"""Queries to SLURM, and how the answers are read; its commands are stand-ins here."""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

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


def test_a_command_that_hangs_is_given_up(commands):
    commands.folder.joinpath("squeue").write_text(f"#!/bin/sh\nexec {'/bin/sleep'} 30\n")
    commands.folder.joinpath("squeue").chmod(0o755)
    with pytest.raises(queue.SlurmError, match=r"squeue: no response within 0\.2 s"):
        queue.ask("squeue", timeout=0.2)


def test_each_element_of_an_array_has_a_state(commands):
    commands("squeue", "11_0|PENDING|Priority\n11_1|RUNNING|None\n")
    assert queue.states("run-a") == {"11_0": ("PENDING", "Priority"), "11_1": ("RUNNING", "None")}
    (asked,) = (commands.folder / "squeue.asked").read_text().splitlines()
    assert {"--array", "--me", "--states=all", "--name=run-a"} <= set(asked.split())


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
    mark = tmp_path / "the mark"
    job = SimpleNamespace(resources={"gpu": 1, "slurm_partition": "gpu"})
    python = sys.executable
    problem = (
        f"working directory = {tmp_path}, Python = {python}: expected both on a shared file system, under the "
        "same path on nodes (node7 has none)"
    )
    assert checks.unseen(job, mark) == problem
    mark.touch()
    assert checks.unseen(job, mark) == ""
    monkeypatch.setattr(checks.sys, "executable", "/opt/nowhere/python")
    assert checks.unseen(job, mark) == problem.replace(python, "/opt/nowhere/python")
    srun.write_text("#!/bin/sh\nexit 1\n")
    assert checks.unseen(job, mark) == "", "no node is free"
