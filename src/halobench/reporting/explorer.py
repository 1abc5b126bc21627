"""Write the explorer, a self-contained page about the cells of experiments that works in a browser offline.

The page contains its script, plotly.js and the compressed data.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from halobench.analysis import names
from halobench.analysis.radii_summary import QUARTILES
from halobench.analysis.shared_samples import seed_corrections
from halobench.core import console
from halobench.core.errors import RefusedError, SpecError, one_of, require
from halobench.reporting import labels, rendering, table_views, terminal
from halobench.reporting.styles import CALIBRATOR_STYLES, loss_styles
from halobench.results.cell_results import CellResults, cells_of_tables, commands, source_specs
from halobench.storage import files
from halobench.storage.columns import KEYS, REFERENCE, SURVIVAL, SURVIVAL_COLUMNS
from halobench.storage.layout import EXPLORED
from halobench.storage.tables_io import read_tables

MOST_CURVE_POINTS = 200  # maximum number per training curve
CURVE_DIGITS = 6  # significant digits of curves; metrics keep all digits
EXPLORER_COLUMNS = {
    "metrics": ("cell", "labels", "calibrator", "metric", "value", "low", "high"),
    "curves": ("cell", "points", "probe", "radius", "relative_radius", "confidence"),
    "radii": (
        *("cell", "points", "probe", "calibrator", "censored"),
        *(f"relative_{quartile}" for quartile in QUARTILES),
        *SURVIVAL_COLUMNS,
    ),
    "reliability": ("cell", "labels", "calibrator", "bin", "count", "confidence", "accuracy"),
}
NAMED = {kind: rendering.FILTERS[kind][1:] for kind in ("dataset", "model", "loss", "calibrator")}
NAMED["probe"] = labels.probe_label, labels.PROBES


def experiments_in(tables: Path) -> list[str]:
    """Return the sorted names of the experiments whose tables are in a folder; raise RefusedError if there are none."""
    names = sorted(path.parent.name for path in tables.glob("*/aggregate.json"))
    if not names:
        fault = "no tables in it" if tables.is_dir() else "no such folder"
        raise RefusedError(str(tables), f"{fault}; `halobench run` or `halobench run partial` writes tables")
    return names


def gather(
    tables: Path, experiments: Sequence[str], note: str | Mapping[str, str] = "", others: bool = False
) -> dict[str, Any]:
    """Return the page's contents as plain data; with `others`, other readable experiments in `tables` are added."""
    available = experiments_in(tables)
    for name in experiments:
        expected = f"an experiment with tables in {tables}: {one_of(available, name)}"
        require(name in available, "experiment", name, expected)
    shown = {name: experiment_data(read_tables(tables / name, EXPLORED)) for name in experiments}
    for name in (name for name in available if others and name not in experiments):
        try:
            shown[name] = experiment_data(read_tables(tables / name, EXPLORED))
        except SpecError as error:  # written by another version, or still being written by another run
            print(f"skipping experiment {name}: {error}", flush=True)
    return page_data(shown, note if isinstance(note, Mapping) else dict.fromkeys(experiments, note))


def page_data(shown: Mapping[str, Mapping[str, Any]], notes: Mapping[str, str]) -> dict[str, Any]:
    """Return the page's contents: the `experiment_data` of experiments, notes, and the titles and colours of names."""
    styles = loss_styles({cell["loss"] for data in shown.values() for cell in data["cells"]})
    return {
        "experiments": shown,
        "notes": dict(notes),
        "few": labels.FEW,
        "colors": {loss: style.color for loss, style in styles.items()},
        "calibrations": {name: style.color for name, style in CALIBRATOR_STYLES.items()},
        "metrics": {name: name_of.axis for name, name_of in labels.METRIC_NAMES.items()},
        **{"references": labels.REFERENCES, "judged": names.LABELS, "no_loss": names.NO_LOSS},
        **{"over_seeds": names.OVER_SEEDS, "over_samples": names.OVER_SAMPLES},
        "survival": SURVIVAL[1:],
        "t": [float(stdtrit(df, 0.975)) for df in range(1, 61)],
    }


def experiment_data(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return an experiment's data for the page from its tables, which may be empty, except metrics, runs and jobs."""
    with labels.naming(tables["runs"]):
        return _shown(tables)


def _shown(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    index = {tuple(row): i for i, row in enumerate(tables["runs"][KEYS].itertuples(index=False, name=None))}
    metrics = table_views.without_void_floors(tables["metrics"][tables["metrics"]["split"] == "test"])
    references, reliability = metrics[metrics["loss"] == REFERENCE], tables["reliability"]
    shown = {
        "metrics": metrics[metrics["loss"] != REFERENCE],
        "curves": tables["neighbourhood"],
        "radii": tables["radii"][tables["radii"]["quantity"] == "certainty"],
        "reliability": reliability[(reliability["split"] == "test") & (reliability["count"] > 0)],
    }
    cells, sources = cells_of_tables(tables), source_specs(tables["jobs"])
    runs: Any = tables["runs"].to_dict("records")
    noise = tables["runs"].groupby("dataset")["noise"].max()
    return {
        "cells": [_card(run, cells[tuple(run[key] for key in KEYS)], sources) for run in runs],
        **{name: columns(_numbered(rows, index), EXPLORER_COLUMNS[name]) for name, rows in shown.items()},
        "references": columns(references, ["dataset", "model", "seed", "labels", "calibrator", "metric", "value"]),
        "corrections": seed_corrections(tables["runs"]).to_dict(),
        # The data set with the most label noise (the first in a tie), where calibration has the most to do.
        "opens": max(labels.ordered(noise.index, labels.DATASETS), key=lambda name: noise[name]),
        **_names(tables),
    }


def _card(run: Mapping[str, Any], cell: CellResults, sources: Mapping[str, Any]) -> dict[str, Any]:
    train = cell.train
    facts = {
        "train accuracy": f"{run['train_accuracy']:.4f} on the labels trained on"
        f" ({'interpolates' if run['interpolates'] else 'does not interpolate'})",
        **{name: run[name] for name in ("steps", "parameters", "device")},
        "seconds": ", ".join(f"{stage} {record['seconds']:.1f}" for stage, record in cell.records.items()),
        "finished": train["finished"],
        "commit": train["commit"] or "unknown",
        "processor": train["hardware"].get("gpu", train["hardware"]["processor"]),
        "versions": ", ".join(f"{name} {version}" for name, version in train["versions"].items()),
    }
    fits = [
        {name: fit[name] for name in ("calibrator", "split", "labels")}
        | {"nll": _number(fit["nll"]), "gradient": _number(fit["gradient"])}
        | {"temperature": terminal.temperature(fit), "certificate": terminal.certificate(fit)}
        for fit in cell.fits
    ]
    return {
        **{name: run[name] for name in KEYS},
        "name": cell.name,
        "spec": [[key, console.value_text(value)] for key, value in cell.spec.items()],
        "facts": [[key, str(value)] for key, value in facts.items()],
        "fits": fits,
        "commands": commands(cell, sources.get(cell.source)),
        "history": _thinned(cell.history["train_loss"].to_numpy(dtype=float)),
    }


def _thinned(values: np.ndarray) -> list[list[float]]:
    """Return pairs of epoch and loss; a curve of more than `MOST_CURVE_POINTS` is averaged over windows of epochs."""
    if not len(values):
        return []
    edges = np.linspace(0, len(values), min(MOST_CURVE_POINTS, len(values)) + 1).round().astype(int)
    return [[int(b), _number(float(values[a:b].mean()), CURVE_DIGITS)] for a, b in itertools.pairwise(edges)]


def _numbered(table: pd.DataFrame, index: Mapping[tuple, int]) -> pd.DataFrame:
    keys = list(table[KEYS].itertuples(index=False, name=None))
    return table.assign(cell=[index[key] for key in keys])


def columns(table: pd.DataFrame, wanted: Iterable[str]) -> dict[str, Any]:
    """Return a table by column: numbers as lists (None for NaN, text for infinities), and texts as names and codes."""
    data: dict[str, Any] = {}
    digits = None if "metric" in wanted else CURVE_DIGITS
    for name in wanted:
        column = table[name]
        if pd.api.types.is_numeric_dtype(column):
            data[name] = [_number(value, digits) for value in column.tolist()]
        else:
            codes, values = pd.factorize(column)
            data[name] = {"names": list(map(str, values)), "codes": codes.tolist()}
    return data


def _number(value: float, digits: int | None = None) -> Any:
    """Return a number in its form in JSON; a float is rounded to `digits` significant digits, if given."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return float(f"{value:.{digits}g}") if digits and isinstance(value, float) else value


def _names(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return names of data sets, models, losses, calibrators and probes in the order of figures, with their labels."""
    present = {kind: set(tables["runs"][kind]) for kind in ("dataset", "model", "loss")}
    present["calibrator"] = set(tables["metrics"]["calibrator"])
    present["probe"] = {*tables["neighbourhood"]["probe"], *tables["radii"]["probe"]}
    order = {kind: labels.ordered(present[kind], first) for kind, (_, first) in NAMED.items()}
    return {"order": order, "labels": {kind: {name: NAMED[kind][0](name) for name in order[kind]} for kind in order}}


def explorer_page(data: Mapping[str, Any], pages: str = "tables", plotly: str = "") -> str:
    """Return the page, self-contained unless `plotly` is the address of a copy of plotly.js that pages share.

    `pages` is the folder in which each experiment has a folder of other pages.
    """
    from plotly.offline import get_plotlyjs

    packed = base64.b64encode(gzip.compress(json.dumps(data, allow_nan=False).encode(), mtime=0)).decode()
    fitted = labels.ordered(
        (name for shown in data["experiments"].values() for name in shown["order"]["calibrator"]), names.CALIBRATIONS
    )
    first = next(iter(data["experiments"]))
    return rendering.render(
        "explorer.html",
        title="halobench explorer",
        experiment=first,
        **{"top": "", "folder": f"{pages}/{quote(first)}/"},
        plotly=rendering.raw("" if plotly else get_plotlyjs()),
        plotly_address=plotly,
        data=packed,
        calibrations=[
            names.CALIBRATIONS.get(name, names.Name(labels.calibrator_label(name), f"the plug-in {name}"))
            for name in fitted
        ],
        **{"over_seeds": names.OVER_SEEDS, "over_samples": names.OVER_SAMPLES},
    )


def write(
    out: Path, experiments: Sequence[str], tables: Path, note: str | Mapping[str, str] = "", others: bool = False
) -> list[str]:
    """Write the page about `experiments`, whose tables are in the folder `tables`; return the experiments shown."""
    data = gather(tables, experiments, note, others)
    pages = os.path.relpath(tables.resolve(), out.resolve().parent).replace(os.sep, "/")
    with files.replacing(out) as temporary:
        temporary.write_text(explorer_page(data, pages), encoding="utf-8")
    return list(data["experiments"])
