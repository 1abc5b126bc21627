"""Verify results: find files that differ from what their stage recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError, require
from halobench.storage.files import checksum, read_json
from halobench.storage.layout import FOLDERS, RECORDS, WRITTEN
from halobench.storage.records import seal


@dataclass(frozen=True)
class Fault:
    """A file that differs from its record; `record` is that record's file, or the file itself."""

    path: Path
    record: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclass(frozen=True)
class Verification:
    """How many records were read, how many files they list, and what is wrong with those files."""

    records: int
    files: int
    faults: tuple[Fault, ...]


def verify(results: Path) -> Verification:
    """Check every file under `results` that a record lists against the checksum in that record.

    Links are followed. In the folders that stages write to, a file that is named like a record but isn't one is also a
    fault, as is a file that is named like an output but isn't listed in any record next to it. Elsewhere, files that
    aren't sealed records are someone else's.
    """
    paths = [path for path in _files(results) if not path.name.startswith(".")]
    ours = {path for path in paths if _is_place(path.relative_to(results))}
    names = set(WRITTEN)  # of outputs
    count, outputs, judged, faults = 0, set(), set(), []
    for path in (path for path in paths if path.suffix == ".json"):
        try:
            content = read_json(path)
        except SpecError as error:
            if path in ours:
                faults.append(Fault(path, path, f"can't be read ({error})"))
                judged.add(path)
            continue
        recorded = is_record(content)
        if path not in ours and not (recorded and "self" in content):
            continue
        if recorded:
            count += 1
            judged.add(path)
            outputs |= {path.parent / name for name in content["outputs"]}
            if not path.is_relative_to(results / "figures"):  # the configuration chooses the names of figures
                names |= set(content["outputs"])
            faults += check_record(path, content)
        elif path.name in RECORDS:
            faults.append(Fault(path, path, "isn't a record; it was overwritten"))
            judged.add(path)
        elif isinstance(content, dict) and "self" in content and content != seal(content):
            faults.append(Fault(path, path, "doesn't match its own checksum, so it was edited"))
    require(count, "results", str(results), "a results folder with at least one stage's record")
    judged |= outputs
    unlisted = [path for path in paths if path in ours and path.name in names and path not in judged]
    unrecorded = "isn't listed in any record; its stage's record is missing or damaged"
    faults += [Fault(path, path, unrecorded) for path in unlisted]
    return Verification(count, len(outputs), tuple(faults))


def _is_place(path: Path) -> bool:
    """Return whether stages write to the folder of a path, which is relative to the results folder."""
    parts = path.parts[1:] if path.parts[0] == "partial" else path.parts
    return parts[0] in FOLDERS if len(parts) > 1 else path.stem == "explorer"


def _files(folder: Path) -> list[Path]:
    """Return all files under a folder, sorted; links are followed, and each folder is entered once."""
    files, entered = [], set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        files += [Path(root) / name for name in names]
    return sorted(files)


def is_record(content: Any) -> bool:
    return isinstance(content, dict) and "stage" in content and isinstance(content.get("outputs"), dict)


def check_record(path: Path, record: dict[str, Any]) -> Iterator[Fault]:
    """Check a record and, if it is fine, the files that it lists in its folder; yield each fault found."""
    if record != seal(record):
        yield Fault(path, path, "doesn't match its own checksum, so it was edited")
        return
    for name, digest in record["outputs"].items():
        output = path.parent / name
        if not output.is_file():
            yield Fault(output, path, f"is missing; the {record['stage']} stage wrote it")
        elif (current := checksum(output)) != digest:
            changed = f"was changed after the {record['stage']} stage wrote it"
            yield Fault(output, path, f"{changed} (SHA-256 {current[:12]}..., recorded {str(digest)[:12]}...)")


def remove(faults: tuple[Fault, ...]) -> list[Path]:
    """Remove everything that the stages of faulty files wrote, including records, so they rerun; return the paths.

    If a record can't be read or was edited, the files that it still lists are removed with it.
    """
    removed = []
    for record in sorted({fault.record for fault in faults}):
        try:
            names = list(read_json(record)["outputs"])
        except (SpecError, KeyError, TypeError):
            names = []
        for path in (*(record.parent / Path(name).name for name in names), record):
            if path.is_file() or path.is_symlink():
                path.unlink()
                removed.append(path)
    return removed
