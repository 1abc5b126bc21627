"""Records, which each stage leaves next to its outputs, with the outputs' checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from halobench.core.errors import RefusedError, SpecError
from halobench.storage.files import REMEDY, check_sum, read_json
from halobench.storage.layout import STAGES


def check_recorded(path: Path | str, most: int | None = None) -> None:
    """Raise SpecError if the record next to `path`, from the stage that wrote it, holds a different checksum for it.

    A file without a record, e.g. one from elsewhere, passes, as does one of more than `most` bytes.
    """
    path = Path(path)
    if most is not None and path.stat().st_size > most:
        return
    writers = [stage for stage in STAGES.values() if path.name in (*stage.outputs, *stage.undeclared)]
    for name in (PurePosixPath(stage.record).name for stage in writers):
        record = path.parent / name
        if not record.is_file():
            continue
        outputs = read_record(record)["outputs"]
        if path.name in outputs:
            check_sum(path, outputs[path.name], f"the content recorded in {name}")


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `record` with its own checksum as ``self`` (SHA-256 of the rest as sorted JSON), so edits are noticed."""
    rest = {key: value for key, value in record.items() if key != "self"}
    return rest | {"self": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def check_seal(path: Path | str, content: Mapping[str, Any]) -> None:
    if content.get("self") != seal(content)["self"]:
        raise RefusedError(str(path), f"was edited or damaged after it was written {REMEDY}")


def read_record(path: Path | str, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Read a stage's record, which must have `keys` and at least the checksums of the files that the stage wrote."""
    record = read_json(path, ["outputs", *keys])
    if not isinstance(record["outputs"], Mapping):
        raise SpecError(str(path), record["outputs"], f"checksums by file name under 'outputs' {REMEDY}")
    check_seal(path, record)
    return record
