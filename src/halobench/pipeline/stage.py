"""The stages as programs from files to files: each reads its inputs, runs its core, writes outputs and then its record.

Torch is imported by the stages that need it, not by this module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halobench.core.errors import SpecError, one_of
from halobench.core.spec_codec import canonical, parse, to_json
from halobench.storage import files, records
from halobench.storage.provenance import started

if TYPE_CHECKING:
    pass

EVERY = 60.0  # seconds between two savings of a resume point


@contextlib.contextmanager
def unless_superseded(path: Path, asked: Any, seed: int, code: Mapping[str, str]) -> Iterator[None]:
    """Write a cell's files, unless a process that started later has made them of another spec or code: `path`'s record.

    An orphan of a killed run may end long after its cell was edited and computed anew. One process writes at a time.

    Raises
    ------
    SpecError
        If it was made anew; nothing is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.alone(path.parent):
        found = {"started": ""}
        with contextlib.suppress(SpecError):  # none, or a damaged one
            found = records.read_record(path, ["started", "spec", "seed", "code"])
        mine = to_json([asked, seed, dict(code)])
        if found["started"] > started() and to_json([found[key] for key in ("spec", "seed", "code")]) != mine:
            what = (
                f"none that started after {started()} with another spec or code, as this one did; nothing was written"
            )
            raise SpecError(str(path), f"a run that started {found['started']}", what)
        yield


@contextlib.contextmanager
def gpu_slot(device: str, slots: int) -> Iterator[None]:
    """Keep to one GPU for as long as this lasts, where the recipe leaves open which: ``auto`` or ``cuda``."""
    if device not in ("auto", "cuda"):
        yield
        return
    from halobench.pipeline.gpu_slots import device_slot

    with device_slot(slots) as found:
        if found is not None:
            print(f"on GPU {found.value} ({found.identity})", flush=True)
        yield


@contextlib.contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Lead the message of a cell that diverged or was stopped by its name: the last four parts of its folder."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ in ("DivergedError", "Interrupted"):
            error.args = (f"{'/'.join(folder.parts[-4:])}: {error}",)
        raise


def _checksums(tables: Path, names: Iterable[str]) -> dict[str, str]:
    """Checksums of an experiment's tables."""
    return {name: files.checksum(tables / f"{name}.parquet") for name in names}


def parse_parts(spec: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Each part of a stage's spec, parsed; all must be there and no other.

    Raises
    ------
    SpecError
    """
    if not isinstance(spec, Mapping):
        raise SpecError("spec", spec, f"a mapping of {', '.join(kinds)}")
    for key in spec:
        if key not in kinds:
            raise SpecError(f"spec.{key}", spec[key], one_of(kinds, key))
    parsed = {}
    for key, kind in kinds.items():
        try:
            parsed[key] = parse(kind, spec.get(key, {}))
        except SpecError as error:
            raise error.within(f"spec.{key}") from None
    return parsed


def _canonical_parts(specs: Mapping[str, Any]) -> dict[str, Any]:
    """Parsed parts as plain data again."""
    return {key: canonical(value) for key, value in specs.items()}
