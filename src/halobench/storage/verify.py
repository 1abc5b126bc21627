"""Results against their records: which files are no longer what a stage wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.core.errors import SpecError
from halobench.storage import files as store
from halobench.storage import layout
from halobench.storage.layout import WRITTEN
from halobench.storage.records import seal


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

    Links are followed. A file that bears the name of a record and is none, and one that bears the name of an output
    which no record beside it speaks of, are faults as well.

    Raises
    ------
    SpecError
        If there is no such folder.
    """
    if not results.is_dir():
        raise SpecError("results", str(results), "a folder of results")
    records, outputs, judged, faults = 0, set(), set(), []
    paths = [path for path in _files(results) if not path.name.startswith(".")]
    names = set(WRITTEN)
    for path in (path for path in paths if path.suffix == ".json"):
        try:
            found = store.read_json(path)
        except SpecError as error:
            faults.append(Fault(path, path, f"can't be read ({error})"))
            judged.add(path)
            continue
        if is_record(found):
            records += 1
            outputs |= {path.parent / name for name in found["outputs"]}
            judged.add(path)
            names |= {name for name in found["outputs"] if not path.is_relative_to(results / "figures")}
            faults += check_record(path, found)
        elif path.name in layout.RECORDS:
            faults.append(Fault(path, path, "is no record: it was overwritten"))
            judged.add(path)
        elif isinstance(found, dict) and "self" in found and found != seal(found):
            faults.append(Fault(path, path, "was edited: its own checksum is wrong"))
    judged |= outputs
    stray = [path for path in paths if path.name in names and path not in judged]
    faults += [Fault(path, path, "no record tells of it: that of its stage is missing or damaged") for path in stray]
    return Verdict(records, len(outputs), tuple(faults))


def _files(folder: Path) -> list[Path]:
    """All files under a folder, sorted; links are followed, each folder entered once."""
    found, entered = [], set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        found += [Path(root) / name for name in names]
    return sorted(found)


def is_record(found: Any) -> bool:
    """Whether JSON is a stage's record."""
    return isinstance(found, dict) and "stage" in found and isinstance(found.get("outputs"), dict)


def check_record(path: Path, found: dict[str, Any]) -> Iterator[Fault]:
    """What is wrong with a record, or else with the files that it lists, which lie beside it."""
    if found != seal(found):
        yield Fault(path, path, "was edited: its own checksum is wrong")
        return
    for name, digest in found["outputs"].items():
        output = path.parent / name
        if not output.is_file():
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
        except (SpecError, KeyError, TypeError):
            names = []
        for path in (*(record.parent / Path(name).name for name in names), record):
            if path.is_file() or path.is_symlink():
                path.unlink()
                removed.append(path)
    return removed
