"""Sources on disk: described before a run, loaded or left to be sampled, written, and read back with checks.

A loader may return its images as an array, or as anything that returns blocks of them (`Images`): these are decoded,
written and added up one after another, so that a source of any size takes the memory of a block.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from halobench.core import plugins
from halobench.core.errors import SpecError, describe_error, require
from halobench.core.spec_codec import canonical, parse
from halobench.core.specs import SourceSpec
from halobench.data.channel_stats import Moments
from halobench.data.distribution import Distribution
from halobench.data.mapped_rows import row_bytes
from halobench.storage import arrays_io, files, records

ARRAYS = ("images.npy", "labels.npy")
BLOCK = 2**25  # bytes of images that are loaded and written at a time
REPORT_EVERY = 60.0  # seconds between two lines on the progress of writing
HASHED = 1_000_000_000  # bytes of the largest array whose checksum each job compares; of larger ones, the size


@dataclass(frozen=True)
class Description:
    """Announced contents of a source: shape (C, H, W) of an image, numbers of classes and images, official parts.

    `size` is None for a distribution, from which any number of samples can be drawn. `names` are those of the classes,
    as `Images` has them; a loader need not tell them.
    """

    shape: tuple[int, int, int]
    classes: int
    size: int | None
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    names: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Images:
    """Labelled images of a source.

    Attributes
    ----------
    images : uint8 array (N, C, H, W)
        Or an object that returns blocks of such an array: it has a length, a ``shape`` and a ``dtype``, and its slices
        are arrays. Each row is read once, in order.
    labels : int64 array (N,)
        In [0, classes).
    parts : mapping of str to (start, stop)
        Official ``train`` and ``test`` parts, as ranges of rows; empty if the source has none.
    names : tuple of str
        Names of the classes, in their order; empty if they have none.
    """

    images: Any
    labels: np.ndarray
    classes: int
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    names: tuple[str, ...] = ()


def describe(spec: SourceSpec) -> Description:
    """Describe the contents of the source of `spec`, without loading it.

    Raises
    ------
    SpecError
        Unless the loader describes images in two classes or more.
    """
    loader = plugins.load("data", spec.loader)
    if plugins.is_distribution(spec.loader):
        source = load_distribution(spec)
        return Description(cast("tuple[int, int, int]", tuple(source.shape)), source.classes, None)
    description = sys.modules[loader.__module__].describe(**spec.options)
    expected = f"a loader whose describe gives halobench.data.sources.Description, not {type(description).__name__}"
    require(isinstance(description, Description), "loader", spec.loader, expected)
    fine = _fits(description.shape, description.classes) and (description.size or 0) >= 1
    require(fine, "loader", spec.loader, f"images (C, H, W) in at least 2 classes, not {description}")
    return description


def _fits(shape: tuple[int, ...], classes: int) -> bool:
    return len(shape) == 3 and min(shape) >= 1 and classes >= 2


def load_distribution(spec: SourceSpec) -> Distribution:
    """Load the distribution of a source.

    Raises
    ------
    SpecError
        On a bad option, or if its loader returns something else than its annotation says.
    """
    source = plugins.load("data", spec.loader)(**spec.options)
    expected = f"a loader that gives a Distribution, as its annotation says, not {type(source).__name__}"
    require(isinstance(source, Distribution), "loader", spec.loader, expected)
    contents = f"{source.shape} in {source.classes}"
    fine = _fits(source.shape, source.classes)
    require(fine, "loader", spec.loader, f"inputs (C, H, W) in at least 2 classes, not {contents}")
    return source


def load_source(spec: SourceSpec) -> Images:
    """Load a source's images, or an object that returns blocks of them.

    Raises
    ------
    SpecError
        If the loader raises, or returns something else than it should or than its ``describe`` says.
    """
    described = describe(spec)
    with _loading(spec):
        images = plugins.load("data", spec.loader)(**spec.options)
    expected = f"a loader that gives halobench.data.sources.Images, not {type(images).__name__}"
    require(isinstance(images, Images), "loader", spec.loader, expected)
    pixels, labels = images.images, np.asarray(images.labels)
    if not isinstance(getattr(pixels, "dtype", None), np.dtype):
        pixels = np.asarray(pixels)
    shape = tuple(pixels.shape)
    fine = pixels.dtype == np.uint8 and len(shape) == 4 and labels.shape == shape[:1] and labels.dtype.kind in "iu"
    types = f"{pixels.dtype} {shape} and {labels.dtype} {labels.shape}"
    require(fine, "loader", spec.loader, f"uint8 images (N, C, H, W) and N whole labels, not {types}")
    loaded = Description(shape[1:], images.classes, len(pixels), images.parts)
    same = (tuple(described.shape), described.classes, described.size) == (loaded.shape, loaded.classes, loaded.size)
    require(same, "loader", spec.loader, f"images as its describe says, {described}, not {loaded}")
    fine = labels.min() >= 0 and labels.max() < images.classes
    require(fine, "loader", spec.loader, f"labels in [0, {images.classes})")
    names = tuple(map(str, images.names))
    expected = f"a name for each of {images.classes} classes, not {len(names)} names"
    require(len(names) in (0, images.classes), "loader", spec.loader, expected)
    return Images(pixels, labels.astype(np.int64), images.classes, images.parts, names)


@contextlib.contextmanager
def _loading(spec: SourceSpec) -> Iterator[None]:
    """Turn whatever a loader raises, which may be outside the package, into a SpecError."""
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
        raise SpecError("loader", spec.loader, f"a loader that loads ({describe_error(error)})") from error


def write_source(spec: SourceSpec, folder: Path) -> list[Path]:
    """Write ``images.npy``, ``labels.npy`` and ``meta.json`` of a source; of a distribution only the last.

    Returns the paths.
    """
    arrays, place = [folder / name for name in ARRAYS], folder / "meta.json"
    if plugins.is_distribution(spec.loader):
        drawn = load_distribution(spec)
        for path in arrays:  # of images that this source may have held before
            path.unlink(missing_ok=True)
        files.write_json(place, _meta(spec, drawn.shape, drawn.classes, drawn.mean, drawn.std))
        return [place]
    source = load_source(spec)
    moments = Moments(source.images.shape[1])
    with files.replacing(arrays[0]) as temporary:
        save_blocks(temporary, spec, source.images, moments, source.parts.get("train", (0, len(source.labels))))
    arrays_io.write_npy(arrays[1], source.labels)
    meta = _meta(spec, source.images.shape[1:], source.classes, *moments.result())
    meta["size"] = len(source.labels)
    meta["parts"] = {name: list(part) for name, part in source.parts.items()}
    meta["checksums"] = {path.name: files.checksum(path) for path in arrays}
    if source.names:
        meta["names"] = list(source.names)
    files.write_json(place, meta)
    return [*arrays, place]


def save_blocks(
    path: Path, spec: SourceSpec, images: Any, moments: Moments | None = None, part: tuple[int, int] = (0, 0)
) -> None:
    """Write a source's images to a file as ``np.save`` would, block by block; report the progress once a minute.

    Parameters
    ----------
    moments : Moments, optional
        The images of `part`, a range of rows, are added to it.

    Raises
    ------
    SpecError
        If the loader's images raise, or return blocks of another shape or type than they say.
    """
    shape, began = tuple(map(int, images.shape)), time.monotonic()
    step, reported = max(1, BLOCK // row_bytes(images)), began
    with open(path, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, shape[0], step):
            with _loading(spec):
                block = np.ascontiguousarray(images[start : start + step])
            wanted = (min(step, shape[0] - start), *shape[1:])
            expected = f"images whose rows from {start} are uint8 {wanted}, not {block.dtype} {block.shape}"
            require(block.dtype == np.uint8 and block.shape == wanted, "loader", spec.loader, expected)
            file.write(block.data)
            if moments:
                moments.add(block[max(part[0] - start, 0) : max(part[1] - start, 0)])
            if (now := time.monotonic()) - reported >= REPORT_EVERY:
                reported, done = now, start + len(block)
                left = (now - began) * (shape[0] - done) / done / 60
                print(f"{done:,} of {shape[0]:,} images, {left:.0f} minutes left", flush=True)


def _meta(spec: SourceSpec, shape: tuple[int, ...], classes: int, mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    """Return the contents of ``meta.json`` for a source without arrays."""
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
    """Read the spec of a written source, and its meta data.

    Raises
    ------
    SpecError
        If ``meta.json`` is missing, can't be read, or isn't as it was written.
    """
    place = folder / "meta.json"
    keys = ("spec", "shape", "size", "classes", "parts", "mean", "std", "checksums")
    meta = files.read_json(place, keys)
    records.check_recorded(place)
    with files.reading(place, f"{', '.join(keys)} as `halobench source` writes them"):
        shape, size, classes = (*map(int, meta["shape"]),), int(meta["size"]), int(meta["classes"])
        for key in ("mean", "std"):
            fine = np.shape(meta[key]) == shape[:1] and np.isfinite(meta[key]).all()
            require(fine, key, meta[key], "a number a channel")
        require(classes >= 2, "classes", classes, "at least 2")
        for start, stop in meta["parts"].values():
            require(0 <= start < stop <= size, "parts", meta["parts"], f"ranges of the {size} images")
        names = tuple(map(str, meta.get("names", ())))
        require(len(names) in (0, classes), "names", meta.get("names"), f"a name for each of {classes} classes")
        meta |= {"shape": shape, "size": size, "classes": classes, "names": names}
        return parse(SourceSpec, meta["spec"]), meta


def sampler(folder: Path) -> list[tuple[str, str]]:
    """Return the plug-in that draws the samples of a written source, for the code version; none if it holds images."""
    loader = read_meta(folder)[0].loader
    return [("data", loader)] if plugins.is_distribution(loader) else []


def read_arrays(folder: Path, spec: SourceSpec, meta: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Read images (mapped into memory) and labels of a written source, checked against the result of `read_meta`.

    Checksums of files above 1 GB are left to ``halobench verify``: comparing them would take each job minutes.

    Raises
    ------
    SpecError
        If a file, which it names, is missing and can't be restored, can't be read, or isn't as it was written.
    """
    with files.reading(folder / "meta.json", f"checksums of {' and '.join(ARRAYS)}"):
        digests = {name: str(meta["checksums"][name]) for name in ARRAYS}
    restore_arrays(folder, spec, digests)
    images = arrays_io.read_npy(
        folder / "images.npy", "uint8", (meta["size"], *meta["shape"]), mapped=True, most=HASHED
    )
    labels = arrays_io.read_npy(folder / "labels.npy", "int64", (meta["size"],), most=HASHED)
    for name, digest in digests.items():
        if (folder / name).stat().st_size <= HASHED:
            files.check_sum(folder / name, digest, "the bytes that meta.json records")
    if labels.min() < 0 or labels.max() >= meta["classes"]:
        extremes = f"{labels.min()} to {labels.max()}"
        raise SpecError(str(folder / "labels.npy"), extremes, f"labels in [0, {meta['classes']})")
    return images, labels


def restore_arrays(folder: Path, spec: SourceSpec, digests: Mapping[str, str]) -> None:
    """Load a source's arrays again if they are lost, e.g. deleted to make room; one process at a time.

    Raises
    ------
    SpecError
        If the loader returns arrays of other checksums than `digests`, or can't load; then nothing is written.
    """
    lost = [name for name in ARRAYS if not os.path.lexists(folder / name)]
    if not lost:
        return
    with files.alone(folder):
        if all((folder / name).exists() for name in lost):
            return  # restored while this process waited
        print(f"loading {' and '.join(lost)} again", flush=True)
        source = load_source(spec)
        for name in lost:
            with files.replacing(folder / name) as temporary:
                if name == "images.npy":
                    save_blocks(temporary, spec, source.images)
                else:
                    np.save(temporary, source.labels, allow_pickle=False)
                remedy = f"delete {folder / 'meta.json'}, and the next run writes the source again"
                expected = f"the bytes that the loader gave when the source was written; if its data changed, {remedy}"
                same = files.checksum(temporary) == digests[name]
                require(same, str(folder / name), "other bytes", expected)
