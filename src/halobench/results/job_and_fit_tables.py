"""Build tables of how results were produced: an experiment's jobs, from their records, and its calibrators' fits."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from halobench.core.specs.codec import to_json
from halobench.storage.columns import FIT_COLUMNS, JOB_COLUMNS, KEYS
from halobench.storage.layout import STAGES
from halobench.storage.records import read_record

# The record keys that a row of `jobs` copies unchanged, and those that it stores as JSON.
FACTS = ("seed", "device", "seconds", "peak_memory_mib", "started", "finished", "commit")
AS_JSON = ("spec", "hardware", "versions")
RECORD_KEYS = ("stage", *FACTS, *AS_JSON)


def job_row(key: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of `jobs` for the job with this `key` in its stage, from its record (read with `RECORD_KEYS`)."""
    row = {"stage": record["stage"], "key": key} | {name: record[name] for name in FACTS}
    row |= {"seed": -1 if record["seed"] is None else record["seed"], "commit": record["commit"] or ""}
    return row | {name: sys.intern(to_json(record[name])) for name in AS_JSON}  # many jobs share most of these texts


def source_rows(results: Path, jobs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the sources used by the training jobs in `jobs`; sources copied by hand have no row."""
    specs = (json.loads(job["spec"]) for job in jobs if job["stage"] == "train")
    stage, rows = STAGES["source"], []
    for source in sorted({spec["dataset"]["source"] for spec in specs}):
        if (path := results / stage.record_path(source)).is_file():
            rows.append(job_row(source, read_record(path, RECORD_KEYS)))
    return rows


def jobs_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table of jobs from its rows; seed is -1 for jobs without a seed, and commit is empty outside git."""
    return pd.DataFrame(list(rows), columns=list(JOB_COLUMNS))


def temperature(fit: Mapping[str, Any]) -> float:
    """Read T from a fit in JSON form; T is infinite if the optimum is at beta = 0 and NaN if there is no optimum."""
    if fit["T"] is not None:
        return float(fit["T"])
    return math.inf if fit["beta"] == 0 else math.nan


def fit_rows(names: Mapping[str, Any], fits: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make a cell's rows of `fits` from its names and the fits in its ``calibration.json``."""
    kept = [column for column in FIT_COLUMNS if column not in (*KEYS, "T")]
    return [dict(names) | {column: fit[column] for column in kept} | {"T": temperature(fit)} for fit in fits]


def fits_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table of all fits, with T, 1/T (beta), the NLL and its gradient at T, and whether the fit converged."""
    table = pd.DataFrame(list(rows), columns=list(FIT_COLUMNS))
    return table.astype(dict.fromkeys(("T", "beta", "nll", "gradient"), float))
