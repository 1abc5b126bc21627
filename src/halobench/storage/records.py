"""Seal, read and check records, which stages write next to their outputs with the outputs' checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from halobench.core.errors import RefusedError
from halobench.storage.files import REMEDY, check_sum, read_json
from halobench.storage.layout import STAGES


def check_recorded(path: Path | str, most: int | None = None) -> None:
    """Raise SpecError if the checksum of `path` differs from the checksum in its stage's record next to the file.

    Files without a record, such as files from elsewhere, and files of more than `most` bytes aren't checked.
    """
    path = Path(path)
    if most is not None and path.stat().st_size > most:
        return
    writers = [stage for stage in STAGES.values() if path.name in (*stage.writes, *stage.may_write)]
    for name in (PurePosixPath(stage.record).name for stage in writers):
        record = path.parent / name
        if not record.is_file():
            continue
        outputs = read_record(record)["outputs"]
        if path.name in outputs:
            check_sum(path, outputs[path.name], f"the content recorded in {name}")


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `record` with a checksum of itself as ``self`` (SHA-256 of the rest as sorted JSON) to reveal edits."""
    rest = {key: value for key, value in record.items() if key != "self"}
    return rest | {"self": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def check_seal(path: Path | str, content: Mapping[str, Any]) -> None:
    if content.get("self") != seal(content)["self"]:
        raise RefusedError(str(path), f"was edited or damaged after it was written {REMEDY}")


def read_record(path: Path | str, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Return a stage's record; raise SpecError if it was edited, or has no checksums or not all of the `keys`."""
    record = read_json(path, ["outputs", *keys])
    if not isinstance(record["outputs"], Mapping):
        raise RefusedError(str(path), f"has no checksums by file name under 'outputs' {REMEDY}")
    check_seal(path, record)
    return record
