"""Sources on disk: described before a run, loaded or left to be sampled, written, and read again with checks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from halobench import plugins, store
from halobench.data.distributions import Distribution
from halobench.data.moments import channel_moments
from halobench.specs import SourceSpec, SpecError, canonical, parse, require

ARRAYS = ("images.npy", "labels.npy")


@dataclass(frozen=True)
class Description:
    """What a source will hold: shape (C, H, W) of an image, numbers of classes and images, official parts if any.

    `size` is None for a distribution, which gives as many points as are asked for.
    """

    shape: tuple[int, int, int]
    classes: int
    size: int | None
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


def describe(spec: SourceSpec) -> Description:
    """What the source of `spec` will hold, without loading it.

    Raises
    ------
    SpecError
        If that is no description of images in two classes or more.
    """
    loader = plugins.load("data", spec.loader)
    if plugins.is_distribution(spec.loader):
        made = load_distribution(spec)
        return Description(tuple(made.shape), made.classes, None)
    found = sys.modules[loader.__module__].describe(**spec.options)
    if not isinstance(found, Description):
        expected = f"a loader whose describe gives halobench.data.Description, not {type(found).__name__}"
        raise SpecError("loader", spec.loader, expected)
    if len(found.shape) != 3 or min(found.shape) < 1 or found.classes < 2 or found.size < 1:
        raise SpecError("loader", spec.loader, f"images (C, H, W) in at least 2 classes, not {found}")
    return found


def load_distribution(spec: SourceSpec) -> Distribution:
    """The distribution of a source.

    Raises
    ------
    SpecError
        On a bad option, or if its loader gives something else than its annotation tells.
    """
    made = plugins.load("data", spec.loader)(**spec.options)
    if not isinstance(made, Distribution):
        expected = f"a loader that gives a Distribution, as its annotation tells, not {type(made).__name__}"
        raise SpecError("loader", spec.loader, expected)
    if len(made.shape) != 3 or min(made.shape) < 1 or made.classes < 2:
        found = f"{made.shape} in {made.classes}"
        raise SpecError("loader", spec.loader, f"inputs (C, H, W) in at least 2 classes, not {found}")
    return made


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
    """Write ``images.npy``, ``labels.npy`` and ``meta.json`` of a source, the last alone of a distribution.

    Returns the paths.
    """
    arrays, place = [folder / name for name in ARRAYS], folder / "meta.json"
    if plugins.is_distribution(spec.loader):
        made = load_distribution(spec)
        for path in arrays:  # of images that this source may have held before
            path.unlink(missing_ok=True)
        store.write_json(place, _meta(spec, made.shape, made.classes, made.mean, made.std))
        return [place]
    source = load_source(spec)
    store.write_npy(arrays[0], source.images)
    store.write_npy(arrays[1], source.labels.astype(np.int64))
    start, stop = source.parts.get("train", (0, len(source.images)))
    meta = _meta(spec, source.images.shape[1:], source.classes, *channel_moments(source.images[start:stop]))
    meta["size"] = len(source.images)
    meta["parts"] = {name: list(part) for name, part in source.parts.items()}
    meta["checksums"] = {path.name: store.checksum(path) for path in arrays}
    store.write_json(place, meta)
    return [*arrays, place]


def _meta(spec: SourceSpec, shape: tuple[int, ...], classes: int, mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    """What ``meta.json`` tells of a source that has no arrays."""
    return {
        "spec": canonical(spec),
        "shape": list(shape),
        "size": 0,
        "classes": classes,
        "parts": {},
        "mean": list(map(float, mean)),
        "std": list(map(float, std)),
        "checksums": {},
    }


def read_meta(folder: Path) -> tuple[SourceSpec, dict[str, Any]]:
    """The spec of a written source, and the meta data beside it.

    Raises
    ------
    SpecError
        If ``meta.json`` is missing, can't be read, or isn't as it was written.
    """
    place = folder / "meta.json"
    keys = ("spec", "shape", "size", "classes", "parts", "mean", "std", "checksums")
    meta = store.read_json(place, keys)
    store.check_recorded(place)
    with store.reading(place, f"{', '.join(keys)} as `halobench source` writes them"):
        shape, size, classes = (*map(int, meta["shape"]),), int(meta["size"]), int(meta["classes"])
        for key in ("mean", "std"):
            fine = np.shape(meta[key]) == shape[:1] and np.isfinite(meta[key]).all()
            require(fine, key, meta[key], "a number a channel")
        require(classes >= 2, "classes", classes, "at least 2")
        for start, stop in meta["parts"].values():
            require(0 <= start < stop <= size, "parts", meta["parts"], f"ranges of the {size} images")
        meta |= {"shape": shape, "size": size, "classes": classes}
        return parse(SourceSpec, meta["spec"]), meta


def sampler(folder: Path) -> list[tuple[str, str]]:
    """The plug-in that draws the points of a written source, for code maps; none where it holds images."""
    loader = read_meta(folder)[0].loader
    return [("data", loader)] if plugins.is_distribution(loader) else []


def read_arrays(folder: Path, spec: SourceSpec, meta: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Images (mapped into memory) and labels of a written source, checked against what `read_meta` gave.

    Raises
    ------
    SpecError
        That names the file which is missing and can't be made again, can't be read or isn't as it was written.
    """
    with store.reading(folder / "meta.json", f"checksums of {' and '.join(ARRAYS)}"):
        digests = {name: str(meta["checksums"][name]) for name in ARRAYS}
    restore_arrays(folder, spec, digests)
    images = store.read_npy(folder / "images.npy", "uint8", (meta["size"], *meta["shape"]), mapped=True)
    labels = store.read_npy(folder / "labels.npy", "int64", (meta["size"],))
    for name, digest in digests.items():
        store.check_sum(folder / name, digest, "the bytes that meta.json records")
    if labels.min() < 0 or labels.max() >= meta["classes"]:
        told = f"{labels.min()} to {labels.max()}"
        raise SpecError(str(folder / "labels.npy"), told, f"labels in [0, {meta['classes']})")
    return images, labels


def restore_arrays(folder: Path, spec: SourceSpec, digests: Mapping[str, str]) -> None:
    """Load a source's arrays again where they are lost, e.g. deleted to make room; one process at a time.

    Raises
    ------
    SpecError
        If the loader gives others than `digests` tell of, or can't load; then nothing is written.
    """
    lost = [name for name in ARRAYS if not os.path.lexists(folder / name)]
    if not lost:
        return
    with store.alone(folder):
        if all((folder / name).exists() for name in lost):
            return  # made while this process waited
        print(f"loading {' and '.join(lost)} again", flush=True)
        source = load_source(spec)
        arrays = dict(zip(ARRAYS, (source.images, source.labels.astype(np.int64)), strict=True))
        for name in lost:
            with store.replacing(folder / name) as temporary:
                np.save(temporary, arrays[name], allow_pickle=False)
                if store.checksum(temporary) != digests[name]:
                    what = "what the loader gave before; if the data has changed, delete meta.json: all is made anew"
                    raise SpecError(str(folder / name), "other bytes", what)
