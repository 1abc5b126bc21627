"""Read and write tables: CSV and parquet."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from halobench.core.errors import SpecError
from halobench.storage import files as store
from halobench.storage import records, tables_io
from halobench.storage.columns import MAY_BE_EMPTY, TABLE_COLUMNS
from halobench.storage.files import REMEDY, checksum, reading, replacing

if TYPE_CHECKING:
    import pyarrow as pa

if TYPE_CHECKING:
    import pyarrow as pa


def read_tables(folder: Path, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Read an experiment's tables by name.

    Raises
    ------
    SpecError
        If one is missing, can't be read, lacks a column, or isn't the one that its stage's record tells of.
    """
    found = {}
    for name in names:
        path = folder / f"{name}.parquet"
        found[name] = tables_io.read_parquet(path, TABLE_COLUMNS[name], least=0 if name in MAY_BE_EMPTY else 1)
        records.check_recorded(path)
    return found


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


def join_tables(files: Sequence[tuple[Path, bytes]], tables: Sequence[pa.Table]) -> pa.Table:
    """One table of those of files; SpecError, which names the file, where one has columns of other types."""
    import pyarrow as pa

    joined = tables[0]
    with contextlib.suppress(pa.ArrowException):
        return pa.concat_tables(tables, promote_options="permissive")
    for (path, _), table in zip(files, tables, strict=True):
        with store.reading(path, f"a table with the columns and types of {files[0][0]}"):
            pa.concat_tables([joined, table], promote_options="permissive")
    raise AssertionError("tables that can be joined two by two can't be joined")


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the checksums of an experiment's tables by name."""
    return {name: checksum(folder / f"{name}.parquet") for name in names}
