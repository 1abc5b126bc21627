"""Joins the files of an experiment's cells into long tables, read from a manifest."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from halobench.calibration.evaluate import RELIABILITY_COLUMNS
from halobench.core.specs import SpecError, require
from halobench.results.claims import COLUMNS, RESULT
from halobench.storage import files as store

if TYPE_CHECKING:
    import pyarrow as pa

FILES = {"metrics": "metrics.csv", "neighbourhood": "neighbourhood.parquet", "radii": "radii.parquet"}
FILES |= {"reliability": "reliability.csv", "history": "history.csv"}
READ = {*FILES.values(), "calibration.json"}
PROBED = ("neighbourhood", "radii")  # tables of cells that are probed
BATCH = 64  # cells whose files are made a table at a time; half a million radii
ADVICE = "`halobench verify` names all such files, and with --remove has them made again"
KEYS = ["dataset", "model", "loss", "seed"]
MAY_BE_EMPTY = ("neighbourhood", "radii", "history")  # where no cell is probed, or nothing is trained
TABLE_COLUMNS = COLUMNS | {
    "reliability": (*KEYS, *RELIABILITY_COLUMNS),
    "history": (*KEYS, "epoch", "step", "lr", "train_loss"),
    "claims": tuple(RESULT),
}


def aggregate(manifest: Mapping[str, Any], results: Path) -> dict[str, pd.DataFrame]:
    """The tables of an experiment, by name.

    Parameters
    ----------
    manifest : mapping
        As `halobench.experiment.grid.list_files` gives it.
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


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Read a manifest, as `halobench.experiment.grid.list_files` gives it.

    Raises
    ------
    SpecError
        If the file is missing or is none, or was edited.
    """
    manifest = store.read_json(path, ("cells", "references"))
    with store.reading(path, "lists of cells and references, each with its names, path and checksums"):
        for entries, keys in ((manifest["cells"], [*KEYS, "probe"]), (manifest["references"], ("dataset", "seed"))):
            for entry in entries:
                for key in (*keys, "path", "outputs"):
                    require(key in entry, key, entry, "a key of each entry")
                require(isinstance(entry["outputs"], Mapping), "outputs", entry["outputs"], "checksums by file name")
        require(manifest["cells"], "cells", manifest["cells"], "at least one")
    store.check_seal(path, manifest)
    return manifest


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
        found[name] = store.read_parquet(path, TABLE_COLUMNS[name], least=0 if name in MAY_BE_EMPTY else 1)
        store.check_recorded(path)
    return found


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
                table = store.parse_csv(files[0][0], b"".join([header, b"\n", *lines]))
                if len(table) == sum(counts):
                    return table, counts
        tables = [store.parse_csv(path, content, least=least) for path, content in files]
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
    tables = [store.parse_parquet(path, content) for path, content in files]
    return _joined(files, tables).to_pandas(), [len(table) for table in tables]


def _joined(files: Sequence[tuple[Path, bytes]], tables: Sequence[pa.Table]) -> pa.Table:
    """One table of those of files; SpecError, which names the file, where one has columns of other types."""
    import pyarrow as pa

    joined = tables[0]
    with contextlib.suppress(pa.ArrowException):
        return pa.concat_tables(tables, promote_options="permissive")
    for (path, _), table in zip(files, tables, strict=True):
        with store.reading(path, f"a table with the columns and types of {files[0][0]}"):
            pa.concat_tables([joined, table], promote_options="permissive")
    raise AssertionError("tables that can be joined two by two can't be joined")


def _reference_rows(results: Path, reference: Mapping[str, Any]) -> pd.DataFrame:
    """Metrics of the calibrator-free predictors of one data set and seed."""
    table = store.read_csv(results / "references" / reference["path"] / "metrics.csv")
    lead = {
        "dataset": reference["dataset"],
        "model": table.pop("model"),
        "loss": "reference",
        "seed": reference["seed"],
    }
    return pd.concat([pd.DataFrame(lead, index=table.index), table], axis=1)


def _run(folder: Path, probed: bool) -> dict[str, Any]:
    """One row of `runs`: what was trained, how it went, its temperatures, and what it cost."""
    train = store.read_record(folder / "train.json", _TRAIN_KEYS)
    probe = store.read_record(folder / "probe.json", ["seconds"]) if probed else {"seconds": float("nan")}
    calibrate = store.read_record(folder / "calibrate.json", ["seconds"])
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


def summarise_radii(radii: pd.DataFrame) -> pd.DataFrame:
    """Quartiles of radii over the rays of a cell: in normalised pixels, relative, and as a fraction of the ray's line.

    A censored radius is at least the length of its walk. It is counted as larger than all others when quartiles are
    taken, and a quartile that falls on censored ones is given as the least of their lengths, a lower bound.
    """
    keys = {}
    for name in RADII_KEYS:
        codes, names = pd.factorize(radii[name], sort=True)
        keys[name] = (codes, np.asarray(names, dtype=object))
    return _summaries(keys, {name: radii[name].to_numpy() for name in RADII_COLUMNS if name not in keys})[0]


RADII_KEYS = ("points", "probe", "quantity", "calibrator")
RADII_COLUMNS = (*RADII_KEYS, "threshold", "radius", "censored", "other_distance", "line_length")
SCALES = {"radius": None, "relative": "other_distance", "fraction": "line_length"}
QUARTILES = {"q25": 0.25, "median": 0.5, "q75": 0.75}


def _read_radii(files: Sequence[tuple[Path, bytes]]) -> tuple[pd.DataFrame, list[int]]:
    """The radii of cells, each cell's summarised as by `summarise_radii`."""
    tables = [store.parse_parquet(path, content, RADII_COLUMNS, RADII_KEYS) for path, content in files]
    joined = _joined(files, tables).unify_dictionaries()
    keys = {"cell": (np.repeat(np.arange(len(tables)), [len(table) for table in tables]), np.arange(len(tables)))}
    for name in RADII_KEYS:
        column = joined[name].combine_chunks()
        names = np.array(column.dictionary.to_pylist(), dtype=object)
        rank = np.argsort(np.argsort(names))
        codes = column.indices.fill_null(-1).to_numpy()
        keys[name] = (np.where(codes < 0, -1, rank[codes]), np.sort(names))
    rest = {name: joined[name].to_numpy() for name in RADII_COLUMNS if name not in keys}
    table, cell = _summaries(keys, rest)
    return table, np.bincount(cell, minlength=len(tables)).tolist()


def _summaries(
    keys: Mapping[str, tuple[np.ndarray, np.ndarray]], columns: Mapping[str, np.ndarray]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Quartiles of radii by all groups at once, as a sort a row of matrices: one of each size that groups have.

    Parameters
    ----------
    keys : mapping of name to (codes (n,), names (m,))
        What groups share, the names sorted, the first key outermost; rows of code -1 are in no group.
    columns : mapping of name to array (n,)
        threshold, radius, censored, other_distance and line_length.

    Returns
    -------
    DataFrame
        A row a group, sorted, led by the keys (but ``cell``).
    int array
        Of each row the code of the first key.
    """
    group, shape = _groups(keys)
    inside = group >= 0
    counts = np.bincount(group[inside], minlength=math.prod(shape))
    present = np.flatnonzero(counts)
    sizes = counts[present]
    order = np.argsort(group, kind="stable")[len(group) - int(inside.sum()) :]
    starts = np.cumsum(sizes) - sizes
    places = np.unravel_index(present, shape)
    found = {name: names[place] for (name, (_, names)), place in zip(keys.items(), places, strict=True)}
    found |= {"threshold": columns["threshold"][order[starts]], "n": sizes, "censored": np.empty(len(sizes))}
    radius = columns["radius"]
    values = {name: radius / columns[scale] if scale else radius for name, scale in SCALES.items()}
    found |= {f"{name}_{label}": np.empty(len(sizes)) for name in SCALES for label in QUARTILES}
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        taken = order[starts[rows, None] + np.arange(size)]
        censored = columns["censored"][taken].astype(bool)
        found["censored"][rows] = censored.sum(axis=1) / size
        for name, scaled in values.items():
            for label, quantile in zip(QUARTILES, _quantiles(scaled[taken], censored), strict=True):
                found[f"{name}_{label}"][rows] = quantile
    found.pop("cell", None)
    return pd.DataFrame(found).infer_objects(), places[0]


def _groups(keys: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Of each row (n,) the number of its group among all combinations of keys, -1 without one; and their shape."""
    shape = tuple(len(names) for _, names in keys.values())
    group, missing = np.zeros(1, np.int64), np.zeros(1, bool)
    for (codes, _), size in zip(keys.values(), shape, strict=True):
        group, missing = group * size + codes, missing | (codes < 0)
    return np.where(missing, -1, group), shape


def _quantiles(values: np.ndarray, censored: np.ndarray) -> Iterator[np.ndarray]:
    """`censored_quantile` of each row of values (g, n), at each of `QUARTILES`."""
    size = values.shape[1]
    known = size - censored.sum(axis=1)
    bound = np.where(censored, values, np.inf).min(axis=1)
    ordered = np.sort(np.where(censored, np.inf, values), axis=1)
    undefined = np.isnan(values).any(axis=1)
    for level in QUARTILES.values():
        rank = int(np.ceil(level * size)) - 1
        quantile = np.where(rank < known, ordered[:, max(rank, 0)], bound)
        yield np.where(undefined, np.nan, quantile)


def censored_quantile(values: np.ndarray, censored: np.ndarray, level: float) -> float:
    """A quantile (an order statistic, no interpolation) of right-censored values; NaN if any value is NaN.

    Examples
    --------
    >>> censored_quantile(np.array([1.0, 2.0, 3.0]), np.array([False, False, True]), 0.5)
    2.0
    """
    if np.isnan(values).any():
        return float("nan")
    known = np.sort(values[~censored])
    rank = int(np.ceil(level * len(values))) - 1
    if rank < len(known):
        return float(known[max(rank, 0)])
    return float(values[censored].min())


READERS: dict[str, Read] = {
    "metrics": _read_csvs(1),
    "neighbourhood": _read_curves,
    "radii": _read_radii,
    "reliability": _read_csvs(1),
    "history": _read_csvs(0),
}


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write each table as CSV and parquet; return the paths."""
    paths = []
    for name, table in tables.items():
        paths += [folder / f"{name}.csv", folder / f"{name}.parquet"]
        store.write_csv(paths[-2], table)
        store.write_parquet(paths[-1], table)
    return paths
