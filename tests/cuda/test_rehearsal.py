"""Rehearse CUDA without a GPU: pretend devices obey its rules, and what runs on them would run on real ones.

README.md in this folder says what pretend devices can and can't show.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, Workspace, needs, of_run, one_cell, tiny_config

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def pretend(tmp_path_factory) -> dict[str, str]:
    """The environment of processes with two pretend devices; the first use compiles them, with a lock."""
    import torch
    from filelock import FileLock

    needs(shutil.which("g++") is not None, "g++, which compiles the pretend CUDA devices (apt install g++)")
    if torch.version.cuda is not None:
        pytest.skip("this PyTorch has CUDA; run tests/cuda/on_cuda.py by its name")
    shared = of_run(tmp_path_factory) / "pretend_cuda"
    paths = [str(HERE / "activate"), str(ROOT / "src"), str(ROOT / "tests")]
    found = {
        "PRETEND_CUDA": "1",
        "PRETEND_CUDA_DEVICES": "2",
        "PRETEND_CUDA_MIB": "1024",
        "PRETEND_CUDA_BUILD": str(shared),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    with FileLock(f"{shared}.lock"):
        program("import torch; assert torch.cuda.device_count() == 2", found)
    return found


def program(code: str, environment: dict[str, str]) -> str:
    """What a Python program prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_pretend_devices_obey_the_rules_of_real_ones(pretend):
    program((HERE / "check_pretend.py").read_text(), pretend)


@pytest.mark.parametrize("part", ["train", "not train"])
def test_all_stages_and_functions_run_on_them(pretend, tmp_path, part):
    log = tmp_path / "log"
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'own'}"]
    command += [f"--rootdir={ROOT}", str(HERE / "on_cuda.py"), "-k", part]
    environment = os.environ | pretend | {"PRETEND_CUDA_LOG": str(log)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout
    assert len(operators(log)) > 50


def read(log: Path) -> list[dict[str, Any]]:
    """The lines of a log of pretend devices."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def operators(log: Path) -> set[str]:
    """The operators that ran on pretend devices."""
    return {name for line in read(log) for name in line.get("operators", ())}


def most_at_once(log: Path) -> dict[int, int]:
    """The largest number of processes that used each device of the machine at the same time."""
    changes: dict[int, list[tuple[float, int]]] = {}
    for line in read(log):
        for device in line["devices"]:
            changes.setdefault(device, []).append((line["time"], 1 if line["what"] == "started" else -1))
    found = {}
    for device, each in changes.items():
        now = 0
        found[device] = max(now := now + change for _, change in sorted(each))
    return found


def run(folder: Path, pretend: dict[str, str], *words: str, slots: int = 1, **variables: str) -> Path:
    """Train and probe a tiny grid with two jobs at once; return the log of its devices."""
    config = tiny_config()
    config["experiments"]["tiny"]["grid"][0] |= {"models": ["mlp"]}
    config["train"]["device"] = "auto"
    workspace, log = Workspace(folder, config), folder / "log"
    own = pretend | {"PRETEND_CUDA_LOG": str(log), "TMPDIR": str(folder / "tmp")} | variables
    (folder / "tmp").mkdir()
    per_gpu = [f"{stage}:slots_per_gpu={slots}" for stage in ("train", "probe")]
    gpus = ["--resources", f"gpu={2 * slots}", "--set-resources", *per_gpu]
    done = workspace.halobench("run", "probes", "calibrations", "--cores", "2", *gpus, *words, environment=own)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    records = list((folder / "results/runs").rglob("train.json"))
    assert len(records) == 8
    assert all(json.loads(path.read_text())["device"].startswith("cuda") for path in records)
    return log


def test_two_jobs_never_share_a_device_with_one_slot(pretend, tmp_path):
    counted = most_at_once(run(tmp_path, pretend))
    assert sorted(counted.values()) == [1, 1], counted


def test_jobs_use_only_the_devices_that_the_run_may_use(pretend, tmp_path):
    counted = most_at_once(run(tmp_path, pretend, CUDA_VISIBLE_DEVICES="1"))
    assert counted == {1: 1}


def test_slots_that_dont_see_each_other_would_be_noticed(pretend, tmp_path):
    """A mutant: with a folder for locks of its own, each process takes the first device."""
    code = """
import time, torch
from halobench.pipeline.gpu_slots import device_slot
with device_slot(1):
    torch.zeros(1, device="cuda")
    time.sleep(6)
"""
    own = pretend | {"PRETEND_CUDA_LOG": str(tmp_path / "log")}
    both = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        variables = os.environ | own | {"TMPDIR": str(tmp_path / name)}
        both.append(subprocess.Popen([sys.executable, "-c", code], env=variables))
    assert [process.wait() for process in both] == [0, 0]
    assert list(most_at_once(tmp_path / "log").values()) == [2]


def test_a_cpu_job_leaves_all_devices_alone(pretend, tmp_path):
    """Adam starts CUDA on the first visible device, even if all is on the CPU."""
    config = one_cell()
    config["train"]["device"] = "cpu"
    workspace, log = Workspace(tmp_path, config), tmp_path / "log"
    done = workspace.halobench("run", "probes", "--cores", "1", environment=pretend | {"PRETEND_CUDA_LOG": str(log)})
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert not log.exists() or not any(line["devices"] for line in read(log)), log.read_text()


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({}, 0, "GPU 1: Pretend GPU 1, bf16, 1 GiB of 1 GiB free, no job of this user holds a slot"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, 0, "GPUs: 1 of 2 may be used (CUDA_VISIBLE_DEVICES=1)"),
        ({"CUDA_VISIBLE_DEVICES": "7"}, 1, "problem: CUDA_VISIBLE_DEVICES = '7': expected the index or UUID"),
        ({"PRETEND_CUDA_MODE": "3"}, 0, "exclusive mode (keep slots_per_gpu at 1)"),
        ({"PRETEND_CUDA_MODE": "2"}, 1, "problem: GPU 0: its compute mode is prohibited"),
        ({"PRETEND_CUDA_MIG": "1"}, 1, "problem: GPU 0: MIG is on, so only its instances can be used"),
        ({"PRETEND_CUDA_FREE": "0.05"}, 1, "problem: GPU 1: less than a tenth of its memory is free"),
        ({"PRETEND_CUDA": "0"}, 1, "problem: torch can't use these GPUs (it was installed without CUDA)"),
    ],
)
def test_the_doctor_says_what_a_run_would_use_and_what_is_wrong(pretend, tmp_path, variables, code, said):
    environment = os.environ | pretend | {"TMPDIR": str(tmp_path)} | variables
    if variables.get("PRETEND_CUDA") == "0":  # NVIDIA's driver, and a torch that can't use it
        program_ = f"import sys; sys.path.insert(0, {str(HERE)!r}); sys.path.insert(0, {str(HERE / 'activate')!r})"
        program_ += "; import pretend_nvml; sys.modules['pynvml'] = pretend_nvml"
    else:
        program_ = "import sys"
    program_ += "; from halobench.cli.main import main; sys.exit(main(['doctor']))"
    done = subprocess.run(
        [sys.executable, "-c", program_], env=environment, capture_output=True, text=True, check=False
    )
    assert said in done.stdout
    assert done.returncode == code, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) <= 12
    assert ("no problems found" in done.stdout) == (code == 0)
