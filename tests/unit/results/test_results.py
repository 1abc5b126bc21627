"""Checks that protect results: locks, runs, disk space, failed jobs, inventory, and verification."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from conftest import ROOT
from halobench.core.errors import SpecError
from halobench.experiment.config_loader import load_config
from halobench.experiment.grid import Cell
from halobench.experiment.jobs import cell_jobs, reference_job
from halobench.results import inventory
from halobench.runner import arguments, run
from halobench.runner.slurm import queue
from halobench.storage import files, records, verify
from halobench.storage.provenance import record

pytestmark = pytest.mark.faults


def holder(code: str, *arguments: str | Path) -> subprocess.Popen:
    """A process that runs `code`, prints a line, and stays until it is killed."""
    script = f"import sys, time; from pathlib import Path\n{code}\nprint('ready', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


def test_only_what_dead_writers_left_is_swept_away(tmp_path):
    """A living writer's file, a recent one, and unrelated files stay."""
    code = "from halobench.storage import files as store; kept = store.replacing(sys.argv[1]); kept.__enter__()"
    living, dead = (holder(code, tmp_path / f"{name}.csv") for name in ("living", "dead"))
    end(dead)
    (tmp_path / ".hidden").touch()
    old = time.time() - 3600
    for path in tmp_path.iterdir():
        os.utime(path, (old, old))
    young = tmp_path / f"{files.TEMPORARY}young-1.csv"
    young.touch()
    files.sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert {".hidden", young.name} < left
    assert sum(name.startswith(f"{files.TEMPORARY}living") for name in left) == 1
    assert not any(name.startswith(f"{files.TEMPORARY}dead") for name in left)
    end(living)


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A directory that Snakemake locked; runs in it only record Snakemake's arguments."""
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.input.lock").write_text("results/a\n")
    (tmp_path / "Snakefile").touch()
    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_snakemake", lambda arguments: ran.append(list(arguments)) or 0)
    monkeypatch.setattr(run, "_held", {})
    yield ran
    for lock in run._held.values():
        lock.release()


ENROL = "from halobench.runner import run; run.enrol(Path())"


def is_locked() -> bool:
    return Path(".snakemake/locks").exists()


@pytest.mark.parametrize("same_number", [False, True])
def test_a_dead_runs_locks_are_removed(locked, capsys, same_number):
    end(holder(ENROL))
    (left,) = Path(".snakemake/halobench/runs").iterdir()
    if same_number:
        left.rename(left.with_name(f"{run.name()}.lock"))
    run.run(["--cores", "2"])
    (own,) = Path(".snakemake/halobench/runs").iterdir()
    assert own.stem == run.name()
    assert not is_locked()
    assert "is dead; unlocked" in capsys.readouterr().err
    assert locked == [["--cores", "2", "--logger=halobench"]]
    assert run.other_runs(Path()) == ([], [])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"expected a UTF-8 text file"),
        (b"run: [a\n", r"over\.yaml, line 2: expected YAML"),
        (b"- a\n", r"expected sections at the top level"),
        (b"run: [a]\nrun: [b]\n", r"unique keys"),
    ],
)
@pytest.mark.parametrize("option", ["--configfile", "--configfiles"])
def test_a_file_that_is_no_configuration_is_named_before_snakemake_reads_it(locked, tmp_path, option, content, told):
    path = tmp_path / "over.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError, match=told) as caught:
        run.run(["--cores", "2", option, str(path), "-n"])
    assert "over.yaml" in str(caught.value)
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
    words = rf"run {second.pid} on {re.escape(platform.node())} has been running here since [\w ]*\d\d:\d\d; "
    assert re.search(f"halobench: {words}if both write the same files, wait for it to end\n", said)
    assert "unlocked" not in said
    with pytest.raises(OSError, match=rf"--unlock: expected no live run in this directory \({words}"):
        run.run(["--unlock"])
    end(second)


def test_the_time_since_when_a_run_works_is_that_of_its_process(monkeypatch):
    began = psutil.Process().create_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began - 2 * 86_400)
    assert run._since(os.getpid()) == f" since {datetime.fromtimestamp(began - 2 * 86_400):%d %B %H:%M}"
    monkeypatch.setattr(psutil, "Process", lambda number: (_ for _ in ()).throw(psutil.NoSuchProcess(number)))
    assert run._since(1) == "", "of a process that this host doesn't know"


@pytest.mark.parametrize("option", ["--touch", "-t"])
def test_touching_is_refused_since_it_decides_nothing(locked, option):
    with pytest.raises(
        OSError, match="--touch is not supported, since whether a result is current depends on its record"
    ):
        run.run(["--cores", "1", option])
    assert not locked


def test_a_run_is_known_to_others_and_takes_its_file_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        f"{ENROL}; run.enrol(Path()); print(list(Path('.snakemake/halobench/runs').iterdir()), run.other_runs(Path()))"
    )
    first = holder(ENROL)
    done = subprocess.run([sys.executable, "-c", f"from pathlib import Path; {code}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(".lock") == 2
    assert f"-{first.pid}'], [])" in done.stdout
    (left,) = Path(".snakemake/halobench/runs").iterdir()
    assert left.name.endswith(f"-{first.pid}.lock")
    end(first)


@pytest.mark.parametrize("words", [["-n"], ["--cores", "2", "--dry-run"], ["-npr"], ["--dryrun"]])
def test_a_dry_run_unlocks_nothing_and_ends_no_jobs(locked, words, monkeypatch, capsys):
    queue.note(run.SUBMITTED, "a-run", "elsewhere-1")
    job = queue.QueuedJob("7", "PENDING", "train x", "(Resources)")
    monkeypatch.setattr(queue, "queued", lambda runs: [job] if runs == ["a-run"] else [])
    monkeypatch.setattr(queue, "settle", lambda *arguments: pytest.fail("settled"))
    run.run(words)
    said = capsys.readouterr().err
    told = "jobs of a run that died are still in the queue: 7 (train x, PENDING (Resources)); a run without -n cancels"
    assert told in said
    assert is_locked()
    assert queue.noted(run.SUBMITTED) == ["a-run"]
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
    queue.note(run.SUBMITTED, "a-run", "elsewhere.site.org-7")
    run.run([])
    said = capsys.readouterr().err
    assert "run 7 on another host, elsewhere.site.org, may still be alive; if you know that it isn't, use `" in said
    assert is_locked()
    assert path.exists()
    assert queue.noted(run.SUBMITTED) == ["a-run"]
    run.run(["--unlock"])
    assert not path.exists()
    assert queue.noted(run.SUBMITTED) == ["a-run"], "its jobs are left to the next run"
    assert locked == [["--logger=halobench"], ["--unlock", "--logger=halobench"]]


@pytest.mark.parametrize(
    ("words", "dry_run", "directory"),
    [
        (["-j", "2", "target"], False, "."),
        (["--config", "n=1"], False, "."),
        (["--nolock"], False, "."),
        (["--unlock", "-d", "there"], False, "there"),
        (["--directory=there", "-n"], True, "there"),
        (["-dthere", "--cores", "2"], False, "there"),
    ],
)
def test_a_dry_run_and_the_working_directory_are_known_as_snakemake_knows_them(words, dry_run, directory):
    asked = arguments.read_arguments(words).options
    assert (asked.dry_run, asked.directory) == (dry_run, Path(directory))


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (None, 0), ("two problems", 1)])
def test_snakemakes_exit_code_is_kept(monkeypatch, capsys, code, expected):
    monkeypatch.setattr("snakemake.cli.main", lambda arguments: sys.exit(code))
    monkeypatch.setattr(sys, "argv", [])
    assert run._snakemake(["--cores", "1"]) == expected
    assert capsys.readouterr().err == ("two problems\n" if expected and isinstance(code, str) else "")


@pytest.fixture
def two_cells():
    """A checked configuration of two cells with 100 points each."""
    sizes = {"source": "digits", "train": 50, "val": 20, "test": 30}
    grid = [{"datasets": ["clean"], "models": ["mlp"], "losses": ["ce"], "seeds": [0, 1]}]
    return load_config(
        {
            "run": ["e"],
            "sources": {"digits": {"loader": "digits"}},
            "datasets": {"clean": sizes},
            "models": {"mlp": {"name": "mlp"}},
            "losses": {"ce": {"name": "cross_entropy"}},
            "probes": {"sphere": {}},
            "experiments": {"e": {"grid": grid}},
        }
    )


def write_cell(results: Path, config, seed: int) -> None:
    """Write a cell's records and one output each, as the stages would."""
    folder = results / f"runs/clean/mlp/ce/seed{seed}"
    for job in cell_jobs(config, Cell("clean", "mlp", "ce", seed), probed=True):
        files.write_json(folder / f"{job.stage}.output", job.stage)
        made = record(job.request, seed, [folder / f"{job.stage}.output"], 1.0)
        files.write_json(results / job.record, made)
    job = reference_job(config, "clean", seed)
    files.write_json(results / job.record, record(job.request, seed, [], 1.0))


def test_a_survey_tells_what_is_there_and_why_the_rest_is_not(two_cells, tmp_path):
    write_cell(tmp_path, two_cells, 0)
    found = inventory.take_inventory(two_cells, "e", tmp_path)
    assert [cell.seed for cell in found.cells] == [0]
    assert found.references == (("clean", 0),)
    assert found.note == "partial: 1 of 2 cells"
    assert [(row["loss"], row["seed"], row["stage"], row["why"]) for row in found.missing] == [
        ("ce", 1, "train", "not made yet"),
        ("reference", 1, "reference", "not made yet"),
    ]
    write_cell(tmp_path, two_cells, 1)
    whole = inventory.take_inventory(two_cells, "e", tmp_path)
    assert (whole.note, whole.missing) == ("", ())
    assert inventory.list_inventory(whole, tmp_path) != inventory.list_inventory(found, tmp_path)
    probe = tmp_path / "runs/clean/mlp/ce/seed1/probe.json"
    made = files.read_json(probe)
    for change, why in (
        ({"code": made["code"] | {"rays": "0" * 16}}, "rays.py is no longer used"),
        ({"seed": 7}, "seed was 7 and is now 1"),
    ):
        files.write_json(probe, records.seal(made | change))
        assert [row["why"] for row in inventory.take_inventory(two_cells, "e", tmp_path).missing] == [why]
    probe.write_text("{")
    assert [row["why"] for row in inventory.take_inventory(two_cells, "e", tmp_path).missing] == [
        "its record can't be read"
    ]


def test_verify_and_remove_speak_of_the_stages_own_files_only(two_cells, tmp_path):
    write_cell(tmp_path, two_cells, 0)
    folder = tmp_path / "runs/clean/mlp/ce/seed0"
    assert verify.verify(tmp_path).faults == ()
    assert (verify.verify(tmp_path).records, verify.verify(tmp_path).files) == (4, 3)
    (folder / "probe.output").write_text("edited")
    (fault,) = verify.verify(tmp_path).faults
    assert str(fault).startswith(f"{folder}/probe.output: was changed after the probe stage wrote it (SHA-256 ")
    assert verify.remove((fault,)) == [folder / "probe.output", folder / "probe.json"]
    assert verify.verify(tmp_path).faults == ()
    left = {f"{stage}.{kind}" for stage in ("train", "calibrate") for kind in ("json", "output")}
    assert {path.name for path in folder.iterdir()} == left


def test_verify_leaves_files_alone_that_no_stage_wrote(two_cells, tmp_path):
    """A folder without a record is refused; next to results, files that have names like outputs aren't judged."""
    names = ("train.json", "model.safetensors", "metrics.csv", "mine/logits.safetensors", "mine/broken.json")
    for name in (*names, "weights/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{")
    with pytest.raises(SpecError, match="expected a results folder with at least one stage's record"):
        verify.verify(tmp_path)
    write_cell(tmp_path, two_cells, 0)
    assert [fault.path for fault in verify.verify(tmp_path).faults] == [tmp_path / "weights/model.safetensors"]
