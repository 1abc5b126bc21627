"""Read the arrays of written sources back with checks, and restore them if they are lost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from halobench.core.errors import SpecError, require
from halobench.core.spec_codec import parse
from halobench.core.specs import SourceSpec
from halobench.data.sources import ARRAYS, Images, load_source, sample_type, save_blocks
from halobench.storage import arrays_io, files, records

HASHED = 1_000_000_000  # bytes; for arrays up to this size, each job compares checksums, for larger ones only sizes


def read_meta(folder: Path) -> tuple[SourceSpec, dict[str, Any]]:
    """Read the spec and metadata of a written source.

    Raises
    ------
    SpecError
        If ``meta.json`` is missing, can't be read, or has changed since it was written.
    """
    place = folder / "meta.json"
    keys = ("spec", "shape", "size", "classes", "parts", "mean", "std", "checksums")
    meta = files.read_json(place, keys)
    records.check_recorded(place)
    with files.reading(place, f"{', '.join(keys)} as `halobench source` writes them"):
        shape, size, classes = (*map(int, meta["shape"]),), int(meta["size"]), int(meta["classes"])
        for key in ("mean", "std"):
            fine = np.shape(meta[key]) == shape[:1] and np.isfinite(meta[key]).all()
            require(fine, key, meta[key], "one number per channel")
        require(classes >= 2, "classes", classes, "at least 2")
        for start, stop in meta["parts"].values():
            require(
                0 <= start < stop <= size,
                "parts",
                meta["parts"],
                f"[start, stop] for each part, with 0 <= start < stop <= {size}",
            )
        names = tuple(map(str, meta.get("names", ())))
        require(len(names) in (0, classes), "names", meta.get("names"), f"{classes} class names")
        meta |= {"shape": shape, "size": size, "classes": classes, "names": names}
        return parse(SourceSpec, meta["spec"]), meta


def sampler(folder: Path) -> list[tuple[str, str]]:
    """Return the plug-in that draws a written source's samples, for the code version; none if it holds images."""
    spec, meta = read_meta(folder)
    return [] if meta["size"] else [("data", spec.loader)]


def read_arrays(folder: Path, spec: SourceSpec, meta: Mapping[str, Any]) -> Images:
    """Read a written source, checked against the result of `read_meta`; images and posterior are memory-mapped.

    Checksums of files above 1 GB are left to ``halobench verify``, because comparing them would take each job minutes.

    Raises
    ------
    SpecError
        If a file (named in the error) is missing and can't be restored, can't be read, or has changed since it was
        written.
    """
    with files.reading(folder / "meta.json", f"checksums of {' and '.join(ARRAYS[:2])}"):
        digests = {name: str(meta["checksums"][name]) for name in (*ARRAYS[:2], *meta["checksums"])}
    restore_arrays(folder, spec, digests)
    size, classes, kept = meta["size"], meta["classes"], sample_type(meta["shape"]).name
    images = arrays_io.read_npy(folder / ARRAYS[0], kept, (size, *meta["shape"]), mapped=True, most=HASHED)
    labels = arrays_io.read_npy(folder / ARRAYS[1], "int64", (size,), most=HASHED)
    posterior = None
    if ARRAYS[2] in digests:
        posterior = arrays_io.read_npy(folder / ARRAYS[2], "float64", (size, classes), mapped=True, most=HASHED)
    for name, digest in digests.items():
        if (folder / name).stat().st_size <= HASHED:
            files.check_sum(folder / name, digest, "the content recorded in meta.json")
    if labels.min() < 0 or labels.max() >= classes:
        extremes = f"{labels.min()} to {labels.max()}"
        raise SpecError(str(folder / "labels.npy"), extremes, f"labels in [0, {classes})")
    return Images(images, labels, classes, meta["parts"], meta["names"], posterior)


def restore_arrays(folder: Path, spec: SourceSpec, digests: Mapping[str, str]) -> None:
    """Reload a source's arrays if they are lost, e.g. deleted to free space, one process at a time.

    Raises
    ------
    SpecError
        If the loader fails, or returns arrays whose checksums differ from `digests`. In both cases, nothing is written.
    """
    lost = [name for name in digests if not os.path.lexists(folder / name)]
    if not lost:
        return
    with files.alone(folder):
        if all((folder / name).exists() for name in lost):
            return  # restored while this process waited
        print(f"reloading {' and '.join(lost)}", flush=True)
        source = load_source(spec)
        for name in lost:
            with files.replacing(folder / name) as temporary:
                if name == ARRAYS[0]:
                    save_blocks(temporary, spec, source.images)
                else:
                    array = source.labels if name == ARRAYS[1] else source.posterior
                    np.save(temporary, np.asarray(array), allow_pickle=False)
                remedy = f"if the data changed, delete {folder / 'meta.json'}, and the next run will rewrite the source"
                expected = f"the same bytes as when the source was first loaded; {remedy}"
                same = files.checksum(temporary) == digests[name]
                require(same, str(folder / name), "different bytes", expected)
