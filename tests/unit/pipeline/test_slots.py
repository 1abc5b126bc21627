"""GPU slots: real processes on stand-in GPUs; every wait is for a line from a process, or for its end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import stand_in_gpus
from halobench.core.errors import SpecError
from halobench.pipeline import gpu_slots
from halobench.pipeline.gpu_slots import device_slot, list_gpus, visible_devices

pytestmark = pytest.mark.faults

A, B, C = (f"GPU-{start}-d72c-4106-c12f-20bd9faed9f6" for start in ("1aaaaaaa", "1abbbbbb", "2ccccccc"))
MIG = "MIG-5e000000-0e8b-5ba6-b8a1-0000000000aa"
GPUS = {"0": A, "1": B, "2": C}

# Prints "ready" once loaded, takes a slot on a line of input, prints which one, and holds it until the next line.
HOLDER = """
import os, subprocess, sys
from halobench.pipeline.gpu_slots import device_slot
print("ready", flush=True)
sys.stdin.readline()
with device_slot(int(sys.argv[1])) as device:
    if "children" in sys.argv:  # both outlive it
        subprocess.Popen(["cat"], close_fds=False)
        if os.fork() == 0:
            sys.stdin.readline()
            os._exit(0)
    print(device.uuid, os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"], flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that gives this test and its children a machine with these GPUs."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return lambda *gpus: stand_in_gpus.install(tmp_path / "stand-in", gpus, monkeypatch)


@pytest.fixture
def start():
    """A function that starts processes with a number of slots, and releases them together once all have loaded."""
    started: list[subprocess.Popen] = []

    def run(count: int, slots: int, *options: str, **environ: str) -> list[subprocess.Popen]:
        command = [sys.executable, "-c", HOLDER, str(slots), *options]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        new = [subprocess.Popen(command, env=os.environ | environ, **pipes) for _ in range(count)]
        started.extend(new)
        assert [line(holder) for holder in new] == ["ready"] * count
        for holder in new:
            holder.stdin.write("\n")
        return new

    yield run
    for holder in started:
        holder.kill()
        holder.communicate()


def line(holder: subprocess.Popen) -> str:
    return holder.stdout.readline().rstrip()


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, {A: A, B: B, C: C}),
        (" 2 , 0 ", {"2": C, "0": A}),
        (f"GPU-1ab,{MIG},{B},1", {"GPU-1ab": B, MIG: MIG}),
        ("", {}),
        ("NoDevFiles", {}),
        ("0,-1,1", {"0": A}),
    ],
)
def test_what_cuda_visible_devices_allows(visible, expected):
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert [(found.value, found.uuid) for found in visible_devices(environ, GPUS)] == list(expected.items())
    assert visible_devices(environ, {}) == []


@pytest.mark.parametrize("entry", ["3", "GPU-3", "GPU-1a", "nonsense", "0-1"])
def test_an_entry_that_names_no_gpu_is_an_error_that_lists_them(entry):
    with pytest.raises(SpecError) as caught:
        visible_devices({"CUDA_VISIBLE_DEVICES": f"0,{entry}"}, GPUS)
    expected = f"the index or UUID of one of this machine's GPUs: 0 ({A}), 1 ({B}), 2 ({C})"
    assert str(caught.value) == f"CUDA_VISIBLE_DEVICES = {entry!r}: expected {expected}"


def test_a_gpu_that_has_failed_is_passed_over_and_without_a_driver_there_is_none(machine, tmp_path, monkeypatch):
    machine(None, B)
    assert list_gpus() == {"1": B}
    monkeypatch.setattr("pynvml.GPUS", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "nonsense")
    with device_slot() as found:
        assert (found, os.environ["CUDA_VISIBLE_DEVICES"]) == (None, "nonsense")
    assert [path.name for path in tmp_path.iterdir()] == ["stand-in"]


@pytest.mark.parametrize("before", [{}, {"CUDA_VISIBLE_DEVICES": "1,0", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}])
def test_the_environment_is_set_and_restored_and_the_slot_given_back(machine, monkeypatch, before):
    machine(A, B)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        with device_slot() as found:
            assert os.environ["CUDA_VISIBLE_DEVICES"] == found.value == ("1" if before else A)
            assert os.environ["CUDA_DEVICE_ORDER"] == before.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        assert {name: os.environ[name] for name in os.environ if name.startswith("CUDA_")} == before


@pytest.mark.process
def test_processes_that_start_at_once_fill_the_emptiest_device_first_and_one_too_many_waits(machine, start):
    machine(A, B, C)
    first = start(3, 2)
    assert sorted(line(holder)[:40] for holder in first) == [A, B, C]
    second = start(3, 2)
    held = [line(holder)[:40] for holder in second]
    assert sorted(held) == [A, B, C]
    [seventh] = start(1, 2)
    assert line(seventh) == f"waiting for a GPU slot (2 per GPU: {A}, {B}, {C})"
    second[held.index(B)].communicate("\n")
    assert line(seventh)[:40] == B


@pytest.mark.process
def test_one_device_is_one_lock_however_it_is_named_but_each_slurm_job_has_its_own(machine, start):
    machine(A, B)
    [by_index] = start(1, 1, CUDA_VISIBLE_DEVICES="0")
    assert line(by_index) == f"{A} 0 PCI_BUS_ID"
    for visible in ("0", "GPU-1aa", A):
        [other] = start(1, 1, CUDA_VISIBLE_DEVICES=visible)
        assert line(other).startswith("waiting for a GPU")
        [granted] = start(1, 1, CUDA_VISIBLE_DEVICES=visible, SLURM_JOB_ID=visible)
        assert line(granted)[:40] == A
    [sees_all] = start(1, 1)
    assert line(sees_all)[:40] == B


@pytest.mark.process
def test_a_killed_process_frees_its_slot_though_its_children_live(machine, start):
    machine(A)
    [holder] = start(1, 1, "children")
    assert line(holder)[:40] == A
    [waiting] = start(1, 1)
    assert line(waiting).startswith("waiting")
    holder.kill()
    assert line(waiting)[:40] == A


def test_a_bad_number_and_a_bad_folder_are_refused(machine, monkeypatch):
    machine(A)
    with pytest.raises(SpecError, match="slots = 0: expected at least 1"), device_slot(0):
        pass
    another = os.geteuid() + 1
    monkeypatch.setattr("os.geteuid", lambda: another)
    gpu_slots._lock_folder().mkdir(parents=True)
    with pytest.raises(SpecError, match=r"TMPDIR: GPU locks can't be kept in .*, which another user"), device_slot():
        pass
    monkeypatch.setattr("tempfile.tempdir", "/dev/null")
    with pytest.raises(SpecError, match=r"TMPDIR: GPU locks can't be kept in"), device_slot():
        pass
