"""Runs in a working directory: which are alive, what dead ones left, and what is refused before Snakemake starts."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, end, holder
from halobench.runner import arguments, live_runs, run
from halobench.runner.slurm import queue

pytestmark = pytest.mark.faults


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A directory that Snakemake locked; runs in it only record Snakemake's arguments."""
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.input.lock").write_text("results/a\n")
    (tmp_path / "Snakefile").touch()
    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_snakemake", lambda arguments: ran.append(list(arguments)) or 0)
    monkeypatch.setattr(live_runs, "_held", {})
    yield ran
    for lock in live_runs._held.values():
        lock.release()


ENROL = "from halobench.runner import live_runs; live_runs.enrol(Path())"


def is_locked() -> bool:
    return Path(".snakemake/locks").exists()


@pytest.mark.parametrize("same_number", [False, True])
def test_a_dead_runs_locks_are_removed(locked, capsys, same_number):
    end(holder(ENROL))
    (left,) = Path(".snakemake/halobench/runs").iterdir()
    if same_number:
        left.rename(left.with_name(f"{live_runs.name()}.lock"))
    run.run(["--cores", "2"])
    (own,) = Path(".snakemake/halobench/runs").iterdir()
    assert own.stem == live_runs.name()
    assert not is_locked()
    assert "is dead; unlocked" in capsys.readouterr().err
    assert locked == [["--cores", "2", "--logger=halobench"]]
    assert live_runs.other_runs(Path()) == ([], [])


@pytest.mark.parametrize("option", ["--configfile", "--configfiles"])
def test_a_file_that_is_no_configuration_is_named_before_snakemake_reads_it(locked, tmp_path, option):
    path = tmp_path / "over.yaml"
    path.write_text("run: [a\n")
    with pytest.raises(OSError, match=r"over\.yaml, line 2: expected YAML"):
        run.run(["--cores", "2", option, str(path), "-n"])
    assert not locked
    path.write_text("run: [a]\n")
    run.run(["--cores", "2", option, str(path), "-n"])
    assert len(locked) == 1


def test_a_living_runs_locks_stay_also_those_of_the_younger_of_two(locked, capsys):
    first, second = holder(ENROL), holder(ENROL)
    end(first)
    run.run([])
    assert is_locked()
    said = capsys.readouterr().err
    words = rf"run {second.pid} on {re.escape(platform.node())} is running here; "
    assert re.search(f"halobench: {words}if both write the same files, wait for it to end\n", said)
    assert "unlocked" not in said
    with pytest.raises(OSError, match=rf"--unlock: expected no live run in this directory \({words}"):
        run.run(["--unlock"])
    end(second)


@pytest.mark.parametrize("option", ["--touch", "-t"])
def test_touching_is_refused_since_it_decides_nothing(locked, option):
    with pytest.raises(
        OSError, match="--touch is not supported, since whether a result is current depends on its record"
    ):
        run.run(["--cores", "1", option])
    assert not locked


def test_a_run_is_known_to_others_and_takes_its_file_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    look = "print(list(Path('.snakemake/halobench/runs').iterdir()), live_runs.other_runs(Path()))"
    code = f"{ENROL}; live_runs.enrol(Path()); {look}"
    first = holder(ENROL)
    done = subprocess.run([sys.executable, "-c", f"from pathlib import Path; {code}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(".lock") == 2
    assert f"-{first.pid}'], [])" in done.stdout
    (left,) = Path(".snakemake/halobench/runs").iterdir()
    assert left.name.endswith(f"-{first.pid}.lock")
    end(first)


@pytest.mark.parametrize("words", [["-n"], ["--cores", "2", "--dry-run"], ["-np"], ["--dryrun"]])
def test_a_dry_run_unlocks_nothing_and_ends_no_jobs(locked, words, monkeypatch, capsys):
    queue.note(live_runs.SUBMITTED, "a-run", "elsewhere-1")
    job = queue.QueuedJob("7", "PENDING", "train x", "(Resources)")
    monkeypatch.setattr(queue, "queued", lambda runs: [job] if runs == ["a-run"] else [])
    monkeypatch.setattr(queue, "settle", lambda *arguments: pytest.fail("settled"))
    run.run(words)
    said = capsys.readouterr().err
    told = "jobs of a run that died are still in the queue: 7 (train x, PENDING (Resources)); a run without -n cancels"
    assert told in said
    assert is_locked()
    assert queue.noted(live_runs.SUBMITTED) == ["a-run"]
    assert locked == [words]


def test_a_profile_that_is_not_there_is_told(locked):
    with pytest.raises(FileNotFoundError, match="--workflow-profile profiles/slrum: no such folder"):
        run.run(["--workflow-profile", "profiles/slrum"])
    for words in ([], ["--workflow-profile=none"], ["--workflow-profile", str(ROOT / "profiles/slurm")]):
        arguments.check_arguments(arguments.read_arguments(words))
    Path("mine").mkdir()
    Path("mine/profile.yaml").write_text("executor: no-such\n")
    with pytest.raises(FileNotFoundError, match=r"mine/profile.yaml: executor = no-such: its plug-in is not"):
        run.run(["--workflow-profile", "mine", "-n"])


def test_a_run_of_another_host_counts_as_alive_until_the_user_says_otherwise(locked, capsys):
    """Its lock may be invisible here, even if the folder is shared."""
    path = Path(".snakemake/halobench/runs/elsewhere.site.org-7.lock")
    path.parent.mkdir(parents=True)
    path.touch()
    end(holder(ENROL))
    queue.note(live_runs.SUBMITTED, "a-run", "elsewhere.site.org-7")
    run.run([])
    said = capsys.readouterr().err
    assert "run 7 on another host, elsewhere.site.org, may still be alive; if you know that it isn't, use `" in said
    assert is_locked()
    assert path.exists()
    assert queue.noted(live_runs.SUBMITTED) == ["a-run"]
    run.run(["--unlock"])
    assert not path.exists()
    assert queue.noted(live_runs.SUBMITTED) == ["a-run"], "its jobs are left to the next run"
    assert locked == [["--logger=halobench"], ["--unlock", "--logger=halobench"]]


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (None, 0), ("two problems", 1)])
def test_snakemakes_exit_code_is_kept(monkeypatch, capsys, code, expected):
    monkeypatch.setattr("snakemake.cli.main", lambda arguments: sys.exit(code))
    monkeypatch.setattr(sys, "argv", [])
    assert run._snakemake(["--cores", "1"]) == expected
    assert capsys.readouterr().err == ("two problems\n" if expected and isinstance(code, str) else "")
