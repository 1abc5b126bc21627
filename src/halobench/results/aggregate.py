"""Join the files of an experiment's cells, which a manifest lists, into long tables."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from halobench.analysis.identities import COLUMNS as IDENTITIES
from halobench.analysis.identities import plugin_text
from halobench.analysis.radii_summary import GROUPED, QUARTILES, RADII_COLUMNS, read_radii
from halobench.analysis.random_ray_null import ONE, OTHERS, summarise_nulls
from halobench.analysis.shared_samples import sampling, with_seed_correction
from halobench.core.errors import SpecError
from halobench.core.plugins.facts import facts
from halobench.results.job_and_fit_tables import RECORD_KEYS, fit_rows, fits_table, job_row, jobs_table, source_rows
from halobench.storage.columns import KEYS, REFERENCE, TABLE_COLUMNS
from halobench.storage.files import read_bytes, reading
from halobench.storage.layout import ORIGINS, STAGES
from halobench.storage.records import read_record
from halobench.storage.tables_io import join_tables, parse_csv, parse_parquet, write_csv, write_parquet

LADDER_FILE = "repair.csv"  # additional rows of metrics, for cells with this file
# Columns of `runs` about data sets that other tables repeat, for ordering panels and for intervals over seeds.
REPEATED = ("noise", "seed_correction")
BATCH = 64  # cells read and joined at once, with half a million radii in total

# Takes files, each as a path and its content, and returns all their rows and each file's row count.
Reader = Callable[[Sequence[tuple[Path, bytes]]], tuple[pd.DataFrame, list[int]]]


def aggregate(manifest: Mapping[str, Any], results: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the names and tables of an experiment, from the files that a manifest lists with their checksums.

    The first columns of each table except ``jobs`` are dataset, model, loss and seed. Rows of untrained reference
    predictors have the predictor's name as the model and ``reference`` as the loss.
    """
    cells = manifest["cells"]
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in JOINED}
    runs, jobs, fits = [], [], []
    for start in range(0, len(cells), BATCH):
        batch = [_read_cell(results, cell) for cell in cells[start : start + BATCH]]
        for name, table in JOINED.items():
            if chosen := [cell for cell in batch if cell.probed or not table.probed]:
                parts[name].append(_join_cells(name, chosen))
        parts["radii"] += [_null_rows(cell) for cell in batch if cell.attacks]
        if chosen := [cell for cell in batch if "repair" in cell.records]:
            parts["metrics"].append(_join_cells("metrics", chosen, LADDER_FILE))
        for cell in batch:
            runs.append(cell.names | _run(cell))
            fits += cell.fits
            jobs += [job_row(cell.key, record) for record in cell.records.values()]
    parts["metrics"] += [_reference_rows(results, reference) for reference in manifest["references"]]
    jobs = [*source_rows(results, jobs), *jobs, *_reference_jobs(results, manifest["references"])]
    run_table = with_seed_correction(pd.DataFrame(runs))
    datasets = run_table.drop_duplicates("dataset").set_index("dataset")
    yield "runs", run_table
    yield "jobs", jobs_table(jobs)
    yield "fits", fits_table(fits)
    for name, table in JOINED.items():  # if no cell was probed, no file provides the columns
        rows = _concat(parts.pop(name) or [pd.DataFrame(columns=list(TABLE_COLUMNS[name]))])
        for column in REPEATED if table.repeats else ():
            rows[column] = rows["dataset"].map(datasets[column])
        yield name, rows
        del rows  # otherwise, it would be kept while the next one is joined


def write_tables(tables: Iterable[tuple[str, pd.DataFrame]], folder: Path) -> list[Path]:
    """Write each table as Parquet and, except for `ORIGINS`, as CSV; return the paths."""
    paths = []
    for name, table in tables:
        if name not in ORIGINS:
            paths.append(folder / f"{name}.csv")
            write_csv(paths[-1], table)
        paths.append(folder / f"{name}.parquet")
        write_parquet(paths[-1], table)
        del table  # otherwise, it would be kept while the next one is joined
    return paths


# --- Tables of cells -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _CellFiles:
    """A cell's files; the content that is joined is the content whose checksum was compared."""

    names: dict[str, Any]  # by column
    key: str
    folder: Path
    probed: bool
    checksums: Mapping[str, str]  # of the cell's files, by name
    records: Mapping[str, Mapping[str, Any]]  # by stage
    fits: list[dict[str, Any]]  # the cell's rows in the table `fits`

    @property
    def noise(self) -> float:
        """Return the probability that a label was replaced, in [0, 1)."""
        with reading(self.folder / "train.json", "a training record"):
            return float(self.records["train"]["spec"]["dataset"].get("noise", {}).get("p", 0.0))

    @property
    def kinds(self) -> dict[str, str]:
        """Return the kinds of the cell's probes, by the probes' names."""
        probes = self.records["probe"]["spec"]["probes"] if self.probed else {}
        return {name: spec.get("kind", name) for name, spec in probes.items()}

    @property
    def attacks(self) -> list[str]:
        """Return the names of adversarial probes in the Euclidean norm; none if inputs have fewer than 2 dimensions."""
        if not self.probed or self.records["probe"].get("dimension", 0) < 2:
            return []
        probes = self.records["probe"]["spec"]["probes"].items()
        return [name for name, spec in probes if spec.get("kind") == "adversarial" and spec.get("norm", "l2") == "l2"]

    def file(self, name: str) -> tuple[Path, bytes]:
        """Return a file's path and content; raise SpecError if its checksum is wrong."""
        return self.folder / name, read_bytes(self.folder / name, self.checksums.get(name))


def _read_cell(results: Path, cell: Mapping[str, Any]) -> _CellFiles:
    folder = results / "runs" / cell["path"]
    records = {}
    for stage in cell["stages"]:
        keys = (*RECORD_KEYS, *(_TRAIN_KEYS if stage == "train" else ()))
        records[stage] = read_record(results / STAGES[stage].record_path(cell["path"]), keys)
    path = folder / "calibration.json"
    names, checksums = {key: cell[key] for key in KEYS}, cell["outputs"]
    with reading(path, "fits as JSON"):
        fits = fit_rows(names, json.loads(read_bytes(path, checksums.get(path.name))))
    return _CellFiles(names, cell["path"], folder, "probe" in records, checksums, records, fits)


def _join_cells(name: str, cells: Sequence[_CellFiles], file: str = "") -> pd.DataFrame:
    """Join the cells' rows of the table `name`, with the cells' names in the first columns."""
    joined = JOINED[name]
    table, counts = joined.read([cell.file(file or joined.file) for cell in cells])
    for position, key in enumerate(KEYS):
        column: Any = pd.Series([cell.names[key] for cell in cells]).repeat(counts).array  # its type isn't in the stubs
        table.insert(position, key, column)
    if joined.probed:
        table.insert([*table.columns].index("probe") + 1, "kind", _kinds(table["probe"], cells, counts))
    return table


def _kinds(probes: pd.Series, cells: Sequence[_CellFiles], counts: Sequence[int]) -> list[str]:
    """Return the kind of each row's probe, as recorded for the row's cell."""
    names, kinds = iter(probes.tolist()), []
    for cell, count in zip(cells, counts, strict=True):
        kind_of = cell.kinds
        kinds += [kind_of[name] for name in itertools.islice(names, count)]
    return kinds


def _null_rows(cell: _CellFiles) -> pd.DataFrame:
    """Return rows of `radii` with the lengths of random rays if flat boundaries lay at the attacked radii."""
    path, content = cell.file(JOINED["radii"].file)
    radii = parse_parquet(path, content, RADII_COLUMNS, GROUPED).to_pandas()
    radii = radii[(radii["quantity"] == "certainty") & radii["probe"].isin(cell.attacks)]
    planes, rows = {ONE: 1, OTHERS: cell.records["train"]["classes"] - 1}, []
    for (points, probe, calibrator), attacked in radii.groupby(["points", "probe", "calibrator"], observed=True):
        lead = cell.names | {"points": points, "probe": probe, "kind": "adversarial"}
        facts = {"calibrator": calibrator, "threshold": attacked["threshold"].iloc[0], "n": len(attacked)}
        nulls = summarise_nulls(attacked, cell.records["probe"]["dimension"], planes, QUARTILES)
        rows += [lead | {"quantity": quantity} | facts | null for quantity, null in nulls.items()]
    return pd.DataFrame(rows)


def _concat(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate tables; unless all are empty, leave out empty ones, since their columns have no types."""
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


# --- Readers ---------------------------------------------------------------------------------------------------------


def _read_csvs(files: Sequence[tuple[Path, bytes]], least: int = 1) -> tuple[pd.DataFrame, list[int]]:
    """Read CSV files with at least `least` rows each; return their rows in one table, and each file's row count."""
    if (joined := _read_joined(files, least)) is not None:
        return joined
    tables = [parse_csv(path, content, least=least) for path, content in files]
    return _concat(tables), [len(table) for table in tables]


def _read_joined(files: Sequence[tuple[Path, bytes]], least: int) -> tuple[pd.DataFrame, list[int]] | None:
    """Read CSV files as if they were one file; return None if this fails, e.g. because headers differ.

    Reading the files of 1,500 cells as one file takes 0.2 s of CPU time; reading them one at a time takes 3.4 s.
    """
    header = files[0][1].partition(b"\n")[0] + b"\n"
    if not all(content.startswith(header) and content.endswith(b"\n") for _, content in files):
        return None
    lines = [content.removeprefix(header) for _, content in files]
    counts = [text.count(b"\n") for text in lines]
    with contextlib.suppress(SpecError):  # reading the files separately reveals which one isn't a table
        table = parse_csv(files[0][0], header + b"".join(lines), least=0)
        # Quoted line breaks, empty lines and other line endings change the row count; an extra field becomes the index.
        if len(table) == sum(counts) and min(counts) >= least and isinstance(table.index, pd.RangeIndex):
            return table, counts
    return None


def _read_curves(files: Sequence[tuple[Path, bytes]]) -> tuple[pd.DataFrame, list[int]]:
    """Read the cells' curves into one table; also return how many of its rows each cell has."""
    tables = [parse_parquet(path, content, least=0) for path, content in files]  # searches have no curves
    return join_tables([path for path, _ in files], tables).to_pandas(), [len(table) for table in tables]


@dataclass(frozen=True)
class Joined:
    """A table that joins a file of each cell."""

    file: str
    read: Reader = _read_csvs
    probed: bool = False  # whether only probed cells have the file
    repeats: bool = True  # whether it repeats the columns `REPEATED` of `runs`


JOINED = {
    "metrics": Joined("metrics.csv"),
    "radii": Joined("radii.parquet", read_radii, probed=True),
    "reliability": Joined("reliability.csv"),
    "history": Joined("history.csv", functools.partial(_read_csvs, least=0), repeats=False),
    # The longest, joined after the others are written.
    "neighbourhood": Joined("neighbourhood.parquet", _read_curves, probed=True),
}


# --- References and runs ---------------------------------------------------------------------------------------------


def _reference_rows(results: Path, reference: Mapping[str, Any]) -> pd.DataFrame:
    """Read the metrics of the untrained reference predictors for one data set and seed."""
    path = results / "references" / reference["path"] / "metrics.csv"
    table = parse_csv(path, read_bytes(path, reference["outputs"][path.name]))
    lead = {"dataset": reference["dataset"], "model": table.pop("model"), "loss": REFERENCE, "seed": reference["seed"]}
    return pd.concat([pd.DataFrame(lead, index=table.index), table], axis=1)


def _reference_jobs(results: Path, references: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of `jobs` for the jobs that scored untrained reference predictors."""
    stage, keys = STAGES["reference"], [reference["path"] for reference in references]
    return [job_row(key, read_record(results / stage.record_path(key), RECORD_KEYS)) for key in keys]


# The keys of train.json that aggregation or a later stage reads, in addition to the keys of every record.
_TRAIN_KEYS = ("classes", "train_accuracy", "interpolates", "steps", "parameters")
# The calibrator in each temperature column, and the labels that it was fitted to.
_TEMPERATURES = {
    "temperature_exact": ("exact", "drawn"),
    "temperature_paper": ("paper", "drawn"),
    "temperature_oracle": ("oracle", "noisy"),
    "temperature_oracle_clean": ("oracle", "clean"),
}
NEAR_OPTIMUM = 0.05  # relative distance from the optimum up to which the paper's fit counts as converged


def paper_near_exact(temperatures: Mapping[tuple[str, str], float]) -> float:
    """Return whether the paper's fit ended within `NEAR_OPTIMUM` of the optimum, as 1 or 0.

    The result is NaN if either fit is missing or there is no optimum.

    Examples
    --------
    >>> paper_near_exact({("exact", "drawn"): 2.0, ("paper", "drawn"): 2.09})
    1.0
    """
    exact, paper = (temperatures.get((name, "drawn")) for name in ("exact", "paper"))
    if exact is None or paper is None or math.isnan(exact):
        return math.nan
    return float(math.isfinite(exact) and abs(paper - exact) <= NEAR_OPTIMUM * exact)


def _run(cell: _CellFiles) -> dict[str, Any]:
    """Return a cell's row of `runs`, without the cell's names: facts about its training, temperatures and costs."""
    train = cell.records["train"]
    temperatures = {(fit["calibrator"], fit["labels"]): fit["T"] for fit in cell.fits}
    with reading(cell.folder / "train.json", "a training record"):
        sampled, loss = sampling(train), train["spec"]["loss"]["name"]
    return {
        "noise": cell.noise,
        "classes": train["classes"],
        "train_points": sampled["train_points"],
        "distribution": sampled["distribution"],
        "beta": train.get("beta", math.nan),
        "group": train.get("group", math.nan),
        "separation": train.get("separation", math.nan),
        "test_points": sampled["test_points"],
        "test_block": sampled["test_block"],
        "train_block": sampled["train_block"],
        "train_accuracy": train["train_accuracy"],
        "interpolates": train["interpolates"],
        "fitted_here": train.get("fitted_here", True),
        "loss_family": _family(loss),
        **{column: plugin_text(train["spec"][part]) for part, column in IDENTITIES.items()},
        "steps": train["steps"],
        "parameters": train["parameters"],
        **{column: temperatures.get(fit, math.nan) for column, fit in _TEMPERATURES.items()},
        "paper_near_exact": paper_near_exact(temperatures),
        "device": train["device"],
        "seconds": train["seconds"],
        "probe_seconds": cell.records["probe"]["seconds"] if cell.probed else math.nan,
        "calibrate_seconds": cell.records["calibrate"]["seconds"],
    }


@functools.cache
def _family(loss: str) -> str:
    """Return the family of a loss plug-in, or "" if its file is missing."""
    try:
        return facts("losses", loss).family
    except SpecError:
        return ""
