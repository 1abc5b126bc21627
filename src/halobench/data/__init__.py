"""Sources of images, cut into splits and given label noise from the cell's seed.

A loader is a file here with two functions: ``describe(**options) -> Description``, which is cheap, and
``load(**options) -> Images``. Nothing here needs torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from halobench import plugins, store
from halobench.seeding import generator
from halobench.specs import DatasetSpec, NoiseSpec, SourceSpec, SpecError, canonical, parse, require

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Description:
    """What a source will hold: shape (C, H, W) of an image, numbers of classes and images, official parts if any."""

    shape: tuple[int, int, int]
    classes: int
    size: int
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Images:
    """Labelled images of a source.

    Attributes
    ----------
    images : uint8 array (N, C, H, W)
    labels : int64 array (N,)
        In [0, classes).
    parts : mapping of str to (start, stop)
        Official ``train`` and ``test`` parts, as ranges of rows; empty where the source has none.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """Points of one split.

    Attributes
    ----------
    index : int64 array (n,)
        Rows of the source.
    images : uint8 array (n, C, H, W)
    labels : int64 array (n,)
        With the label noise drawn: what is trained on.
    clean : int64 array (n,)
        As in the source.
    """

    index: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    clean: np.ndarray


@dataclass(frozen=True)
class Data:
    """The splits of a data set at one seed, with the law of its label noise.

    `transition` (classes, classes) holds P(label = j | clean label = i), which makes the posterior of a point known by
    construction: row `clean` of it. `mean` and `std` (C,) normalise pixels on the 0 to 255 scale.
    """

    splits: Mapping[str, Split]
    classes: int
    shape: tuple[int, int, int]
    mean: np.ndarray
    std: np.ndarray
    transition: np.ndarray

    def inputs(self, split: str) -> np.ndarray:
        """Normalised images of a split, float32 (n, C, H, W)."""
        return normalise(self.splits[split].images, self.mean, self.std)

    def targets(self) -> dict[str, np.ndarray]:
        """What `halobench.calibration` reads beside the logits: labels, clean labels and the transition."""
        arrays = {f"{name}.labels": split.labels for name, split in self.splits.items()}
        arrays |= {f"{name}.clean": split.clean for name, split in self.splits.items()}
        return arrays | {"transition": self.transition}


def describe(spec: SourceSpec) -> Description:
    """What the source of `spec` will hold, without loading it.

    Raises
    ------
    SpecError
        If that is no description of images in two classes or more.
    """
    loader = plugins.load("data", spec.loader)
    found = sys.modules[loader.__module__].describe(**spec.options)
    if not isinstance(found, Description):
        expected = f"a loader whose describe gives halobench.data.Description, not {type(found).__name__}"
        raise SpecError("loader", spec.loader, expected)
    if len(found.shape) != 3 or min(found.shape) < 1 or found.classes < 2 or found.size < 1:
        raise SpecError("loader", spec.loader, f"images (C, H, W) in at least 2 classes, not {found}")
    return found


def load_source(spec: SourceSpec) -> Images:
    """Load a source's images.

    Raises
    ------
    SpecError
        If the loader raises, or gives something other than it must or its ``describe`` tells.
    """
    told = describe(spec)
    try:
        images = plugins.load("data", spec.loader)(**spec.options)
    except SpecError:
        raise
    except Exception as error:  # loaders outside the package may raise anything
        raise SpecError("loader", spec.loader, f"a loader that loads ({plugins.told(error)})") from error
    if not isinstance(images, Images):
        raise SpecError(
            "loader", spec.loader, f"a loader that gives halobench.data.Images, not {type(images).__name__}"
        )
    pixels, labels = np.asarray(images.images), np.asarray(images.labels)
    if (
        pixels.dtype != np.uint8
        or pixels.ndim != 4
        or labels.shape != pixels.shape[:1]
        or labels.dtype.kind not in "iu"
    ):
        found = f"{pixels.dtype} {pixels.shape} and {labels.dtype} {labels.shape}"
        raise SpecError("loader", spec.loader, f"uint8 images (N, C, H, W) and N whole labels, not {found}")
    found = Description(pixels.shape[1:], images.classes, len(pixels), images.parts)
    if (tuple(told.shape), told.classes, told.size) != (found.shape, found.classes, found.size):
        raise SpecError("loader", spec.loader, f"images as its describe tells, {told}, not {found}")
    if labels.min() < 0 or labels.max() >= images.classes:
        raise SpecError("loader", spec.loader, f"labels in [0, {images.classes})")
    return images


def write_source(spec: SourceSpec, folder: Path) -> list[Path]:
    """Write ``images.npy``, ``labels.npy`` and ``meta.json`` of a source; return the paths."""
    source = load_source(spec)
    paths = [folder / "images.npy", folder / "labels.npy", folder / "meta.json"]
    store.write_npy(paths[0], source.images)
    store.write_npy(paths[1], source.labels.astype(np.int64))
    start, stop = source.parts.get("train", (0, len(source.images)))
    mean, std = channel_moments(source.images[start:stop])
    meta = {
        "spec": canonical(spec),
        "shape": list(source.images.shape[1:]),
        "size": len(source.images),
        "classes": source.classes,
        "parts": {name: list(part) for name, part in source.parts.items()},
        "mean": mean.tolist(),
        "std": std.tolist(),
        "checksums": {path.name: store.checksum(path) for path in paths[:2]},
    }
    store.write_json(paths[2], meta)
    return paths


def channel_moments(images: np.ndarray, chunk: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over all pixels, (C,) each, read in chunks of images.

    A constant channel gets a deviation of 1, so that dividing by it is harmless.
    """
    count, total, square = 0, 0.0, 0.0
    for start in range(0, len(images), chunk):
        block = images[start : start + chunk].astype(np.float64)
        count += block.shape[0] * block.shape[2] * block.shape[3]
        total = total + block.sum(axis=(0, 2, 3))
        square = square + (block**2).sum(axis=(0, 2, 3))
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    return mean, np.where(std > 0, std, 1.0)


def normalise(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(pixel - mean) / std by channel, float32 (n, C, H, W)."""
    shape = (1, -1, 1, 1)
    scale = (1 / std).astype(np.float32).reshape(shape)
    return (images.astype(np.float32) - mean.astype(np.float32).reshape(shape)) * scale


def load_data(folder: Path, spec: DatasetSpec, seed: int) -> Data:
    """Cut a written source into the splits of `spec` and draw its label noise, both from `seed`.

    The cut depends on the seed and the sizes alone, so that noise levels of one source share their points.

    Raises
    ------
    SpecError
        If the source has fewer images than the splits need, or a file of it is missing or isn't as it was written.
    """
    meta, images, labels = read_source(folder)
    transition = noise_transition(spec.noise, meta["classes"], generator(seed, "noise-map"))
    splits = {}
    for name, index in split_indices(spec, meta["size"], meta["parts"], generator(seed, "split")).items():
        clean = labels[index]
        noisy = draw_labels(transition, clean, generator(seed, "noise", name))
        splits[name] = Split(index, np.asarray(images[index]), noisy, clean)
    mean, std = np.asarray(meta["mean"]), np.asarray(meta["std"])
    return Data(splits, meta["classes"], tuple(meta["shape"]), mean, std, transition)


def read_source(folder: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """What `write_source` wrote: meta data, images (mapped into memory) and labels, checked against one another.

    Raises
    ------
    SpecError
        That names the file which is missing, can't be read or doesn't fit the others.
    """
    place = folder / "meta.json"
    meta = store.read_json(place, ("shape", "size", "classes", "parts", "mean", "std", "checksums"))
    store.check_recorded(place)
    with store.reading(place, "shape, size, classes, parts, mean, std and checksums as `halobench source` writes them"):
        shape, size, classes = (*map(int, meta["shape"]),), int(meta["size"]), int(meta["classes"])
        for key in ("mean", "std"):
            require(
                np.shape(meta[key]) == shape[:1] and np.isfinite(meta[key]).all(), key, meta[key], "a number a channel"
            )
        require(classes >= 2, "classes", classes, "at least 2")
        for start, stop in meta["parts"].values():
            require(0 <= start < stop <= size, "parts", meta["parts"], f"ranges of the {size} images")
        digests = {name: str(meta["checksums"][name]) for name in ("images.npy", "labels.npy")}
    restore_arrays(folder, meta)
    images = store.read_npy(folder / "images.npy", "uint8", (size, *shape), mapped=True)
    labels = store.read_npy(folder / "labels.npy", "int64", (size,))
    for name, digest in digests.items():
        store.check_sum(folder / name, digest, "the bytes that meta.json records")
    if labels.min() < 0 or labels.max() >= classes:
        raise SpecError(str(folder / "labels.npy"), f"{labels.min()} to {labels.max()}", f"labels in [0, {classes})")
    return meta, images, labels


def restore_arrays(folder: Path, meta: Mapping[str, Any]) -> None:
    """Load a source's arrays again where they are lost, e.g. deleted to make room; one process at a time.

    Raises
    ------
    SpecError
        If the loader gives others than `meta` tells of, or can't load; then nothing is written.
    """
    lost = [name for name in ("images.npy", "labels.npy") if not os.path.lexists(folder / name)]
    if not lost:
        return
    with store.alone(folder):
        if all((folder / name).exists() for name in lost):
            return  # made while this process waited
        print(f"loading {' and '.join(lost)} again", flush=True)
        source = load_source(parse(SourceSpec, meta.get("spec")))
        arrays = {"images.npy": source.images, "labels.npy": source.labels.astype(np.int64)}
        for name in lost:
            with store.replacing(folder / name) as temporary:
                np.save(temporary, arrays[name], allow_pickle=False)
                if store.checksum(temporary) != meta["checksums"][name]:
                    what = "what the loader gave before; if the data has changed, delete meta.json: all is made anew"
                    raise SpecError(str(folder / name), "other bytes", what)


def check_size(spec: DatasetSpec, size: int, parts: Mapping[str, Any] | None = None) -> None:
    """Raise SpecError if a source of `size` images can't fill the splits of `spec`."""
    if not parts:
        total = spec.train + spec.val + spec.test
        if total > size:
            raise SpecError("train + val + test", total, f"at most the {size} images of source {spec.source!r}")
        return
    for key, wanted, part in (("train + val", spec.train + spec.val, "train"), ("test", spec.test, "test")):
        held = parts[part][1] - parts[part][0]
        if wanted > held:
            raise SpecError(key, wanted, f"at most the {held} images of the {part} part of source {spec.source!r}")


def split_indices(
    spec: DatasetSpec, size: int, parts: Mapping[str, Any], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Rows of each split, disjoint, drawn without replacement; from the official parts where the source has them."""
    check_size(spec, size, parts)
    if not parts:
        order = rng.permutation(size)
        stops = np.cumsum([spec.train, spec.val, spec.test])
        return dict(zip(SPLITS, np.split(order, stops)[:3], strict=True))
    fit = np.arange(*parts["train"])[rng.permutation(parts["train"][1] - parts["train"][0])]
    held = np.arange(*parts["test"])[rng.permutation(parts["test"][1] - parts["test"][0])]
    return {"train": fit[: spec.train], "val": fit[spec.train : spec.train + spec.val], "test": held[: spec.test]}


def noise_transition(spec: NoiseSpec, classes: int, rng: np.random.Generator) -> np.ndarray:
    """P(label = j | clean = i) as float64 (classes, classes), for the noise kinds that `NoiseSpec` describes."""
    identity = np.eye(classes)
    if spec.kind == "uniform":
        return (1 - spec.p) * identity + spec.p * (1 - identity) / (classes - 1)
    partner = np.empty(classes, dtype=np.int64)
    if spec.kind == "cycle":
        order = rng.permutation(classes)
        partner[order] = np.roll(order, -1)
    else:
        # An offset in [1, classes) never lands on the class itself, and every other class is as likely.
        partner[:] = (np.arange(classes) + rng.integers(1, classes, size=classes)) % classes
    return (1 - spec.p) * identity + spec.p * identity[partner]


def draw_labels(transition: np.ndarray, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One label a point, int64 (n,), from row `clean` of the transition, by inverting its distribution function."""
    cumulative = np.cumsum(transition, axis=1)[clean]
    labels = (rng.random(len(clean))[:, None] >= cumulative).sum(axis=1)
    return np.minimum(labels, transition.shape[0] - 1).astype(np.int64)
