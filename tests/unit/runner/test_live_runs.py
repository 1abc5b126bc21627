"""Runs in a working directory: which are alive, what dead ones left, and what is refused before Snakemake starts."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from conftest import ROOT, end, holder
from halobench.core.errors import SpecError
from halobench.pipeline import doctor
from halobench.runner import arguments, live_runs, run
from halobench.runner.slurm import queue

pytestmark = pytest.mark.faults

RUNS = Path(".snakemake/halobench/runs")
LOCKS = Path(".snakemake/locks")


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A directory that Snakemake locked; runs in it only record the arguments of the Snakemake that they would start.

    tests/workflow/test_faults.py shows that Snakemake then unlocks it.
    """
    (tmp_path / LOCKS).mkdir(parents=True)
    (tmp_path / "Snakefile").touch()
    ran = []

    def unlock(command, **options):
        assert "--unlock" in command
        shutil.rmtree(LOCKS)
        return SimpleNamespace(returncode=0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_snakemake", lambda arguments: ran.append(list(arguments)) or 0)
    monkeypatch.setattr(run.fork_server, "start", lambda folder: None)
    monkeypatch.setattr(live_runs.subprocess, "run", unlock)
    monkeypatch.setattr(live_runs, "_held", {})
    yield ran
    for lock in live_runs._held.values():
        lock.release()


def left(process: object, host: str = platform.node()) -> Path:
    """The file of a run that nobody holds."""
    path = RUNS / f"{host}-{process}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("process", ["another", os.getpid()], ids=["another", "this"])
def test_a_dead_runs_locks_are_removed(locked, capsys, process):
    """Even if it had the number that this process has, as in a container."""
    left(process)
    run.run(["--cores", "2"])
    assert [path.stem for path in RUNS.iterdir()] == [live_runs.name()]
    assert not LOCKS.exists()
    assert "is dead; unlocked" in capsys.readouterr().err
    assert locked == [["--cores", "2", "--logger=halobench"]]
    assert live_runs.other_runs(Path()) == ([], [])


def test_a_living_runs_locks_stay_also_those_of_the_younger_of_two(locked, capsys):
    left(1)
    with FileLock(left(2)):
        run.run([])
        assert LOCKS.exists()
        said = capsys.readouterr().err
        assert f"run 2 on {platform.node()} is running here" in said
        assert "unlocked" not in said
        with pytest.raises(OSError, match=r"--unlock refused: run 2 on .* is still running here"):
            run.run(["--unlock"])


@pytest.mark.process
def test_a_run_is_known_to_others_until_it_ends_and_takes_its_file_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "from halobench.runner import live_runs; live_runs.enrol(Path()); live_runs.enrol(Path())"
    first = holder(code)
    subprocess.run([sys.executable, "-c", f"from pathlib import Path; {code}"], check=True)
    assert live_runs.other_runs(Path()) == ([f"{platform.node()}-{first.pid}"], [])
    end(first)
    assert live_runs.other_runs(Path()) == ([], [RUNS.absolute() / f"{platform.node()}-{first.pid}.lock"])


def test_a_run_of_another_host_counts_as_alive_until_the_user_says_otherwise(locked, capsys):
    """Its lock may be invisible here, even if the folder is shared."""
    path = left(7, "elsewhere.site.org")
    left("dead")
    queue.note(live_runs.SUBMITTED, "a-run", "elsewhere.site.org-7")
    run.run([])
    assert "run 7 on another host, elsewhere.site.org, may still be alive" in capsys.readouterr().err
    assert LOCKS.exists()
    assert path.exists()
    run.run(["--unlock"])
    assert not path.exists()
    assert queue.noted(live_runs.SUBMITTED) == ["a-run"], "its jobs are left to the next run"
    assert locked == [["--logger=halobench"], ["--unlock", "--logger=halobench"]]


@pytest.mark.parametrize("words", [["-np"], ["--cores", "2", "--dry-run"]])
def test_a_dry_run_unlocks_nothing_and_ends_no_jobs(locked, words, monkeypatch, capsys):
    left("dead")
    queue.note(live_runs.SUBMITTED, "a-run", "elsewhere-1")
    job = queue.QueuedJob("7", "PENDING", "train x", "(Resources)")
    monkeypatch.setattr(queue, "queued", lambda runs: [job] if runs == ["a-run"] else [])
    monkeypatch.setattr(queue, "settle", lambda *arguments: pytest.fail("settled"))
    run.run(words)
    assert "7 (train x, PENDING (Resources)); a run without -n cancels" in capsys.readouterr().err
    assert LOCKS.exists()
    assert queue.noted(live_runs.SUBMITTED) == ["a-run"]
    assert locked == [words]


@pytest.mark.parametrize("option", ["--configfile", "--configfiles"])
def test_a_file_that_is_no_configuration_is_named_before_snakemake_reads_it(locked, tmp_path, option):
    path = tmp_path / "over.yaml"
    path.write_text("run: [a\n")
    with pytest.raises(OSError, match=r"over\.yaml, line 2: can't be read as YAML"):
        run.run(["--cores", "2", option, str(path), "-n"])
    assert not locked
    path.write_text("run: [a]\n")
    run.run(["--cores", "2", option, str(path), "-n"])
    assert len(locked) == 1


def test_touching_is_refused_since_it_decides_nothing(locked):
    with pytest.raises(OSError, match="--touch is not supported"):
        run.run(["--cores", "1", "-t"])
    assert not locked


def test_a_profile_that_is_not_there_is_told(locked):
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


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK], ids=["no flock", "no lock daemon"])
def test_a_folder_whose_files_cannot_be_locked_is_refused_in_a_line(locked, monkeypatch, error):
    """A lock file that was copied there is nobody's; a run must not wait for it."""

    def flock(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    RUNS.mkdir(parents=True)
    RUNS.with_name("deciding.lock").touch()
    monkeypatch.setattr("fcntl.flock", flock)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SpecError) as told:
            run.run([])
    assert str(told.value).startswith(f"{Path.cwd()}: no file can be locked there ({os.strerror(error)}), and runs")
    assert locked == []


def test_a_cache_that_cannot_be_written_is_refused_in_a_line(locked, monkeypatch, tmp_path):
    """Snakemake would end in a traceback. `halobench doctor` says the same."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file/cache"))
    with pytest.raises(SpecError) as told:
        run.run([])
    assert str(told.value).startswith(f"{tmp_path}/file/cache: can't be written to, and Snakemake keeps files there;")
    assert str(told.value) in doctor.report()[1]
    assert locked == []
