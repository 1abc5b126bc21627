"""The paper's models at 32 x 32 pixels: each is built, trained, probed and calibrated, stage by stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from halobench.pipeline import calibrate, probe, train
from halobench.pipeline.source import run_source
from halobench.storage import records

pytestmark = pytest.mark.paper
MODELS = yaml.safe_load((Path(__file__).parents[3] / "workflow/experiments/paper.yaml").read_text())["models"]
NAMES = [name for name in MODELS if "gaussians" not in name]
DATASET = {"source": "photos", "train": 24, "val": 12, "test": 12}
PROBE = {"points": 2, "control": 1, "radii": [0, 5], "relative_radii": [1.0], "bisections": 1}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Patches of 3 x 32 x 32."""
    folder = tmp_path_factory.mktemp("photos")
    run_source({"loader": "photos", "side": 32}, folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_trained_probed_and_calibrated(name, source, tmp_path):
    model = {key: value for key, value in MODELS[name].items() if key != "recipe"}
    recipe = {"batch": 8, "epochs": 1, "warmup": 0, "eval_batch": 12, "channels_last": True}
    spec = {"dataset": DATASET, "model": model, "loss": {"name": "mixup"}, "train": recipe}
    train.run_train(spec, source, 0, tmp_path)
    evaluation = {key: recipe[key] for key in ("eval_batch", "channels_last")}
    probed = {
        "dataset": DATASET,
        "model": model,
        "train": evaluation,
        "probes": {"sphere": {"kind": "sphere", **PROBE}},
    }
    probe.run_probe(probed, source, 0, tmp_path)
    calibrate.run_calibrate({"draws": 20, "floor_draws": 2}, 0, tmp_path)
    assert records.read_record(tmp_path / "train.json")["steps"] == 3
    curves = pd.read_parquet(tmp_path / "neighbourhood.parquet")
    assert curves["confidence"].between(0, 1).all()
    assert set(curves["points"]) == {"train", "heldout"}
    scores = pd.read_csv(tmp_path / "metrics.csv")
    assert {"none", "exact", "paper", "oracle"} == set(scores["calibrator"])
