"""Write the explorer: one self-contained page on the cells of experiments, for a browser without a network.

The page holds its script, plotly.js and the data, compressed. What it shows is in the experiment's tables and the
cells' records; nothing is computed there but means, and t intervals, over seeds.
"""

from __future__ import annotations

import base64
import functools
import gzip
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from halobench.core import console
from halobench.core.errors import SpecError, one_of, require
from halobench.reporting import labels, terminal
from halobench.reporting.styles import KNOWN_LOSSES, loss_styles
from halobench.results.cell import commands, read_cell, read_source_spec
from halobench.storage import files
from halobench.storage.layout import EXPLORED
from halobench.storage.tables_io import read_tables

KEYS = ["dataset", "model", "loss", "seed"]
POINTS = 200  # of a training curve, at most
DIGITS = 6  # of curves; metrics keep all


def experiments_in(tables: Path) -> list[str]:
    """Return the experiments whose tables are in a folder, sorted.

    Raises
    ------
    SpecError
        If there is none.
    """
    names = sorted(path.parent.name for path in tables.glob("*/aggregate.json"))
    what = "a folder with the tables of an experiment, as `halobench run` makes them, or `halobench run partial`"
    if not names:
        raise SpecError(str(tables), "no tables in it" if tables.is_dir() else "no folder", what)
    return names


def gather(results: Path, tables: Path, experiments: Sequence[str], note: str = "") -> dict[str, Any]:
    """Return what the page shows as plain data, by experiment, and how names are written and drawn.

    Parameters
    ----------
    results, tables : Path
        The results folder, whose ``runs`` hold the cells; the folder of the experiments' tables.
    experiments : sequence of str
    note : str
        Shown at the top, e.g. that cells are missing.

    Raises
    ------
    SpecError
        If an experiment has no tables, or a table or a cell's file doesn't match its record.
    """
    available = experiments_in(tables)
    for name in experiments:
        require(name in available, "experiment", name, f"one whose tables are in {tables}: {one_of(available, name)}")
    source_spec = functools.cache(functools.partial(read_source_spec, results))  # cells share sources
    cell = functools.cache(functools.partial(_cell, results, source_spec))  # and experiments share cells
    shown = {name: _experiment(tables / name, cell) for name in experiments}
    losses = labels.ordered({cell["loss"] for each in shown.values() for cell in each["cells"]}, KNOWN_LOSSES)
    styles = loss_styles(losses)
    return {
        "experiments": shown,
        "note": note,
        "few": labels.FEW,
        "colors": {loss: styles[loss].color for loss in losses},
        "t": [float(stdtrit(df, 0.975)) for df in range(1, 61)],
    }


def _experiment(folder: Path, cell: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Return the data of one experiment, from the tables in its folder."""
    tables = read_tables(folder, EXPLORED)
    runs = tables["runs"]
    index = {tuple(row): i for i, row in enumerate(runs[KEYS].itertuples(index=False, name=None))}
    metrics = tables["metrics"][tables["metrics"]["split"] == "test"]
    trained, references = metrics[metrics["loss"] != "reference"], metrics[metrics["loss"] == "reference"]
    reliability = tables["reliability"][tables["reliability"]["split"] == "test"]
    return {
        "cells": [cell(*key) for key in index],
        "metrics": columns(
            _numbered(trained, index), ["cell", "labels", "calibrator", "metric", "value", "low", "high"]
        ),
        "references": columns(references, ["dataset", "model", "seed", "labels", "calibrator", "metric", "value"]),
        "curves": columns(
            _numbered(tables["neighbourhood"], index),
            ["cell", "points", "probe", "radius", "relative_radius", "confidence"],
            DIGITS,
        ),
        "reliability": columns(
            _numbered(reliability[reliability["count"] > 0], index),
            ["cell", "labels", "calibrator", "bin", "count", "confidence", "accuracy"],
            DIGITS,
        ),
        "labels": _words(tables),
        "order": _order(tables),
    }


def _cell(
    results: Path, source_spec: Callable[[str], Any], dataset: str, model: str, loss: str, seed: int
) -> dict[str, Any]:
    """Return a cell's names, and its results in short."""
    cell = read_cell(results, f"{dataset}/{model}/{loss}/seed{seed}")
    train = cell.train
    facts = {
        "train accuracy": f"{train['train_accuracy']:.4f} on the labels trained on"
        f" ({'interpolates' if train['interpolates'] else 'does not interpolate'})",
        "steps": train["steps"],
        "parameters": train["parameters"],
        "device": train["device"],
        "seconds": ", ".join(f"{stage} {record['seconds']:.1f}" for stage, record in cell.records.items()),
        "finished": train["finished"],
        "commit": train["commit"] or "unknown",
        "processor": train["hardware"].get("gpu", train["hardware"]["processor"]),
        "versions": ", ".join(f"{name} {version}" for name, version in train["versions"].items()),
    }
    fits = [
        fit | {"temperature": terminal.temperature(fit), "certificate": terminal.certificate(fit)} for fit in cell.fits
    ]
    return {
        **dict(zip(KEYS, (dataset, model, loss, int(seed)), strict=True)),
        "name": cell.name,
        "spec": [[key, console.value_text(value)] for key, value in cell.spec.items()],
        "facts": [[key, str(value)] for key, value in facts.items()],
        "fits": fits,
        "commands": commands(cell, source_spec(cell.source)),
        "history": _thinned(cell.history["train_loss"].to_numpy(dtype=float)),
    }


def _thinned(values: np.ndarray) -> list[list[float]]:
    """Return pairs of epoch and loss: means over equal windows if there are more than `POINTS`."""
    if not len(values):
        return []
    edges = np.linspace(0, len(values), min(POINTS, len(values)) + 1).round().astype(int)
    return [[int(b), _number(float(values[a:b].mean()), DIGITS)] for a, b in itertools.pairwise(edges)]


def _numbered(table: pd.DataFrame, index: Mapping[tuple, int]) -> pd.DataFrame:
    """Return a table with a column ``cell``, the number of each row's cell."""
    keys = list(table[KEYS].itertuples(index=False, name=None))
    return table.assign(cell=[index[key] for key in keys])


def columns(table: pd.DataFrame, wanted: Iterable[str], digits: int | None = None) -> dict[str, Any]:
    """Return a table by columns: numbers as lists (null for NaN, text for infinities), texts as names and codes."""
    data: dict[str, Any] = {}
    for name in wanted:
        column = table[name]
        if pd.api.types.is_numeric_dtype(column):
            data[name] = [_number(value, digits) for value in column.tolist()]
        else:
            codes, names = pd.factorize(column)
            data[name] = {"names": list(map(str, names)), "codes": codes.tolist()}
    return data


def _number(value: float, digits: int | None = None) -> Any:
    """Return a number as JSON holds it, with so many significant digits."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return float(f"{value:.{digits}g}") if digits and isinstance(value, float) else value


def _words(tables: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, str]]:
    """Return the words for names, by kind."""
    metrics = tables["metrics"]
    named = {
        "dataset": (metrics["dataset"], labels.dataset_label),
        "model": (metrics["model"], labels.model_label),
        "loss": (metrics["loss"], labels.loss_label),
        "calibrator": (metrics["calibrator"], labels.calibrator_label),
        "probe": (tables["neighbourhood"]["probe"], labels.probe_label),
    }
    return {kind: {name: label(name) for name in column.unique()} for kind, (column, label) in named.items()}


def _order(tables: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    """Return names in the order of the figures, by kind."""
    runs, metrics = tables["runs"], tables["metrics"]
    return {
        "dataset": labels.ordered(runs["dataset"], labels.DATASETS),
        "model": labels.ordered(runs["model"], labels.MODELS),
        "loss": labels.ordered(runs["loss"], KNOWN_LOSSES),
        "calibrator": labels.ordered(metrics["calibrator"], labels.CALIBRATORS),
        "probe": labels.ordered(tables["neighbourhood"]["probe"], labels.PROBES),
    }


def explorer_page(data: Mapping[str, Any]) -> str:
    """Return the page, with all that it needs in it."""
    from plotly.offline import get_plotlyjs

    folder = resources.files("halobench.reporting") / "explorer"
    text, script, style = ((folder / f"page.{kind}").read_text("utf-8") for kind in ("html", "js", "css"))
    packed = base64.b64encode(gzip.compress(json.dumps(data, allow_nan=False).encode(), mtime=0)).decode()
    parts = {"STYLE": style, "PLOTLY": get_plotlyjs(), "DATA": packed, "SCRIPT": script}
    for key, value in parts.items():
        text = text.replace(f"/*{key}*/", value.replace("</script", "<\\/script"), 1)
    return text


def shown(tables: Path, experiments: Iterable[str] = ()) -> list[str]:
    """Return the experiments to show: those that are named, or all whose tables are in the folder `tables`.

    Raises
    ------
    SpecError
        If there is none.
    """
    return list(experiments) or experiments_in(tables)


def write(results: Path, out: Path, experiments: Sequence[str], tables: Path, note: str = "") -> None:
    """Write the page on `experiments`, whose tables are in the folder `tables`.

    Raises
    ------
    SpecError
        As `gather`.
    """
    text = explorer_page(gather(results, tables, experiments, note))
    with files.replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
