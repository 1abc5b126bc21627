"""Record what produced a result: versions, hardware and commit."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halobench.core.plugins import find
from halobench.core.plugins.kinds import PACKAGE
from halobench.storage.files import checksum
from halobench.storage.records import seal
from halobench.storage.request_diff import Request

_started: list[str] = []

SLURM = {"job": "SLURM_JOB_ID", "node": "SLURMD_NODENAME", "gpus": "CUDA_VISIBLE_DEVICES"}


def begin() -> None:
    """Set the process's start time to now; forks call this function, since they don't import this module again."""
    _started[:] = [datetime.now(UTC).isoformat(timespec="microseconds")]


def started() -> str:
    """Return the approximate time, in UTC, at which this process started."""
    return _started[0]


begin()


def versions(*packages: str) -> dict[str, str]:
    installed = {"python": platform.python_version()}
    for package in ("halobench", "numpy", *packages):
        installed[package] = importlib.metadata.version(package)
    return installed


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Return the host, processor, cores and, for CUDA, the GPU; under SLURM, also the job's number, node and GPUs."""
    facts: dict[str, Any] = {"host": platform.node(), "machine": platform.machine(), "cores": os.cpu_count()}
    facts["processor"] = _processor()
    if "SLURM_JOB_ID" in os.environ:
        facts["slurm"] = {key: os.environ[name] for key, name in SLURM.items() if name in os.environ}
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def here(device: str = "cpu") -> str:
    """Return the host, its processor or GPU, and torch's version, which can affect results' last digits."""
    facts = hardware(device)
    chip = facts.get("gpu", facts["processor"])
    return f"{facts['host']} ({chip}, torch {importlib.metadata.version('torch')})"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
        return platform.machine()
    return platform.processor()


def short(commit: str) -> str:
    """Return the first twelve digits of a commit, keeping the ``-dirty`` of an edited checkout.

    Examples
    --------
    >>> short("211cd84f0e838f857d0870f6ccc25ce06978c8fe-dirty")
    '211cd84f0e83-dirty'
    """
    digest, _, edited = commit.partition("-")
    return digest[:12] + (f"-{edited}" if edited else "")


@functools.cache
def commit(folder: Path | None = None) -> str | None:
    """Return the commit of the checkout that contains a folder, with ``-dirty`` if it was edited; None outside git.

    The default folder is the package's, where a new file, such as a plug-in, also counts as an edit.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder or PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if not git("ls-files", "."):
            return None
        edited = git("status", "--porcelain", "-uno")
        if folder is None:
            edited = edited or git("ls-files", "--others", "--exclude-standard")
        return git("rev-parse", "HEAD") + ("-dirty" if edited else "")
    except (OSError, subprocess.SubprocessError):
        return None


def outside_plugins(plugins: Iterable[tuple[str, str]]) -> dict[str, dict[str, str | None]]:
    """Return, by name, the text of each plug-in's file outside the package, and the commit of the file's folder."""
    paths = {name: find(kind, name).path for kind, name in plugins if ":" in name}
    return {
        name: {"text": path.read_text(encoding="utf-8", errors="replace"), "commit": commit(path.parent)}
        for name, path in paths.items()
    }


def record(
    request: Request,
    seed: int | None,
    outputs: Iterable[Path],
    seconds: float,
    packages: Iterable[str] = (),
    device: str = "cpu",
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a stage's record: its request, versions, hardware and duration, and each output's checksum.

    The record contains its own checksum, so edits to the record are noticed too.
    """
    entries = {
        "stage": request.stage,
        "spec": request.spec,
        "seed": seed,
        "code": dict(request.code),
        "commit": commit(),
        "versions": versions(*packages),
        "hardware": hardware(device),
        "device": device,
        "started": started(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "peak_memory_mib": _peak_memory(),
        "outputs": {path.name: checksum(path) for path in sorted(outputs)},
        **dict(facts or {}),
    }
    return seal(entries)


def _peak_memory() -> float:
    """Return this process's peak resident memory in MiB (on Linux, `getrusage` would include the parent's peak)."""
    import resource

    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM:"))
        return round(int(line.split()[1]) / 2**10, 1)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
