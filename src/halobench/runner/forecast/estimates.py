"""What jobs take, as the records of the most alike jobs tell that have run here: seconds, memory and bytes.

Of a job without such a record nothing is made up.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import fmean as mean
from typing import Any

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.spec_codec import parse, to_json
from halobench.core.specs import DatasetSpec, ProbeSpec, TrainSpec
from halobench.runner.dry_run import PlannedJob, request_of
from halobench.storage import files, layout, records

PLACES = {stage.name: stage.records for stage in layout.STAGES.values()}
ASKED = ("source", "weights", "train", "probe", "calibrate", "reference")  # are given a spec
MIB = 2**20


@dataclass(frozen=True)
class Likeness:
    """One way in which a record can be like a job.

    Parameters
    ----------
    words : str
        To follow "records".
    key : callable
        Of a spec and of a record's path under the working directory; equal for those that are alike.
    work : callable, optional
        Of a spec as JSON: what the time grows with. Without it the time counts as it is.
    rough : bool
        Whether more than the digits may be wrong.
    """

    words: str
    key: Callable[[Any, PurePosixPath], Any]
    work: Callable[[str], float] | None = None
    rough: bool = False


@functools.cache
def training_work(spec: str) -> float:
    """Images that a training passes through the model: steps x batch x the rows that its loss makes of each image.

    Steps are counted as `halobench.training.loop.fit` does. A loss says in its file by ``ROWS = 2`` that it makes two.
    """
    parts = json.loads(spec)
    points = parse(DatasetSpec, parts["dataset"]).train
    recipe = parse(TrainSpec, parts.get("train", {}))
    batch = min(recipe.batch, points)
    return recipe.epochs * (points // batch) * batch * _rows(parts)


def _rows(parts: Mapping[str, Any]) -> int:
    """Return how many rows a training's loss makes of each image; 1 if its file is gone."""
    with contextlib.suppress(SpecError, KeyError):
        return plugins.constant("losses", parts["loss"]["name"], "ROWS") or 1
    return 1


@functools.cache
def probing_work(spec: str) -> float:
    """Images that probes pass through the model at most: every grid distance and every bisection of five radii."""
    parts = json.loads(spec)
    dataset = parse(DatasetSpec, parts["dataset"])
    total = 0
    for probe in (parse(ProbeSpec, value) for value in parts["probes"].values()):
        rays = probe.directions * (min(probe.points, dataset.train) + min(probe.control, dataset.test))
        total += rays * (1 + len(probe.radii) + len(probe.relative_radii) + 5 * probe.bisections)
    return total


def _whole(spec: Any, path: PurePosixPath) -> str:
    return to_json(spec)


def _any(spec: Any, path: PurePosixPath) -> str:
    return ""


def _model_and_source(spec: Any, path: PurePosixPath) -> str:
    return to_json([spec["model"], spec["dataset"]["source"]])


ANY = Likeness("of other such jobs", _any, rough=True)
ANEW = Likeness("from the last time, with the cells of then", lambda spec, path: path)
# Best first.
LIKE = {
    "source": (Likeness("of the same spec", _whole), ANY),
    "weights": (Likeness("of the same spec", _whole), ANY),
    "train": (
        Likeness("of the same spec, any seed", _whole),
        Likeness(
            "of the same cell with another loss",
            lambda spec, path: to_json({k: v for k, v in spec.items() if k != "loss"}),
            training_work,
        ),
        Likeness("of the same model and source, scaled by training steps", _model_and_source, training_work),
    ),
    "probe": (
        Likeness("of the same spec, any loss and seed", _whole),
        Likeness("of the same model and source, scaled by places probed", _model_and_source, probing_work, rough=True),
    ),
    "calibrate": (
        Likeness("of the same data set and spec", lambda spec, path: (to_json(spec), path.parts[2])),
        Likeness("of the same spec on other data sets", _whole, rough=True),
        ANY,
    ),
    "reference": (Likeness("of the same spec, any seed", _whole), ANY),
    "aggregate": (ANEW, ANY),
    "claims": (ANEW, ANY),
    "overview": (ANEW, ANY),
    "table": (ANEW, Likeness("of the same table elsewhere", lambda spec, path: path.name, rough=True), ANY),
    "figure": (ANEW, Likeness("of the same figure elsewhere", lambda spec, path: path.name, rough=True), ANY),
    "explorer": (ANEW, ANY),
}


@dataclass(frozen=True)
class Made:
    """What a record tells of a job that has run.

    `seconds` are those of the whole job and `looped` those of its training loop, the only ones that grow with steps;
    `memory` is its peak in MiB; `device` is ``cpu`` or ``cuda``.
    """

    path: PurePosixPath
    spec: Any
    seconds: float
    looped: float | None
    memory: float
    device: str
    chip: str
    host: str
    outputs: tuple[str, ...]


def read_made(folder: Path, path: PurePosixPath) -> Made:
    """Read the record at `path` under `folder`.

    Raises
    ------
    SpecError
        If it can't be read, or isn't one that this version understands.
    """
    return made_of(path, records.read_record(folder / path, ["spec", "seconds", "device", "hardware"]))


def made_of(path: PurePosixPath, record: Mapping[str, Any]) -> Made:
    """Return what a record that was read from `path` says.

    Raises
    ------
    SpecError
        If it isn't one that this version understands.
    """
    with files.reading(path, "a record of this version"):
        hardware = record["hardware"]
        device = "cuda" if record["device"].startswith("cuda") else "cpu"
        chip = hardware["gpu"] if device == "cuda" else hardware["processor"]
        looped, memory = record.get("train_seconds"), float(record.get("peak_memory_mib", 0))
        seconds = float(record["seconds"])
        return Made(
            path, record["spec"], seconds, looped, memory, device, chip, hardware["host"], (*record["outputs"],)
        )


@dataclass(frozen=True, eq=False)
class Estimate:
    """What alike jobs take: mean seconds and bytes on disk (None: not known), the largest peak in MiB, and from where.

    Jobs that ask the same share one.
    """

    seconds: float
    size: float | None
    memory: float
    like: Likeness
    origins: tuple[Made, ...]

    @functools.cached_property
    def of_cpu(self) -> bool:
        """Whether some of it is told by jobs that ran on a CPU."""
        return any(one.device == "cpu" for one in self.origins)


class Past:
    """The records in a working directory of jobs of some kinds, each read once.

    Parameters
    ----------
    folder : Path
        The working directory.
    kinds : iterable of str
        Kinds of jobs, of whose records all are read.
    sizes : bool
        Whether estimates tell bytes on disk, for which each output is looked at.
    """

    def __init__(self, folder: Path, kinds: Iterable[str], sizes: bool = True):
        self.folder, self.unreadable, self.sizes = folder, 0, sizes
        self._alike: dict[tuple[str, Likeness, Any], list[Made]] = {}
        self._found: dict[tuple[Any, ...], Estimate | None] = {}
        self._sizes: dict[PurePosixPath, dict[str, int] | None] = {}
        for kind in kinds:
            for pattern in PLACES.get(kind, ()):
                for path in sorted((folder / "results").glob(pattern)):
                    if kind == "table" and path.name in layout.RECORDS:
                        continue  # of the stages that write beside it
                    self._keep(kind, PurePosixPath(path.relative_to(folder).as_posix()))

    def _keep(self, kind: str, path: PurePosixPath) -> None:
        try:
            self.add(kind, read_made(self.folder, path))
        except SpecError:
            self.unreadable += 1

    def add(self, kind: str, past: Made) -> None:
        """Let a record count from now on.

        Raises
        ------
        SpecError
            If its spec isn't one that this version understands.
        """
        with files.reading(self.folder / past.path, f"the spec of a {kind} job of this version"):
            for like in LIKE[kind]:
                if like.work:
                    like.work(to_json(past.spec))
            keys = keys_of(kind, past.path, past.spec)
        for key in keys:
            self._alike.setdefault(key, []).append(past)
        self._found.clear()

    def estimate(self, job: PlannedJob) -> Estimate | None:
        """Return what a job takes, from the records that are most like it; None if there are none."""
        path, spec = record_path(job), asked_spec(job, self.folder)
        if path is None or (spec is None and job.kind in ASKED):
            return None
        return self.alike(keys_of(job.kind, path, spec), devices(job, spec), spec)

    def alike(
        self, keys: tuple[tuple[str, Likeness, Any], ...], devices: tuple[str, ...], spec: Any
    ) -> Estimate | None:
        """Return the same for a job with these keys and this spec."""
        key = (keys, devices)
        if key not in self._found:
            self._found[key] = self._estimate(spec, *key)
        return self._found[key]

    def _estimate(
        self, spec: Any, keys: Iterable[tuple[str, Likeness, Any]], devices: Iterable[str]
    ) -> Estimate | None:
        for device in devices:
            for key in keys:
                if alike := [one for one in self._alike.get(key, ()) if device in ("", one.device)]:
                    return self._mean(alike, key[1], spec)
        return None

    def _mean(self, alike: Sequence[Made], like: Likeness, spec: Any) -> Estimate:
        sizes = [size for size in (self._size(one, spec) for one in alike if self.sizes) if size is not None]
        seconds = mean(scaled(one, like, spec) for one in alike)
        return Estimate(seconds, mean(sizes) if sizes else None, max(one.memory for one in alike), like, tuple(alike))

    def _size(self, past: Made, spec: Any) -> float | None:
        """Bytes of what a job wrote, its logits as many as another spec asks for; None if some of it is gone."""
        if past.path not in self._sizes:
            place = self.folder / past.path
            try:
                written = {name: (place.parent / name).stat().st_size for name in (*past.outputs, place.name)}
            except OSError:
                written = None
            self._sizes[past.path] = written
        sizes = self._sizes[past.path]
        if sizes is None:
            return None
        logits = sizes.get("logits.safetensors", 0)
        return sum(sizes.values()) + (logits * (_points(spec) / _points(past.spec) - 1) if logits else 0)


def keys_of(kind: str, path: PurePosixPath, spec: Any) -> tuple[tuple[str, Likeness, Any], ...]:
    """Yield what records have in common with a job, best first, by the path of its own record."""
    return tuple((kind, like, like.key(spec, path)) for like in LIKE[kind])


def _points(spec: Any) -> int:
    """Points of all splits of a data set."""
    return sum(spec["dataset"][split] for split in ("train", "val", "test"))


def scaled(past: Made, like: Likeness, spec: Any) -> float:
    """Seconds that a job took, scaled to another spec where the likeness says by what."""
    if like.work is None:
        return past.seconds
    ratio = like.work(to_json(spec)) / like.work(to_json(past.spec))
    # What a training takes besides its loop, such as importing torch, doesn't grow with its steps.
    looped = past.seconds if past.looped is None else min(past.looped, past.seconds)
    return past.seconds - looped + looped * ratio


def record_path(job: PlannedJob) -> PurePosixPath | None:
    """Return the record that a job leaves; None of a kind that leaves none."""
    name = f"{job.product}.json"
    records = (path for path in map(PurePosixPath, job.outputs) if path.name == name)
    return next(records, None) if job.kind in LIKE else None


def asked_spec(job: PlannedJob, folder: Path) -> Any:
    """Return the spec in a job's request; None for a job without one."""
    path = request_of(job)
    return _read_spec(folder / path) if path and job.kind in ASKED else None


@functools.cache
def _read_spec(path: Path) -> Any:
    """Return the spec of a request, which never changes; None if it can't be read."""
    try:
        return files.read_json(path, ["spec"])["spec"]
    except SpecError:
        return None


def devices(job: PlannedJob, spec: Any) -> tuple[str, ...]:
    """Kinds of device whose records count, best first; an empty one stands for any.

    A recipe that leaves the device open counts as one for a GPU where the job asks for one, or for a part of one.
    """
    if job.kind not in ("train", "probe"):
        return ("",)
    device = spec.get("train", {}).get("device", "auto")
    on_gpu = device.startswith("cuda") or (device == "auto" and (gpus(job) or amount(job, "shard")))
    return ("cuda", "cpu") if on_gpu else ("cpu", "cuda")


def amount(job: PlannedJob, resource: str) -> int:
    """How much of a resource a job asks for; 0 where it doesn't, or where that isn't known yet."""
    text = job.resources.get(resource, "0")
    return int(text) if text.isdecimal() else 0


def gpus(job: PlannedJob) -> int:
    """GPU slots that a job asks for."""
    return amount(job, "gpu")
