"""Results against their records: which files are no longer what a stage wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench import store
from halobench.provenance import record_digest
from halobench.specs import SpecError


@dataclass(frozen=True)
class Fault:
    """A file that isn't as it should be; `record` is the file of the record that speaks of it, or itself."""

    path: Path
    record: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Verdict:
    """What was looked at, and what is wrong with it."""

    records: int
    files: int
    faults: tuple[Fault, ...]


def verify(results: Path) -> Verdict:
    """Compare every file under `results` that a record speaks of with its checksum there.

    Raises
    ------
    SpecError
        If there is no such folder.
    """
    if not results.is_dir():
        raise SpecError("results", str(results), "a folder of results")
    records, files, faults = 0, 0, []
    for path in sorted(results.rglob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            found = store.read_json(path)
        except (SpecError, UnicodeDecodeError) as error:
            faults.append(Fault(path, path, f"can't be read ({error})"))
            continue
        if is_record(found):
            records += 1
            files += len(found["outputs"])
            faults += check_record(path, found)
    return Verdict(records, files, tuple(faults))


def is_record(found: Any) -> bool:
    """Whether JSON is a stage's record."""
    return isinstance(found, dict) and "stage" in found and isinstance(found.get("outputs"), dict)


def check_record(path: Path, found: dict[str, Any]) -> Iterator[Fault]:
    """What is wrong with a record, or else with the files that it lists, which lie beside it."""
    if found.get("self") != record_digest(found):
        yield Fault(path, path, "was edited: its own checksum is wrong")
        return
    for name, digest in found["outputs"].items():
        output = path.parent / name
        if not output.exists():
            yield Fault(output, path, f"is missing; the {found['stage']} stage wrote it")
        elif (now := store.checksum(output)) != digest:
            what = f"was changed after the {found['stage']} stage wrote it"
            yield Fault(output, path, f"{what} (SHA-256 {now[:12]}..., recorded {str(digest)[:12]}...)")


def remove(faults: tuple[Fault, ...]) -> list[Path]:
    """Remove what the stages of faulty files wrote, records included, so that they run again; return what was removed.

    A record that can't be read, or was edited, takes all files of its stage with it as far as it names them.
    """
    removed = []
    for record in sorted({fault.record for fault in faults}):
        try:
            names = list(store.read_json(record)["outputs"])
        except (SpecError, UnicodeDecodeError, KeyError, TypeError):
            names = []
        for path in (*(record.parent / Path(name).name for name in names), record):
            if path.exists():
                path.unlink()
                removed.append(path)
    return removed
