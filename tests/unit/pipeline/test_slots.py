"""Slots: real processes and a stand-in nvidia-smi; every wait is for a line that a process writes or for its end."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from halobench.core.errors import SpecError
from halobench.pipeline import gpu_slots
from halobench.pipeline.gpu_slots import Device, SlotError, device_slot, list_devices, visible_devices

pytestmark = pytest.mark.faults

LIMIT = 60  # seconds after which a line that does not come is a failure; no result depends on it otherwise
A, B, C = (f"GPU-{start}-d72c-4106-c12f-20bd9faed9f6" for start in ("1aaaaaaa", "1abbbbbb", "2ccccccc"))
M0, M1 = "MIG-5e000000-0e8b-5ba6-b8a1-0000000000aa", "MIG-5f000000-0e8b-5ba6-b8a1-0000000000bb"
TWO = f"GPU 0: NVIDIA H100 80GB HBM3 (UUID: {A})\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: {B})\n"
THREE = f"{TWO}GPU 2: NVIDIA T400 (UUID: {C})\n"
SPLIT = (
    f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\n"
    f"  MIG 3g.20gb     Device  0: (UUID: {M0})\n"
    f"  MIG 1c.3g.20gb  Device  1: (UUID: {M1})\n"
    f"GPU 1: NVIDIA A100-SXM4-40GB (UUID: {B})\n"
)
OLD = f"GPU 0: A100 (UUID: {A})\n" + "".join(f"  MIG x Device {i}: (UUID: MIG-{A}/1/{i})\n" for i in (1, 10))

# Reads its options, says "ready" when it has loaded, starts at a line of input and holds its slot until the next.
HOLDER = """
import json, os, subprocess, sys
from halobench.pipeline.gpu_slots import device_slot
options = json.loads(sys.argv[1])
children = options.pop("children", False)
print("ready", flush=True)
sys.stdin.readline()
with device_slot(**options) as device:
    if children:
        reads, writes = os.pipe()
        if os.fork() == 0:  # tells that it runs, and lives until the test closes the pipe
            os.write(writes, b"x")
            sys.stdin.readline()
            os._exit(0)
        os.read(reads, 1)
        subprocess.Popen(["cat"], close_fds=False)
    seen = {key: os.environ.get(key) for key in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")}
    print(json.dumps([device and device.identity, seen]), flush=True)
    sys.stdin.readline()
print("done", flush=True)
"""


def stand_in(folder: Path, listing: str, code: int = 0) -> Path:
    """A folder with an nvidia-smi that prints `listing` for -L and exits with `code`."""
    folder.mkdir(exist_ok=True)
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n[ \"$*\" = -L ] || exit 64\ncat <<'END'\n{listing}END\nexit {code}\n")
    script.chmod(0o755)
    return folder


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that gives this test, and its children, a machine with the devices of a listing."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(gpu_slots.tempfile, "tempdir", None)

    def build(listing: str, code: int = 0) -> None:
        folder = stand_in(tmp_path / "bin", listing, code)
        if not os.environ["PATH"].startswith(f"{folder}{os.pathsep}"):
            monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return build


class Holder:
    """A process that takes a slot."""

    def __init__(self, environ: dict[str, str] | None = None, **options):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=os.environ | (environ or {}),
        )

    def go(self) -> None:
        self.process.stdin.write(b"\n")

    def line(self) -> str:
        """The next line; a failure if none comes."""
        assert select.select([self.process.stdout], [], [], LIMIT)[0], "no line came"
        text = self.process.stdout.readline().decode()
        assert text, self.process.stderr.read().decode()
        return text.strip()

    def device(self) -> str:
        return json.loads(self.line())[0]

    def end(self) -> None:
        """Let it leave its slot, and wait until it has ended."""
        self.go()
        assert self.line() == "done"
        assert self.process.wait(LIMIT) == 0


@pytest.fixture
def start():
    """A function that starts several processes, waits until all have loaded and lets them go at once."""
    started = []

    def run(count: int = 1, environ: dict[str, str] | None = None, **options) -> list[Holder]:
        new = [Holder(environ, **options) for _ in range(count)]
        started.extend(new)
        assert [holder.line() for holder in new] == ["ready"] * count
        for holder in new:
            holder.go()
        return new

    yield run
    for holder in started:
        holder.process.kill()
        holder.process.stdin.close()
        holder.process.wait(LIMIT)
        holder.process.stdout.close()
        holder.process.stderr.close()


def named(visible: str | None, listing: str = THREE, **more: str) -> list[tuple[str, str]]:
    """The devices of a listing that a value of CUDA_VISIBLE_DEVICES allows, as pairs of value and identity."""
    environ = more | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    return [(device.value, device.identity) for device in visible_devices(environ, listing)]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [(A, A), (B, B), (C, C)]),
        ("1", [("1", B)]),
        ("2,0", [("2", C), ("0", A)]),
        (" 2 , 0 ", [("2", C), ("0", A)]),
        (B, [(B, B)]),
        ("GPU-2", [("GPU-2", C)]),
        ("GPU-1ab,0", [("GPU-1ab", B), ("0", A)]),
        (f"1,GPU-1ab,{B},1", [("1", B)]),
        ("", []),
        ("  ", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", [("0", A)]),
        ("0,", [("0", A)]),
        ("0,,1", [("0", A)]),
        ("-1,nonsense", []),
    ],
)
def test_what_cuda_visible_devices_allows(visible, expected):
    assert named(visible) == expected


@pytest.mark.parametrize("entry", ["3", "GPU-3", "GPU", "1aaaaaaa", "nonsense", "+1", "0-1", "MIG-1", "gpu-2"])
def test_an_entry_that_names_nothing_is_an_error_that_says_what_is_there(entry):
    with pytest.raises(SpecError) as caught:
        named(f"0,{entry},1")
    assert str(caught.value) == (
        f"CUDA_VISIBLE_DEVICES = {entry!r}: expected an index or UUID of what nvidia-smi lists: "
        f"0 ({A}), 1 ({B}), 2 ({C})"
    )


def test_the_beginning_of_two_uuids_is_an_error_that_names_both():
    with pytest.raises(SpecError, match=rf"'GPU-1a': expected the beginning of one UUID, and it begins {A}, {B}$"):
        named("GPU-1a")


def test_an_index_needs_an_order_that_is_known():
    assert named("1", CUDA_DEVICE_ORDER="PCI_BUS_ID") == [("1", B)]
    assert named("0", f"GPU 0: x (UUID: {A})\n", CUDA_DEVICE_ORDER="FASTEST_FIRST") == [("0", A)]
    assert named(B, CUDA_DEVICE_ORDER="FASTEST_FIRST") == [(B, B)]
    with pytest.raises(SpecError, match="CUDA_DEVICE_ORDER = 'FASTEST_FIRST': expected PCI_BUS_ID, or UUIDs"):
        named("1", CUDA_DEVICE_ORDER="FASTEST_FIRST")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [(M0, M0), (M1, M1), (B, B)]),
        ("0", [(M0, M0), (M1, M1)]),
        (A, [(M0, M0), (M1, M1)]),
        ("GPU-1aa", [(M0, M0), (M1, M1)]),
        ("MIG-5f", [("MIG-5f", M1)]),
        (f"{M1},0", [(M1, M1), (M0, M0)]),
        ("1", [(B, B)]),  # CUDA's index 1 can be another: it counts split GPUs differently
        ("GPU-1ab", [("GPU-1ab", B)]),
    ],
)
def test_the_instances_of_a_split_gpu_are_the_devices(visible, expected):
    assert named(visible, SPLIT) == expected


def test_an_error_tells_the_instances_too():
    with pytest.raises(SpecError, match=rf"0 \({A}, split into {M0}, {M1}\), 1 \({B}\)$"):
        named("5", SPLIT)
    with pytest.raises(SpecError, match="the beginning of one UUID"):
        named("MIG-5", SPLIT)


def test_an_older_uuid_of_an_instance_may_begin_another():
    assert named(None, OLD) == [(f"MIG-{A}/1/1",) * 2, (f"MIG-{A}/1/10",) * 2]
    assert named(f"MIG-{A}/1/1", OLD) == [(f"MIG-{A}/1/1",) * 2]


def test_lines_of_devices_that_cannot_be_used_are_passed_over():
    broken = f"Unable to determine the device handle for GPU 0000:01:00.0: Unknown Error\n{TWO.splitlines()[1]}\n"
    assert named(None, broken) == [(B, B)]
    assert named("1", broken) == [("1", B)]
    assert named(None, "No devices found.\n") == []


@pytest.mark.parametrize("visible", [None, "0", "", "nonsense"])
def test_no_nvidia_smi_means_no_device_and_nothing_is_done(tmp_path, monkeypatch, visible):
    monkeypatch.setenv("PATH", str(tmp_path))
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    before = dict(environ)
    with device_slot(environ=environ, folder=tmp_path / "locks") as device:
        assert device is None
        assert environ == before
    assert environ == before
    assert not (tmp_path / "locks").exists()


@pytest.mark.parametrize("how", ["fails", "is no program", "may not run", "hangs"])
def test_a_broken_nvidia_smi_means_no_device(tmp_path, machine, monkeypatch, how):
    machine(TWO, code=9 if how == "fails" else 0)
    script = tmp_path / "bin" / "nvidia-smi"
    if how == "is no program":
        script.write_bytes(b"\x7fELF\xff\xfe")
    elif how == "may not run":
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        script.chmod(0o644)
    elif how == "hangs":
        script.write_text("#!/bin/sh\nexec sleep 600\n")
        monkeypatch.setattr(gpu_slots, "PATIENCE", 0.2)
    assert list_devices() == ""
    with device_slot(environ={}) as device:
        assert device is None


def test_the_listing_is_what_nvidia_smi_prints(machine):
    machine(SPLIT)
    assert list_devices() == SPLIT


@pytest.mark.parametrize("number", [0, -1, 1.5, "2"])
def test_a_device_takes_at_least_one_process(machine, number):
    machine(TWO)
    with (
        pytest.raises(SpecError, match=r"per_device = .* expected a whole number of processes, at least 1"),
        device_slot(number),
    ):
        pass


@pytest.mark.parametrize(
    ("before", "during"),
    [
        ({}, {"CUDA_VISIBLE_DEVICES": A}),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1ab"}, {"CUDA_VISIBLE_DEVICES": "GPU-1ab"}),
        (
            {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        ),
    ],
)
def test_the_environment_is_set_and_restored(machine, before, during):
    machine(TWO)
    environ = {"OTHER": "x", **before}
    with device_slot(environ=environ, wait=0) as device:
        assert environ == {"OTHER": "x", **during}
        assert device.value == during["CUDA_VISIBLE_DEVICES"]
    assert environ == {"OTHER": "x", **before}

    def fail():
        with device_slot(environ=environ, wait=0):
            environ["CUDA_VISIBLE_DEVICES"] = "edited"
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        fail()
    assert environ == {"OTHER": "x", **before}
    with device_slot(environ=environ, wait=0):  # the slot, too, came back
        pass


def test_children_of_the_process_see_its_one_device(machine):
    machine(TWO)
    show = [sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"]
    with device_slot():
        assert subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip() == A
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_torch_is_not_loaded(machine):
    machine(TWO)
    code = "import sys\nfrom halobench.pipeline.gpu_slots import device_slot\n"
    code += "with device_slot(): assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_processes_that_start_together_take_different_devices(machine, start):
    uuids = [f"GPU-{number:08x}-0000-0000-0000-000000000000" for number in range(6)]
    machine("".join(f"GPU {index}: H100 (UUID: {uuid})\n" for index, uuid in enumerate(uuids)))
    for _ in range(3):
        holders = start(6, wait=0, per_device=2)
        assert sorted(holder.device() for holder in holders) == uuids
        for holder in holders:
            holder.end()


def test_the_emptiest_device_is_filled_first_and_one_too_many_waits(machine, start):
    machine(TWO)
    holders = start(4, per_device=2, wait=LIMIT)
    lie = [holder.device() for holder in holders]
    assert sorted(lie) == [A, A, B, B]
    [fifth] = start(per_device=2)
    assert fifth.line() == f"waiting for a device, with 2 at a time on each: {A} (held by 2), {B} (held by 2)"
    holders[lie.index(B)].end()
    assert fifth.device() == B  # the line about waiting came once
    with pytest.raises(SlotError, match=r"^no device became free in 0 s, .* \(held by 2\)"), device_slot(2, wait=0):
        pass


def test_waiting_ends_after_its_time_and_is_told_once(machine, monkeypatch):
    machine(TWO)
    now, told = [100.0], []
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(gpu_slots, "time", clock)
    environ = {"CUDA_VISIBLE_DEVICES": "1"}

    def wait():
        with device_slot(environ=environ, wait=1.75, log=told.append):
            pass

    with device_slot(environ=dict(environ)):
        with pytest.raises(SlotError) as caught:
            wait()
        assert str(caught.value) == "no device became free in 1.75 s, with 1 at a time on each: 1 (held by 1)"
        assert told == ["waiting for a device, with 1 at a time on each: 1 (held by 1)"]
        assert environ == {"CUDA_VISIBLE_DEVICES": "1"}
        assert now == [101.75]
    wait()
    assert len(told) == 1


def test_holders_count_whatever_number_of_slots_they_were_given(machine):
    machine(f"GPU 0: x (UUID: {A})\n")
    first, second = device_slot(2, environ={}, wait=0), device_slot(2, environ={}, wait=0)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(SlotError, match="held by 1"), device_slot(1, environ={}, wait=0):  # on slot 0 nobody is
        pass
    with device_slot(2, environ={}, wait=0), pytest.raises(SlotError), device_slot(2, environ={}, wait=0):
        pass
    second.__exit__(None, None, None)
    with device_slot(1, environ={}, wait=0):
        pass


def test_only_one_process_chooses_at_a_time(machine, monkeypatch, tmp_path):
    machine(TWO)
    seen = []

    def watch(folder, device, inner=gpu_slots._taken):
        with open(folder / "choose.lock") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        seen.append(device.identity)
        return inner(folder, device)

    monkeypatch.setattr(gpu_slots, "_taken", watch)
    with device_slot(folder=tmp_path / "locks") as device, open(tmp_path / "locks" / "choose.lock") as file:
        assert device == Device(A, A)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # and it is free again
    assert seen == [A, B]


def test_a_killed_process_frees_its_slot_though_its_children_live(machine, start):
    machine(f"GPU 0: x (UUID: {A})\n")
    [holder] = start(children=True)
    assert holder.device() == A
    with pytest.raises(SlotError), device_slot(wait=0):
        pass
    holder.process.send_signal(signal.SIGKILL)
    holder.process.wait(LIMIT)
    assert not select.select([holder.process.stdout], [], [], 0)[0]  # no end of file: its children still hold the pipe
    with device_slot(wait=0) as device:
        assert device.identity == A


def test_a_forked_child_that_leaves_does_not_free_its_parents_slot(machine):
    machine(f"GPU 0: x (UUID: {A})\n")
    code = """if True:
        import os
        from halobench.pipeline.gpu_slots import SlotError, device_slot
        with device_slot(environ={}):
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                try:
                    with device_slot(environ={}, wait=0):
                        raise SystemExit("the slot was free")
                except SlotError:
                    pass
        with device_slot(environ={}, wait=0) if child else open(os.devnull):
            pass
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_child_forked_while_a_slot_is_given_back_closes_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_slots._Lock, "held", set())
    given_back, other = (gpu_slots._lock(tmp_path / name) for name in ("a", "b"))
    handle, kept = given_back.handle, other.handle
    given_back.handle = None  # as in the midst of `release`
    gpu_slots._Lock.forget()
    os.close(handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept)
    assert not gpu_slots._Lock.held


def test_an_index_and_a_uuid_of_one_device_are_one_lock(machine, start):
    machine(TWO)
    [by_index] = start(environ={"CUDA_VISIBLE_DEVICES": "1"})
    assert json.loads(by_index.line()) == [B, {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}]
    for visible in ("1", "GPU-1ab", B):
        with pytest.raises(SlotError), device_slot(environ={"CUDA_VISIBLE_DEVICES": visible}, wait=0):
            pass
    [sees_all] = start(wait=0)
    assert sees_all.device() == A
    with pytest.raises(SlotError), device_slot(wait=0):
        pass
    by_index.end()
    with device_slot(wait=0) as device:
        assert device.identity == B


def test_instances_of_a_split_gpu_are_taken_by_different_processes(machine, start):
    machine(SPLIT)
    assert sorted(holder.device() for holder in start(3, wait=0)) == sorted([M0, M1, B])
    with pytest.raises(SlotError, match=f"each: {M0}"), device_slot(environ={"CUDA_VISIBLE_DEVICES": "0"}, wait=0):
        pass


def test_slurm_jobs_have_their_own_locks(machine, start, tmp_path):
    machine(f"GPU 0: x (UUID: {A})\n")
    folder = str(tmp_path / "locks")
    for job in ("7", "8", "../9"):
        [holder] = start(environ={"SLURM_JOB_ID": job}, folder=folder, wait=0)
        assert holder.device() == A
        with pytest.raises(SlotError), device_slot(environ={"SLURM_JOB_ID": job}, folder=Path(folder), wait=0):
            pass
    assert sorted(path.name for path in Path(folder).iterdir()) == ["job-7", "job-8", "job-___9"]
    with device_slot(environ={}, folder=Path(folder), wait=0):
        pass


def test_the_folder_is_the_users_own(machine, tmp_path, monkeypatch):
    machine(TWO)
    with device_slot():
        pass
    [folder] = (tmp_path / "tmp").iterdir()
    assert str(os.getuid()) in folder.name.split("-")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())

    folder.chmod(0o770)
    with pytest.raises(SlotError, match="that no other user can write to"), device_slot():
        pass
    folder.chmod(0o700)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SlotError, match="no link"), device_slot():
        pass
    folder.unlink()
    folder.write_text("a file")
    with pytest.raises(SlotError, match="expected a folder"), device_slot():
        pass
    folder.unlink()

    # Another user made the folder first: its name holds an id that is not its owner's.
    monkeypatch.setattr(gpu_slots.os, "geteuid", lambda: os.getuid() + 1)
    folder.with_name(folder.name.replace(f"-{os.getuid()}-", f"-{os.getuid() + 1}-", 1)).mkdir(mode=0o700)
    with pytest.raises(SlotError, match=f"of user {os.getuid() + 1} "), device_slot():
        pass


def test_a_lock_file_is_never_reached_through_a_link(machine, tmp_path):
    machine(TWO)
    folder, victim = tmp_path / "locks", tmp_path / "victim"
    folder.mkdir(mode=0o700)
    (folder / "choose.lock").symlink_to(victim)
    with pytest.raises(OSError, match=r"choose\.lock"), device_slot(folder=folder):
        pass
    assert not victim.exists()


def test_a_file_system_without_locks_is_told_in_one_line(machine, monkeypatch, tmp_path):
    machine(TWO)

    def refuse(handle, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(gpu_slots.fcntl, "flock", refuse)
    with pytest.raises(SlotError, match=r"choose\.lock cannot be locked \(No locks available\)"), device_slot():
        pass
