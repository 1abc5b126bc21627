"""A stage that is added as one file, and a module that computes its numbers, is part of the workflow."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import entropy

from conftest import ROOT, Workspace, one_cell
from halobench.storage import arrays_io

MODULE = '''"""Compute the entropy of predictions."""

import pandas as pd

from halobench.calibration.scores.sample_scores import logarithm, softmax


def mean_entropy(logits):
    """Return the mean entropy of the softmax of logits (n, k), in nats."""
    shares = softmax(logits)
    return pd.DataFrame({"entropy": [-(shares * logarithm(shares)).sum(axis=1).mean()]})
'''
STAGE = '''"""Measure the entropy of a cell's predictions on test samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.calibration.entropy import mean_entropy
from halobench.pipeline.stage import Code, stage
from halobench.storage import arrays_io

STAGE = {
    "of": "cell",
    "reads": {"train": ["logits.safetensors"]},
    "writes": ["entropy.csv"],
    "code": ["calibration.entropy"],
    "target": "entropies",
    "memory": 1234,
}


def run(*, spec: Mapping[str, Any], seed: int, folder: Path, code: Code | None = None) -> None:
    """Write the mean entropy of a cell's predictions to entropy.csv in `folder`."""
    with stage("entropy", folder, spec, seed=seed, code=code, reads={"train": folder}) as job:
        job.write(mean_entropy(arrays_io.read_arrays(folder / "logits.safetensors")["test.logits"]))
'''


def test_a_stage_is_one_file_and_the_module_that_computes_it(tmp_path):
    package = tmp_path / "src/halobench"
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (package / "calibration/entropy.py").write_text(MODULE)
    (package / "pipeline/stages/entropy.py").write_text(STAGE)
    (tmp_path / "work").mkdir()
    workspace = Workspace(tmp_path / "work", one_cell())
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "src"), os.environ.get("PYTHONPATH", "")])}

    def halobench(*words: str) -> str:
        done = workspace.halobench(*words, environment=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    halobench("run", "--cores", "2", "entropies")
    cell = workspace.folder / "results/runs/noisy/mlp/mixup2/seed0"
    assert {path.stem for path in cell.glob("*.json")} == {"train", "entropy"}, "the target asks for nothing else"
    logits = arrays_io.read_arrays(cell / "logits.safetensors")["test.logits"].astype(float)
    found = pd.read_csv(cell / "entropy.csv")["entropy"][0]
    np.testing.assert_allclose(found, entropy(softmax(logits, axis=1), axis=1).mean(), rtol=1e-6)
    record = json.loads((cell / "entropy.json").read_text())
    assert set(record["inputs"]) == {"logits.safetensors"}
    assert "calibration/entropy" in record["code"]
    shown = halobench("status")
    assert "entropy" not in shown
    assert ", 1 probe, 1 calibrate, " in shown
    halobench("run", "--cores", "2")
    manifest = json.loads((workspace.folder / "results/manifests/tiny.json").read_text())
    assert "entropy.csv" in manifest["cells"][0]["outputs"], "existing cells are incomplete without it"
    (package / "calibration/entropy.py").write_text(MODULE.replace("-(shares", "-2 * (shares"))
    first, *_ = halobench("status").splitlines()
    assert first == "entropy noisy/mlp/mixup2/seed0: calibration/entropy.py changed"
    assert "halobench stage entropy" in halobench("stage", "entropy", "--help")
    (package / "pipeline/stages/entropy.py").write_text(STAGE.replace('["logits.', '["logit.'))
    done = workspace.halobench("status", environment=environment)
    told = "reads logit.safetensors, but train writes model.safetensors, logits.safetensors, history.csv"
    assert (done.returncode, done.stderr) == (2, f"halobench: error: stages.entropy: {told}\n")
