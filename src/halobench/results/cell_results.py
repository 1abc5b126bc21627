"""Find trained cells, read their results from files or tables, and compare two cells."""

from __future__ import annotations

import difflib
import itertools
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from halobench.core import plugins
from halobench.core.errors import RefusedError, SpecError
from halobench.core.specs.codec import to_json
from halobench.results.job_and_fit_tables import AS_JSON
from halobench.storage.columns import KEYS, METRICS_COLUMNS
from halobench.storage.files import read_bytes, reading
from halobench.storage.job_logs import python_path
from halobench.storage.layout import CELL_STAGES
from halobench.storage.records import read_record
from halobench.storage.request_diff import outside_plugins
from halobench.storage.tables_io import parse_csv

SCORE_KEYS = ["split", "labels", "calibrator", "metric"]  # the columns that identify a score
# The record keys to show; other versions of halobench may have omitted some.
RECORD_KEYS = ["spec", "seed", "seconds", "finished", "commit", "device", "versions", "hardware"]
TRAIN_KEYS = ["train_accuracy", "interpolates", "steps", "parameters"]
MOST_NAMES = 12  # largest number of names in a message


@dataclass(frozen=True)
class CellResults:
    """The results of a cell's finished stages; tables of other stages are empty."""

    name: str  # the cell's folder below ``runs``: ``dataset/model/loss/seed0``
    results: Path
    records: Mapping[str, Mapping[str, Any]]  # by stage
    fits: list[dict[str, Any]]
    metrics: pd.DataFrame
    history: pd.DataFrame
    ladder: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def train(self) -> Mapping[str, Any]:
        """Return the record of the cell's training."""
        return self.records["train"]

    @property
    def source(self) -> str:
        """Return the name of the cell's source."""
        return self.train["spec"]["dataset"]["source"]

    @property
    def spec(self) -> dict[str, Any]:
        """Return the specs of the cell's stages by dotted key, including the seed."""
        spec = {"seed": self.train["seed"], **self.train["spec"]}
        if "calibrate" in self.records:
            spec["calibrate"] = self.records["calibrate"]["spec"]
        if "probe" in self.records:
            spec["probes"] = self.records["probe"]["spec"]["probes"]
        return dict(_flat(spec))


def _flat(spec: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested mappings, yielding each value with its dotted key."""
    for key, value in spec.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{lead}{key}.")
        else:
            yield f"{lead}{key}", value


# --- Finding ---------------------------------------------------------------------------------------------------------


def cell_names(results: Path) -> list[str]:
    """Return the sorted names of the trained cells in a results folder; raise SpecError if there are none."""
    if not (results / "runs").is_dir():
        fault = "no `runs` folder in it" if results.is_dir() else "no such folder"
        raise RefusedError(str(results), f"{fault}; pass a results folder that `halobench run` has written")
    names = sorted(str(path.parent.relative_to(results / "runs")) for path in results.glob("runs/*/*/*/*/train.json"))
    if not names:
        raise RefusedError(str(results / "runs"), "no trained cells; `halobench run` trains them")
    return names


def find_cell(results: Path, name: str) -> str:
    """Return the trained cell with this name or path or, failing that, the only one whose name contains `name`.

    If `name` is a whole part of a cell's name, such as ``seed1``, cells such as ``seed10`` don't count.
    """
    names = cell_names(results)
    name = name if name in names else name_below_runs(name)
    if name in names:
        return name
    matches = [cell for cell in names if f"/{name}/" in f"/{cell}/"] or [cell for cell in names if name in cell]
    if not matches:
        raise _no_cell(results, name)
    if len(matches) > 1:
        more = f" and {len(matches) - MOST_NAMES} more" if len(matches) > MOST_NAMES else ""
        listed = ", ".join(matches[:MOST_NAMES])
        raise RefusedError("", f"{name!r} matches several cells: {listed}{more}; write more of the name")
    return matches[0]


def find_seeds(results: Path, name: str) -> list[str]:
    """Return the cells, one per seed, of the data set, model and loss that `name` identifies, or an empty list.

    The name may be ``dataset/model/loss``, the path of such a folder, or consecutive parts of the name, such as
    ``mlp/mixup2``, that fit only one such folder.
    """
    wanted, groups = name_below_runs(name), dict[str, list[str]]()
    for cell in cell_names(results):
        groups.setdefault(cell.rpartition("/")[0], []).append(cell)
    matches = [group for group in groups if f"/{wanted}/" in f"/{group}/"]
    chosen = wanted if wanted in groups else matches[0] if len(matches) == 1 else ""
    return groups.get(chosen, [])


def name_below_runs(path: str) -> str:
    """Return the part of a path after `runs`, which is a cell's name; return a path without `runs` unchanged."""
    parts = path.strip("/").split("/")
    return "/".join(parts[parts.index("runs") + 1 :] if "runs" in parts else parts)


def _no_cell(results: Path, name: str) -> SpecError:
    """Return an error that says that `name` isn't a trained cell and lists the closest names."""
    names = cell_names(results)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:3]
    return RefusedError(
        "", f"no cell {name!r} among the {len(names)} trained cells in {results} (closest: {', '.join(near)})"
    )


# --- Reading ---------------------------------------------------------------------------------------------------------


def read_cell(results: Path, name: str) -> CellResults:
    """Read the results of the trained cell `name`, checking each file against the checksum in its record."""
    folder = results / "runs" / name
    if not (folder / "train.json").exists():
        raise _no_cell(results, name)
    records = {
        stage.name: read_record(path, RECORD_KEYS + TRAIN_KEYS * (stage.name == "train"))
        for stage in CELL_STAGES
        if (path := results / stage.record_path(name)).exists()
    }
    checksums = {file: digest for record in records.values() for file, digest in record["outputs"].items()}

    def table(file: str, **expected: Any) -> pd.DataFrame:
        return parse_csv(folder / file, read_bytes(folder / file, checksums.get(file)), **expected)

    fits, metrics, ladder = [], pd.DataFrame(columns=METRICS_COLUMNS), pd.DataFrame()
    if "calibrate" in records:
        path = folder / "calibration.json"
        with reading(path, "JSON"):
            fits = json.loads(read_bytes(path, checksums.get(path.name)))
        metrics = table("metrics.csv", columns=METRICS_COLUMNS)
    history = table("history.csv", least=0)
    if "repair" in records:
        ladder = table("repair.csv", columns=METRICS_COLUMNS)
    return CellResults(name, results, records, fits, metrics, history, ladder)


def cells_of_tables(tables: Mapping[str, pd.DataFrame]) -> dict[tuple[Any, ...], CellResults]:
    """Return cells' results by (dataset, model, loss, seed), from the tables `runs`, `jobs`, `fits` and `history`.

    The results have no metrics.
    """
    stages = [stage.name for stage in CELL_STAGES]
    jobs: Any = tables["jobs"][tables["jobs"]["stage"].isin(stages)].to_dict("records")
    records: dict[str, dict[str, Any]] = {}
    for job in jobs:
        records.setdefault(job["key"], {})[job["stage"]] = job | {name: json.loads(job[name]) for name in AS_JSON}
    fits, history = ({key: rows for key, rows in tables[name].groupby(KEYS)} for name in ("fits", "history"))
    cells = {}
    for key in tables["runs"][KEYS].itertuples(index=False, name=None):
        name = "{}/{}/{}/seed{}".format(*key)
        cell_fits: Any = fits[key].to_dict("records") if key in fits else []
        curve = history.get(key, tables["history"].iloc[:0])
        cells[key] = CellResults(name, Path(), records[name], cell_fits, pd.DataFrame(), curve)
    return cells


def source_specs(jobs: pd.DataFrame) -> dict[str, Any]:
    """Read the specs of the sources, by name, from the table of jobs."""
    rows = jobs[jobs["stage"] == "source"]
    return {name: json.loads(spec) for name, spec in zip(rows["key"], rows["spec"], strict=True)}


def read_source_spec(results: Path, source: str) -> Mapping[str, Any] | None:
    """Read the spec of a source from its record; return None if the source has no record."""
    record = results / "sources" / source / "source.json"
    return read_record(record, ["spec"])["spec"] if record.exists() else None


def commands(cell: CellResults, source_spec: Mapping[str, Any] | None, out: str = "again") -> list[str]:
    """Return the commands that reproduce a cell in the folder `out`, after its source unless `source_spec` is None."""
    source, folder = f"{out}/sources/{cell.source}", f"{out}/{cell.name}"
    lines, logs = [], cell.results / "logs"
    arguments: tuple[str, ...]
    if source_spec is not None:
        arguments = ("source", "--spec", to_json(source_spec), "--out", source)
        lines.append(_line(logs / f"source/{cell.source}.log", source_spec, arguments))
    places = {"source": ("--source", source), "out": ("--out", folder), "folder": ("--run", folder)}  # by parameter
    for stage, record in cell.records.items():
        seed, spec = str(record["seed"]), record["spec"]
        where = (places[name] for name in plugins.find("stages", stage).options or () if name in places)
        arguments = (stage, *itertools.chain(*where), "--seed", seed, "--spec", to_json(spec))
        lines.append(_line(logs / stage / f"{cell.name}.log", spec, arguments))
    return lines


def _line(log: Path, spec: Mapping[str, Any], arguments: tuple[str, ...]) -> str:
    """Format a command with the PYTHONPATH of any outside plug-ins: the logged path or, if missing, this folder."""
    place = (python_path(log) or "PYTHONPATH=.") if outside_plugins(spec) else ""
    return f"{place} {shlex.join(['halobench', 'stage', *arguments])}".lstrip()


# --- Comparing -------------------------------------------------------------------------------------------------------


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the keys whose values differ between two `CellResults.spec`, and both values (None if missing)."""
    keys = [*first, *(key for key in second if key not in first)]
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]
