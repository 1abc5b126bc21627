"""Joins the files of an experiment's cells into long tables, read from a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from halobench import store
from halobench.calibration import RELIABILITY_COLUMNS
from halobench.claims import COLUMNS, RESULT
from halobench.specs import require

READ = {"history.csv", "neighbourhood.parquet", "radii.parquet", "calibration.json", "metrics.csv", "reliability.csv"}
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
        As `halobench.grid.list_files` gives it.
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
    runs = results / "runs"
    for root, entries in (("runs", cells), ("references", references)):
        for entry in entries:
            _check_sums(results / root / entry["path"], entry["outputs"])

    def gather(read: Callable[[Path], pd.DataFrame], cells: Iterable[Mapping[str, Any]] = cells) -> pd.DataFrame:
        return _stack((cell, read(runs / cell["path"])) for cell in cells)

    def probed(name: str, read: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table) -> pd.DataFrame:
        tables = gather(
            lambda folder: read(store.read_parquet(folder / f"{name}.parquet")),
            [cell for cell in cells if cell["probe"]],
        )
        return tables if len(tables.columns) else pd.DataFrame(columns=list(TABLE_COLUMNS[name]))

    scored = [_reference_rows(results, reference) for reference in references]
    return {
        "metrics": pd.concat([gather(_csv("metrics")), *scored], ignore_index=True),
        "neighbourhood": probed("neighbourhood"),
        "radii": probed("radii", summarise_radii),
        "reliability": gather(_csv("reliability")),
        "history": gather(_csv("history")),
        "runs": _stack((cell, _run(runs / cell["path"], cell["probe"])) for cell in cells),
    }


def _csv(name: str) -> Callable[[Path], pd.DataFrame]:
    """How to read the CSV file `name` of a cell's folder."""
    return lambda folder: store.read_csv(folder / f"{name}.csv", least=0 if name in MAY_BE_EMPTY else 1)


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Read a manifest, as `halobench.grid.list_files` gives it.

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


def _check_sums(folder: Path, outputs: Mapping[str, str]) -> None:
    """Raise SpecError if a file that is read here isn't the one that its stage's record, and the manifest, tell of."""
    for name, digest in outputs.items():
        if not name.endswith(".safetensors"):  # weights and logits are not read here, and may be gone
            store.check_sum(folder / name, digest, "the bytes that its record tells of")


def _stack(parts: Iterable[tuple[Mapping[str, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Tables of cells, one on the other, each led by its cell's names."""
    stacked = []
    for cell, table in parts:
        for position, key in enumerate(KEYS):
            table.insert(position, key, cell[key])
        stacked.append(table)
    full = [table for table in stacked if len(table)] or stacked[:1]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame()


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


def _run(folder: Path, probed: bool) -> pd.DataFrame:
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
    return pd.DataFrame([row])


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
    keys = ["points", "probe", "quantity", "calibrator"]
    rows = []
    for names, group in radii.groupby(keys, sort=True):
        row = dict(zip(keys, names, strict=True))
        row |= {"threshold": group["threshold"].iloc[0], "n": len(group), "censored": group["censored"].mean()}
        censored = group["censored"].to_numpy()
        radius = group["radius"].to_numpy()
        for name, scale in (("radius", 1.0), ("relative", group["other_distance"]), ("fraction", group["line_length"])):
            values = radius / np.asarray(scale)
            for level, label in ((0.25, "q25"), (0.5, "median"), (0.75, "q75")):
                row[f"{name}_{label}"] = censored_quantile(values, censored, level)
        rows.append(row)
    return pd.DataFrame(rows)


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


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write each table as CSV and parquet; return the paths."""
    paths = []
    for name, table in tables.items():
        paths += [folder / f"{name}.csv", folder / f"{name}.parquet"]
        store.write_csv(paths[-2], table)
        store.write_parquet(paths[-1], table)
    return paths
