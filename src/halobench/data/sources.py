"""Describe sources before a run, then load them (unless they are sampled later) and write them.

A loader may return its images as an array, or as an object that returns blocks of one (`Images`). Blocks are decoded,
written and included in the statistics one after another, so only one block at a time is in memory if an object returns
them. Rows of features are handled like images: their shape is (D,), and each feature counts as a channel.
`written_sources` reads written sources back.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from halobench.core import plugins
from halobench.core.errors import RefusedError, SpecError, describe_error, refuse, require
from halobench.core.specs.codec import canonical
from halobench.core.specs.data import SourceSpec
from halobench.data.channel_stats import ChannelStats, FeatureStats
from halobench.data.distribution import Distribution
from halobench.data.mapped_rows import row_bytes
from halobench.storage import arrays_io, files

ARRAYS = ("images.npy", "labels.npy", "posterior.npy")  # the posterior only if the loader provides it
LISTING = "listing.npy"  # of the files that were read, if the loader lists them
SPLITS = ("train", "val", "test")
SUM_TOLERANCE = 1e-4  # how far the sum of a row of the posterior may be from 1
BLOCK = 2**25  # bytes of images loaded and written at once
REPORT_EVERY = 60.0  # seconds between progress reports while writing


@dataclass(frozen=True)
class Description:
    """The declared contents of a source: a sample's shape, the numbers of classes and samples, and official parts.

    `shape` is (C, H, W) for images and (D,) for features. `size` is None for a distribution, from which any number of
    samples can be drawn. `parts` and the optional `names` of classes are as in `Images`.
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
        Images, or features, which are stored as float32. An object that returns blocks of such an array will also do if
        it has a length, a ``shape`` and a ``dtype``, and its slices are arrays. Writing a source reads each row of the
        images once, in order.
    labels : int64 array (N,)
        In [0, classes).
    parts : mapping of str to (start, stop)
        Official ``train`` and ``test`` parts, and optionally a ``val`` part, as disjoint ranges of rows; empty if the
        source has none.
    names : tuple of str
        Names of the classes, in order; empty if they have none.
    posterior : float array (N, classes), optional
        P(label | sample). Unknown rows are NaN; within a part, the posterior must be known for all rows or for none.
    """

    images: Any
    labels: np.ndarray
    classes: int
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    posterior: np.ndarray | None = None


def sample_type(shape: tuple[int, ...]) -> np.dtype:
    """Return the type in which samples of this shape are stored: uint8 images (C, H, W) or float32 features (D,)."""
    return np.dtype(np.uint8 if len(shape) == 3 else np.float32)


def _require(condition: object, spec: SourceSpec, sentence: str) -> None:
    """Raise RefusedError, naming the loader, unless `condition` is true."""
    refuse(not condition, "loader", f"{spec.loader} {sentence}")


def is_distribution(loader: str) -> bool:
    """Return whether a loader's ``load`` is annotated to return a ``Distribution``, which is resampled per seed."""
    return plugins.find("data", loader).returns.rpartition(".")[2] == "Distribution"


def describe(spec: SourceSpec) -> Description:
    """Return the description of a source, after checking that it is well-formed."""
    loader = plugins.load("data", spec.loader)
    if is_distribution(spec.loader):
        source = load_distribution(spec)
        return Description(tuple(source.shape), source.classes, None)
    description = sys.modules[loader.__module__].describe(**spec.options)
    expected = f"must describe itself by a halobench.data.sources.Description, not {type(description).__name__}"
    _require(isinstance(description, Description), spec, expected)
    size = description.size or 0
    fine = _fits(description.shape, description.classes) and size >= 1
    _require(
        fine, spec, f"must describe images (C, H, W) or features (D,) of at least 2 classes, but returned {description}"
    )
    parts = dict(description.parts)
    expected = (
        f"must have train, test and optionally val parts that are disjoint ranges of the {size} rows, not {parts}"
    )
    _require(_fine_parts(parts, size), spec, expected)
    return description


def _fits(shape: tuple[int, ...], classes: int) -> bool:
    return len(shape) in (1, 3) and min(shape) >= 1 and classes >= 2


def _fine_parts(parts: Mapping[str, Any], size: int) -> bool:
    """Return whether official parts, if any, are train, test and optionally val, as disjoint ranges of `size` rows."""
    if not parts:
        return True
    if not {"train", "test"} <= set(parts) <= set(SPLITS) or any(len(part) != 2 for part in parts.values()):
        return False
    ranges = sorted((start, stop) for start, stop in parts.values())
    bounds = [0, *(bound for each in ranges for bound in each), size]
    return bounds == sorted(bounds) and all(start < stop for start, stop in ranges)


def load_distribution(spec: SourceSpec) -> Distribution:
    """Load the distribution of a source, which must have the annotated type and be well-formed."""
    source = plugins.load("data", spec.loader)(**spec.options)
    expected = f"must return a Distribution, as its annotation says, but returned {type(source).__name__}"
    _require(isinstance(source, Distribution), spec, expected)
    contents = f"{source.shape} in {source.classes}"
    fine = _fits(source.shape, source.classes)
    _require(fine, spec, f"must have inputs (C, H, W) or (D,) and at least 2 classes, but has {contents} classes")
    for name in ("mean", "std"):
        numbers = getattr(source, name)
        fine = np.shape(numbers) == tuple(source.shape[:1]) and np.isfinite(numbers).all()
        _require(fine, spec, f"must have a {name} with one finite number per channel")
    shared = source.regions is None or np.any(source.regions.shared)
    _require(shared, spec, "has no shared region; add one, or set regions = None")
    defined = source.regions is None or type(source).inputs_in is not Distribution.inputs_in
    _require(defined, spec, "has regions but doesn't define inputs_in; define it, or set regions = None")
    return source


def plain_images(key: str, loader: str) -> Images:
    """Load the images of a loader without required options; if it's unsuitable, raise SpecError for the key `key`."""
    require(isinstance(loader, str), key, loader, "the name of an image loader")
    try:
        options = plugins.find("data", loader).options
        refuse(is_distribution(loader), key, f"{loader} is a distribution; name a loader of images")
        refuse(
            options is not None and ... in options.values(),
            key,
            f"{loader} has required options, which can't be given here; name a loader without any",
        )
    except SpecError as error:
        raise error.at(key) from None
    return load_source(SourceSpec(loader))


def load_source(spec: SourceSpec) -> Images:
    """Load a source's images or features, or an object that returns blocks of them; check them against ``describe``."""
    with _loading(spec):
        described = describe(spec)
        images = plugins.load("data", spec.loader)(**spec.options)
    expected = f"must return halobench.data.sources.Images, but returned {type(images).__name__}"
    _require(isinstance(images, Images), spec, expected)
    pixels, labels = images.images, np.asarray(images.labels)
    if not isinstance(getattr(pixels, "dtype", None), np.dtype):
        pixels = np.asarray(pixels)
    shape = tuple(pixels.shape)
    fine = pixels.dtype in {4: ["uint8"], 2: ["float32", "float64"]}.get(len(shape), [])
    fine = fine and labels.shape == shape[:1] and labels.dtype.kind in "iu"
    types = f"{pixels.dtype} {shape} and {labels.dtype} {labels.shape}"
    expected = (
        f"must return uint8 images (N, C, H, W) or float32 features (N, D), and N integer labels, but returned {types}"
    )
    _require(fine, spec, expected)
    loaded = Description(shape[1:], images.classes, len(pixels), images.parts)
    same = (tuple(described.shape), described.classes, described.size) == (loaded.shape, loaded.classes, loaded.size)
    _require(same, spec, f"must return what its describe() declares, {described}, but returned {loaded}")
    fine = labels.min() >= 0 and labels.max() < images.classes
    _require(fine, spec, f"must return labels from 0 to {images.classes - 1}")
    names = tuple(map(str, images.names))
    _require(
        len(names) in (0, images.classes), spec, f"must return {images.classes} class names or none, not {len(names)}"
    )
    posterior = None if images.posterior is None else _checked_posterior(spec, np.asarray(images.posterior), loaded)
    return Images(pixels, labels.astype(np.int64), images.classes, images.parts, names, posterior)


def _checked_posterior(spec: SourceSpec, rows: np.ndarray, loaded: Description) -> np.ndarray:
    """Return the posterior as float64 (N, classes), whose rows are distributions or, for whole parts, NaN."""
    shape = (loaded.size, loaded.classes)
    expected = f"must return a floating-point posterior of shape {shape}, but returned {rows.dtype} {rows.shape}"
    _require(rows.shape == shape and rows.dtype.kind == "f", spec, expected)
    rows = rows.astype(np.float64)
    labelled = ~np.isnan(rows).all(axis=1)
    bad = labelled & ~((rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) <= SUM_TOLERANCE))
    row = int(bad.argmax())
    expected = (
        f"must return a posterior whose rows are probabilities that sum to 1, unlike row {row}, {rows[row].tolist()}"
    )
    _require(not bad.any(), spec, expected)
    for name, (start, stop) in (dict(loaded.parts) or {"only": (0, len(rows))}).items():
        share = labelled[start:stop]
        expected = (
            f"must return a posterior for all or none of the {name} part, not for {share.sum()} of {len(share)} samples"
        )
        _require(share.all() or not share.any(), spec, expected)
    return rows


@contextlib.contextmanager
def _loading(spec: SourceSpec) -> Iterator[None]:
    """Turn any error raised by a loader, which may be outside the package, into a SpecError."""
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
        raise RefusedError("loader", f"{spec.loader} raised {describe_error(error)}") from error


def _listing(spec: SourceSpec) -> np.ndarray | None:
    """Return what the loader's ``listing`` returns, if it has one: a number per file that it reads, sorted."""
    loader = plugins.load("data", spec.loader)
    listing = getattr(sys.modules[loader.__module__], "listing", None)
    return None if listing is None else listing(**spec.options)


def changed_files(spec: SourceSpec, folder: Path) -> int:
    """Return how many of the files from which a source was written were added, removed or changed since then.

    Return 0 if this is unknown, because nothing lists the files or they are out of reach.
    """
    with contextlib.suppress(SpecError, OSError):
        before, now = arrays_io.read_npy(folder / LISTING, "uint64", (None,), most=0), _listing(spec)
        if now is not None:
            return max(len(np.setdiff1d(before, now)), len(np.setdiff1d(now, before)))
    return 0


def write_source(spec: SourceSpec, folder: Path) -> list[Path]:
    """Write a source's ``meta.json`` and, unless it is a distribution, its arrays (`ARRAYS`); return their paths.

    If the loader lists its files, `LISTING` is written too.
    """
    place = folder / "meta.json"
    meta: dict[str, Any] = {"spec": canonical(spec), "size": 0, "parts": {}, "checksums": {}}
    written: list[Path] = []
    shape: tuple[int, ...]
    if is_distribution(spec.loader):
        drawn = load_distribution(spec)
        shape, classes, mean, std = drawn.shape, drawn.classes, drawn.mean, drawn.std
    else:
        listed = _listing(spec)  # before the files are read, so that later changes are noticed
        source = load_source(spec)
        shape, classes = tuple(map(int, source.images.shape[1:])), source.classes
        written, (mean, std) = _write_arrays(spec, source, folder)
        meta["size"] = len(source.labels)
        meta["parts"] = {name: list(part) for name, part in source.parts.items()}
        meta["checksums"] = {path.name: files.checksum(path) for path in written}
        meta |= {"names": list(source.names)} if source.names else {}
        if listed is not None:
            arrays_io.write_npy(folder / LISTING, listed)
            written.append(folder / LISTING)
    for name in {*ARRAYS} - {path.name for path in written}:  # arrays that an earlier version of the source had
        (folder / name).unlink(missing_ok=True)
    numbers = {"mean": list(map(float, mean)), "std": list(map(float, std))}
    files.write_json(place, meta | {"shape": list(shape), "classes": classes} | numbers)
    return [*written, place]


def _write_arrays(spec: SourceSpec, source: Images, folder: Path) -> tuple[list[Path], tuple[np.ndarray, np.ndarray]]:
    """Write a source's arrays; return their paths, and the mean and standard deviation of each channel.

    The statistics are over the train part or, without parts, over all samples.
    """
    channels = source.images.shape[1]
    stats = ChannelStats(channels) if len(source.images.shape) == 4 else FeatureStats()
    images, labels, posterior = (folder / name for name in ARRAYS)
    with files.replacing(images) as temporary:
        save_blocks(temporary, spec, source.images, stats, source.parts.get("train", (0, len(source.labels))))
    arrays_io.write_npy(labels, source.labels)
    if source.posterior is None:
        return [images, labels], stats.result()
    arrays_io.write_npy(posterior, source.posterior)
    return [images, labels, posterior], stats.result()


def save_blocks(
    path: Path,
    spec: SourceSpec,
    images: Any,
    stats: ChannelStats | FeatureStats | None = None,
    part: tuple[int, int] = (0, 0),
) -> None:
    """Write images or features block by block, in the format of ``np.save``; add the rows in `part` to `stats`."""
    shape, began = tuple(map(int, images.shape)), time.monotonic()
    step, reported, kept = max(1, BLOCK // row_bytes(images)), began, sample_type(shape[1:])
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(kept), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, shape[0], step):
            with _loading(spec):
                block = np.ascontiguousarray(images[start : start + step])
            declared = (min(step, shape[0] - start), *shape[1:])
            rows = f"images[{start}:{start + step}]"
            expected = f"must return {images.dtype} {declared} for {rows}, not {block.dtype} {block.shape}"
            _require(block.dtype == images.dtype and block.shape == declared, spec, expected)
            block = _as_kept(spec, block, kept, start)
            file.write(block.data)
            if stats:
                stats.add(block[max(part[0] - start, 0) : max(part[1] - start, 0)])
            if (now := time.monotonic()) - reported >= REPORT_EVERY:
                reported, done = now, start + len(block)
                left = (now - began) * (shape[0] - done) / done / 60
                print(f"{done:,} of {shape[0]:,} images, {left:.0f} min left", flush=True)


def _as_kept(spec: SourceSpec, block: np.ndarray, kept: np.dtype, start: int) -> np.ndarray:
    """Convert a block, whose first row is `start`, to the stored type; raise SpecError unless it is finite."""
    if block.dtype.kind != "f":
        return block
    with np.errstate(over="ignore"):
        block = block.astype(kept, copy=False)
    finite = np.isfinite(block).all(axis=1)
    _require(
        finite.all(),
        spec,
        f"must return features that are finite in float32, unlike row {start + int(np.argmin(finite))}",
    )
    return block
