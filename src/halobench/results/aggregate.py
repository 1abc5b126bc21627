"""Joins the files of an experiment's cells into long tables, read from a manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from halobench.core.errors import SpecError
from halobench.results.radii_summary import read_radii
from halobench.storage import files as store
from halobench.storage import records, tables_io
from halobench.storage.columns import KEYS, TABLE_COLUMNS
from halobench.storage.tables_io import join_tables

if TYPE_CHECKING:
    pass

# The file of a cell that each table is joined from.
FILES = {
    "metrics": "metrics.csv",
    "neighbourhood": "neighbourhood.parquet",
    "radii": "radii.parquet",
    "reliability": "reliability.csv",
    "history": "history.csv",
}
READ = {*FILES.values(), "calibration.json"}
PROBED = ("neighbourhood", "radii")  # tables of cells that are probed
BATCH = 64  # cells whose files are made a table at a time; half a million radii
ADVICE = "`halobench verify` names all such files, and with --remove has them made again"


def aggregate(manifest: Mapping[str, Any], results: Path) -> dict[str, pd.DataFrame]:
    """The tables of an experiment, by name.

    Parameters
    ----------
    manifest : mapping
        As `halobench.results.manifest.list_files` gives it.
    results : Path
        The results folder.

    Raises
    ------
    SpecError
        If a file isn't what its stage's record says.

    Returns
    -------
    dict of DataFrame
        ``metrics``, ``neighbourhood``, ``radii`` (quantiles per cell), ``reliability``, ``history``, ``runs``; each
        opens with dataset, model, loss, seed. Rows of calibrator-free predictors have the predictor's name as model
        and ``reference`` as loss.
    """
    cells, references = manifest["cells"], manifest["references"]
    found = {name: Stack(read, KEYS) for name, read in READERS.items()}
    runs = []
    for cell in cells:
        folder = results / "runs" / cell["path"]
        contents, lead = _contents(folder, cell["outputs"]), tuple(cell[key] for key in KEYS)
        for name, stack in found.items():
            if cell["probe"] or name not in PROBED:
                stack.add(folder / FILES[name], contents.get(FILES[name]), lead)
        runs.append(dict(zip(KEYS, lead, strict=True)) | _run(folder, cell["probe"]))
    tables = {name: stack.table() for name, stack in found.items()}
    for name in PROBED:
        if not len(tables[name].columns):
            tables[name] = pd.DataFrame(columns=list(TABLE_COLUMNS[name]))
    scored = []
    for reference in references:
        _contents(results / "references" / reference["path"], reference["outputs"])
        scored.append(_reference_rows(results, reference))
    tables["metrics"] = pd.concat([tables["metrics"], *scored], ignore_index=True)
    return tables | {"runs": pd.DataFrame(runs)}


# What aggregation itself or a later stage reads of files that no stage needs by name; checksums guard the rest.
_TRAIN_KEYS = ("spec", "classes", "train_accuracy", "interpolates", "steps", "parameters", "device", "seconds")


def _contents(folder: Path, outputs: Mapping[str, str]) -> dict[str, bytes]:
    """What the files hold that a stage's record, and the manifest, tell of; weights and logits aside.

    Those are not read here, and may be gone. A file is read once, so that what is joined is what was checked.

    Raises
    ------
    SpecError
        If one isn't the file that they tell of.
    """
    return {
        name: store.checked_bytes(folder / name, digest, "the bytes that its record tells of")
        for name, digest in outputs.items()
        if not name.endswith(".safetensors")
    }


Read = Callable[[Sequence[tuple[Path, bytes]]], tuple[pd.DataFrame, list[int]]]


class Stack:
    """Tables of cells, one on the other, each led by its cell's names.

    Thousands of small files are read `BATCH` at a time: opening a table and copying it into a larger one costs more
    than its rows. Nothing of a file is kept but its rows.

    Parameters
    ----------
    read : callable
        Makes of files, each a path and its content, one table, and of each file how many of the rows are its own.
    keys : sequence of str
        The columns that lead.
    """

    def __init__(self, read: Read, keys: Sequence[str]) -> None:
        self._read, self._keys = read, list(keys)
        self._waiting: list[tuple[Path, bytes, tuple[Any, ...]]] = []
        self._tables: list[pd.DataFrame] = []

    def add(self, path: Path, content: bytes | None, lead: tuple[Any, ...]) -> None:
        """Add a file; `content` is read from it where it is None."""
        self._waiting.append((path, store.read_bytes(path) if content is None else content, lead))
        if len(self._waiting) >= BATCH:
            self._join()

    def table(self) -> pd.DataFrame:
        """The rows of all files, in order; files without rows add nothing but columns where all are so."""
        if self._waiting:
            self._join()
        full = [table for table in self._tables if len(table)] or self._tables[:1]
        self._tables = []
        return pd.concat(full, ignore_index=True) if full else pd.DataFrame()

    def _join(self) -> None:
        """Make one table of the files that wait."""
        table, counts = self._read([(path, content) for path, content, _ in self._waiting])
        leads = [lead for _, _, lead in self._waiting]
        for position, key in enumerate(self._keys):
            values = pd.Series([lead[position] for lead in leads])
            column: Any = values.repeat(counts).array  # its type, of pandas' own, is none that the stubs take
            table.insert(position, key, column)
        self._tables.append(table)
        self._waiting = []


def _read_csvs(least: int) -> Read:
    """How to read CSV files that have at least so many rows each."""

    def read(files: Sequence[tuple[Path, bytes]]) -> tuple[pd.DataFrame, list[int]]:
        header = files[0][1].partition(b"\n")[0]
        if all(_is_plain(content, header, least) for _, content in files):
            lines = [content[len(header) + 1 :] for _, content in files]
            counts = [line.count(b"\n") for line in lines]
            with contextlib.suppress(SpecError):  # which of the files it is, tells the reading of each
                table = tables_io.parse_csv(files[0][0], b"".join([header, b"\n", *lines]))
                if len(table) == sum(counts):
                    return table, counts
        tables = [tables_io.parse_csv(path, content, least=least) for path, content in files]
        full = [table for table in tables if len(table)] or tables[:1]
        return pd.concat(full, ignore_index=True), [len(table) for table in tables]

    return read


def _is_plain(content: bytes, header: bytes, least: int) -> bool:
    """Whether a CSV file has this header and at least so many rows, each a line: no quotes, no empty lines.

    Files of one such header can be read as one, their lines on each other.
    """
    return (
        content.startswith(header + b"\n")
        and content.endswith(b"\n")
        and not any(mark in content for mark in (b'"', b"\r", b"\n\n"))
        and content.count(b",") == header.count(b",") * content.count(b"\n")  # no line has a field too many
        and content.count(b"\n") > max(least, 1)  # a column without a value has another type than one of numbers
    )


def _read_curves(files: Sequence[tuple[Path, bytes]]) -> tuple[pd.DataFrame, list[int]]:
    """The curves of cells."""
    tables = [tables_io.parse_parquet(path, content) for path, content in files]
    return join_tables(files, tables).to_pandas(), [len(table) for table in tables]


def _reference_rows(results: Path, reference: Mapping[str, Any]) -> pd.DataFrame:
    """Metrics of the calibrator-free predictors of one data set and seed."""
    table = tables_io.read_csv(results / "references" / reference["path"] / "metrics.csv")
    lead = {
        "dataset": reference["dataset"],
        "model": table.pop("model"),
        "loss": "reference",
        "seed": reference["seed"],
    }
    return pd.concat([pd.DataFrame(lead, index=table.index), table], axis=1)


def _run(folder: Path, probed: bool) -> dict[str, Any]:
    """One row of `runs`: what was trained, how it went, its temperatures, and what it cost."""
    train = records.read_record(folder / "train.json", _TRAIN_KEYS)
    probe = records.read_record(folder / "probe.json", ["seconds"]) if probed else {"seconds": float("nan")}
    calibrate = records.read_record(folder / "calibrate.json", ["seconds"])
    fits = {(fit["calibrator"], fit["labels"]): fit for fit in store.read_json(folder / "calibration.json")}
    with store.reading(folder / "train.json", "a record of training"):
        dataset = train["spec"]["dataset"]
        noise = dataset.get("noise", {}).get("p", 0.0)
    row = {
        "noise": noise,
        "classes": train["classes"],
        "train_points": dataset["train"],
        "distribution": train.get("distribution", ""),
        "beta": train.get("beta", float("nan")),
        "group": train.get("group", float("nan")),
        "separation": train.get("separation", float("nan")),
        "train_accuracy": train["train_accuracy"],
        "interpolates": train["interpolates"],
        "fitted_here": train.get("fitted_here", True),
        "steps": train["steps"],
        "parameters": train["parameters"],
    }
    for column, key in (
        ("temperature_exact", ("exact", "drawn")),
        ("temperature_released", ("released", "drawn")),
        ("temperature_oracle", ("oracle", "noisy")),
        ("temperature_oracle_clean", ("oracle", "clean")),
    ):
        row[column] = temperature(fits.get(key))
    row |= {
        "device": train["device"],
        "seconds": train["seconds"],
        "probe_seconds": probe["seconds"],
        "calibrate_seconds": calibrate["seconds"],
    }
    return row


def temperature(fit: Mapping[str, Any] | None) -> float:
    """T of a fit as JSON holds it: infinite where the optimum is at beta = 0, NaN where there is none."""
    if fit is None:
        return float("nan")
    if fit["T"] is not None:
        return float(fit["T"])
    return float("inf") if fit["beta"] == 0 else float("nan")


READERS: dict[str, Read] = {
    "metrics": _read_csvs(1),
    "neighbourhood": _read_curves,
    "radii": read_radii,
    "reliability": _read_csvs(1),
    "history": _read_csvs(0),
}


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write each table as CSV and parquet; return the paths."""
    paths = []
    for name, table in tables.items():
        paths += [folder / f"{name}.csv", folder / f"{name}.parquet"]
        tables_io.write_csv(paths[-2], table)
        tables_io.write_parquet(paths[-1], table)
    return paths
