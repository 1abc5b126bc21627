"""Find the cells on one side of a claim: the rows of its table that meet the conditions, one per cell."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from halobench.analysis.claims.rules import COMPARISON, ROW_COLUMNS, Claim, described
from halobench.analysis.radii_summary import QUARTILES
from halobench.storage.columns import DATASET, KEYS, PAIRED, REFERENCE

_COMPARE = {">=": np.greater_equal, "<=": np.less_equal, "!=": np.not_equal, ">": np.greater, "<": np.less}


class NotTested(Exception):
    """Raised if the grid doesn't have what a claim needs; the message says what is missing."""


class ClaimTables:
    """An experiment's tables by name, with cached selections of rows, since most claims share a few conditions."""

    def __init__(self, tables: Mapping[str, pd.DataFrame]):
        self.by_name = tables
        self._masks: dict[tuple[str, str, str], np.ndarray] = {}

    def table(self, name: str) -> pd.DataFrame:
        """Return a table; raise NotTested if it is missing."""
        if name not in self.by_name:
            raise NotTested(f"table {name} is missing")
        return self.by_name[name]

    def rows(self, name: str, conditions: Mapping[str, Any]) -> pd.DataFrame:
        """Return the rows of a table that meet every condition on its columns."""
        masks = [self._mask(name, column, condition) for column, condition in conditions.items()]
        return self.by_name[name][np.logical_and.reduce(masks)] if masks else self.by_name[name]

    def _mask(self, name: str, column: str, condition: Any) -> np.ndarray:
        key = (name, column, repr(condition))
        if key not in self._masks:
            self._masks[key] = meets(self.by_name[name][column], condition)
        return self._masks[key]

    def losses(self, conditions: Mapping[str, Any]) -> list[str]:
        """Return the losses of the cells that meet every condition; [] if a condition's column isn't in `runs`."""
        runs = self.table("runs")
        met = {column: condition for column, condition in conditions.items() if column in runs}
        return sorted(set(self.rows("runs", met)["loss"])) if len(met) == len(conditions) else []

    @functools.cached_property
    def by_dataset(self) -> pd.DataFrame:
        """Return the columns of `runs` that describe data sets, with one row per data set."""
        runs = self.by_name["runs"]
        return runs.groupby("dataset")[[column for column in DATASET if column in runs]].first()

    def correction(self, dataset: str) -> float:
        """Return the correction that widens a data set's intervals if its seeds share samples; otherwise, it is 0."""
        return float(self.by_dataset["seed_correction"].get(dataset, 0.0))


def side_cells(claim: Claim, conditions: Mapping[str, Any], tables: ClaimTables) -> pd.DataFrame:
    """Return a side's cells by dataset, model and seed, with columns value, loss, interpolates, steps and censored.

    Raise NotTested if the conditions select no rows, or more than one row per cell.
    """
    tables.table("runs")
    table = tables.table(claim.table)
    of_table, of_runs = ({c: v for c, v in conditions.items() if (c in table) == inside} for inside in (True, False))
    # Filter by the table's own columns first, since joining `runs` to millions of rows to keep only a few would be
    # slow.
    rows = _with_runs(tables.rows(claim.table, of_table), tables)
    for column in of_runs:
        if column not in rows:
            raise NotTested(f"neither {claim.table} nor runs has a column {column}")
    for column, condition in of_runs.items():
        rows = rows[meets(rows[column], condition)]
    if rows.empty:
        _require_loss(conditions["loss"], tables)
        raise NotTested(f"the grid has no rows of {claim.table} with {described(conditions)}")
    if len(several := rows[rows.duplicated(PAIRED, keep=False)]):
        first = several.groupby(PAIRED, sort=False).get_group(tuple(several[PAIRED].iloc[0]))
        columns = [column for column in ROW_COLUMNS[claim.table] if first[column].nunique() > 1] or ["other columns"]
        what = f"more than one row per cell with {described(conditions)}, which differ in {', '.join(columns)}"
        raise NotTested(f"{claim.table} has {what}")
    cells = rows[[*PAIRED, "loss", "interpolates", "steps"]].astype({"interpolates": object})
    cells["value"] = pd.to_numeric(rows[claim.value], errors="coerce").astype(float)
    cells["censored"] = _censored(claim, rows)
    return cells.set_index(PAIRED)


def _require_loss(loss: str, tables: ClaimTables) -> None:
    """Raise NotTested if no loss in the grid has this name, even if the grid has the loss under another name."""
    names = sorted(set(tables.by_name["runs"]["loss"]))
    if loss not in (*names, REFERENCE):
        what = "a claim refers to a loss by its name in the configuration or as {name: PLUG-IN, OPTION: VALUE}"
        raise NotTested(f"the grid has no loss named {loss}, only {', '.join(names)} ({what})")


def _with_runs(table: pd.DataFrame, tables: ClaimTables) -> pd.DataFrame:
    """Add to a table the columns of `runs` that it doesn't have yet.

    References have no run, so they get only the columns that describe the data set.
    """
    runs = tables.by_name["runs"]
    extra = [column for column in runs if column not in table]
    table = table.merge(runs[[*KEYS, *extra]], on=KEYS, how="left", validate="many_to_one")
    for column in set(DATASET) & set(runs):
        table[column] = table[column].fillna(table["dataset"].map(tables.by_dataset[column]))
    return table


def meets(values: pd.Series, condition: Any) -> np.ndarray:
    """Return which values (n,) meet a condition: a value, a list of values, a comparison or a pattern with ``*``."""
    if isinstance(condition, list | tuple):
        return np.logical_or.reduce([meets(values, one) for one in condition] or [np.zeros(len(values), bool)])
    comparison = COMPARISON.fullmatch(condition) if isinstance(condition, str) else None
    if comparison:
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
        return _COMPARE[comparison[1]](numbers, float(comparison[2])) & ~np.isnan(numbers)
    if isinstance(condition, int | float) and not isinstance(condition, bool):
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
        return np.isclose(numbers, condition, rtol=1e-9, atol=1e-12)
    if isinstance(condition, str) and "*" in condition:
        # Match only the few distinct values, whereas a table may have a million rows.
        matching = {value for value in values.unique() if isinstance(value, str) and fnmatchcase(value, condition)}
        return values.isin(matching).to_numpy(dtype=bool)
    return (values == condition).fillna(False).to_numpy(dtype=bool)


def _censored(claim: Claim, rows: pd.DataFrame) -> list[bool]:
    """Return, for each row, whether its quantile of radii is only a lower bound because it falls on censored radii."""
    level = QUARTILES.get(claim.value.rpartition("_")[2])
    if claim.table != "radii" or level is None or "censored" not in rows:
        return [False] * len(rows)
    share = rows["censored"].to_numpy(dtype=float)
    return (share > 1 - level + 1e-9).tolist()
