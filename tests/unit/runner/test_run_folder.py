"""A run's own folder: one run at a time writes to a results folder, and nothing of a dead one is in the way."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from pathlib import Path

import pytest

from conftest import ROOT, end, holder
from halobench.core.errors import SpecError
from halobench.runner import arguments, run, run_folder, slurm

pytestmark = pytest.mark.faults


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """A directory in which this process holds no lock, and where runs don't wait for others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folder, "_held", {})
    monkeypatch.setattr(run_folder, "PATIENCE", 0.0)
    (tmp_path / "Snakefile").touch()
    return tmp_path


@pytest.mark.process
def test_a_second_run_is_refused_while_the_first_one_lives_and_no_longer(workspace):
    """The line names its process; another folder is free, and a kill leaves nothing to unlock."""
    first = holder("from halobench.runner import run_folder; run_folder.take(Path('there'))")
    with pytest.raises(SpecError, match=rf"^there: process {first.pid} on \S+ is writing to this folder; wait for it"):
        run_folder.take(Path("there"))
    run_folder.take(Path("elsewhere"))
    end(first)
    run_folder.take(Path("there"))
    Path("link").symlink_to("there")
    for name in (Path("link"), workspace / "there"):  # by other names
        run_folder.take(name)
    assert Path("there/.run/lock").read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK], ids=["no flock", "no lock daemon"])
def test_a_folder_whose_files_cannot_be_locked_is_refused_in_a_line(monkeypatch, error):
    def flock(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", flock)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SpecError, match=r"^there: no file can be locked there \(.*\), and runs know of each other"):
            run_folder.take(Path("there"))


def test_jobs_of_dead_runs_are_settled_before_anything_else(monkeypatch, capsys):
    """If SLURM doesn't respond, nobody knows whether they still write."""
    folder = run_folder.folder_of(Path("there"))
    slurm.note(folder, "a-run")
    answers = [slurm.SlurmError("squeue: not found on PATH"), [slurm.QueuedJob("7", "PENDING", "train x", "")], []]

    def queued(runs):
        assert runs == ["a-run"]
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    monkeypatch.setattr(slurm, "queued", queued)
    monkeypatch.setattr(slurm, "ask", lambda *command: None)
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: None)
    with pytest.raises(slurm.SlurmError, match=r"jobs of run a-run may still be in a cluster's queue, .*not found"):
        run_folder.settle_left_jobs(Path("there"))
    run_folder.settle_left_jobs(Path("there"))
    assert "found 1 in the queue; none are left" in capsys.readouterr().err
    assert slurm.noted(folder) == []


@pytest.fixture
def started(monkeypatch):
    """The arguments of each Snakemake that a run would start."""
    ran: list[list[str]] = []
    monkeypatch.setattr(run, "_snakemake", lambda arguments: ran.append(list(arguments)) or 0)
    monkeypatch.setattr(run.fork_server, "start", lambda folder: None)
    return ran


@pytest.mark.parametrize("option", ["--configfile", "--configfiles"])
def test_a_file_that_is_no_configuration_is_named_before_snakemake_reads_it(started, tmp_path, option):
    path = tmp_path / "over.yaml"
    path.write_text("run: [a\n")
    with pytest.raises(OSError, match=r"over\.yaml, line 2: can't be read as YAML"):
        run.run(["--cores", "2", option, str(path), "-n"])
    assert not started
    path.write_text("run: [a]\n")
    run.run(["--cores", "2", option, str(path), "-n"])
    assert len(started) == 1


def test_touching_is_refused_since_it_decides_nothing(started):
    with pytest.raises(OSError, match="--touch is not supported"):
        run.run(["--cores", "1", "-t"])
    assert not started


def test_a_profile_that_is_not_there_is_told(started):
    with pytest.raises(FileNotFoundError, match="--workflow-profile profiles/slrum: no such folder"):
        run.run(["--workflow-profile", "profiles/slrum"])
    for words in ([], ["--workflow-profile=none"], ["--workflow-profile", str(ROOT / "profiles/slurm")]):
        arguments.check_arguments(arguments.read_arguments(words))
    Path("mine").mkdir()
    Path("mine/profile.yaml").write_text("executor: no-such\n")
    with pytest.raises(FileNotFoundError, match=r"mine/profile.yaml: the plug-in of executor no-such isn't"):
        run.run(["--workflow-profile", "mine", "-n"])


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (None, 0), ("two problems", 1)])
def test_snakemakes_exit_code_is_kept(monkeypatch, capsys, code, expected):
    monkeypatch.setattr("snakemake.cli.main", lambda arguments: sys.exit(code))
    monkeypatch.setattr(sys, "argv", [])
    assert run._snakemake(["--cores", "1"]) == expected
    assert capsys.readouterr().err == ("two problems\n" if code == "two problems" else "")
