"""Run the command ``apply``, which isn't a stage of the workflow: map new logits with a saved calibrator, in blocks.

Only an .npy or .npz array stored by column is read as a whole. The output has the input's format. An .npz output
has ``probabilities`` for each array of logits or probabilities (``test_probabilities`` for ``test_logits``) and, if
known, the ``names`` of the classes in the order of the columns. An .npy output is one array. An output table has the
columns probability_NAME, after the input's columns that aren't logits or probabilities. Arrays of float32 give
float32, and all other arrays give float64.
"""

from __future__ import annotations

import contextlib
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from halobench.calibration import saved
from halobench.calibration.arrays import blocks, check_matrix, check_unscaled, two_columns
from halobench.calibration.calibrator import Calibrator
from halobench.calibration.diagnosis.external_logits import ARRAY_KINDS, csv_columns, in_file
from halobench.calibration.logit_tables import COLUMN, EXPECTED, class_columns, is_table, ordered
from halobench.core.errors import Found, RefusedError, SpecError, one_of, refuse, require
from halobench.storage.files import replacing

LOGITS_PER_BLOCK = 1 << 19  # a block takes a few dozen MB, and half of that per block in a table's text
ROW = re.compile(r"(\w+)\[(\d+)\]")  # the key of an error in a row


def run_apply(path: Path, file: Path, out: Path, trust: bool = False) -> None:
    """Map the logits in `file` with the calibrator saved at `path`, and write the probabilities to `out`."""
    fitted = saved.read(path, trust).calibrator
    refuse(not file.is_file(), str(file), "this is a folder; pass a file" if file.is_dir() else "no such file")
    kind = file.suffix.lower()
    require(kind in KINDS_OF_FILES, str(file), Found(f"the suffix {kind!r}"), one_of(KINDS_OF_FILES, kind))
    refuse(out.suffix.lower() != kind, "--out", f"{out} must end in {kind}, as the input does")
    for read in (path, file):
        same = out.exists() and out.samefile(read)
        refuse(same, "--out", f"{out} is an input and would be overwritten; pass another file")
    with replacing(out) as temporary, _readable(file), in_file(file):
        rows = KINDS_OF_FILES[kind](fitted, file, temporary)
    order = f"; classes in the order {', '.join(fitted.names)}" if 0 < len(fitted.names) <= 20 else ""
    print(f"wrote {out}: probabilities of {rows:,} samples by {fitted.name or 'the calibrator'}{order}")


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn decoders' errors, except ImportError and OSError, into a SpecError that names the file."""
    try:
        yield
    except (SpecError, ImportError, OSError):
        raise
    except Exception as error:
        raise RefusedError(str(file), f"can't be read ({type(error).__name__}: {error})") from None


def _probabilities(fitted: Calibrator, rows: Any, kind: str, start: int = 0) -> np.ndarray:
    """Return the calibrated probabilities of some rows, the first of which is row `start` of its file."""
    try:
        if is_table(rows):
            return fitted.predict_proba(rows)
        if kind == "probabilities":
            return fitted.predict_proba(rows, probabilities=True)
        checked = check_matrix(two_columns(rows, kind), kind)
        check_unscaled(checked, kind, "if they are probabilities, pass an .npz file with an array of that name")
        return fitted.predict_proba(checked, probabilities=False)
    except SpecError as error:
        row = ROW.fullmatch(error.key)
        raise error.at(f"{row[1]}[{start + int(row[2])}]") if row else error from None


def _apply_npz(fitted: Calibrator, file: Path, out: Path) -> int:
    """Map each array of logits or probabilities in an .npz file, and return the number of rows."""
    total = 0
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(out, "w") as target:
        names = [name.removesuffix(".npy") for name in source.namelist()]
        columns = _columns(np.load(file, allow_pickle=False)["names"], fitted) if "names" in names else None
        chosen = {
            name: kind for name in names for kind in ARRAY_KINDS[:2] if name in (kind, f"val_{kind}", f"test_{kind}")
        }
        require(bool(chosen), "arrays", Found(", ".join(names) or "none"), "logits or probabilities")
        for name, kind in chosen.items():
            output = f"{name.removesuffix(kind)}probabilities.npy"
            with source.open(f"{name}.npy") as stream, target.open(output, "w", force_zip64=True) as sink:
                total += _stream(fitted, stream, sink, kind, columns)
        if fitted.names:
            with target.open("names.npy", "w") as sink:
                np.lib.format.write_array(sink, np.array(fitted.names), allow_pickle=False)
    return total


def _columns(names: np.ndarray, fitted: Calibrator) -> list[int] | None:
    """Return the positions of the fit's classes among the `names` of a file's columns."""
    listed = list(map(str, names.ravel().tolist()))
    return [listed.index(name) for name in ordered(listed, fitted.names)]


def _stream(fitted: Calibrator, stream: IO[bytes], sink: IO[bytes], kind: str, columns: list[int] | None) -> int:
    """Map an array in .npy format from one stream to another, and return the number of rows."""
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = reader(stream)
    expected = f"an array (n, {fitted.classes or 'k'}) of numbers"
    fits = (len(shape) == 2 or (len(shape) == 1 and fitted.classes == 2)) and dtype.kind in "fiu"
    require(fits, kind, Found(f"{dtype} of shape {shape}"), expected)
    rows, k = (*shape, 1)[:2]
    output = np.dtype(np.float32 if dtype == np.float32 else np.float64)
    header = {"descr": output.str, "fortran_order": False, "shape": (rows, fitted.classes or k)}
    np.lib.format.write_array_header_1_0(sink, header)
    whole = np.frombuffer(stream.read(), dtype).reshape(k, rows).T if by_column else None
    for part in blocks(rows, k, LOGITS_PER_BLOCK):
        count = part.stop - part.start
        some = np.frombuffer(stream.read(count * k * dtype.itemsize), dtype) if whole is None else whole[part]
        block = some.reshape(count, k) if columns is None else some.reshape(count, k)[:, columns]
        sink.write(np.ascontiguousarray(_probabilities(fitted, block, kind, part.start), output).data)
    return rows


def _apply_npy(fitted: Calibrator, file: Path, out: Path) -> int:
    """Map an .npy file of logits, and return the number of rows."""
    with file.open("rb") as stream, out.open("wb") as sink:
        return _stream(fitted, stream, sink, "logits", None)


def _apply_csv(fitted: Calibrator, file: Path, out: Path) -> int:
    """Map a .csv file, and return the number of rows."""
    import pandas as pd

    width, total = len(csv_columns(file)), 0
    with pd.read_csv(file, float_precision="round_trip", chunksize=_rows(width)) as parts, out.open("w") as sink:
        for part in parts:
            _table(fitted, part, total).to_csv(sink, index=False, header=not total)
            total += len(part)
    return total


def _apply_parquet(fitted: Calibrator, file: Path, out: Path) -> int:
    """Map a .parquet file, and return the number of rows."""
    import pyarrow as pa
    from pyarrow import parquet

    total, writer = 0, None
    with parquet.ParquetFile(file) as source, contextlib.ExitStack() as stack:
        for batch in source.iter_batches(_rows(len(source.schema_arrow))):
            part = _table(fitted, batch.to_pandas(), total)
            table = pa.Table.from_pandas(part, schema=writer.schema if writer else None, preserve_index=False)
            writer = writer or stack.enter_context(parquet.ParquetWriter(out, table.schema))
            writer.write_table(table)
            total += len(part)
        refuse(writer is None, "", "the table has no rows; add one per sample")
    return total


def _rows(columns: int) -> int:
    return max(1, math.ceil(LOGITS_PER_BLOCK / max(columns, 1)))


def _table(fitted: Calibrator, part: Any, start: int) -> Any:
    """Return a part of a table with calibrated probabilities in place of its logits or probabilities."""
    import pandas as pd

    require(is_table(part), "columns", Found(", ".join(map(str, part.columns[:8]))), EXPECTED)
    probabilities = _probabilities(fitted, part, "logits", start)
    names = ordered(class_columns(part)[1], fitted.names)
    others = part[[column for column in part.columns if not COLUMN.fullmatch(str(column))]]
    columns = pd.DataFrame(probabilities, columns=[f"probability_{name}" for name in names], index=part.index)
    return pd.concat([others, columns], axis=1)


KINDS_OF_FILES: dict[str, Callable[[Calibrator, Path, Path], int]] = {
    ".npz": _apply_npz,
    ".npy": _apply_npy,
    ".csv": _apply_csv,
    ".parquet": _apply_parquet,
}
