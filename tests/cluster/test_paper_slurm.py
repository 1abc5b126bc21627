"""The paper's experiment end to end on a SLURM cluster with GPU slots: real file formats, all models, figures, tables.

The data sets are stand-ins of a few hundred images in the formats of the real ones. Everything that decides how long it
takes is overridden: one epoch, few probed points, and a part of the grid in which each set of images, model and
loss of the paper occurs. All else is `workflow/experiments/paper.yaml` as it is.
"""

from __future__ import annotations

import re

import pandas as pd
import pytest
import yaml
from onslurm import Run
from snakemake.utils import update_config

import stand_in_sets
from conftest import ROOT, Workspace
from halobench.data import data_root
from halobench.experiment.config_loader import load_config
from halobench.storage.records import read_record

pytestmark = [pytest.mark.cluster, pytest.mark.workflow, pytest.mark.paper, pytest.mark.soak]
TRAIN, TEST = 240, 120  # images of a stand-in's parts
SIZES = {"train": 200, "val": 40, "test": 100}
CHEAPEST = "resnet18"


def block(datasets: list[str], models: list[str], losses: list[str], seeds: list[int], probe: bool = True) -> dict:
    return {"datasets": datasets, "models": models, "losses": losses, "seeds": seeds, "probe": probe}


def shortened() -> dict:
    """The configuration of the paper's two experiments with small data sets, short recipes and a part of the grids."""
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(raw, yaml.safe_load((ROOT / "workflow/experiments/paper.yaml").read_text()))
    images, gaussians, overlap = raw["experiments"]["paper"]["grid"]
    (stems,) = raw["experiments"]["paper-stems"]["grid"]
    clean = [name for name in images["datasets"] if "-noise" not in name]
    noisy, others = ["cifar10-noise50"], [name for name in images["models"] if name != CHEAPEST]
    first, mlp = gaussians["datasets"][:1], ["mlp-gaussians"]
    raw["experiments"]["paper"]["grid"] = [
        block(clean, [CHEAPEST], ["cross_entropy"], [0]),
        block(noisy, others, ["cross_entropy"], [0]),
        block(noisy, [CHEAPEST], images["losses"], [0]),
        block(noisy, [CHEAPEST], ["cross_entropy", "mixup2"], [1]),
        block(gaussians["datasets"], mlp, ["cross_entropy"], [0], probe=False),
        block(first, mlp, ["mixup2"], [0], probe=False),
        block(first, gaussians["models"], ["cross_entropy"], [0], probe=False),
        overlap,
    ]
    raw["experiments"]["paper-stems"]["grid"] = [block(noisy, stems["models"], ["cross_entropy"], [0])]
    used = {name for each in (images, gaussians, stems) for name in each["datasets"]}
    sizes = {name: SIZES for name in used}
    few = {"points": 4, "control": 2, "directions": 1, "bisections": 1}
    probes = {name: dict(few) for name in ("sphere", "nearest_other", "mixup_line", "manifold")}
    short = {"run": ["paper", "paper-stems"], "train": {"epochs": 1, "batch": 50}, "datasets": sizes, "probes": probes}
    short["datasets"]["overlap-k4"] = {"recipe": {"epochs": 1, "warmup": 0}}
    update_config(raw, short)
    return raw


def test_the_papers_experiment_runs_on_gpu_slots_from_files_to_figures(cluster, tmp_path, monkeypatch):
    stand_in_sets.install(tmp_path / "started", tmp_path / "data", TRAIN, TEST, monkeypatch)
    monkeypatch.setenv(data_root.ROOT, str(tmp_path / "data"))
    (tmp_path / "w").mkdir()
    raw = shortened() | {"fetch": False}
    workspace = Workspace(tmp_path / "w", raw)
    with Run(workspace, cluster, "--resources", "gpu=2", "--retries", "0") as run:
        run.ends_well(3000)
    config, results = load_config(raw), workspace.folder / "results"
    for experiment in config.run:
        figures, tables = results / "figures" / experiment, results / "tables" / experiment
        drawn = {kind: {path.stem for path in figures.glob(f"*.{kind}")} for kind in ("png", "pdf", "svg")}
        assert all(names == set(config.figures(experiment)) for names in drawn.values()), drawn
        assert {path.stem for path in tables.glob("*.tex")} == set(config.tables(experiment))
        runs, cells = pd.read_parquet(tables / "runs.parquet"), config.cells(experiment)
        assert len(runs) == len(cells)
        assert runs["train_accuracy"].between(0, 1).all()
        for cell in cells:
            for stage in ("train", *(["probe"] if cell in config.probed(experiment) else [])):
                slurm = read_record(results / f"runs/{cell.path}/{stage}.json")["hardware"]["slurm"]
                assert re.fullmatch("[01]", slurm["gpus"]), (cell, slurm)
    images = pd.read_parquet(results / "tables/paper/runs.parquet").query("noise == 0 and model == @CHEAPEST")
    assert len(images) == 6
    assert workspace.halobench("verify").returncode == 0
    assert "nothing would run" in workspace.halobench("status").stdout
