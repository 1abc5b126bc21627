"""Write the files of a grid that nobody trained, as the stages would have left them, for aggregation and figures.

A cell's tables have the rows that the default probes and calibrators produce (150 training and 100 held-out points,
four probes, four calibrators), with made-up numbers. Only later stages are measured, so a few dozen variants of each
table are generated once and then copied; each cell has its own records. Weights and logits, which aggregation doesn't
read, are listed in the records but missing.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from halobench.core.plugins import find
from halobench.core.plugins.facts import named
from halobench.experiment.jobs import list_cells
from halobench.experiment.sections import Cell
from halobench.storage import files, provenance, records
from halobench.storage.layout import CELL_STAGES
from halobench.storage.manifest import list_files
from halobench.storage.request_diff import Request

SOURCES = ("digits", "mnist5k", "kmnist", "fashion_mnist", "cifar10")
DATASETS = tuple(f"{source}{noise}" for source in SOURCES for noise in ("", "-noise50"))
MODELS = ("mlp", "cnn", "efficientnet", "resnet18", "resnet50", "resnext50", "densenet121", "convnext", "vit", "mixer")
LOSSES = ("cross_entropy", "label_smoothing", "brier", "focal", "dual_focal")
LOSSES += ("mixup2", "mixup3", "mixup5", "regmixup", "cutmix")
VARIANTS = 6  # variants of each table, for each loss and noise level
REACH = {"cross_entropy": 0.8, "focal": 0.6, "mixup2": 0.45, "mixup3": 0.4, "mixup5": 0.3}
ALONG = {"manifold": 1.1, "mixup_line": 0.7, "nearest_other": 0.6, "sphere": 2.5}  # by probe, in the order of a record
ABSOLUTE = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0)
RELATIVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0)
QUANTITIES = (
    *(("certainty", "none", 0.9), ("half_level", "none", np.nan)),
    *(("certainty", "exact", 0.9), ("half_level", "exact", np.nan), ("decision", "none", np.nan)),
)
POINTS = {"train": 150, "heldout": 100}
SHARPNESS = {"none": 1.0, "paper": 0.75, "exact": 0.4, "oracle": 0.39}
SCORED = {"train": ("drawn", "clean"), "val": ("drawn", "noisy", "clean"), "test": ("noisy", "clean")}
STAGES = [stage for stage in CELL_STAGES if stage.cells != "laddered"]  # of each cell
BINNED = (*(name for name in named("metrics") if "bins" in find("metrics", name).options), "ece_floor")
EPOCHS = (100, 50)  # for every other model

Outputs = dict[str, tuple[bytes, str]]  # by file name: the content and its SHA-256


@dataclass(frozen=True)
class Shape:
    """The numbers of data sets, models, losses and seeds in a full grid."""

    datasets: int = 10
    models: int = 10
    losses: int = 10
    seeds: int = 10

    @property
    def cells(self) -> list[Cell]:
        """The grid's cells, sorted as in an experiment."""
        names = (DATASETS[: self.datasets], MODELS[: self.models], LOSSES[: self.losses], range(self.seeds))
        return sorted(itertools.starmap(Cell, itertools.product(*names)))


def write_grid(results: Path, shape: Shape) -> dict[str, Any]:
    """Write the files of a grid's cells and references to `results`; return its manifest, as the stages list it."""
    make, cells = _Maker(), shape.cells
    for cell in cells:
        make.cell(results / "runs" / cell.path, cell)
    references = sorted({(cell.dataset, cell.seed) for cell in cells})
    for dataset, seed in references:
        make.reference(results / "references" / f"{dataset}/seed{seed}", dataset, seed)
    listed = list_cells("big", {cell: [stage.name for stage in STAGES] for cell in cells}, references)
    return records.seal(list_files(listed, results))


class _Maker:
    """Writes cells; content shared by several of them is generated only once."""

    def __init__(self) -> None:
        self.variants: dict[tuple[Any, ...], Outputs] = {}
        packages = ("torch", "torchvision", "timm", "safetensors")
        self.record = provenance.record(
            Request("train", {}, {f"module{i}": "0" * 16 for i in range(14)}), 0, [], 1.0, packages
        )

    def made(self, key: tuple[Any, ...], make: Callable[[np.random.Generator], Mapping[str, Any]]) -> Outputs:
        """Return the variant `key` of some files, which is generated on the first call."""
        if key not in self.variants:
            seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")
            contents = {name: encoded(name, table) for name, table in make(np.random.default_rng(seed)).items()}
            self.variants[key] = {name: (c, hashlib.sha256(c).hexdigest()) for name, c in contents.items()}
        return self.variants[key]

    def cell(self, folder: Path, cell: Cell) -> None:
        """Write a cell's files and records."""
        noise = 0.5 if cell.dataset.endswith("-noise50") else 0.0
        digest = hashlib.sha256(cell.path.encode())
        number = int.from_bytes(digest.digest()[:4], "big")
        kind, epochs = (cell.loss, noise, number % VARIANTS), EPOCHS[MODELS.index(cell.model) % len(EPOCHS)]
        trained = self.made(("history", *kind, epochs), lambda rng: {"history.csv": history(rng, cell.loss, epochs)})
        probed = self.made(("probe", *kind), lambda rng: probe_tables(rng, cell.loss, noise))
        judged = self.made(("calibrate", *kind), lambda rng: calibrate_tables(rng, cell.loss, noise))
        fits = bool(number % 5) or "mixup" not in cell.loss
        dataset = {"source": cell.dataset.partition("-")[0], "train": 1000, "val": 250, "test": 450}
        dataset |= {"noise": {"p": noise}} if noise else {}
        facts = {"classes": 10, "train_accuracy": 1.0 if fits else 0.98, "interpolates": fits, "steps": 20 * epochs}
        facts |= {"parameters": 85002, "fitted_here": True, "train_seconds": 2.8, "resumed_at": [], "made_on": ["cpu"]}
        spec = {"dataset": dataset, "model": {"name": cell.model}, "loss": {"name": cell.loss}, "train": {"lr": 0.003}}
        absent = dict.fromkeys(("logits.safetensors", "model.safetensors"), digest.hexdigest())
        specs = {"train": spec, "probe": {"dataset": dataset, "probes": {name: {} for name in ALONG}}}
        made = {"train": trained, "probe": probed, "calibrate": judged}
        folder.mkdir(parents=True, exist_ok=True)
        for stage in STAGES:
            nothing = dict.fromkeys(stage.writes, (b"", hashlib.sha256(b"").hexdigest()))
            more = (facts, absent) if stage.name == "train" else ()
            self.stage(folder, stage.name, specs.get(stage.name, {}), cell.seed, made.get(stage.name, nothing), *more)

    def reference(self, folder: Path, dataset: str, seed: int) -> None:
        """Write the files of the predictors that need no training."""
        noise = 0.5 if dataset.endswith("-noise50") else 0.0
        judged = self.made(
            ("reference", noise, seed % VARIANTS),
            lambda rng: {"calibration.json": [], "metrics.csv": reference_metrics(rng, noise)},
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.stage(folder, "reference", {"dataset": {"source": dataset}}, seed, judged)

    def stage(
        self,
        folder: Path,
        stage: str,
        spec: Mapping[str, Any],
        seed: int,
        outputs: Outputs,
        facts: Mapping[str, Any] | None = None,
        absent: Mapping[str, str] | None = None,
    ) -> None:
        """Write what a stage leaves in a cell's folder: files, and a record that lists them."""
        for name, (content, _) in outputs.items():
            (folder / name).write_bytes(content)
        sums = {name: digest for name, (_, digest) in outputs.items()} | dict(absent or {})
        made = self.record | {"stage": stage, "spec": spec, "seed": seed, "outputs": sums} | dict(facts or {})
        (folder / f"{stage}.json").write_text(json.dumps(records.seal(made), indent=1, sort_keys=True) + "\n")


def encoded(name: str, content: Any) -> bytes:
    """Return the bytes that `halobench.storage` would write: a table as CSV or parquet, anything else as JSON."""
    if name.endswith(".json"):
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
    if name.endswith(".csv"):
        return content.to_csv(index=False, lineterminator="\n").encode()
    held = io.BytesIO()
    content.to_parquet(held, index=False, compression="zstd")
    return held.getvalue()


def history(rng: np.random.Generator, loss: str, epochs: int) -> pd.DataFrame:
    """Make up a training history with one row per epoch."""
    epoch = np.arange(1, epochs + 1)
    floor = 1e-3 if loss in ("cross_entropy", "focal") else 0.6
    value = floor + 2.3 * np.exp(-8 * epoch / epochs) * rng.uniform(0.8, 1.2, epochs)
    shares = {"lr": 0.003 * (1 - epoch / epochs), "train_loss": value, "gradient_norm": rng.uniform(0.1, 2, epochs)}
    return pd.DataFrame({"epoch": epoch, "step": 20 * epoch, **shares})


def probe_tables(rng: np.random.Generator, loss: str, noise: float) -> dict[str, pd.DataFrame]:
    """Make up the probe's tables: curves by distance, and radii by point and ray."""
    reach = REACH.get(loss, 0.5) * rng.uniform(0.85, 1.15)
    top = 0.999 if loss == "cross_entropy" else 0.93 - 0.2 * noise
    curves, radii = [], []
    for points, (probe, along) in itertools.product(POINTS, ALONG.items()):
        lead = {"points": points, "probe": probe}
        level = top * (1 if points == "train" else 0.96 - 0.4 * (noise > 0))
        curves.append(_curve(rng, reach * along, level, noise).assign(**lead))
        radii += [table.assign(**lead) for table in _radii(rng, reach * along, POINTS[points], probe)]
    tables = {"neighbourhood.parquet": pd.concat(curves), "radii.parquet": pd.concat(radii)}
    return {name: table[["points", "probe", *table.columns[:-2]]] for name, table in tables.items()}


def _curve(rng: np.random.Generator, reach: float, top: float, noise: float) -> pd.DataFrame:
    """Make up the confidence and logit gap at both grids of distances around some points."""
    radius = np.array([*ABSOLUTE, *[np.nan] * len(RELATIVE)])
    relative = np.array([*[np.nan] * len(ABSOLUTE), *RELATIVE])
    away = np.where(np.isnan(relative), radius / 6, relative)
    low = 0.1 + 0.2 * noise
    confidence = low + (top - low) / (1 + np.exp(np.clip((away - reach) * 9, -50, 50)))
    confidence = np.clip(confidence + rng.normal(0, 0.01, len(away)), 0, 1)
    gap = {"logit_gap": 12 * (confidence - 0.4), "logit_gap_se": rng.uniform(0.1, 0.3, len(away))}
    shares = {"confidence": confidence, "confidence_se": rng.uniform(0.002, 0.02, len(away)), **gap}
    return pd.DataFrame({"radius": radius, "relative_radius": relative, **shares})


def _radii(rng: np.random.Generator, reach: float, count: int, probe: str) -> list[pd.DataFrame]:
    """Make up radii by point and ray, in one table per quantity and calibrator."""
    rays = 1 if probe == "nearest_other" else 2
    point, ray = (a.ravel() for a in np.indices((count, rays)))
    other = rng.uniform(4, 7, count)[point]
    line = other * rng.uniform(1, 1.5, count)[point] if probe in ("nearest_other", "mixup_line") else np.nan
    shared = {"point": 3 * point, "ray": ray, "other_distance": other, "line_length": line}
    tables = []
    for quantity, calibrator, threshold in QUANTITIES:
        scale = {"certainty": 0.6, "half_level": 1.0, "decision": 1.1}[quantity] * (0.5 + 0.5 * (calibrator == "none"))
        radius = other * reach * scale * rng.lognormal(0, 0.5, len(point))
        censored = radius > 20 if probe in ("sphere", "manifold") else np.zeros(len(point), bool)
        of = {"quantity": quantity, "calibrator": calibrator, "radius": np.minimum(radius, 20), "censored": censored}
        tables.append(pd.DataFrame({**shared, **of, "threshold": threshold}))
    return tables


def calibrate_tables(rng: np.random.Generator, loss: str, noise: float) -> dict[str, Any]:
    """Make up the outputs of calibration: fits, scores and bins."""
    excess = {"cross_entropy": 1.8, "focal": 0.4, "mixup2": 0.6}.get(loss, 0.7) * (0.2 + noise)
    rows = [
        row
        for split, kinds in SCORED.items()
        for labels, calibrator in itertools.product(kinds, SHARPNESS)
        if split == "test" or calibrator != "oracle"
        for row in _scores(rng, split, labels, calibrator, 0.1 + 0.69 * (noise > 0) + excess * SHARPNESS[calibrator])
    ]
    bins = [
        _bins(rng, noise, calibrator).assign(split="test", labels=labels, calibrator=calibrator)
        for labels, calibrator in itertools.product(SCORED["test"], SHARPNESS)
    ]
    told = {"converged": True, "separable": False, "gradient": 1e-12, "nll": 0.4}
    of = (("exact", "val", "drawn"), ("paper", "val", "drawn"), ("oracle", "test", "noisy"))
    fits = [
        {"T": t, "beta": 1 / t, "calibrator": calibrator, "split": split, "labels": labels} | told
        for (calibrator, split, labels), t in zip((*of, ("oracle", "test", "clean")), rng.uniform(1, 3, 4), strict=True)
    ]
    reliability = pd.concat(bins)
    lead = ["split", "labels", "calibrator"]
    reliability = reliability[[*lead, *reliability.columns[:-3]]]
    return {"calibration.json": fits, "metrics.csv": pd.DataFrame(rows), "reliability.csv": reliability}


def _scores(rng: np.random.Generator, split: str, labels: str, calibrator: str, nll: float) -> list[dict[str, Any]]:
    """Make up the rows of metrics for one calibrator and one kind of labels."""
    nll *= rng.uniform(0.95, 1.05)
    values = {"error": 0.1 * nll, "nll": nll, "brier": 0.3 * nll} | ({"kl": 0.5 * nll} if labels == "noisy" else {})
    values |= dict(zip(BINNED, 0.2 * nll * rng.uniform(0.5, 1.5, len(BINNED)), strict=True))
    lead = {"split": split, "labels": labels, "calibrator": calibrator}
    ends = {metric: (0.97, 1.03) if metric not in BINNED else (np.nan, np.nan) for metric in values}
    return [
        lead | {"metric": metric, "value": value, "low": value * ends[metric][0], "high": value * ends[metric][1]}
        for metric, value in values.items()
    ]


def _bins(rng: np.random.Generator, noise: float, calibrator: str) -> pd.DataFrame:
    """Make up a reliability diagram of 450 points in 15 bins."""
    edges = np.linspace(0, 1, 16)
    sure = {"none": 20, "paper": 10}.get(calibrator, 4)
    where = np.minimum((15 * rng.beta(sure / 4, 1, 450)).astype(int), 14)
    count = np.bincount(where, minlength=15)
    middle = (edges[:-1] + rng.uniform(0.3, 0.7, 15) / 15) * np.where(count, 1, np.nan)
    wrong = 0.45 * (noise > 0) * (calibrator in ("none", "paper"))
    shares = {"confidence": middle, "accuracy": np.round(middle * (1 - wrong) * count) / np.maximum(count, 1)}
    return pd.DataFrame({"bin": range(15), "lower": edges[:-1], "upper": edges[1:], "count": count, **shares})


def reference_metrics(rng: np.random.Generator, noise: float) -> pd.DataFrame:
    """Make up the scores of predictors that need no training."""
    kinds: Iterable[tuple[str, str, float]] = (
        *(("bayes", "none", 0.6931 * (noise > 0)), ("uniform", "none", 2.3026)),
        *(("nearest", "none", np.inf), ("nearest", "exact", 0.35 + noise), ("nearest", "oracle", 0.34 + noise)),
    )
    rows = [
        {"model": model} | row
        for (model, calibrator, nll), (split, labels) in itertools.product(
            kinds, [(split, labels) for split, found in SCORED.items() for labels in found]
        )
        for row in _scores(rng, split, labels, calibrator, nll)
    ]
    return pd.DataFrame(rows)


def main() -> None:
    """Write a grid with the given numbers of data sets, models, losses and seeds, and its manifest."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("shape", type=int, nargs=4, metavar="N", help="data sets, models, losses and seeds")
    given = parser.parse_args()
    files.write_json(given.results / "manifest.json", write_grid(given.results, Shape(*given.shape)))


if __name__ == "__main__":
    main()
