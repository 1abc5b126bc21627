"""Write files under a temporary name before renaming them, so readers never see half a file; check files on reading."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from filelock import FileLock

from halobench.core.errors import Found, RefusedError, SpecError, describe_error, require

REMEDY = "(if this is a result, delete it; the next run that needs it will recreate it)"
TEMPORARY = ".writing-"  # prefix of the names of temporary files
LEAST_AGE = 60.0  # in seconds
LOCK = ".lock"  # the file that a process locks to work alone in a folder


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to `path`, with its suffix; rename the file to `path` on success, or else remove it.

    The temporary file is locked until it is renamed, so that `sweep` keeps the files of live writers.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{path.stem}-{secrets.token_hex(8)}{path.suffix}"
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    mode = temporary.stat().st_mode  # less the umask, which can be read otherwise only by setting it
    writer = _lock(temporary)
    with contextlib.suppress(OSError):  # the file system may not have locks
        writer.acquire(blocking=False)
    try:
        yield temporary
        os.chmod(temporary, mode)  # safetensors replaces the file by a private one
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        # Some writers wrap the system's error in their own, and users don't know the temporary name.
        if isinstance(error, OSError) or "os error" in str(error):
            raise OSError(f"{path} can't be written ({describe_error(error)})") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
        writer.release()


@contextlib.contextmanager
def alone(folder: Path | str) -> Iterator[None]:
    """Lock a folder through a file in it, which is removed afterwards; other processes wait for the lock."""
    lock = _lock(Path(folder) / LOCK)
    # On a file system without locks, nobody waits, but the work done under this lock is quick, or harmless if repeated.
    with contextlib.suppress(OSError):
        lock.acquire()
    try:
        yield
    finally:
        if lock.is_locked:  # removed while locked, so that a waiting process notices and locks a new file
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def sweep(folder: Path | str) -> None:
    """Remove the temporary files that killed writers left in a folder, i.e. files that no process has locked.

    Files younger than `LEAST_AGE` seconds are kept, since a writer creates its file just before locking it.
    """
    for path in Path(folder).glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):  # its writer is alive or has just renamed it, or locks don't work here
            if time.time() - path.stat().st_mtime >= LEAST_AGE:
                with _lock(path).acquire(blocking=False):
                    path.unlink()


def _lock(path: Path) -> FileLock:
    """Return a lock on a file, which the system releases when its holder ends for whatever reason.

    On a file system without locks, the lock can't be acquired, since filelock's fallback, which would write into the
    file, is off.
    """
    return FileLock(path, fallback_to_soft=False)


def nearest_existing(folder: Path) -> Path:
    """Return a folder or, if it doesn't exist, its nearest existing parent."""
    return next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))


def check_writable(folder: Path) -> None:
    """Raise SpecError unless files can be created in a folder or, if it is missing, in its nearest existing parent."""
    try:
        with tempfile.TemporaryFile(dir=nearest_existing(folder)):
            pass
    except OSError as error:
        raise RefusedError(
            str(folder), f"can't be written to ({error.strerror}); choose another folder or change its permissions"
        ) from None


def user_cache() -> Path:
    """Return the user's folder for notes that don't belong to any project, in which Snakemake also keeps files."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


@contextlib.contextmanager
def reading(path: PurePath | str, what: str) -> Iterator[None]:
    """Turn any error in decoding `path` into a SpecError that names the file and says what it should contain."""
    try:
        yield
    except SpecError as error:
        if error.key.startswith(str(path)):
            raise
        raise error.at(f"{path}: {error.key}", f" {REMEDY}") from None
    except FileNotFoundError:
        raise RefusedError(str(path), "no such file") from None
    except Exception as error:  # decoders raise a dozen types of errors, including their own
        raise RefusedError(str(path), f"can't be read as {what} ({describe_error(error)}) {REMEDY}") from None


def check_sum(path: Path | str, digest: str, expected: str, current: str = "") -> None:
    """Raise SpecError unless `path` has the checksum `digest`; pass its `current` checksum if it is known."""
    with reading(path, expected):
        current = current or checksum(path)
    if current != digest:
        raise RefusedError(str(path), f"not {expected} (SHA-256 {current[:16]}, recorded {digest[:16]}) {REMEDY}")


def read_bytes(path: Path | str, digest: str | None = None) -> bytes:
    """Return the content of a file; raise SpecError if it can't be read or its checksum isn't `digest`."""
    expected = "a file" if digest is None else "the content recorded for it"
    with reading(path, expected):
        content = Path(path).read_bytes()
    if digest is not None:
        check_sum(path, digest, expected, hashlib.sha256(content).hexdigest())
    return content


def read_json(path: Path | str, keys: Iterable[str] = ()) -> Any:
    """Read a JSON file; if `keys` are passed, the file must contain a mapping with these keys."""
    with reading(path, "JSON"):
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    keys = list(keys)
    what = f"a mapping with the keys {', '.join(keys)} {REMEDY}"
    require(not keys or isinstance(value, Mapping), str(path), value, what)
    for key in keys:
        require(key in value, str(path), Found(f"no key {key!r}"), what)
    return value


def checksum(path: Path | str) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
