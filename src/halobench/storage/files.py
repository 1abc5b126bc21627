"""Files: written to a temporary name and renamed, so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from halobench.core import file_locks
from halobench.core.specs import SpecError, told

if TYPE_CHECKING:
    import pyarrow as pa

RECORDS = (
    *("source.json", "weights.json", "train.json", "probe.json", "calibrate.json", "reference.json"),
    *("aggregate.json", "claims.json", "explorer.json"),
)
REMEDY = "(if it is a result: delete it, and the next run that needs it makes it again)"

TEMPORARY = ".writing-"  # how the names of temporary files begin


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; rename it over `path` on success, remove it on failure.

    The temporary file is locked meanwhile, so that `sweep` can tell a living writer's from a dead one's.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.stem}-", suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        # Some writers wrap the system's error in one of their own; and the temporary name means nothing to a reader.
        if isinstance(error, OSError) or "os error" in str(error):
            raise OSError(f"{path} can't be written ({told(error)})") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def alone(folder: Path | str) -> Iterator[None]:
    """Hold a lock on a folder, which other processes that ask for it wait for."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: what is done so is quick, or harmless twice
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sweep(folder: Path | str, least_age: float = 60.0) -> None:
    """Remove the temporary files that killed writers left in a folder: locked by nobody, and at least `least_age` old.

    The age, in seconds, covers the moment between a file's creation and its lock.
    """
    for path in Path(folder).glob(f"{TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= least_age and not file_locks.is_held(path):
                path.unlink()


def _umask() -> int:
    """The process's umask (which can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys; numbers must be finite."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


@contextlib.contextmanager
def reading(path: PurePath | str, what: str) -> Iterator[None]:
    """Turn whatever a decoder of `path` raises into a SpecError that names the file and says what it should hold."""
    try:
        yield
    except SpecError as error:
        if error.key.startswith(str(path)):
            raise
        raise SpecError(f"{path}: {error.key}", error.value, f"{error.expected} {REMEDY}") from None
    except FileNotFoundError:
        raise SpecError(str(path), "no such file", f"{what} {REMEDY}") from None
    except Exception as error:  # decoders raise errors of a dozen kinds, some of their own
        raise SpecError(str(path), told(error), f"{what} {REMEDY}") from None


def check_recorded(path: Path | str, most: int | None = None) -> None:
    """Raise SpecError if the record of the stage that wrote `path`, beside it, holds another checksum.

    A file without a record, e.g. one that comes from elsewhere, passes, and so does one of more than `most` bytes.
    """
    path = Path(path)
    if most is not None and path.stat().st_size > most:
        return
    for name in RECORDS:
        record = path.parent / name
        if path.name == name or not record.is_file():
            continue
        outputs = read_record(record)["outputs"]
        if path.name in outputs:
            check_sum(path, outputs[path.name], f"the bytes that {name} records")


def check_sum(path: Path | str, digest: str, expected: str) -> None:
    """Raise SpecError unless `path` has the checksum `digest`."""
    with reading(path, expected):
        found = checksum(path)
    _check_same(path, found, digest, expected)


def checked_bytes(path: Path | str, digest: str, expected: str) -> bytes:
    """What `path` holds; SpecError unless that has the checksum `digest`."""
    with reading(path, expected):
        content = Path(path).read_bytes()
    _check_same(path, hashlib.sha256(content).hexdigest(), digest, expected)
    return content


def _check_same(path: Path | str, found: str, digest: str, expected: str) -> None:
    if found != digest:
        raise SpecError(str(path), f"sha256 {found[:16]}", f"{expected}, sha256 {digest[:16]} {REMEDY}")


def read_bytes(path: Path | str) -> bytes:
    """What a file holds; SpecError if it can't be read."""
    with reading(path, "a file"):
        return Path(path).read_bytes()


def read_json(path: Path | str, keys: Iterable[str] = ()) -> Any:
    """Read a JSON file; with `keys`, a mapping that has them.

    Raises
    ------
    SpecError
        If the file is missing, holds no JSON, or lacks a key.
    """
    with reading(path, "JSON"):
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    keys = list(keys)
    if keys and not isinstance(value, Mapping):
        raise SpecError(str(path), value, f"a mapping with {', '.join(keys)} {REMEDY}")
    for key in keys:
        if key not in value:
            raise SpecError(str(path), f"no key {key!r}", f"a mapping with {', '.join(keys)} {REMEDY}")
    return value


def seal(made: Mapping[str, Any]) -> dict[str, Any]:
    """`made` with its own checksum as ``self`` (SHA-256 of the rest as sorted JSON), so that an edit is noticed."""
    rest = {key: value for key, value in made.items() if key != "self"}
    return rest | {"self": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def check_seal(path: Path | str, found: Mapping[str, Any]) -> None:
    """Raise SpecError unless what was read from `path` is as `seal` made it."""
    if found.get("self") != seal(found)["self"]:
        raise SpecError(str(path), "another content", f"the one that its own checksum tells of {REMEDY}")


def read_record(path: Path | str, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Read a stage's record, which has at least the checksums of what the stage wrote, and `keys`.

    Raises
    ------
    SpecError
        If it is missing or no record, lacks a key, or was edited.
    """
    record = read_json(path, ["outputs", *keys])
    if not isinstance(record["outputs"], Mapping):
        raise SpecError(str(path), record["outputs"], f"checksums by file name under 'outputs' {REMEDY}")
    check_seal(path, record)
    return record


def write_csv(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as CSV; floats in the shortest form that reads back to the same number."""
    with replacing(path) as temporary:
        if len(table) < LONG or not _write_long_csv(temporary, table):
            table.to_csv(temporary, index=False, lineterminator="\n")


LONG = 20_000  # rows of a table that pays for importing pyarrow's writer
SLICE = 2**18  # rows of one that are held as text


def _write_long_csv(path: Path, table: pd.DataFrame) -> bool:
    """Write the very bytes that pandas would in a tenth of its time; False where a value needs quotes, or another type.

    pyarrow writes floats otherwise, 1 for 1.0, 1e+10 for 10000000000.0, 1.5e-7 for 1.5e-07: they are made text here.
    """
    import pyarrow as pa
    import pyarrow.csv

    if table.shape[1] < 2:  # a missing value would be an empty line
        return False
    options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    with open(path, "wb") as file:
        table.iloc[:0].to_csv(file, index=False, lineterminator="\n")
        for start in range(0, len(table), SLICE):
            columns = [_texts(table.iloc[start : start + SLICE, i]) for i in range(table.shape[1])]
            if any(column is None for column in columns):
                return False
            try:
                pa.csv.write_csv(pa.table(columns, names=[str(i) for i in range(len(columns))]), file, options)
            except pa.ArrowInvalid:  # a comma, a quote or a line's end in a value
                return False
    return True


def _texts(column: pd.Series) -> pa.Array | None:
    """Values as pandas writes them to CSV, null where they are missing; None for a type that isn't known here."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        values = pa.array(column, from_pandas=True)
    except (pa.ArrowException, OverflowError):  # of several types, or too large
        return None
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if column.dtype == object and not (pa.types.is_boolean(values.type) or pa.types.is_string(values.type)):
        return None  # numbers that may be of several types, which pandas writes each in its way
    if pa.types.is_boolean(values.type):
        return pc.if_else(values, "True", "False")
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return values
    if pa.types.is_integer(values.type):
        return values.cast(pa.string())
    if not pa.types.is_float64(values.type):
        return None
    numbers = column.to_numpy(dtype=float)
    texts, size = values.cast(pa.string()), np.abs(numbers)
    exponent = ((size < 1e-4) & (size > 0)) | ((size >= 1e10) & np.isfinite(size))
    texts = pc.replace_with_mask(
        texts, pa.array(exponent), pa.array(map(repr, numbers[exponent].tolist()), pa.string())
    )
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & ~exponent
    return pc.if_else(pa.array(whole), pc.binary_join_element_wise(texts, ".0", ""), texts)


def write_parquet(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as parquet (zstd)."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")


def write_npy(path: Path | str, array: np.ndarray) -> None:
    """Write one array as .npy, which numpy can map into memory."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def write_arrays(path: Path | str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays as safetensors."""
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, temporary, dict(metadata or {}))


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """Read named arrays from safetensors.

    Raises
    ------
    SpecError
        If the file is missing, holds no safetensors, or isn't the one that its stage's record tells of.
    """
    from safetensors.numpy import load_file

    with reading(path, "arrays as safetensors"):
        arrays = load_file(path)
    check_recorded(path)
    return arrays


def check_arrays(path: Path | str) -> None:
    """Raise SpecError where `read_arrays` would, without holding the arrays."""
    from safetensors import safe_open

    with reading(path, "arrays as safetensors"), safe_open(path, framework="numpy"):
        pass
    check_recorded(path)


def read_npy(
    path: Path | str, dtype: str, shape: tuple[int | None, ...], mapped: bool = False, most: int | None = None
) -> np.ndarray:
    """Read one array from .npy, into memory or `mapped`; None in `shape` stands for any length.

    Raises
    ------
    SpecError
        If the file is missing, holds no such array and nothing else, or isn't the one that its stage's record tells of
        (where it has more than `most` bytes, its checksum is not compared).
    """
    asked = f"a .npy array of {dtype} {shape}".replace("None", "n")
    with reading(path, asked):
        # An archive of arrays is read as well, but is no array.
        array = np.lib.format.open_memmap(path, mode="r") if mapped else np.load(path, allow_pickle=False)
        fits = isinstance(array, np.ndarray) and array.dtype == dtype and array.ndim == len(shape)
        if not fits or any(n is not None and n != found for n, found in zip(shape, array.shape, strict=True)):
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise SpecError(str(path), found, f"{asked} {REMEDY}")
        if mapped and (size := Path(path).stat().st_size) != array.offset + array.nbytes:
            raise SpecError(str(path), f"{size} bytes", f"{array.offset + array.nbytes} bytes, {asked} {REMEDY}")
    check_recorded(path, most)
    return array


def read_csv(path: Path | str, columns: Iterable[str] = (), least: int = 1) -> pd.DataFrame:
    """Read a CSV file, each number as the nearest float (older pandas rounds otherwise unless told).

    Raises
    ------
    SpecError
        If the file is missing, holds no table of at least so many rows, or lacks one of `columns`.
    """
    with reading(path, "a table as CSV"):
        return parse_csv(path, Path(path).read_bytes(), columns, least)


def parse_csv(path: Path | str, content: bytes, columns: Iterable[str] = (), least: int = 1) -> pd.DataFrame:
    """The table that `read_csv` reads from `path`, of what that file holds."""
    with reading(path, "a table as CSV"):
        return _with_columns(path, pd.read_csv(io.BytesIO(content), float_precision="round_trip"), columns, least)


def read_parquet(path: Path | str, columns: Iterable[str] = (), least: int = 1) -> pd.DataFrame:
    """Read a parquet file.

    Raises
    ------
    SpecError
        If the file is missing, holds no table of at least so many rows, or lacks one of `columns`.
    """
    # Opened here, since pandas would read all files of a folder.
    with reading(path, "a table as parquet"), open(path, "rb") as file:
        return _with_columns(path, pd.read_parquet(file), columns, least)


def parse_parquet(
    path: Path | str, content: bytes, columns: Sequence[str] | None = None, dictionary: Iterable[str] = ()
) -> pa.Table:
    """A table, of at least one row, of what a parquet file holds; without pandas' detour, most of a small one's time.

    Parameters
    ----------
    path : Path
        The file's name, for errors.
    columns : sequence of str, optional
        Those to read; all by default.
    dictionary : iterable of str
        Columns to read as codes and names.

    Raises
    ------
    SpecError
        If it holds no table with a row and these columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(path, "a table as parquet"):
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=list(dictionary))
        missing = [column for column in columns or () if column not in file.schema_arrow.names]
        if missing or not file.metadata.num_rows:
            found = f"no column {missing[0]!r}" if missing else "no rows"
            raise SpecError(
                str(path), found, f"rows with the columns {', '.join(columns or ['of its table'])} {REMEDY}"
            )
        table = file.read(columns=None if columns is None else list(columns), use_threads=False)
        return table.replace_schema_metadata()


def _with_columns(path: Path | str, table: pd.DataFrame, columns: Iterable[str], least: int) -> pd.DataFrame:
    """`table` if it has at least so many rows, and these columns."""
    columns = list(columns)
    missing = [column for column in columns if column not in table]
    if missing or len(table) < least:
        found = f"no column {missing[0]!r}" if missing else "no rows"
        raise SpecError(str(path), found, f"rows with the columns {', '.join(columns) or 'of its table'} {REMEDY}")
    return table


def checksum(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
