"""Define the protocol that all stages share: a stage turns files into other files and seals these with a record.

A stage itself parses the spec, does the work and writes the outputs. This module refuses code that was edited after the
start of the run, removes files that killed writers left behind, and seals the outputs with a record. For a stage that
saves checkpoints, it also takes a GPU slot and handles signals.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from halobench.core.errors import DivergedError, Interrupted, RefusedError, SpecError, one_of, refuse
from halobench.core.specs.codec import parse, to_json
from halobench.experiment.code_version import require_code
from halobench.storage import files, tables_io
from halobench.storage.layout import STAGES
from halobench.storage.provenance import here, outside_plugins, record, started
from halobench.storage.records import read_record
from halobench.storage.request_diff import Request

if TYPE_CHECKING:
    from halobench.training.checkpoint import Checkpoint

Code = str | Mapping[str, str]  # a code version by module, or its digest
_OPTIONS = {"train": "run", "aggregate": "tables", "claims": "tables"}  # of commands: the folders of these stages
_WRITERS: Mapping[str, Callable[[Path, Any], None]] = {
    ".json": files.write_json,
    ".csv": tables_io.write_csv,
    ".parquet": tables_io.write_parquet,
}


@dataclass
class StageRun:
    """The run of a stage, to which the stage adds its outputs and facts."""

    name: str  # a key of `STAGES`
    record: Path  # next to the outputs
    spec: Mapping[str, Any]  # in canonical form
    seed: int | None
    code: Mapping[str, str]  # the code version of the result, by module
    packages: list[str]  # whose versions go into the record
    outputs: list[Path]  # the files that the record seals; by default, those that the stage table declares
    # Checksums of the inputs, by which `halobench.results.status` detects later changes.
    inputs: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # further entries in the record
    device: str = "cpu"
    seconds: float = 0.0  # spent on the run by earlier processes
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def write(self, *contents: Any) -> None:
        """Write the stage's declared outputs, in their order, each in the format that its suffix names."""
        names = ", ".join(path.name for path in self.outputs)
        what = f"run writes {len(contents)} of the files in STAGE; write all, in this order: {names}"
        refuse(len(contents) != len(self.outputs), f"stages.{self.name}", what)
        for path, content in zip(self.outputs, contents, strict=True):
            what = f"has no writer here; write it by `job.outputs`, or choose one of {', '.join(_WRITERS)}"
            refuse(path.suffix not in _WRITERS, path.name, what)
            _WRITERS[path.suffix](path, content)

    def claim_folder(self) -> None:
        """Hold the folder until the record is written; raise SpecError if a later process has written another result.

        An orphaned process of a killed run may end long after its cell's spec was edited and the cell recomputed.
        """
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self._held.enter_context(files.alone(self.record.parent))
        other: Mapping[str, Any] = {"started": ""}
        with contextlib.suppress(SpecError):  # there is no record, or a damaged one
            other = read_record(self.record, ["started", "spec", "seed", "code"])
        if other["started"] > started():
            mine = to_json([self.spec, self.seed, dict(self.code)])
            if to_json([other[key] for key in ("spec", "seed", "code")]) != mine:
                later = f"a later run (started {other['started']}) has already written another result here"
                raise RefusedError(str(self.record), f"{later}; this one (started {started()}) was discarded")


@contextlib.contextmanager
def stage(
    name: str,
    folder: Path,
    spec: Mapping[str, Any],
    *,
    seed: int | None = None,
    code: Code | None = None,
    plugins: Iterable[tuple[str, str]] = (),
    packages: Iterable[str] = (),
    reads: Mapping[str, Path] = MappingProxyType({}),
    record_path: Path | None = None,
) -> Iterator[StageRun]:
    """Run a stage: yield a run for the stage to fill in, and then seal the outputs in `folder` with a record.

    The requested `code` must be the current code. The result depends on the `plugins`, given as (kind, name). `reads`
    maps other stages to the folders that they wrote, or keys to single files; the record gets the checksums of the
    files that the stage declares to read there. SpecError is raised if such a file is missing.
    """
    began = time.perf_counter()
    record_path = record_path or folder / f"{name}.json"
    plugins = list(plugins)
    inputs = _checksums(name, reads)
    version, foreign = require_code(name, plugins, code), outside_plugins(plugins)
    files.check_writable(record_path.parent)
    files.sweep(record_path.parent)
    outputs = [record_path.parent / output.format(record_path.stem) for output in STAGES[name].writes]
    run = StageRun(name, record_path, spec, seed, version, list(packages), outputs, inputs)
    with run._held:
        yield run
        run.seconds += time.perf_counter() - began
        request, facts = Request(name, spec, version), {"inputs": run.inputs} | run.facts
        facts |= {"plugins": foreign} if foreign else {}
        facts = record(request, seed, run.outputs, run.seconds, run.packages, run.device, facts)
        files.write_json(record_path, facts)


def _checksums(name: str, reads: Mapping[str, Path]) -> dict[str, str]:
    """Return the checksums of the files that a stage reads; a single file is listed under its key."""
    found = {}
    for source, path in reads.items():
        if path.is_file():
            found[source] = files.checksum(path)
            continue
        what = f"run reads files of {source}, which `reads` in the STAGE of {name} doesn't list; add them there"
        refuse(source not in STAGES[name].reads, f"stages.{name}", what)
        check_folder(source, path)
        for file in STAGES[name].reads[source]:
            refuse(not (path / file).exists(), str(path / file), f"no such file; `halobench stage {source}` writes it")
            if (path / file).is_file():  # otherwise, whoever reads it says what should be there
                found[file] = files.checksum(path / file)
    return found


def check_folder(source: str, folder: Path) -> None:
    """Raise SpecError unless `folder`, which the stage `source` writes, exists."""
    what = f"no such folder: {folder}; `halobench stage {source}` writes it"
    refuse(not folder.is_dir(), f"--{_OPTIONS.get(source, source)}", what)


@contextlib.contextmanager
def resumable(run: StageRun, device: str, every: float, slots: int) -> Iterator[Callable[[str], Checkpoint]]:
    """Take a GPU slot if needed, handle signals, and name the cell in the error if the cell diverges or is stopped.

    Yield a function that notes the device passed to it and returns the run's checkpoint.
    """
    from halobench.training.checkpoint import Checkpoint, Signals
    from halobench.training.device import name_device_errors

    with contextlib.ExitStack() as held:
        held.enter_context(_gpu_slot(device, slots))  # while it waits, a signal ends the process as usual
        # Signals are held until the record is written: until then, one would leave complete outputs without a record.
        signals = run._held.enter_context(Signals())
        held.enter_context(_naming(run.record.parent))
        held.enter_context(name_device_errors())

        def checkpoint(used: str) -> Checkpoint:
            run.device = used
            key = [run.name, run.spec, run.seed, dict(run.code), *run.inputs.values()]
            hidden = run.record.with_name(f".{run.name}.safetensors")
            return Checkpoint(hidden, key, every, signals, here=here(used))

        yield checkpoint


@contextlib.contextmanager
def _gpu_slot(device: str, slots: int) -> Iterator[None]:
    """Use only one GPU in this context if the recipe doesn't specify which (``auto`` or ``cuda``); none for ``cpu``."""
    from halobench.pipeline.gpu_slots import device_slot, without_gpus

    if device not in ("auto", "cuda"):
        with without_gpus() if device == "cpu" else contextlib.nullcontext():
            yield
        return
    with device_slot(slots) as slot:
        if slot is not None:
            from halobench.training.device import why_no_cuda

            print(f"using GPU {slot.value} ({slot.uuid})", flush=True)
            if why := why_no_cuda():
                print(f"warning: torch can't use it ({why}), so this job runs on the CPU", flush=True)
        yield


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Prefix messages about a cell that diverged or was stopped with the cell's name, from `folder`."""
    try:
        yield
    except (DivergedError, Interrupted) as error:
        error.args = (f"{'/'.join(folder.parts[-4:])}: {error}",)
        raise


def parse_parts(spec: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return the parsed parts of a stage's spec; raise SpecError for a part that isn't among `kinds`."""
    if not isinstance(spec, Mapping):
        raise SpecError("spec", spec, f"a mapping with the keys {', '.join(kinds)}")
    for key in spec:
        if key not in kinds:
            raise SpecError(f"spec.{key}", spec[key], one_of(kinds, key))
    parsed: dict[str, Any] = {}
    for key, kind in kinds.items():
        try:
            parsed[key] = parse(kind, spec.get(key, {}))
        except SpecError as error:
            raise error.within(f"spec.{key}") from None
    return parsed
