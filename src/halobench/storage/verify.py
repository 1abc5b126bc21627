"""Verify results: find files that differ from their stages' records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError, refuse
from halobench.storage.files import checksum, read_json
from halobench.storage.layout import STAGES
from halobench.storage.records import seal


@dataclass(frozen=True)
class Fault:
    """A faulty or lost file; `record` is the path of the record that lists it, or else its own path."""

    path: Path
    record: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclass(frozen=True)
class Verification:
    """The numbers of records read and of files listed in them, and all faults found."""

    records: int
    files: int
    faults: tuple[Fault, ...]


def verify(results: Path) -> Verification:
    """Check every file listed in a record against the checksum in the record, following links.

    Anything but a record or manifest at the path of one is a fault. Files that no record lists are ignored; `status`
    names results without a record. SpecError is raised if there is no record.
    """
    records, others = dict[Path, Any](), dict[Path, Any]()
    patterns = [pattern for stage in STAGES.values() for pattern in stage.records]
    for path in {path for pattern in patterns for path in results.glob(pattern) if path.is_file()}:
        try:
            content = read_json(path)
        except SpecError as error:
            content = error
        is_record = isinstance(content, dict) and "stage" in content and isinstance(content.get("outputs"), dict)
        (records if is_record else others)[path] = content
    refuse(not records, str(results), "contains no records; pass a results folder that `halobench run` has written")
    listed = {path.parent / name for path, record in records.items() for name in record["outputs"]}
    faults = [fault for path, record in records.items() for fault in _check_record(path, record)]
    for path in others.keys() - listed:  # answers.json isn't the record of a table called answers
        faults += _check_manifest(path, others[path])
    files = sum(len(record["outputs"]) for record in records.values())
    return Verification(len(records), files, tuple(sorted(faults, key=lambda fault: fault.path)))


def _check_manifest(path: Path, content: Any) -> Iterator[Fault]:
    """Check the content of a file at the path of a record or manifest, or the error in reading it."""
    if isinstance(content, SpecError):
        yield Fault(path, path, f"can't be read ({content})")
    elif not isinstance(content, dict) or "self" not in content:
        yield Fault(path, path, "isn't a record; it was overwritten")
    else:
        yield from _check_seal(path, content)


def _check_seal(path: Path, content: dict[str, Any]) -> Iterator[Fault]:
    if content != seal(content):
        yield Fault(path, path, "doesn't match its own checksum, so it was edited")


def _check_record(path: Path, record: dict[str, Any]) -> Iterator[Fault]:
    """Check a record and the files that it lists in its folder; yield each fault found."""
    yield from _check_seal(path, record)
    for name, digest in record["outputs"].items():
        output = path.parent / name
        if not output.is_file():
            yield Fault(output, path, f"is missing; the {record['stage']} stage wrote it")
        elif (current := checksum(output)) != digest:
            changed = f"was changed after the {record['stage']} stage wrote it"
            yield Fault(output, path, f"{changed} (SHA-256 {current[:12]}..., recorded {str(digest)[:12]}...)")


def remove(faults: tuple[Fault, ...]) -> list[Path]:
    """Remove the record of each faulty file, so that its stage reruns, and return the removed paths."""
    removed = sorted({fault.record for fault in faults})
    for path in removed:
        path.unlink()
    return removed
