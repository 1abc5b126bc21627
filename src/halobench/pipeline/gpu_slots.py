"""Slots on GPUs: processes that start together on one machine take different devices.

A process that is to use a GPU enters `device_slot` before torch first asks for CUDA. It takes the least occupied device
that it may see, makes that one device visible to itself and holds a lock on one of the device's slots until it ends.

What CUDA_VISIBLE_DEVICES allows is honoured:

- Unset, every device of ``nvidia-smi -L`` may be taken. For a GPU split into MIG instances that is each instance.
- Otherwise only its entries may be: indices, UUIDs or unambiguous beginnings of UUIDs. Each is handed on as it was
  written, with two exceptions: for an entry that names a split GPU, the UUID of the instance that was taken; and for an
  index on a machine with split GPUs, the UUID, since CUDA may count such GPUs otherwise than nvidia-smi does.
- An index is the one that nvidia-smi shows, so CUDA_DEVICE_ORDER is set to PCI_BUS_ID with it: CUDA's own default order
  (fastest first) can put another device under the number on a machine with unlike GPUs, and the lock would lie on a
  device that is not used. Who asked for FASTEST_FIRST by name on a machine with several GPUs must name UUIDs.
- An empty entry, a negative number or SLURM's "NoDevFiles" ends the list; alone it means no device. Any other entry
  that names nothing is an error: CUDA would silently ignore it and all after it, and a slip of the pen would leave
  devices idle. A device that is named twice counts once (CUDA would then show none).
- Where nvidia-smi is missing, fails or lists nothing there is no device, whatever CUDA_VISIBLE_DEVICES says.

Locks (flock) lie on files in a folder of this user on this host, and their names hold UUIDs, so that a device is the
same device however it was named. The system drops them with the process that holds them, even when it is killed. They
bind only processes that find the same folder: the same user, host and TMPDIR.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halobench.core.errors import SpecError, require

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
POLL = 0.5  # seconds between two looks at devices that are all taken
PATIENCE = 60  # seconds until nvidia-smi counts as failed: a broken driver can hang it
GPU_LINE = re.compile(r"GPU (\d+):.*\(UUID: (GPU-[^\s)]+)\)")
MIG_LINE = re.compile(r"\s+MIG .*\(UUID: (MIG-[^\s)]+)\)")


class SlotError(OSError):
    """No slot can be had: all stayed taken for too long, or the folder of the locks is not safe or not lockable."""


@dataclass(frozen=True)
class Device:
    """A GPU or MIG instance: the `value` that CUDA_VISIBLE_DEVICES takes, and the UUID that it is locked by."""

    value: str
    identity: str


@dataclass(frozen=True)
class _Gpu:
    """A GPU that nvidia-smi lists, and the UUIDs of the MIG instances that it is split into."""

    index: int
    uuid: str
    instances: tuple[str, ...] = ()


def list_devices() -> str:
    """Return what ``nvidia-smi -L`` prints; empty if it is missing or fails."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _gpus(listing: str) -> list[_Gpu]:
    """Return the GPUs of a listing, but for lines without a UUID: these devices cannot be used."""
    gpus: list[_Gpu] = []
    for line in listing.splitlines():
        if gpu := GPU_LINE.match(line):
            gpus.append(_Gpu(int(gpu[1]), gpu[2]))
        elif gpus and (mig := MIG_LINE.match(line)):
            gpus[-1] = _Gpu(gpus[-1].index, gpus[-1].uuid, (*gpus[-1].instances, mig[1]))
    return gpus


def visible_devices(environ: Mapping[str, str], listing: str) -> list[Device]:
    """Return the devices that a process may take, in the order in which it prefers them.

    Parameters
    ----------
    environ : mapping
        The environment: CUDA_VISIBLE_DEVICES limits the devices, CUDA_DEVICE_ORDER tells what an index means.
    listing : str
        What ``nvidia-smi -L`` printed, e.g. from `list_devices`.

    Returns
    -------
    list of Device
        Each device once; empty where there is none or none is allowed.

    Raises
    ------
    SpecError
        If an entry of CUDA_VISIBLE_DEVICES names no device, or several, or one that cannot be told.
    """
    gpus = _gpus(listing)
    allowed = environ.get(VISIBLE)
    if allowed is None or not gpus:
        return [Device(uuid, uuid) for gpu in gpus for uuid in gpu.instances or (gpu.uuid,)]
    devices: dict[str, Device] = {}
    for entry in map(str.strip, allowed.split(",")):
        if re.fullmatch(r"|-[0-9]+|NoDevFiles", entry):
            break
        for device in _named(entry, gpus, environ.get(ORDER)):
            devices.setdefault(device.identity, device)
    return list(devices.values())


def _named(entry: str, gpus: Sequence[_Gpu], order: str | None) -> list[Device]:
    """Return the devices that an entry of CUDA_VISIBLE_DEVICES names: several for a GPU split into instances."""
    recount = any(gpu.instances for gpu in gpus) and _is_index(entry)  # then CUDA may count otherwise
    names = {
        gpu.uuid: [Device(uuid, uuid) for uuid in gpu.instances] or [Device(gpu.uuid if recount else entry, gpu.uuid)]
        for gpu in gpus
    }
    names |= {uuid: [Device(entry, uuid)] for gpu in gpus for uuid in gpu.instances}
    if entry in names:  # first, since older UUIDs of instances can begin others (../1/1 and ../1/10)
        return names[entry]
    if _is_index(entry):
        if order == "FASTEST_FIRST" and len(gpus) > 1:
            raise SpecError(ORDER, order, f"PCI_BUS_ID, or UUIDs in {VISIBLE}: which is index {entry} cannot be told")
        matches = [gpu.uuid for gpu in gpus if gpu.index == int(entry)]
    else:
        matches = [uuid for uuid in names if entry.startswith(("GPU-", "MIG-")) and uuid.startswith(entry)]
    if len(matches) > 1:
        raise SpecError(VISIBLE, entry, f"the beginning of one UUID, and it begins {', '.join(matches)}")
    if not matches:
        raise SpecError(VISIBLE, entry, f"an index or UUID of what nvidia-smi lists: {_there(gpus)}")
    return names[matches[0]]


def _is_index(entry: str) -> bool:
    """Whether an entry of CUDA_VISIBLE_DEVICES is a number."""
    return re.fullmatch(r"[0-9]+", entry) is not None


def _there(gpus: Sequence[_Gpu]) -> str:
    """Return the GPUs as a text, e.g. ``0 (GPU-1f..), 1 (GPU-2e.., split into MIG-3d.., MIG-4c..)``."""
    split = [f", split into {', '.join(gpu.instances)}" if gpu.instances else "" for gpu in gpus]
    return ", ".join(f"{gpu.index} ({gpu.uuid}{parts})" for gpu, parts in zip(gpus, split, strict=True))


class _Lock:
    """A flock that this process holds on an open file.

    Open files pass to children. Across exec Python closes them; a child that only forked (a worker of a data loader)
    closes them itself, else it would go on holding the slot of a parent that was killed.
    """

    held: set[_Lock] = set()  # noqa: RUF012 (one set for all, on purpose)

    def __init__(self, handle: int):
        self.handle: int | None = handle
        self.held.add(self)

    def release(self) -> None:
        """Give the lock back; nothing in a forked child, whose parent holds it."""
        if self.handle is None:
            return
        handle, self.handle = self.handle, None
        self.held.discard(self)
        # Closing would do only if no other process had a copy, and one that is being forked can have one.
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)

    @classmethod
    def forget(cls) -> None:
        """Close, in a forked child, what its parent holds: unlocking would take the lock from the parent."""
        for lock in cls.held:
            # None in a child that another thread forks in the midst of `release`.
            if lock.handle is not None:
                os.close(lock.handle)
                lock.handle = None
        cls.held.clear()


os.register_at_fork(after_in_child=_Lock.forget)


def _lock(path: Path, *, block: bool = False) -> _Lock | None:
    """Lock a file, made where it is missing; None where another holds it and `block` is false."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:
        os.close(handle)
        raise SlotError(f"{path} cannot be locked ({error.strerror}): set TMPDIR to a folder on a local disk") from None
    except BaseException:
        os.close(handle)
        raise
    return _Lock(handle)


def _locks_folder(environ: Mapping[str, str], folder: Path | None) -> Path:
    """Make and check the folder of the locks.

    SLURM allots devices to jobs by itself, and may allot one to several on purpose: each job has its own folder, so
    that its processes are kept apart from each other only.
    """
    if folder is None:
        # The host's name, because the folder of temporary files may be shared between hosts; locks on it may not be.
        folder = Path(tempfile.gettempdir()) / f"halobench-slots-{os.geteuid()}-{_file_name(os.uname().nodename)}"
    folder = _own_folder(Path(folder))
    job = environ.get("SLURM_JOB_ID")
    return _own_folder(folder / f"job-{_file_name(job)}") if job else folder


def _file_name(text: str) -> str:
    """`text` with all but letters, digits and '-' replaced, so that it cannot leave its folder."""
    return re.sub(r"[^A-Za-z0-9-]", "_", text)


def _own_folder(folder: Path) -> Path:
    """Make a folder that only this user can enter, or check that it is one whose files only this user can write."""
    with contextlib.suppress(FileExistsError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    # Anyone can make a folder or a link of this name in a shared place before its owner does.
    state = os.lstat(folder)
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise SlotError(f"{folder}: expected a folder (no link) of user {os.geteuid()} that no other user can write to")
    return folder


def _slot_file(folder: Path, device: Device, slot: int) -> Path:
    """Return the file whose lock is a device's slot."""
    return folder / f"{_file_name(device.identity)}.{slot}.lock"


def _taken(folder: Path, device: Device) -> set[int]:
    """Return the numbers of a device's slots that are held. Call it only while no other process chooses."""
    taken = set()
    # All files, not only the first per_device: processes may have been given different numbers of slots.
    for path in folder.glob(f"{_file_name(device.identity)}.*.lock"):
        if lock := _lock(path):
            lock.release()
        else:
            taken.add(int(path.name.split(".")[1]))
    return taken


def _choose(devices: Sequence[Device], per_device: int, folder: Path) -> tuple[Device, _Lock | None, list[int]]:
    """Take a slot of the least occupied device, the first of equals.

    Returns
    -------
    device : Device
    lock : _Lock or None
        The slot; None if every device has `per_device` holders or more.
    holders : list of int
        How many held each device.
    """
    # Without this two processes could see the same device empty at the same moment, and leave another one empty.
    choosing = _lock(folder / "choose.lock", block=True)
    try:
        taken = [_taken(folder, device) for device in devices]
        holders = [len(slots) for slots in taken]
        best = holders.index(min(holders))
        free = min(set(range(holders[best] + 1)) - taken[best])
        lock = _lock(_slot_file(folder, devices[best], free)) if holders[best] < per_device else None
        return devices[best], lock, holders
    finally:
        if choosing is not None:
            choosing.release()


def _take(
    devices: Sequence[Device], per_device: int, folder: Path, wait: float | None, log: Callable[[str], object]
) -> tuple[Device, _Lock]:
    """Take a slot, waiting until there is one; SlotError after `wait` seconds."""
    start, reported = time.monotonic(), False
    while True:
        device, lock, holders = _choose(devices, per_device, folder)
        if lock:
            return device, lock
        state = ", ".join(f"{device.value} (held by {count})" for device, count in zip(devices, holders, strict=True))
        left = POLL if wait is None else start + wait - time.monotonic()
        if left <= 0:
            raise SlotError(f"no device became free in {wait:g} s, with {per_device} at a time on each: {state}")
        if not reported:
            log(f"waiting for a device, with {per_device} at a time on each: {state}")
            reported = True
        time.sleep(min(POLL, left))


@contextlib.contextmanager
def _set(environ: MutableMapping[str, str], values: Mapping[str, str]) -> Iterator[None]:
    """Set variables; afterwards give each its old value, or none."""
    old = {key: environ.get(key) for key in values}
    environ.update(values)
    try:
        yield
    finally:
        for key, value in old.items():
            if value is None:
                environ.pop(key, None)
            else:
                environ[key] = value


def _print(line: str) -> None:
    """Print at once, so that a job's log shows what the job waits for."""
    print(line, flush=True)


@contextlib.contextmanager
def device_slot(
    per_device: int = 1,
    *,
    environ: MutableMapping[str, str] = os.environ,
    folder: Path | None = None,
    wait: float | None = None,
    log: Callable[[str], object] = _print,
) -> Iterator[Device | None]:
    """Hold a slot on the least occupied device, and let CUDA see that device only.

    Enter it before torch first asks for CUDA, which reads the environment once. A process that holds a slot and asks
    for another counts twice, so do not nest it.

    Parameters
    ----------
    per_device : int
        How many processes may share a device, this one included.
    environ : mutable mapping
        Where CUDA_VISIBLE_DEVICES (and with an index CUDA_DEVICE_ORDER) is read, set and afterwards restored. With
        SLURM_JOB_ID, slots are shared only by processes of the same job.
    folder : Path, optional
        Where the locks lie; by default in the folder of temporary files, under this user's and this host's name.
    wait : float, optional
        After how many seconds to give up when all slots are taken; by default never.
    log : callable
        Called once, with one line, if the process has to wait.

    Yields
    ------
    Device or None
        None where there is no device: then nothing is set and nothing is locked.

    Raises
    ------
    SpecError
        If `per_device` is less than 1, or CUDA_VISIBLE_DEVICES names what is not there.
    SlotError
        If no slot became free in time, or the folder is not this user's own.
    """
    right = isinstance(per_device, int) and per_device >= 1
    require(right, "per_device", per_device, "a whole number of processes, at least 1")
    devices = visible_devices(environ, list_devices())
    if not devices:
        yield None
        return
    device, lock = _take(devices, per_device, _locks_folder(environ, folder), wait, log)
    try:
        with _set(environ, {VISIBLE: device.value} | ({ORDER: "PCI_BUS_ID"} if _is_index(device.value) else {})):
            yield device
    finally:
        lock.release()
