"""Read and check the arrays of written sources, and restore them if they are lost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from halobench.core.errors import refuse
from halobench.core.specs.codec import parse
from halobench.core.specs.data import SourceSpec
from halobench.core.specs.plugin import as_recorded
from halobench.data.sources import ARRAYS, Images, load_source, sample_type, save_blocks
from halobench.storage import arrays_io, files, records

HASHED = 1_000_000_000  # bytes; of larger arrays, jobs compare only the sizes, not the checksums
KEYS = ("spec", "shape", "size", "classes", "parts", "mean", "std", "checksums")


def read_meta(folder: Path) -> tuple[SourceSpec, dict[str, Any]]:
    """Read the spec and metadata of a written source, which must be as its stage wrote them."""
    place = folder / "meta.json"
    meta = files.read_json(place, KEYS)
    records.check_recorded(place)
    meta |= {"shape": tuple(meta["shape"]), "names": tuple(meta.get("names", ()))}
    with files.reading(place, "a spec of a loader that still exists"), as_recorded():
        return parse(SourceSpec, meta["spec"]), meta


def sampler(folder: Path) -> list[tuple[str, str]]:
    """Return the plug-in that draws a written source's samples, for the code version; [] if it stores images."""
    spec, meta = read_meta(folder)
    return [] if meta["size"] else [("data", spec.loader)]


def read_arrays(folder: Path, spec: SourceSpec, meta: Mapping[str, Any]) -> Images:
    """Read a written source with the `spec` and `meta` from `read_meta`; images and posterior are memory-mapped.

    Lost arrays are restored. Checksums of files above 1 GB are left to ``halobench verify``, because each job could
    take minutes to compare them.
    """
    digests, size = meta["checksums"], meta["size"]
    restore_arrays(folder, spec, digests)

    def read(name: str, dtype: str, shape: tuple[int, ...], mapped: bool = True) -> np.ndarray:
        # The checksums in meta.json are compared, so those in the stage's record need not be.
        array = arrays_io.read_npy(folder / name, dtype, (size, *shape), mapped=mapped, most=0)
        if (folder / name).stat().st_size <= HASHED:
            files.check_sum(folder / name, digests[name], "the content recorded in meta.json")
        return array

    images = read(ARRAYS[0], sample_type(meta["shape"]).name, meta["shape"])
    labels = read(ARRAYS[1], "int64", (), mapped=False)
    posterior = read(ARRAYS[2], "float64", (meta["classes"],)) if ARRAYS[2] in digests else None
    return Images(images, labels, meta["classes"], meta["parts"], meta["names"], posterior)


def restore_arrays(folder: Path, spec: SourceSpec, digests: Mapping[str, str]) -> None:
    """Reload a source's arrays if they are lost, e.g. deleted to free space; the checksums must equal `digests`."""
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
                same = files.checksum(temporary) == digests[name]
                refuse(
                    not same,
                    str(folder / name),
                    f"the source now has other contents than when it was first loaded; {remedy}",
                )
