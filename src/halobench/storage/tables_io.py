"""Read and write tables as CSV and parquet."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from halobench.core.errors import Found, SpecError
from halobench.storage.columns import MAY_BE_EMPTY, TABLE_COLUMNS
from halobench.storage.files import REMEDY, checksum, reading, replacing
from halobench.storage.records import check_recorded

if TYPE_CHECKING:
    import pyarrow as pa

LONG = 20_000  # rows; tables of at least this length are written by pyarrow
SLICE = 2**18  # number of rows of a long table that are held as text at once


# --- Writing ---------------------------------------------------------------------------------------------------------


def write_csv(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as CSV, with floats in the shortest form that is read back as the same number."""
    with replacing(path) as temporary:
        if len(table) < LONG or not _write_long_csv(temporary, table):
            table.to_csv(temporary, index=False, lineterminator="\n")


def _write_long_csv(path: Path, table: pd.DataFrame) -> bool:
    """Write the bytes of ``table.to_csv`` with pyarrow, which is faster; return whether pyarrow can do so."""
    import pyarrow as pa
    import pyarrow.csv

    columns = [column for _, column in table.items()]
    if len(columns) == 1 or not all(map(_is_plain, columns)):  # pandas quotes missing values in a single column
        return False
    options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    with open(path, "wb") as file:
        table.iloc[:0].to_csv(file, index=False, lineterminator="\n")
        for start in range(0, len(table), SLICE):
            parts = [column.iloc[start : start + SLICE] for column in columns]
            texts = [_float_texts(part) if part.dtype == np.float64 else pa.array(part) for part in parts]
            try:
                pa.csv.write_csv(pa.table(texts, names=list(table.columns)), file, options)
            except pa.ArrowInvalid:  # a value contains a comma, a quote or a line break
                return False
    return True


def _is_plain(column: pd.Series) -> bool:
    """Return whether a column holds only double-precision floats, only integers or only strings."""
    numbers = column.dtype == np.float64 or pd.api.types.is_integer_dtype(column.dtype)
    return numbers or pd.api.types.infer_dtype(column) == "string"


def _float_texts(column: pd.Series) -> pa.Array:
    """Format floats as Python does, with null for NaN; pyarrow formats whole, large and small floats differently."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = column.to_numpy()
    size = np.abs(numbers)
    other = ((size < 1e-4) | (size >= 1e10) | (size == np.floor(size))) & ~np.isnan(size)
    texts = pa.array(numbers, from_pandas=True).cast(pa.string())
    return pc.replace_with_mask(texts, pa.array(other), pa.array(map(repr, numbers[other].tolist()), pa.string()))


def write_parquet(path: Path | str, table: pd.DataFrame) -> None:
    import pyarrow  # noqa: F401 (if it is missing, pandas doesn't say that this is why)

    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")


# --- Reading ---------------------------------------------------------------------------------------------------------


def read_tables(folder: Path, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Return an experiment's tables by name; raise SpecError if one is missing, damaged or incomplete."""
    tables = {}
    for name in names:
        path = folder / f"{name}.parquet"
        tables[name] = read_parquet(path, TABLE_COLUMNS[name], least=0 if name in MAY_BE_EMPTY else 1)
        check_recorded(path)
    return tables


def parse_csv(path: Path | str, content: bytes, columns: Iterable[str] = (), least: int = 1) -> pd.DataFrame:
    """Parse CSV, with each number as the nearest float; raise the same errors as `read_parquet`, naming `path`."""
    with reading(path, "a table as CSV"):
        # Without "round_trip", older versions of pandas round numbers differently.
        table = pd.read_csv(io.BytesIO(content), float_precision="round_trip")
        _check_shape(path, list(table.columns), len(table), columns, least)
    return table


def read_parquet(path: Path | str, columns: Iterable[str] = (), least: int = 1) -> pd.DataFrame:
    """Read a parquet file; raise SpecError unless it is a table with at least `least` rows and all of `columns`."""
    import pyarrow  # noqa: F401 (see above)

    # The file is opened here, because pandas would read all files in a folder if passed one.
    with reading(path, "a table as parquet"), open(path, "rb") as file:
        table = pd.read_parquet(file)
        _check_shape(path, list(table.columns), len(table), columns, least)
    return table


def parse_parquet(
    path: Path | str,
    content: bytes,
    columns: Sequence[str] | None = None,
    dictionary: Iterable[str] = (),
    least: int = 1,
) -> pa.Table:
    """Parse the content of a parquet file as a pyarrow table.

    The table isn't converted to pandas: for a cell's small file, the conversion would take most of the time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(path, "a table as parquet"):
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=list(dictionary))
        _check_shape(path, file.schema_arrow.names, file.metadata.num_rows, columns or (), least)
        table = file.read(columns=None if columns is None else list(columns), use_threads=False)
        return table.replace_schema_metadata()


def join_tables(paths: Sequence[Path], tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate the tables of several files; a column that is missing from a file is null in the file's rows."""
    import pyarrow as pa

    with contextlib.suppress(pa.ArrowException):
        return pa.concat_tables(tables, promote_options="permissive")
    for path, table in zip(paths, tables, strict=True):
        with reading(path, f"a table with the columns and types of {paths[0]}"):
            pa.concat_tables([tables[0], table], promote_options="permissive")
    raise AssertionError("tables that can be joined in pairs can't be joined together")


def _check_shape(path: Path | str, names: Sequence[str], rows: int, columns: Iterable[str], least: int) -> None:
    """Raise SpecError unless a table has at least `least` rows and its columns, `names`, include `columns`."""
    columns = list(columns)
    missing = [column for column in columns if column not in names]
    if missing or rows < least:
        problem = f"no column {missing[0]!r}" if missing else "no rows"
        kind = "at least one row" if least else "a table"
        raise SpecError(
            str(path), Found(problem), f"{kind} with the columns {', '.join(columns) or 'of this table'} {REMEDY}"
        )


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    return {f"{name}.parquet": checksum(folder / f"{name}.parquet") for name in names}
