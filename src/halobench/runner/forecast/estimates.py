"""Estimate the seconds, memory and bytes that jobs take, from the records of the nearest jobs that have run here.

The nearest jobs have the same spec; the next nearest have the same data set and model, then the same model, and finally
only the same stage. Seconds grow with the number of images that pass through the model.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.spec_codec import parse, to_json
from halobench.core.specs import ProbeSpec, TrainSpec
from halobench.runner.dry_run import PlannedJob, request_of, results_of
from halobench.storage import files
from halobench.storage.layout import RECORDS, STAGES
from halobench.storage.records import read_record

UNNAMED = ("calibrate", "repair")  # stages whose specs don't include the data set
CLOSE = ("same spec", "same data and model", "last time")  # estimates from less near records than these are rough


@functools.cache
def work(stage: str, text: str) -> float:
    """Return how many images a job's model sees, or how many samples are scored, according to its spec (as JSON).

    The job's seconds grow with this number, which is 1 for a spec without a data set. A spec from another version may
    raise any kind of error.
    """
    spec = json.loads(text)
    if "dataset" not in spec:
        return 1.0
    train, val, test = (spec["dataset"][split] for split in ("train", "val", "test"))
    if stage == "train":
        with suppress(SpecError, KeyError):  # a loss has ``ROWS = 2`` in its file if it makes two images out of one
            train *= plugins.constant("losses", spec["loss"]["name"], "ROWS") or 1
        return parse(TrainSpec, spec.get("train", {})).epochs * train
    if stage != "probe":
        return val + test
    images = 0
    for probe in (parse(ProbeSpec, value) for value in spec["probes"].values()):
        images += _passes(probe) * (min(probe.points, train) + min(probe.control, test))
    return images


CERTIFICATE = 10_000  # forward passes that roughly take as long as a certificate (which takes longer with convolutions)


def _passes(probe: ProbeSpec) -> int:
    """Return how often, at most, a probe passes a sample through the model; a pass with gradients counts as three."""
    if not probe.searches:
        return probe.directions * (1 + len(probe.radii) + len(probe.relative_radii) + 5 * probe.bisections)
    if probe.kind == "certified":
        return CERTIFICATE
    takes = plugins.signature("searches", probe.kind) or {}
    return 3 * (probe.restarts + 2) * probe.steps if "steps" in takes else 4 * probe.directions


@functools.cache
def samples(text: str) -> int:
    """Return the number of samples in all splits of a spec's data set (1 if the spec has none)."""
    dataset = json.loads(text).get("dataset", {})
    return sum(dataset[split] for split in ("train", "val", "test") if split in dataset) or 1


def nearness(stage: str, path: str, spec: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what a job may have in common with others, nearest first, each as a phrase and a value.

    A job that draws something is identified by the `path` of its record, others by their `spec`.
    """
    if STAGES[stage].scoped:
        return ("last time", path), ("same elsewhere", path.rpartition("/")[2]), ("same stage", "")
    keys = {"same spec": to_json(spec)}
    if "dataset" in spec:
        keys["same data and model"] = to_json([spec.get("model"), spec["dataset"]["source"]])
    if "model" in spec:
        keys["same model, other data"] = to_json(spec["model"])
    return (*keys.items(), ("same stage", ""))


@dataclass(frozen=True)
class Record:
    """The time, memory and disk space that a finished job took.

    `spec` is JSON. `growing` is the part of `seconds` that grows with the job's work. `memory` is in MiB. `size` is in
    bytes (None if some files are gone); `logits` is the part of it that grows with the number of samples.
    """

    spec: str
    seconds: float
    growing: float
    memory: float
    size: int | None
    logits: int
    place: str


@dataclass(frozen=True)
class Estimate:
    """An estimate of a job's seconds, bytes (None if unknown) and peak memory (MiB), and how `near` the records are."""

    seconds: float
    size: float | None = None
    memory: float = 0.0
    near: str = CLOSE[0]
    rough: bool = False
    places: tuple[str, ...] = ()


class Past:
    """The records in a working directory, `folder`, for the stages of `jobs`, which are all jobs that would run.

    Records that can't be read or come from another version are counted in `unreadable`.
    """

    def __init__(self, folder: Path, jobs: Sequence[PlannedJob]):
        self.folder, self.unreadable = folder, 0
        self._cells: dict[str, Mapping[str, Any]] = {}  # the specs of training, by cell folder
        self._records: dict[tuple[str, ...], list[Record]] = {}
        self._nearest = functools.cache(self._find_nearest)
        stages = {job.kind for job in jobs}
        stages |= {"train"} if stages & set(UNNAMED) else set()
        results = folder / results_of(jobs)
        for stage in (STAGES[name] for name in STAGES if name in stages and name != "manifest"):
            for path in sorted(path for pattern in stage.records for path in results.glob(pattern)):
                if stage.name == "table" and path.name in RECORDS:
                    continue  # belongs to another stage that writes into the same folder
                try:
                    self._read(stage.name, os.path.relpath(path, folder))
                except SpecError:
                    self.unreadable += 1
        for job in jobs:
            if job.kind == "train":
                self._cells[_folder(job.outputs[-1])] = self._spec(job)

    def _read(self, stage: str, path: str) -> None:
        """Add a record to those that count; raise SpecError if it can't be read."""
        content = read_record(self.folder / path, ["spec", "seconds", "device", "hardware"])
        with files.reading(path, "a record of this version"):
            spec, seconds, hardware = self._whole(stage, path, content["spec"]), content["seconds"], content["hardware"]
            device, text = content["device"].partition(":")[0], to_json(spec)
            work(stage, text)
            record = Record(
                text,
                float(seconds),
                min(content.get("train_seconds") or seconds, seconds),  # e.g. the time to import torch doesn't grow
                float(content.get("peak_memory_mib", 0)),
                *self._sizes(path, content["outputs"]),
                f"{device} ({hardware['gpu' if device == 'cuda' else 'processor']}, host {hardware['host']})",
            )
        if stage == "train":
            self._cells[_folder(path)] = spec
        for key in nearness(stage, path, spec):
            for where in (device, ""):
                self._records.setdefault((stage, *key, where), []).append(record)

    def _sizes(self, path: str, outputs: Sequence[str]) -> tuple[int | None, int]:
        """Return the bytes of a record and its outputs (None if one is gone), and how many of them are logits."""
        place = self.folder / path
        try:
            sizes = {name: place.with_name(name).stat().st_size for name in (*outputs, place.name)}
        except OSError:
            return None, 0
        return sum(sizes.values()), sizes.get("logits.safetensors", 0)

    def _whole(self, stage: str, path: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return a job's spec; for `UNNAMED` stages, with the data set and model of its cell added."""
        cell = self._cells.get(_folder(path), {}) if stage in UNNAMED else {}
        return {**spec, **{key: cell[key] for key in ("dataset", "model") if key in cell}}

    def _spec(self, job: PlannedJob) -> dict[str, Any]:
        return self._whole(job.kind, job.outputs[-1], _read_spec(self.folder / request_of(job)))

    def estimate(self, job: PlannedJob) -> Estimate | None:
        """Return what a job takes, estimated from the nearest records; None if no job of its stage has left one.

        Raises
        ------
        SpecError
            If its request can't be read.
        """
        if job.kind not in STAGES or not request_of(job):
            return None
        spec = self._spec(job)
        return self._nearest(job.kind, nearness(job.kind, job.outputs[-1], spec), to_json(spec), _device(job, spec))

    def _find_nearest(self, stage: str, keys: tuple[tuple[str, str], ...], text: str, device: str) -> Estimate | None:
        # The same model on another kind of device is a better guide than another model on the same kind.
        tried = ((key, where) for few in (keys[:-1], keys[-1:]) for where in (device, "") for key in few)
        for key, where in tried:
            if records := self._records.get((stage, *key, where)):
                return mean(records, stage, text, key[0])
        return None


def mean(records: Sequence[Record], stage: str, text: str, near: str) -> Estimate:
    """Average records that are this `near`, scaled to a spec (as JSON); for memory, take the maximum."""
    ratios = [
        (one, work(stage, text) / (work(stage, one.spec) or 1), samples(text) / samples(one.spec)) for one in records
    ]
    sizes = [one.size + one.logits * (more - 1) for one, _, more in ratios if one.size is not None]
    return Estimate(
        fmean(one.seconds + one.growing * (ratio - 1) for one, ratio, _ in ratios),
        fmean(sizes) if sizes else None,
        max(one.memory for one in records),
        near,
        near not in CLOSE,
        tuple(sorted({one.place for one in records})),
    )


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


@functools.cache
def _read_spec(path: Path) -> Any:
    """Read a request's spec, which never changes."""
    return files.read_json(path, ["spec"])["spec"]


def _device(job: PlannedJob, spec: Mapping[str, Any]) -> str:
    """Return the kind of device that a job computes on, ``cuda`` or ``cpu``; empty if it doesn't matter.

    A recipe that leaves the device open counts as a GPU recipe if the job requests a GPU or part of one.
    """
    if job.kind not in ("train", "probe"):
        return ""
    device = spec.get("train", {}).get("device", "auto").partition(":")[0]
    on_gpu = amount(job, "gpu") or amount(job, "shard")
    return device if device != "auto" else "cuda" if on_gpu else "cpu"


def amount(job: PlannedJob, resource: str) -> int:
    """Return how much of a resource a job requests; 0 if it requests none or the amount isn't known yet."""
    text = job.resources.get(resource, "0")
    return int(text) if text.isdecimal() else 0
