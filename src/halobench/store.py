"""Files: written to a temporary name and renamed, so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from halobench import locks
from halobench.specs import SpecError

TEMPORARY = ".writing-"  # how the names of temporary files begin


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; rename it over `path` on success, remove it on failure.

    The temporary file is locked meanwhile, so that `sweep` can tell a living writer's from a dead one's.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.stem}-", suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def sweep(folder: Path | str, least_age: float = 60.0) -> None:
    """Remove the temporary files that killed writers left in a folder: locked by nobody, and at least `least_age` old.

    The age, in seconds, covers the moment between a file's creation and its lock.
    """
    for path in Path(folder).glob(f"{TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= least_age and not locks.is_held(path):
                path.unlink()


def _umask() -> int:
    """The process's umask (which can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys; numbers must be finite."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises
    ------
    SpecError
        If the file holds no JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:
        raise SpecError(str(path), "its text", f"JSON ({error})") from None


def write_csv(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as CSV; floats in the shortest form that reads back to the same number."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def write_parquet(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as parquet (zstd)."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")


def write_npy(path: Path | str, array: np.ndarray) -> None:
    """Write one array as .npy, which numpy can map into memory."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def write_arrays(path: Path | str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays as safetensors."""
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, temporary, dict(metadata or {}))


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """Read named arrays from safetensors."""
    from safetensors.numpy import load_file

    return load_file(path)


def checksum(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
