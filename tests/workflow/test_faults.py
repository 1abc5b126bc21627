"""The real workflow when things go wrong: killed runs, full disks, diverging cells, edited files."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

import stand_in_gpus
from conftest import Workspace, assert_same_cells, few_cells, heed_interrupts, needs, one_cell, tiny_config
from halobench.results.status import NOTHING
from halobench.storage import arrays_io, files
from halobench.storage.files import checksum
from halobench.storage.verify import remove, verify

pytestmark = pytest.mark.faults
QUIET = ("--quiet", "rules", "host", "progress")


def start(workspace: Workspace, *arguments: str, **environment: str) -> subprocess.Popen:
    """Start `halobench run` here in its own session, so a signal to it doesn't reach anything else."""
    command = [sys.executable, "-m", "halobench.cli.main", "run", *arguments]
    out = open(workspace.folder / "run.log", "a")  # noqa: SIM115
    options = {"start_new_session": True, "preexec_fn": heed_interrupts, "env": os.environ | environment}
    return subprocess.Popen(command, cwd=workspace.folder, stdout=out, stderr=out, **options)


def run(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess:
    """Run `halobench run` here to the end."""
    return workspace.module("halobench.cli.main", "run", *arguments)


def wait_for(seen, process: subprocess.Popen, seconds: float = 900) -> None:
    """Wait until `seen()`; fail if the process ends first."""
    last = time.monotonic() + seconds
    while not seen():
        assert process.poll() is None, "the process ended before what was waited for"
        assert time.monotonic() < last, "waited in vain"
        time.sleep(0.02)


def trained(workspace: Workspace) -> set[Path]:
    """The records of training runs that the main process has noted as finished."""
    notes = workspace.folder / ".snakemake/incomplete"
    unfinished = {urlsafe_b64decode(note.name).decode() for note in notes.glob("*") if note.is_file()}
    found = workspace.folder.glob("results/runs/*/*/*/*/train.json")
    return {path for path in found if str(path.relative_to(workspace.folder)) not in unfinished}


def test_a_killed_master_is_gone_on_from_and_finished_cells_are_not_redone(finished, tmp_path):
    """SIGKILL goes to Snakemake's process alone, and its jobs end with it; while stopped, it counts as alive."""
    workspace = Workspace(tmp_path, few_cells())
    master = start(workspace, "--cores", "1", *QUIET)
    wait_for(lambda: trained(workspace), master)
    (snakemake,) = psutil.Process(master.pid).children()
    snakemake.suspend()
    second = run(workspace, "--cores", "1", *QUIET)
    assert second.returncode == 2
    assert re.search(rf"results: process {snakemake.pid} on \S+ is writing to this folder; wait for", second.stderr)
    plain = workspace.snakemake("--cores", "1", "--nolock")
    assert plain.returncode == 1
    assert f"process {snakemake.pid} on " in plain.stderr
    assert "Traceback" not in plain.stderr
    assert master.poll() is None
    snakemake.kill()
    assert master.wait(timeout=900) == 128 + signal.SIGKILL
    kept = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in trained(workspace)}
    done = run(workspace, "--cores", "2", *QUIET)
    assert done.returncode == 0, done.stderr[-3000:]
    for path, (mtime, content) in kept.items():
        assert path.stat().st_mtime_ns == mtime, path
        assert path.read_bytes() == content
    assert_same_cells(finished, workspace)
    assert NOTHING in run(workspace, "-n").stdout


@pytest.fixture
def small_disk(tmp_path):
    """A folder on its own disk of 20 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)], capture_output=True)
    needs(done.returncode == 0, "a right to mount a tmpfs, to try a full disk on")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill a disk up to `leave` free bytes, and return the file that does it.

    A run may write to the disk at the same time, so there may be less space than a moment ago. Running out of it is
    then what was intended.
    """
    filler = folder / "filler"
    with open(filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(folder).free - leave) > 0:
            file.write(b"\0" * min(free, 2**20))
    return filler


def test_a_disk_that_fills_up_leaves_nothing_half_written_and_the_rerun_ends_well(finished, small_disk, tmp_path):
    """Only results/ is on the small disk, which fills up once the first cell is finished."""
    workspace = Workspace(tmp_path, few_cells())
    results = tmp_path / "results"
    results.symlink_to(small_disk)
    master = start(workspace, "--cores", "1", *QUIET)
    wait_for(lambda: trained(workspace), master)
    filler = fill(small_disk, 0)
    assert master.wait(timeout=900) != 0
    said = (tmp_path / "run.log").read_text()
    assert re.search("jobs? failed; here are the last lines of each log", said)
    logs = "".join(path.read_text() for path in results.glob("logs/**/*.log"))
    assert re.search(r"results: No space left on device \([\d.]+ (bytes|KiB) free\): make room first\.", said)
    # A job's log says so too, if there was room for that line.
    told = re.findall(r"  failed after .*?: (.*)", said)
    assert told
    assert all("can't be written (" in line for line in told if "No space left on device" in line), told
    assert "Traceback" not in logs, logs[logs.index("Traceback") :][:3000]
    faults = [fault for fault in verify(results).faults if ".tsv" not in fault.path.name]
    assert faults == []
    assert not list(results.rglob(f"{files.TEMPORARY}*"))
    for cell in results.glob("runs/*/*/*/*"):
        for name in ("model.safetensors", "logits.safetensors"):
            if (cell / name).exists():
                arrays_io.read_arrays(cell / name)
    filler.unlink()
    done = run(workspace, "--cores", "2", *QUIET)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_cells(finished, workspace)


def test_one_cell_that_diverges_is_named_the_other_finishes_and_partial_draws_it(tmp_path):
    """One of the models has a learning rate that no training survives. Before a cell has finished, none is drawn."""
    config = one_cell()
    config["models"]["bad"] = {"name": "mlp", "width": 16, "recipe": {"optimizer": "sgd", "lr": 1e25}}
    config["experiments"]["tiny"]["grid"][0]["models"] = ["mlp", "bad"]
    workspace = Workspace(tmp_path, config)
    early = run(workspace, "partial", *QUIET)
    assert early.returncode != 0
    assert "partial: no cell of tiny has finished yet" in early.stdout + early.stderr
    assert "Traceback" not in early.stdout + early.stderr
    assert not (tmp_path / "results/runs").exists()
    done = run(workspace, "--cores", "2", *QUIET)
    assert done.returncode != 0
    told = done.stderr[done.stderr.index("1 job failed; here are the last lines of each log:") :]
    assert "train noisy/bad/mixup2/seed0 (results/logs/train/noisy/bad/mixup2/seed0.log)\n    loss is " in told
    for part in ("in epoch 1 of 3, step ", "learning rate "):
        assert part in told
    assert len(list(tmp_path.glob("results/runs/*/*/*/*/calibrate.json"))) == 1
    assert not (tmp_path / "results/tables").exists()
    drawn = run(workspace, "partial", "--cores", "2", *QUIET)
    assert drawn.returncode == 0, drawn.stderr[-3000:]
    folder = tmp_path / "results/partial"
    missing = pd.read_csv(folder / "missing/tiny.csv")
    assert missing[["dataset", "model", "loss", "seed", "stage"]].values.tolist() == [
        ["noisy", "bad", "mixup2", 0, "train"]
    ]
    assert "loss is " in missing["why"][0]
    metrics = pd.read_parquet(folder / "tables/tiny/metrics.parquet")
    assert set(metrics.loc[metrics["loss"] != "reference", "model"]) == {"mlp"}
    for page in ("tables/tiny/scores.tex", "tables/tiny/overview.html", "explorer.json"):
        assert "partial: 1 of 2 cells" in (folder / page).read_text()
    assert files.read_json(folder / "figures/tiny/summary.json")["spec"]["note"] == "partial: 1 of 2 cells"
    shutil.rmtree(tmp_path / ".snakemake")
    config["experiments"]["tiny"]["figures"] = ["training"]
    workspace.write(config)
    shown = run(workspace, "-n", "partial").stdout
    assert shown.startswith("figure tiny/training: it has never run\noverview tiny: "), "all else is current"
    assert not list(tmp_path.glob("results/runs/noisy/bad/*/*/train.json"))


def test_partial_leaves_out_cells_of_another_spec_and_lost_files(finished, tmp_path):
    workspace = finished.copy(tmp_path / "copy")
    config = tiny_config()
    config["losses"]["mixup2"]["alpha"] = 0.5
    workspace.write(config)
    (workspace.folder / "results/runs/clean/cnn/cross_entropy/seed1/radii.parquet").unlink()
    harmed = workspace.folder / "results/runs/noisy/cnn/cross_entropy/seed0/metrics.csv"
    times = harmed.stat()
    edit(harmed)
    os.utime(harmed, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a failing disk would
    done = run(workspace, "results/partial/missing/tiny.csv", *QUIET)
    assert done.returncode == 0, done.stderr[-2000:]
    missing = pd.read_csv(workspace.folder / "results/partial/missing/tiny.csv")
    assert missing.groupby("why").size().to_dict() == {
        "loss.alpha was the default and is now 0.5": 8,
        "metrics.csv changed after the stage wrote it": 1,
        "radii.parquet is missing": 1,
    }


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


CELL = "results/runs/noisy/mlp/mixup2/seed0"
KEPT = [
    "results/sources/digits/images.npy",
    "results/sources/digits/meta.json",
    f"{CELL}/model.safetensors",
    f"{CELL}/history.csv",
    f"{CELL}/radii.parquet",
    f"{CELL}/calibration.json",
    "results/references/noisy/seed0/metrics.csv",
    "results/tables/tiny/metrics.parquet",
    "results/tables/tiny/claims.html",
    "results/figures/tiny/summary.png",
]
RECORDS = [f"{CELL}/train.json", "results/figures/tiny/summary.json"]


@pytest.mark.parametrize("harm", [truncate, edit, Path.unlink])
def test_verify_names_files_that_were_truncated_edited_or_lost(finished_one, tmp_path, harm):
    results = tmp_path / "results"
    shutil.copytree(finished_one.folder / "results", results)
    whole = {path: (tmp_path / path).read_bytes() for path in KEPT}
    for path in KEPT:
        harm(tmp_path / path)
    assert {str(fault.path.relative_to(tmp_path)) for fault in verify(results).faults} == set(KEPT)
    for path, content in whole.items():
        (tmp_path / path).write_bytes(content)
    assert verify(results).faults == ()


@pytest.mark.parametrize("harm", [truncate, edit])
def test_verify_names_damaged_records(finished_one, tmp_path, harm):
    results = tmp_path / "results"
    shutil.copytree(finished_one.folder / "results", results)
    for path in RECORDS:
        harm(tmp_path / path)
    assert {tmp_path / path for path in RECORDS} <= {fault.path for fault in verify(results).faults}


def test_verify_follows_links_and_knows_a_record_by_its_name(finished_one, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(finished_one.folder / "results", results)
    (results / "runs").rename(tmp_path / "elsewhere")
    (results / "runs").symlink_to(tmp_path / "elsewhere")
    (results / "runs/loop").symlink_to(results / "runs")
    (results / "runs/folder.json").mkdir()
    assert verify(results).faults == ()
    harms = {"logits.safetensors": "", "probe.json": "{}", "calibrate.json": "[1]"}
    for name, content in harms.items():
        (tmp_path / CELL / name).write_text(content)
    (results / "tables/tiny/aggregate.json").write_text('{"outputs": {}}')
    faults = verify(results).faults
    named = {fault.path for fault in faults}
    assert {tmp_path / CELL / name for name in harms} <= named
    assert results / "tables/tiny/aggregate.json" in named
    removed = remove(faults)
    assert set(removed) == {fault.record for fault in faults}
    assert tmp_path / CELL / "train.json" in removed
    assert verify(results).faults == ()


def test_a_lost_source_is_made_first_and_what_was_made_from_the_same_stays(finished_one, tmp_path):
    """Also next to other jobs, and without Snakemake's memory: only the cell of the new seed is trained."""
    workspace, config = finished_one.copy(tmp_path / "copy"), one_cell()
    config["experiments"]["tiny"]["grid"][0]["seeds"] = [0, 1]
    workspace.write(config)
    trained = workspace.folder / CELL / "train.json"
    before, source = trained.stat().st_mtime_ns, workspace.folder / "results/sources/digits"
    for folder in (source, workspace.folder / ".snakemake"):
        shutil.rmtree(folder)
    expected = workspace.halobench("status").stdout.splitlines()[-1]
    assert "1 source, 1 train, 1 reference, 1 probe, 1 calibrate, 1 manifest" in expected
    done = run(workspace)
    assert re.findall(r"\] (source|train) (\S+)", done.stderr) == [
        ("source", "digits"),
        ("train", "noisy/mlp/mixup2/seed1"),
    ]
    assert trained.stat().st_mtime_ns == before
    assert checksum(source / "meta.json") == checksum(finished_one.folder / "results/sources/digits/meta.json")
    assert workspace.halobench("status").stdout.strip() == NOTHING


def test_a_run_keeps_to_the_configuration_that_it_was_started_with(finished_one, tmp_path):
    """config.yaml is edited during the run, and changed back afterwards; the tables contain the run's own cell."""
    workspace = finished_one.copy(tmp_path / "copy")
    folder, before = workspace.folder, (workspace.folder / "config.yaml").read_text()
    target = "results/tables/tiny/metrics.csv"
    for path in (f"{CELL}/calibrate.json", "results/manifests/tiny.json", target):
        (folder / path).unlink()
    log = folder / f"results/logs/calibrate/{CELL.removeprefix('results/runs/')}.log"
    log.unlink()
    master = start(workspace, "--cores", "1", target, *QUIET)
    wait_for(log.exists, master)
    config = one_cell()
    config["experiments"]["tiny"]["grid"][0]["losses"] = ["cross_entropy"]
    config["train"]["lr"] = "fast"
    workspace.write(config)
    assert master.wait(timeout=900) == 0, (folder / "run.log").read_text()[-3000:]
    (folder / "config.yaml").write_text(before)
    done = run(workspace, "-n", target)
    assert "Nothing to be done" in done.stdout, done.stdout[-3000:]
    assert (folder / target).read_bytes() == (finished_one.folder / target).read_bytes()


UNPRIVILEGED = "-dac_override,-dac_read_search"  # without these, permissions apply to root too


def run_bound(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess:
    """Run `halobench run` as a user to whom permissions apply."""
    command = [sys.executable, "-m", "halobench.cli.main", "run", *arguments]
    if os.geteuid() == 0:
        needs(shutil.which("setpriv") is not None, "setpriv, or a user other than root")
        command = ["setpriv", f"--bounding-set={UNPRIVILEGED}", f"--inh-caps={UNPRIVILEGED}", *command]
    return subprocess.run(command, cwd=workspace.folder, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only for a while."""
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)


def test_a_folder_that_cant_be_written_is_named_before_the_run(finished_one, tmp_path):
    workspace = finished_one.copy(tmp_path / "copy")
    with read_only(workspace.folder / "results"):
        done = run_bound(workspace, "--cores", "1")
    assert done.returncode != 0
    line = "results: can't be written to (Permission denied); choose another folder or change its permissions"
    assert done.stderr.splitlines()[-1].removeprefix("halobench: error: ") == line


def test_a_run_says_how_many_trained_cells_it_replaces_and_how_to_keep_them(finished_one, tmp_path):
    workspace, config = finished_one.copy(tmp_path / "copy"), one_cell()
    config["train"]["lr"] = 0.01
    workspace.write(config)
    done = run(workspace, "--cores", "2", "--", f"{CELL}/train.json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "halobench: 1 trained cell will be replaced: train.lr was 0.003 and is now 0.01\n" in done.stderr
    assert "`halobench run --results FOLDER`" in done.stderr


@pytest.mark.rerun
def test_a_cell_elsewhere_under_another_profile_is_the_same(finished, tmp_path):
    """Another directory, one core, other resources and slots, and saving after every step don't affect its numbers."""
    workspace = Workspace(tmp_path, one_cell())
    folder = tmp_path / "profiles/other"
    folder.mkdir()
    profile = {
        "cores": 1,
        "keep-going": True,
        "retries": 2,
        "set-resources": {"train": {"checkpoint_seconds": 0, "mem_mb": 1234}, "probe": {"slots_per_gpu": 3}},
    }
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    done = run(workspace, "--workflow-profile", "profiles/other", *QUIET, "--", "results/tables/tiny/aggregate.json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same_cells(finished, workspace)
    log = (tmp_path / "results/logs/train/noisy/mlp/mixup2/seed0.log").read_text()
    assert log.count("saved at epoch") == 6  # 3 epochs of 2 steps


GPUS = ("GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-bbbbbbbb-1111-1111-1111-111111111111")


def test_jobs_that_run_at_once_take_different_gpus(tmp_path, monkeypatch):
    """There are two stand-in devices and two jobs at a time; each log shows its device."""
    stand_in_gpus.install(tmp_path / "tools", GPUS, monkeypatch)
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = tiny_config()
    config["experiments"]["tiny"]["grid"][0] |= {"datasets": ["noisy"], "models": ["mlp"]}
    config["train"]["epochs"] = 150
    (tmp_path / "work").mkdir()
    workspace = Workspace(tmp_path / "work", config)
    cells = [f"results/runs/noisy/mlp/{loss}/seed{seed}" for loss in config["losses"] for seed in (0, 1)]
    aims = [f"{cell}/train.json" for cell in cells]
    done = run(workspace, "--cores", "2", "--resources", "gpu=2", "--", *aims)
    assert done.returncode == 0, done.stderr[-2000:]
    logs = [path.read_text() for path in (tmp_path / "work/results/logs/train").rglob("*.log")]
    assert len(logs) == 4
    used = [next(line for line in log.splitlines() if line.startswith("using GPU ")) for log in logs]
    assert {line.split()[2][:8] for line in used} == {"GPU-aaaa", "GPU-bbbb"}
