"""Describe sources before a run, then load them (unless they are sampled later) and write them.

A loader may return its images as an array, or as anything that returns blocks of them (`Images`). The blocks are
decoded, written and added up one after another, so a source of any size needs memory for only one block. Rows of
features are handled like images: their shape is (D,), and each feature counts as a channel. `written_sources` reads
written sources back.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from halobench.core import plugins
from halobench.core.errors import SpecError, describe_error, require
from halobench.core.spec_codec import canonical
from halobench.core.specs import SourceSpec
from halobench.data.channel_stats import FeatureMoments, Moments
from halobench.data.distribution import Distribution
from halobench.data.mapped_rows import row_bytes
from halobench.storage import arrays_io, files

ARRAYS = ("images.npy", "labels.npy", "posterior.npy")  # the last only if the loader provides it
SPLITS = ("train", "val", "test")
SUM_TOLERANCE = 1e-4  # how far the sum of a row of the posterior may be from 1
BLOCK = 2**25  # bytes of images loaded and written at a time
REPORT_EVERY = 60.0  # seconds between progress reports while writing


@dataclass(frozen=True)
class Description:
    """The declared contents of a source: a sample's shape, the numbers of classes and samples, and official parts.

    `shape` is (C, H, W) for images and (D,) for features; `parts` are as in `Images`. `size` is None for a
    distribution, from which any number of samples can be drawn. `names` are the class names, as in `Images`; a loader
    need not provide them.
    """

    shape: tuple[int, ...]
    classes: int
    size: int | None
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    names: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"size {self.size}, shape {self.shape}, classes {self.classes}"


@dataclass(frozen=True)
class Images:
    """A source's labelled images or rows of features.

    Attributes
    ----------
    images : uint8 array (N, C, H, W), or float32 or float64 array (N, D)
        Images, or features, which are stored as float32. May also be an object that returns blocks of such an array, if
        it has a length, a ``shape`` and a ``dtype``, and its slices are arrays. Each row is read once, in order.
    labels : int64 array (N,)
        In [0, classes).
    parts : mapping of str to (start, stop)
        Official ``train`` and ``test`` parts, and perhaps a ``val`` part, as disjoint ranges of rows; empty if the
        source has none.
    names : tuple of str
        Names of the classes, in order; empty if they have none.
    posterior : float array (N, classes), optional
        P(label | sample), e.g. the share of annotators who chose a label. Rows where it isn't known are NaN; within a
        part, it must be known for all rows or for none.
    """

    images: Any
    labels: np.ndarray
    classes: int
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    posterior: np.ndarray | None = None


def sample_type(shape: tuple[int, ...]) -> np.dtype:
    """Return the type in which samples of this shape are stored: uint8 images (C, H, W), float32 features (D,)."""
    return np.dtype(np.uint8 if len(shape) == 3 else np.float32)


def describe(spec: SourceSpec) -> Description:
    """Describe the contents of the source of `spec` without loading it.

    Raises
    ------
    SpecError
        Unless the loader describes images or features in at least two classes, with disjoint parts.
    """
    loader = plugins.load("data", spec.loader)
    if plugins.is_distribution(spec.loader):
        source = load_distribution(spec)
        return Description(tuple(source.shape), source.classes, None)
    description = sys.modules[loader.__module__].describe(**spec.options)
    expected = f"a loader whose describe() returns halobench.data.sources.Description, not {type(description).__name__}"
    require(isinstance(description, Description), "loader", spec.loader, expected)
    size = description.size or 0
    fine = _fits(description.shape, description.classes) and size >= 1
    require(fine, "loader", spec.loader, f"images (C, H, W) or features (D,) in at least 2 classes, not {description}")
    parts = dict(description.parts)
    expected = f"train, test and optionally val parts that are disjoint ranges of the {size} rows"
    require(_fine_parts(parts, size), "loader", spec.loader, f"{expected}, not {parts}")
    return description


def _fits(shape: tuple[int, ...], classes: int) -> bool:
    return len(shape) in (1, 3) and min(shape) >= 1 and classes >= 2


def _fine_parts(parts: Mapping[str, Any], size: int) -> bool:
    """Return whether official parts, if any, are train, test and perhaps val, as disjoint ranges within `size` rows."""
    if not parts:
        return True
    if not {"train", "test"} <= set(parts) <= set(SPLITS) or any(len(part) != 2 for part in parts.values()):
        return False
    ranges = sorted((start, stop) for start, stop in parts.values())
    bounds = [0, *(bound for each in ranges for bound in each), size]
    return bounds == sorted(bounds) and all(start < stop for start, stop in ranges)


def load_distribution(spec: SourceSpec) -> Distribution:
    """Load the distribution of a source.

    Raises
    ------
    SpecError
        If an option is invalid, or the loader returns something other than what its annotation says.
    """
    source = plugins.load("data", spec.loader)(**spec.options)
    expected = f"a loader that returns a Distribution, as its annotation says, not {type(source).__name__}"
    require(isinstance(source, Distribution), "loader", spec.loader, expected)
    contents = f"{source.shape} in {source.classes}"
    fine = _fits(source.shape, source.classes)
    require(fine, "loader", spec.loader, f"inputs (C, H, W) or (D,) in at least 2 classes, not {contents}")
    return source


def load_source(spec: SourceSpec) -> Images:
    """Load a source's images or features, or an object that returns blocks of them.

    Raises
    ------
    SpecError
        If the loader raises, or returns something invalid or different from what its ``describe`` says.
    """
    with _loading(spec):
        described = describe(spec)
        images = plugins.load("data", spec.loader)(**spec.options)
    expected = f"a loader that returns halobench.data.sources.Images, not {type(images).__name__}"
    require(isinstance(images, Images), "loader", spec.loader, expected)
    pixels, labels = images.images, np.asarray(images.labels)
    if not isinstance(getattr(pixels, "dtype", None), np.dtype):
        pixels = np.asarray(pixels)
    shape = tuple(pixels.shape)
    fine = pixels.dtype in {4: ["uint8"], 2: ["float32", "float64"]}.get(len(shape), [])
    fine = fine and labels.shape == shape[:1] and labels.dtype.kind in "iu"
    types = f"{pixels.dtype} {shape} and {labels.dtype} {labels.shape}"
    expected = f"uint8 images (N, C, H, W) or float32 features (N, D), and N integer labels, not {types}"
    require(fine, "loader", spec.loader, expected)
    loaded = Description(shape[1:], images.classes, len(pixels), images.parts)
    same = (tuple(described.shape), described.classes, described.size) == (loaded.shape, loaded.classes, loaded.size)
    require(same, "loader", spec.loader, f"the contents declared by its describe(), {described}, not {loaded}")
    fine = labels.min() >= 0 and labels.max() < images.classes
    require(fine, "loader", spec.loader, f"every label to be in [0, {images.classes})")
    names = tuple(map(str, images.names))
    expected = f"{images.classes} class names, not {len(names)}"
    require(len(names) in (0, images.classes), "loader", spec.loader, expected)
    posterior = None
    if images.posterior is not None:
        posterior = _checked_posterior(spec, np.asarray(images.posterior), loaded)
    return Images(pixels, labels.astype(np.int64), images.classes, images.parts, names, posterior)


def _checked_posterior(spec: SourceSpec, rows: np.ndarray, loaded: Description) -> np.ndarray:
    """Return the posterior that a loader provides, as float64 (N, classes).

    Raises
    ------
    SpecError
        If it has the wrong shape, a row is neither a distribution nor NaN, or only some of a part's rows are known.
    """
    shape = (loaded.size, loaded.classes)
    expected = f"a floating-point posterior of shape {shape}, not {rows.dtype} {rows.shape}"
    require(rows.shape == shape and rows.dtype.kind == "f", "loader", spec.loader, expected)
    rows = rows.astype(np.float64)
    labelled = ~np.isnan(rows).all(axis=1)
    bad = labelled & ~((rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) <= SUM_TOLERANCE))
    row = int(bad.argmax())
    expected = f"a posterior whose rows are probabilities that sum to 1, unlike row {row}, {rows[row].tolist()}"
    require(not bad.any(), "loader", spec.loader, expected)
    for name, (start, stop) in (dict(loaded.parts) or {"only": (0, len(rows))}).items():
        share = labelled[start:stop]
        expected = f"a posterior for all samples of the {name} part or for none, not for {share.sum()} of {len(share)}"
        require(share.all() or not share.any(), "loader", spec.loader, expected)
    return rows


@contextlib.contextmanager
def _loading(spec: SourceSpec) -> Iterator[None]:
    """Turn any error raised by a loader, which may be outside the package, into a SpecError."""
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
        raise SpecError("loader", spec.loader, f"a loader that runs without error ({describe_error(error)})") from error


def write_source(spec: SourceSpec, folder: Path) -> list[Path]:
    """Write a source's arrays (`ARRAYS`) and ``meta.json``; for a distribution, write only the latter.

    The paths of the files are returned.
    """
    place = folder / "meta.json"
    if plugins.is_distribution(spec.loader):
        drawn = load_distribution(spec)
        _remove(folder, ARRAYS)
        files.write_json(place, _meta(spec, drawn.shape, drawn.classes, drawn.mean, drawn.std))
        return [place]
    source = load_source(spec)
    shape, count = tuple(map(int, source.images.shape[1:])), len(source.labels)
    moments = Moments(shape[0]) if len(shape) == 3 else FeatureMoments()
    images, labels, posterior = (folder / name for name in ARRAYS)
    with files.replacing(images) as temporary:
        save_blocks(temporary, spec, source.images, moments, source.parts.get("train", (0, count)))
    arrays_io.write_npy(labels, source.labels)
    if source.posterior is None:
        _remove(folder, [posterior.name])
    else:
        arrays_io.write_npy(posterior, source.posterior)
    arrays = [images, labels, posterior][: 2 if source.posterior is None else 3]
    meta = _meta(spec, shape, source.classes, *moments.result())
    meta["size"] = count
    meta["parts"] = {name: list(part) for name, part in source.parts.items()}
    meta["checksums"] = {path.name: files.checksum(path) for path in arrays}
    if source.names:
        meta["names"] = list(source.names)
    files.write_json(place, meta)
    return [*arrays, place]


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove any arrays that the source used to have."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def save_blocks(
    path: Path,
    spec: SourceSpec,
    images: Any,
    moments: Moments | FeatureMoments | None = None,
    part: tuple[int, int] = (0, 0),
) -> None:
    """Write a source's images or features to a file as ``np.save`` would, block by block; report progress every minute.

    Parameters
    ----------
    moments : Moments or FeatureMoments, optional
        Updated with the samples in `part`, a range of rows.

    Raises
    ------
    SpecError
        If reading the loader's samples raises, their blocks don't have the declared shape or type, or they aren't
        finite.
    """
    shape, began = tuple(map(int, images.shape)), time.monotonic()
    step, reported, kept = max(1, BLOCK // row_bytes(images)), began, sample_type(shape[1:])
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(kept), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, shape[0], step):
            with _loading(spec):
                block = np.ascontiguousarray(images[start : start + step])
            wanted = (min(step, shape[0] - start), *shape[1:])
            expected = f"images[{start}:{start + step}] to be {images.dtype} {wanted}, not {block.dtype} {block.shape}"
            require(block.dtype == images.dtype and block.shape == wanted, "loader", spec.loader, expected)
            block = _as_kept(spec, block, kept, start)
            file.write(block.data)
            if moments:
                moments.add(block[max(part[0] - start, 0) : max(part[1] - start, 0)])
            if (now := time.monotonic()) - reported >= REPORT_EVERY:
                reported, done = now, start + len(block)
                left = (now - began) * (shape[0] - done) / done / 60
                print(f"{done:,} of {shape[0]:,} images, {left:.0f} min left", flush=True)


def _as_kept(spec: SourceSpec, block: np.ndarray, kept: np.dtype, start: int) -> np.ndarray:
    """Convert a block, whose first row is `start`, to the type that is stored; raise SpecError unless it is finite."""
    if block.dtype.kind != "f":
        return block
    with np.errstate(over="ignore"):
        block = block.astype(kept, copy=False)
    finite = np.isfinite(block).all(axis=1)
    expected = f"features that are finite in float32, but row {start + int(np.argmin(finite))} isn't"
    require(finite.all(), "loader", spec.loader, expected)
    return block


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
