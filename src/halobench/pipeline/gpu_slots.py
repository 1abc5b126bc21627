"""Spread concurrent processes on one machine over its GPUs, by slots.

Snakemake's ``gpu`` resource limits how many jobs use GPUs at once; this module finds a GPU for each of these jobs. Each
device has a fixed number of slots. A slot is a file that is locked by the process using it, and the system releases the
lock when the process ends, even if it is killed.

CUDA_VISIBLE_DEVICES is honoured: a process takes one of its entries (UUIDs, or indices as shown by nvidia-smi) and
removes the others. If CUDA_VISIBLE_DEVICES isn't set, any GPU may be taken. Without an NVIDIA driver, no variable is
set and no slot is locked. Processes see each other's locks only if they share a user, host, TMPDIR and SLURM job, since
SLURM may deliberately assign a GPU to several jobs.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from halobench.core.errors import RefusedError, describe_error, refuse, require

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
NONE = ("", "-1", "NoDevFiles")  # entries at which CUDA_VISIBLE_DEVICES ends; NoDevFiles is SLURM's
POLL = 0.5  # seconds between checks while all devices are in use


@dataclass(frozen=True)
class Device:
    """A GPU or MIG instance: the `value` for CUDA_VISIBLE_DEVICES, and the UUID that identifies its lock."""

    value: str
    uuid: str


def list_gpus() -> dict[str, str]:
    """Return the UUIDs of this machine's GPUs by index; the result is empty without an NVIDIA driver."""
    import pynvml

    gpus = {}
    with contextlib.suppress(pynvml.NVMLError):  # no driver, or one that doesn't respond
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # a GPU that has failed
                gpus[str(index)] = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index))
        pynvml.nvmlShutdown()
    return gpus


def visible_devices(environ: Mapping[str, str], gpus: Mapping[str, str]) -> list[Device]:
    """Return the devices that a process may take, once each: the entries of CUDA_VISIBLE_DEVICES, or all of `gpus`.

    SpecError is raised for an index or a GPU's UUID that doesn't identify one GPU, since CUDA would ignore the entries
    from there on.
    """
    if not gpus or VISIBLE not in environ:
        return [Device(uuid, uuid) for uuid in gpus.values()]
    devices: dict[str, Device] = {}
    for entry in map(str.strip, environ[VISIBLE].split(",")):
        if entry in NONE:
            break
        uuid = entry if entry.startswith("MIG-") else gpus.get(entry) or _find(entry, gpus)
        devices.setdefault(uuid, Device(entry, uuid))
    return list(devices.values())


def _find(entry: str, gpus: Mapping[str, str]) -> str:
    """Return the UUID for an entry of CUDA_VISIBLE_DEVICES, which may be a prefix of the UUID."""
    matches = [uuid for uuid in gpus.values() if entry.startswith("GPU-") and uuid.startswith(entry)]
    listed = ", ".join(f"{index} ({uuid})" for index, uuid in gpus.items())
    require(len(matches) == 1, VISIBLE, entry, f"the index or UUID of one of this machine's GPUs: {listed}")
    return matches[0]


_kept: list[tuple[Device, FileLock]] = []  # the slot of a process that has used CUDA


@contextlib.contextmanager
def device_slot(slots: int = 1) -> Iterator[Device | None]:
    """Hold one of a device's `slots`, waiting for a free slot if necessary, and let CUDA see only that device.

    Enter this context before torch first uses CUDA, which reads the environment only once. A process that has used CUDA
    occupies memory on the device until it ends, so the process keeps its slot for later contexts. The context yields
    None if there is no device or no device is allowed.
    """
    require(slots >= 1, "slots", slots, "at least 1")
    devices = visible_devices(os.environ, list_gpus())
    if not devices:
        yield None
        return
    device, lock = _kept.pop() if _kept else _wait(devices, slots)
    try:
        # Make CUDA's indices match nvidia-smi's; by default, CUDA puts the fastest GPU first.
        with _environment({ORDER: os.environ.get(ORDER, "PCI_BUS_ID"), VISIBLE: device.value}):
            yield device
    finally:
        torch = sys.modules.get("torch")
        if torch and torch.cuda.is_initialized():
            _kept.append((device, lock))
        else:
            lock.release()


def without_gpus() -> contextlib.AbstractContextManager[None]:
    """Return a context without GPUs, since some of torch's optimisers start CUDA even if everything is on the CPU."""
    return _environment({VISIBLE: ""})


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables in a context."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _lock_folder() -> Path:
    """Return the folder for the locks of processes with the same user, host and SLURM job."""
    whose = [str(os.geteuid()), platform.node(), os.environ.get("SLURM_JOB_ID", "")]
    return Path(tempfile.gettempdir()) / "-".join(["halobench-slots", *filter(None, whose)])


def free_slots(device: Device) -> str:
    """Return, in words, how many slots of a device this user's jobs hold."""
    held = 0
    for path in _lock_folder().glob(f"{device.uuid.replace('/', '_')}.*.lock"):
        with contextlib.suppress(Timeout, OSError), FileLock(path, blocking=False, fallback_to_soft=False):
            continue
        held += 1
    return "no job of this user holds a slot" if not held else f"{held} of its slots held by jobs"


def _wait(devices: Sequence[Device], slots: int) -> tuple[Device, FileLock]:
    """Take a slot as soon as any is free, and return it; print a line if no slot is free at first."""
    folder = _lock_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        whose = f"GPU locks can't be kept in {folder}, which another user has made; set TMPDIR to another folder"
        refuse(folder.stat().st_uid != os.geteuid(), "TMPDIR", whose)
        if taken := _take(devices, slots, folder):
            return taken
        names = ", ".join(device.value for device in devices)
        print(f"waiting for a GPU slot ({slots} per GPU: {names})", flush=True)
        while not (taken := _take(devices, slots, folder)):
            time.sleep(POLL)
        return taken
    except OSError as error:
        raise RefusedError(
            "TMPDIR", f"GPU locks can't be kept in {folder} ({describe_error(error)}); set TMPDIR to another folder"
        ) from None


def _take(devices: Sequence[Device], slots: int, folder: Path) -> tuple[Device, FileLock] | None:
    """Take and return a slot on the device with the most free slots (the first in a tie); None if no slot is free."""
    with FileLock(folder / "choose.lock", fallback_to_soft=False):  # otherwise, two processes could block each other
        free = []
        for device in devices:
            for number in range(slots):
                lock = FileLock(folder / f"{device.uuid.replace('/', '_')}.{number}.lock", fallback_to_soft=False)
                with contextlib.suppress(Timeout):
                    lock.acquire(blocking=False)
                    free.append((device, lock))
        counts = [device for device, _ in free]
        best = max(free, key=lambda each: counts.count(each[0]), default=None)
        for other in free:
            if other is not best:
                other[1].release()
        return best
