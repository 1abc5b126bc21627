"""Files of a grid that nobody trained, as the stages would have left them, for aggregation.

A cell's tables have the rows that the default probes and calibrators produce around a few points, with made-up numbers,
and each cell has records of its own. Weights and logits, which aggregation doesn't read, are listed in the records but
missing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from halobench.experiment.jobs import list_cells
from halobench.experiment.sections import Cell
from halobench.storage import files, provenance, records, tables_io
from halobench.storage.layout import CELL_STAGES
from halobench.storage.manifest import list_files
from halobench.storage.request_diff import Request

DATASETS, LOSSES, SEEDS = ("digits", "digits-noise50"), ("cross_entropy", "label_smoothing", "mixup2"), (0, 1)
PROBES = ("manifold", "mixup_line", "nearest_other", "sphere")  # in the order of a record
POINTS = {"train": 15, "heldout": 10}
RADII, RELATIVE = (0.0, 1.0, 5.0, 20.0), (0.5, 1.0, 2.0)
QUANTITIES = (("certainty", "none", 0.9), ("half_level", "none", np.nan), ("certainty", "exact", 0.9))
QUANTITIES += (("half_level", "exact", np.nan), ("decision", "none", np.nan))
SCORED = {"train": ("drawn", "clean"), "val": ("drawn", "noisy", "clean"), "test": ("noisy", "clean")}
CALIBRATORS = ("none", "paper", "exact", "oracle")
METRICS = ("error", "nll", "brier", "ece")
EPOCHS = 100
STAGES = [stage for stage in CELL_STAGES if stage.cells != "laddered"]  # of each cell
PACKAGES = ("torch", "torchvision", "timm", "safetensors")


def write_grid(results: Path) -> dict[str, Any]:
    """Write the files of a grid's cells and references to `results`; return its manifest, as the stages list it."""
    cells = sorted(itertools.starmap(Cell, itertools.product(DATASETS, ["mlp"], LOSSES, SEEDS)))
    code = {f"module{i}": "0" * 16 for i in range(14)}
    record = provenance.record(Request("train", {}, code), 0, [], 1.0, PACKAGES)
    for cell in cells:
        write_cell(results / "runs" / cell.path, cell, record)
    references = sorted({(cell.dataset, cell.seed) for cell in cells})
    for dataset, seed in references:
        rng = np.random.default_rng(zlib.crc32(f"{dataset}/{seed}".encode()))
        scores = {"bayes": ["none"], "uniform": ["none"], "nearest": ["none", "exact", "oracle"]}
        rows = [{"model": model} | row for model, fits in scores.items() for row in made_scores(rng, fits)]
        outputs = {"calibration.json": [], "metrics.csv": pd.DataFrame(rows)}
        folder = results / "references" / dataset / f"seed{seed}"
        write_stage(folder, outputs, record, stage="reference", spec={"dataset": {"source": dataset}}, seed=seed)
    listed = list_cells("big", {cell: [stage.name for stage in STAGES] for cell in cells}, references)
    return records.seal(list_files(listed, results))


def write_cell(folder: Path, cell: Cell, record: Mapping[str, Any]) -> None:
    """Write a cell's files and records."""
    rng = np.random.default_rng(zlib.crc32(cell.path.encode()))
    dataset = {"source": cell.dataset.partition("-")[0], "train": 1000, "val": 250, "test": 450}
    dataset |= {"noise": {"p": 0.5}} if cell.dataset.endswith("-noise50") else {}
    spec = {"dataset": dataset, "model": {"name": cell.model}, "loss": {"name": cell.loss}, "train": {"lr": 0.003}}
    specs = {"train": spec, "probe": {"dataset": dataset, "probes": {name: {} for name in PROBES}}}
    facts = {"classes": 10, "train_accuracy": 1.0, "interpolates": True, "steps": 20 * EPOCHS, "parameters": 85002}
    facts |= {"fitted_here": True, "train_seconds": 2.8, "resumed_at": [], "made_on": ["cpu"]}
    made = {"train": {"history.csv": made_history(rng)}, "probe": made_probe(rng), "calibrate": made_fits(rng)}
    absent = dict.fromkeys(("logits.safetensors", "model.safetensors"), "0" * 64)
    for stage in STAGES:
        name = stage.name
        more, missing = (facts, absent) if name == "train" else ({}, {})
        told = {"stage": name, "spec": specs.get(name, {}), "seed": cell.seed, **more}
        write_stage(folder, made.get(name, dict.fromkeys(stage.writes)), record, missing, **told)


def write_stage(
    folder: Path,
    outputs: Mapping[str, Any],
    record: Mapping[str, Any],
    absent: Mapping[str, str] | None = None,
    **told: Any,
) -> None:
    """Write what a stage leaves in a cell's folder: files, and a record that lists them and those that are absent."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in outputs.items():
        if content is None:
            (folder / name).touch()
        elif name.endswith(".json"):
            files.write_json(folder / name, content)
        elif name.endswith(".csv"):
            tables_io.write_csv(folder / name, content)
        else:
            tables_io.write_parquet(folder / name, content)
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in outputs}
    made = {**record, **told, "outputs": sums | dict(absent or {})}
    (folder / f"{told['stage']}.json").write_text(json.dumps(records.seal(made)))


def made_history(rng: np.random.Generator) -> pd.DataFrame:
    """A training history with one row per epoch."""
    epoch = np.arange(1, EPOCHS + 1)
    shares = {"lr": 0.003 * (1 - epoch / EPOCHS), "train_loss": rng.uniform(size=EPOCHS)}
    return pd.DataFrame({"epoch": epoch, "step": 20 * epoch, **shares, "gradient_norm": rng.uniform(size=EPOCHS)})


def made_probe(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """The probe's tables: curves by distance, and radii by point and ray."""
    lead = [{"points": points, "probe": probe} for points, probe in itertools.product(POINTS, PROBES)]
    curves = pd.concat([made_curve(rng).assign(**each) for each in lead])
    radii = pd.concat([made_radii(rng, POINTS[each["points"]], each["probe"]).assign(**each) for each in lead])
    tables = {"neighbourhood.parquet": curves, "radii.parquet": radii}
    return {name: table[["points", "probe", *table.columns[:-2]]] for name, table in tables.items()}


def made_curve(rng: np.random.Generator) -> pd.DataFrame:
    """The confidence and logit gap at both grids of distances around some points."""
    radius = np.array([*RADII, *[np.nan] * len(RELATIVE)])
    relative = np.array([*[np.nan] * len(RADII), *RELATIVE])
    names = ("confidence", "confidence_se", "logit_gap", "logit_gap_se")
    return pd.DataFrame(
        {"radius": radius, "relative_radius": relative, **{name: rng.uniform(size=len(radius)) for name in names}}
    )


def made_radii(rng: np.random.Generator, count: int, probe: str) -> pd.DataFrame:
    """Radii by quantity, calibrator, point and ray, some of them censored."""
    point, ray = (a.ravel() for a in np.indices((count, 1 if probe == "nearest_other" else 2)))
    other = rng.uniform(4, 7, count)[point]
    line = other * rng.uniform(1, 1.5, count)[point] if probe in ("nearest_other", "mixup_line") else np.nan
    shared = {"point": 3 * point, "ray": ray, "other_distance": other, "line_length": line}
    parts = []
    for quantity, calibrator, threshold in QUANTITIES:
        radius = other * rng.lognormal(0, 1, len(point))
        censored = radius > 20 if probe in ("sphere", "manifold") else np.zeros(len(point), bool)
        of = {"quantity": quantity, "calibrator": calibrator, "radius": np.minimum(radius, 20), "censored": censored}
        parts.append(pd.DataFrame({**shared, **of, "threshold": threshold}))
    return pd.concat(parts)


def made_fits(rng: np.random.Generator) -> dict[str, Any]:
    """The outputs of calibration: fits, scores and bins."""
    of = (("exact", "val", "drawn"), ("paper", "val", "drawn"))
    of += (("oracle", "test", "noisy"), ("oracle", "test", "clean"))
    told = {"converged": True, "separable": False, "gradient": 1e-12, "nll": 0.4}
    fits = [
        {"T": t, "beta": 1 / t, "calibrator": calibrator, "split": split, "labels": labels} | told
        for (calibrator, split, labels), t in zip(of, rng.uniform(1, 3, 4), strict=True)
    ]
    edges, lead = np.linspace(0, 1, 16), {"split": "test", "labels": "clean"}
    bins = [
        {**lead, "calibrator": calibrator, "bin": i, "lower": low, "upper": high, "count": 30}
        | {"confidence": rng.uniform(low, high), "accuracy": rng.uniform()}
        for calibrator in CALIBRATORS
        for i, (low, high) in enumerate(itertools.pairwise(edges))
    ]
    rows = made_scores(rng, CALIBRATORS)
    return {"calibration.json": fits, "metrics.csv": pd.DataFrame(rows), "reliability.csv": pd.DataFrame(bins)}


def made_scores(rng: np.random.Generator, calibrators: list[str] | tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of metrics of these calibrators, for each split and kind of labels; binned metrics have no interval."""
    rows = []
    for split, kinds in SCORED.items():
        for labels, calibrator in itertools.product(kinds, calibrators):
            for metric in METRICS:
                value = rng.uniform()
                low, high = (np.nan, np.nan) if metric == "ece" else (0.97 * value, 1.03 * value)
                lead = {"split": split, "labels": labels, "calibrator": calibrator, "metric": metric}
                rows.append(lead | {"value": value, "low": low, "high": high})
    return rows
