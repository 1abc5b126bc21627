"""Stand-in GPUs: a module `pynvml` that this process and its children find in place of the real one."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

PYNVML = """class NVMLError(Exception): ...
GPUS = {gpus!r}
def nvmlInit():
    if not GPUS: raise NVMLError("no driver")
def nvmlShutdown(): ...
def nvmlDeviceGetCount(): return len(GPUS)
def nvmlDeviceGetHandleByIndex(index):
    if GPUS[index] is None: raise NVMLError("GPU is lost")
    return index
def nvmlDeviceGetUUID(handle): return GPUS[handle]
"""


def install(folder: Path, gpus: Sequence[str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine has GPUs with these UUIDs; None is a failed one, and without any there is no driver."""
    folder.mkdir()
    path = folder / "pynvml.py"
    path.write_text(PYNVML.format(gpus=list(gpus)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    spec = importlib.util.spec_from_file_location("pynvml", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "pynvml", module)
