"""Verify results: find files that differ from their stages' records, or that are listed but lost."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from halobench.core.errors import SpecError, refuse
from halobench.storage.files import checksum, read_json
from halobench.storage.layout import STAGES
from halobench.storage.records import seal

EDITED = "doesn't match its own checksum, so it was edited"


@dataclass(frozen=True)
class Fault:
    """A faulty or lost file; `record` is the path of the record or manifest that lists it, or else its own path."""

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

    Anything but a record or manifest at the path of one is a fault. So is a file that is named like an output of a
    stage but isn't listed in any record next to it. Files that a manifest lists must exist too, as must the records of
    the files that a record's stage has read. All other files in the results folder are ignored.
    """
    count, files, listed, faults = 0, 0, set[Path](), list[Fault]()
    manifests: dict[Path, Any] = {}
    readers: dict[Path, Path] = {}  # a record by each record that its stage needed
    outputs = _matches(results, (pattern for stage in STAGES.values() for pattern in stage.output_patterns))
    named = _matches(results, (pattern for stage in STAGES.values() for pattern in stage.records))
    for path in sorted({*named} - {*outputs}):  # answers.json isn't the record of a table called answers
        listed.add(path)
        try:
            content = read_json(path)
        except SpecError as error:
            faults.append(Fault(path, path, f"can't be read ({error})"))
            continue
        if is_record(content):
            count, files = count + 1, files + len(content["outputs"])
            listed |= {path.parent / name for name in content["outputs"]}
            faults += check_record(path, content)
            readers |= dict.fromkeys(map(results.joinpath, _read(path.relative_to(results), content)), path)
        elif not isinstance(content, dict) or "self" not in content:
            faults.append(Fault(path, path, "isn't a record; it was overwritten"))
        elif content != seal(content):
            faults.append(Fault(path, path, EDITED))
        else:
            manifests[path] = content
    refuse(not count, str(results), "contains no records; pass a results folder that `halobench run` has written")
    unrecorded = "isn't listed in any record; its stage's record is missing or damaged"
    faults += [Fault(path, path, unrecorded) for path in outputs if path not in listed]
    faults += _lost(results, manifests, {fault.path for fault in faults})
    gone = sorted(readers.keys() - {*named})
    faults += [Fault(path, path, f"is lost; {readers[path].relative_to(results)} was made from it") for path in gone]
    return Verification(count, files, tuple(faults))


def _matches(results: Path, patterns: Iterable[str]) -> list[Path]:
    """Return the files below the results folder whose paths match any of the patterns, in sorted order."""
    return sorted({path for pattern in patterns for path in results.glob(pattern) if path.is_file()})


def _lost(results: Path, manifests: Mapping[Path, Any], known: Container[Path] = ()) -> Iterator[Fault]:
    """Yield each file that manifests list but that doesn't exist; a folder that has lost all its files is one fault."""
    seen = set[Path]()
    for path, manifest in manifests.items():
        folders = (("runs", "cells"), ("references", "references"))
        try:
            entries = [
                (top, str(each["path"]), list(each["outputs"])) for top, key in folders for each in manifest[key]
            ]
        except (KeyError, TypeError):
            yield Fault(path, path, "isn't a manifest; it was overwritten")
            continue
        for top, name, outputs in entries:
            if bad := [each for each in (name, *outputs) if _leaves(each)]:
                yield Fault(path, path, f"lists {bad[0]!r}, which is outside its folder")
                continue
            folder = results / top / name
            missing = [folder / each for each in outputs if not (folder / each).is_file()]
            lost = [folder] if len(missing) == len(outputs) else missing
            for each in (each for each in lost if each not in known and each not in seen):
                seen.add(each)
                yield Fault(each, path, f"is lost; {path.relative_to(results)} lists it")


def _read(path: Path, record: Mapping[str, Any]) -> list[str]:
    """Return the paths, below the results folder, of the records of the files that a record's stage has read."""
    found = []
    with contextlib.suppress(AttributeError, KeyError, TypeError):  # someone may have forged the record
        stage, spec = STAGES[record["stage"]], record["spec"]
        scope = "partial/" if path.parts[0] == "partial" else ""
        jobs = [stage.wildcards(str(path).removeprefix(scope))]
        if "dataset" in spec:
            jobs[0]["source"] = spec["dataset"]["source"]
        if stage.name == "explorer":
            jobs = [{"experiment": name, "name": figure} for name, shown in spec["figures"].items() for figure in shown]
        needs = [need for need in stage.reads if need != "weights" or spec["model"].get("pretrained")]
        for job, need in itertools.product(jobs, map(STAGES.__getitem__, needs)):
            with contextlib.suppress(KeyError):  # manifests list the cells
                found.append(f"{scope if need.scoped else ''}{need.record_path(need.key.format_map(job))}")
    return found


def _leaves(name: str) -> bool:
    """Return whether a relative path leads outside the folder that it starts from."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def is_record(content: Any) -> bool:
    return isinstance(content, dict) and "stage" in content and isinstance(content.get("outputs"), dict)


def check_record(path: Path, record: dict[str, Any]) -> Iterator[Fault]:
    """Check a record and, if it is intact, the files that it lists in its folder; yield each fault found."""
    if record != seal(record):
        yield Fault(path, path, EDITED)
        return
    for name, digest in record["outputs"].items():
        output = path.parent / name
        if _leaves(name):
            yield Fault(path, path, f"lists {name!r}, which is outside its folder")
        elif not output.is_file():
            yield Fault(output, path, f"is missing; the {record['stage']} stage wrote it")
        elif (current := checksum(output)) != digest:
            changed = f"was changed after the {record['stage']} stage wrote it"
            yield Fault(output, path, f"{changed} (SHA-256 {current[:12]}..., recorded {str(digest)[:12]}...)")


def remove(faults: tuple[Fault, ...], results: Path) -> list[Path]:
    """Remove each fault's record with the files that it lists, so that its stage reruns; return the removed paths.

    If a record was edited, the files that it now lists are removed with it; if it can't be read, only the record is.
    Manifests that list removed or lost files are removed too.
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
    manifests = {path: read_json(path) for path in _matches(results, STAGES["manifest"].records)}
    for path in {fault.record for fault in _lost(results, manifests)}:
        path.unlink()
        removed.append(path)
    return removed
