"""Read and write arrays as .npy and safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from halobench.core.errors import Found, SpecError
from halobench.storage.files import REMEDY, reading, replacing
from halobench.storage.records import check_recorded


def write_npy(path: Path | str, array: np.ndarray) -> None:
    """Write one array as .npy, which numpy can memory-map."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def write_arrays(path: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, temporary, {})


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """Read named arrays from safetensors; raise SpecError if the file differs from its stage's record."""
    from safetensors.numpy import load_file

    with reading(path, "arrays as safetensors"):
        arrays = load_file(path)
    check_recorded(path)
    return arrays


def check_arrays(path: Path | str) -> None:
    """Raise SpecError unless a file is safetensors, as its stage recorded it; no array is loaded."""
    from safetensors import safe_open

    with reading(path, "arrays as safetensors"), safe_open(path, framework="numpy"):
        pass
    check_recorded(path)


def read_npy(
    path: Path | str, dtype: str, shape: tuple[int | None, ...], mapped: bool = False, most: int | None = None
) -> np.ndarray:
    """Read an array of this type and shape, in which None is any length; `most` is as in `check_recorded`."""
    expected = f"a .npy array of {dtype} {shape}".replace("None", "n")
    with reading(path, expected):
        # An archive of arrays can also be read, but isn't an array.
        array = np.lib.format.open_memmap(path, mode="r") if mapped else np.load(path, allow_pickle=False)
        fits = isinstance(array, np.ndarray) and array.dtype == dtype and array.ndim == len(shape)
        if not fits or any(n is not None and n != length for n, length in zip(shape, array.shape, strict=True)):
            content = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise SpecError(str(path), Found(content), f"{expected} {REMEDY}")
        if mapped and (size := Path(path).stat().st_size) != array.offset + array.nbytes:
            raise SpecError(
                str(path), Found(f"{size} bytes"), f"{array.offset + array.nbytes} bytes for {expected} {REMEDY}"
            )
    check_recorded(path, most)
    return array
