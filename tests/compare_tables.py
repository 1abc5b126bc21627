"""Compare the tables of two results folders, byte for byte: `python tests/compare_tables.py BEFORE AFTER`.

Columns with times or devices are dropped first. The rest must be the same: column names and their order, types, and
values to the bit, where NaN equals NaN. JSON records and HTML pages other than tables for print are left out. The first
column that differs is reported, with the first row in which it does; rows count from 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

VARYING = {  # columns, by table name
    "runs": ["device", "seconds", "probe_seconds", "calibrate_seconds"],
    "jobs": ["device", "seconds", "peak_memory_mib", "started", "finished", "commit", "hardware", "versions"],
}
KINDS = (".csv", ".parquet", ".tex")
CELL_FOLDERS = ("runs", "references")
CELL_KINDS = (".csv", ".parquet", ".safetensors")
SHOWN = 60  # characters of a value, at most


def files_below(folders: Iterable[Path], name: str) -> set[Path]:
    """Return the files below the folder `name` of any of the results folders, relative to those."""
    found = ((path, folder) for folder in folders for path in (folder / name).rglob("*") if path.is_file())
    return {path.relative_to(folder) for path, folder in found}


def list_tables(folders: Iterable[Path]) -> list[Path]:
    """Return the tables in any of the results folders, with the HTML of those for print."""
    found = files_below(folders, "tables")
    pages = {path.with_suffix(".html") for path in found if path.suffix == ".tex"}
    return sorted(path for path in found if path.suffix in KINDS or path in pages)


def list_cell_files(folders: Iterable[Path]) -> list[Path]:
    """Return the files of cells and references in any of the results folders; none of these contains a time."""
    found = set().union(*(files_below(folders, name) for name in CELL_FOLDERS))
    return sorted(path for path in found if path.suffix in CELL_KINDS or path.name == "calibration.json")


def read_table(path: Path) -> pd.DataFrame:
    """Return a table; the values of a CSV file are kept as text."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def differing(before: pd.Series, after: pd.Series) -> list[int]:
    """Return the rows in which two columns of the same type and length differ in any bit; all NaNs count as equal."""
    empty = before.isna() & after.isna()
    if before.dtype in ("float16", "float32", "float64"):
        bits = f"uint{8 * before.dtype.itemsize}"
        same = before.to_numpy().view(bits) == after.to_numpy().view(bits)
    else:
        same = (before == after).fillna(False).to_numpy(dtype=bool)
    return (~(same | empty.to_numpy())).nonzero()[0].tolist()


def first_apart(before: str | bytes, after: str | bytes) -> int:
    """Return where two texts or files' contents first differ; if one starts with the other, where the shorter ends."""
    places = (i for i, (old, new) in enumerate(zip(before, after, strict=False)) if old != new)
    return next(places, min(len(before), len(after)))


def shown(before: object, after: object) -> str:
    """Format two values as Python writes them; long ones are cut to the part around their first difference."""
    texts = [repr(before), repr(after)]
    start = max(first_apart(*texts) - SHOWN // 2, 0) if max(map(len, texts)) > SHOWN else 0
    cut = [("..." if start else "") + t[start : start + SHOWN] + ("..." if t[start + SHOWN :] else "") for t in texts]
    return f"{cut[0]} in BEFORE, {cut[1]} in AFTER"


def compare_columns(before: pd.DataFrame, after: pd.DataFrame) -> str | None:
    """Return how the names or the order of columns differ, or None."""
    if list(before.columns) == list(after.columns):
        return None
    lost, new = (", ".join(a.columns.difference(b.columns, sort=False)) for a, b in ((before, after), (after, before)))
    told = [f"{where} has {names}" for where, names in (("only BEFORE", lost), ("only AFTER", new)) if names]
    return "columns: " + ("; ".join(told) or "in another order")


def compare_values(before: pd.DataFrame, after: pd.DataFrame) -> str | None:
    """Return how two tables with the same columns differ in types, rows or values, or None."""
    if len(before) != len(after):
        return f"{len(before)} rows in BEFORE, {len(after)} in AFTER"
    told = []
    for name in before.columns:
        old, new = before[name], after[name]
        if old.dtype != new.dtype:
            told.append(f"column {name}: {old.dtype} in BEFORE, {new.dtype} in AFTER")
        elif rows := differing(old, new):
            values = shown(*(column.tolist()[rows[0]] for column in (old, new)))
            count = f" (rows of this column that differ: {len(rows)})" if len(rows) > 1 else ""
            told.append(f"column {name}, row {rows[0]}: {values}{count}")
    if not told:
        return None
    return told[0] + (f"; columns that differ: {len(told)}" if len(told) > 1 else "")


def compare_frames(before: Path, after: Path, drop: list[str]) -> str | None:
    """Return how two files' tables differ, apart from the columns in `drop`, or None."""
    try:
        old, new = read_table(before), read_table(after)
    except (ValueError, OSError) as error:
        return f"can't be read as a table: {str(error).splitlines()[0]}"
    if columns := compare_columns(old, new):
        return columns
    return compare_values(*(table.drop(columns=drop, errors="ignore") for table in (old, new)))


def compare_bytes(before: bytes, after: bytes) -> str:
    """Return where the bytes of two files first differ, by line if they are text and otherwise by byte."""
    try:
        lines = [content.decode().splitlines() for content in (before, after)]
    except UnicodeDecodeError:
        lines = [[], []]
    for number, (old, new) in enumerate(zip(*lines, strict=False), start=1):
        if old != new:
            return f"line {number}: {shown(old, new)}"
    return f"bytes from {first_apart(before, after)} on ({len(before)} in BEFORE, {len(after)} in AFTER)"


def compare_files(before: Path, after: Path, drop: list[str]) -> str | None:
    """Return the first difference of two files, or None; if there are columns to drop, only of the other columns."""
    old, new = before.read_bytes(), after.read_bytes()
    if old == new:
        return None
    table = before.suffix in (".csv", ".parquet")
    told = compare_frames(before, after, drop) if table else None
    if told or (table and drop):
        return told
    return ("the same values, but other " if table else "") + compare_bytes(old, new)


def compare_all(before: Path, after: Path, names: list[Path], varying: dict[str, list[str]], what: str) -> bool:
    """Print each difference of the files `names`, then the totals; return whether there are files and all are equal."""
    differ = missing = 0
    for name in names:
        absent = [where for where, folder in (("BEFORE", before), ("AFTER", after)) if not (folder / name).is_file()]
        if absent:
            missing += 1
            print(f"{name}: missing in {absent[0]}")
        elif told := compare_files(before / name, after / name, varying.get(name.stem, [])):
            differ += 1
            print(f"{name}: {told}")
    print(f"{len(names) - differ - missing} {what} equal, {differ} differ, {missing} missing")
    return bool(names) and not differ and not missing


def main() -> int:
    """Compare the folders on the command line; return 0 if everything is equal, otherwise 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, metavar="BEFORE", help="a results folder")
    parser.add_argument("after", type=Path, metavar="AFTER", help="another, of the same experiments")
    parser.add_argument("--cells", action="store_true", help="compare files of cells and of references as well")
    given = parser.parse_args()
    folders = (given.before, given.after)
    for folder in folders:
        if not (folder / "tables").is_dir():
            sys.exit(f"{folder}: no folder of tables in it")
    equal = compare_all(*folders, list_tables(folders), VARYING, "tables")
    if given.cells:
        equal &= compare_all(*folders, list_cell_files(folders), {}, "files of cells")
    dropped = ", ".join(f"columns of {name} ({', '.join(columns)})" for name, columns in VARYING.items())
    print(f"Left out, for they hold times or hosts: JSON records, HTML pages other than tables for print, {dropped}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
