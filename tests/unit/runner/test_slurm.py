"""Queries to SLURM, and how the answers are read; its commands are stand-ins here."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from halobench.runner import slurm


@pytest.fixture
def answers(monkeypatch):
    """A list of what the next commands print (or an exception that they end in), and one of the commands."""
    texts, asked = [], []

    def run(command, **options):
        asked.append(list(command))
        if isinstance(text := texts.pop(0), Exception):
            raise text
        return SimpleNamespace(stdout=text, stderr="", returncode=0)

    monkeypatch.setattr(slurm.subprocess, "run", run)
    return texts, asked


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("exec sleep 600", r"squeue: no response within 0\.2 s"),
        ("echo 'squeue: error: slurm_load_jobs error' >&2; exit 3", "^squeue: slurm_load_jobs error$"),
        ("exit 3", "^squeue: exit code 3$"),
    ],
)
@pytest.mark.process
def test_a_command_that_hangs_is_given_up_and_one_that_fails_says_why(tmp_path, monkeypatch, program, message):
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(slurm.SlurmError, match=message):
        slurm.ask("squeue", timeout=0.2 if "600" in program else 600)


def test_each_element_of_an_array_has_a_state(answers):
    texts, asked = answers
    texts.append("11_0|PENDING|Priority\n11_1|RUNNING|None\n")
    assert slurm.states("run-a") == {"11_0": ("PENDING", "Priority"), "11_1": ("RUNNING", "None")}
    assert {"--array", "--me", "--states=all", "--name=run-a"} <= set(asked[0])


QUEUE = """\
11|RUNNING|rule_train_wildcards_clean_mlp_mixup2_0|node1
12|PENDING|rule_probe_wildcards_clean_mlp_mixup2_1|(Resources)
13|COMPLETED|rule_probe_wildcards_clean_mlp_mixup2_2|node1
"""


def test_only_living_jobs_of_these_runs_count(answers):
    texts, asked = answers
    texts.append(QUEUE)
    assert list(map(str, slurm.queued(["run-a", "run-b"]))) == [
        "11 (train clean_mlp_mixup2_0, RUNNING node1)",
        "12 (probe clean_mlp_mixup2_1, PENDING (Resources))",
    ]
    assert slurm.queued([]) == []
    assert len(asked) == 1
    assert {"--me", "--name=run-a,run-b"} <= set(asked[0])


def test_waiting_jobs_are_ended_and_running_ones_waited_for(monkeypatch):
    found = (slurm.QueuedJob("11", "RUNNING", "train a", "n"), slurm.QueuedJob("12", "PENDING", "train b", ""))
    answers = [found, found[:1], ()]
    monkeypatch.setattr(slurm, "queued", lambda runs: list(answers.pop(0)))
    asked, told = [], []
    monkeypatch.setattr(slurm, "ask", lambda *command: asked.append(list(command)))
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: None)
    assert slurm.settle(["r"], told.append) == list(found)
    assert asked == [["scancel", "12"]]
    assert told == ["waiting for 1 to end (scancel ends them sooner): 11 (train a, RUNNING n)"]
    assert answers == []


def test_runs_are_noted_until_forgotten(tmp_path):
    assert slurm.noted(tmp_path / "notes") == []
    path = slurm.note(tmp_path / "notes", "b")
    slurm.note(tmp_path / "notes", "a")
    assert path.exists()
    assert slurm.noted(tmp_path / "notes") == ["a", "b"]
    slurm.forget(tmp_path / "notes", "b")
    slurm.forget(tmp_path / "notes", "b")
    assert slurm.noted(tmp_path / "notes") == ["a"]


@pytest.mark.process
def test_a_node_looks_for_the_directory_and_for_python(tmp_path, monkeypatch):
    """The command for srun runs here, as node7 would run it."""
    srun, mark = tmp_path / "srun", tmp_path / "the mark"
    srun.write_text(
        '#!/bin/sh\nexport PATH=/bin:/usr/bin\nwhile [ "$1" != sh ]; do shift; done\n"$@"\n'
        'c=$?; [ $c = 0 ] || echo "srun: error: node7: task 0: Exited with exit code $c" >&2; exit $c\n'
    )
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    job = SimpleNamespace(resources={"gpu": 1, "slurm_partition": "gpu"})
    problem = slurm.unseen(job, mark)
    assert f"doesn't see {tmp_path}, or can't import halobench with {sys.executable}; " in problem
    assert "node7" in problem
    mark.touch()
    assert slurm.unseen(job, mark) == ""
    monkeypatch.setattr(slurm.sys, "executable", "/opt/nowhere/python")
    assert "can't import halobench with /opt/nowhere/python; " in slurm.unseen(job, mark)
    srun.write_text("#!/bin/sh\nexit 1\n")
    assert slurm.unseen(job, mark) == "", "no node is free"
