"""The worked examples of docs/extend.md run as they stand there: one grid with a plug-in of each kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import log_softmax
from scipy.stats import entropy

from halobench.core.specs import DatasetSpec
from halobench.data.splits import load_data
from halobench.storage import arrays_io

BLOCK = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.M | re.S)


@pytest.fixture(scope="module")
def examples(root, tmp_path_factory):
    """A folder with the examples' files, and the workflow beside them."""
    folder = tmp_path_factory.mktemp("extend")
    for part in ("Snakefile", "config.yaml", "workflow", "profiles", "environment.yml"):
        (folder / part).symlink_to(root / part)
    found = BLOCK.findall((root / "docs/extend.md").read_text())
    for name, text in found:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    assert {name for name, _ in found} >= {f"mine/{kind}.py" for kind in KINDS} | {"mine.yaml"}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "halobench.cli.main", "run", "--cores", "2", "--configfile", "mine.yaml"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, environment


KINDS = ("losses", "models", "stripes", "rated", "calibrators", "probes", "figures")


def test_each_kind_is_in_the_tables(examples):
    tables = examples[0] / "results/tables/mine"
    metrics = pd.read_parquet(tables / "metrics.parquet")
    assert {"poly1", "smoothed", "cross_entropy"} < set(metrics["loss"])
    shrunk = metrics[(metrics["calibrator"] == "mine.calibrators:shrunk") & (metrics["metric"] == "nll")]
    assert len(shrunk)
    assert shrunk["value"].notna().all()
    curves = pd.read_parquet(tables / "neighbourhood.parquet")
    assert "axes" in set(curves["probe"])
    assert len(pd.read_csv(tables / "images_posthoc.csv").query("calibrator == 'mine.calibrators:shrunk'"))


def test_code_of_each_counts(examples):
    """The code map of each stage names the plug-in that it ran."""
    cell = examples[0] / "results/runs/stripes/small/poly1/seed0"
    code = {
        stage: json.loads((cell / f"{stage}.json").read_text())["code"] for stage in ("train", "probe", "calibrate")
    }
    assert {"mine.losses:Poly1", "mine.models:small_cnn"} <= code["train"].keys()
    assert {"mine.probes:axes", "mine.models:small_cnn"} <= code["probe"].keys()
    assert "mine.calibrators:shrunk" in code["calibrate"]


def test_calibrator_is_what_it_says(examples):
    """Half way in 1/T: its NLL on validation lies between that of the logits and that of the exact fit."""
    metrics = pd.read_parquet(examples[0] / "results/tables/mine/metrics.parquet")
    rows = metrics[(metrics["split"] == "val") & (metrics["labels"] == "drawn") & (metrics["metric"] == "nll")]
    wide = rows[rows["loss"] != "reference"].pivot_table(index=["loss", "seed"], columns="calibrator", values="value")
    assert (wide["exact"] <= wide["mine.calibrators:shrunk"] + 1e-12).all()
    assert (wide["mine.calibrators:shrunk"] <= wide["none"] + 1e-12).all()


def test_scores_of_the_rated_are_expectations_under_the_votes(examples, monkeypatch):
    """Against the logits of the cell and the votes, which are drawn here once more."""
    rng = np.random.default_rng(0)
    odds = np.exp(2 * rng.normal(size=(240, 5))[:, :3])
    votes = rng.multinomial(20, odds / odds.sum(axis=1, keepdims=True)) / 20
    results = examples[0] / "results"
    monkeypatch.syspath_prepend(examples[0])
    data = load_data(results / "sources/rated", DatasetSpec("rated", 100, 60, 60), 0)
    assert (data.splits["val"].index.min(), data.splits["val"].index.max()) == (120, 179)
    rows = votes[data.splits["test"].index]
    logits = arrays_io.read_arrays(results / "runs/rated/mlp/cross_entropy/seed0/logits.safetensors")["test.logits"]
    metrics = pd.read_parquet(results / "tables/mine/metrics.parquet")
    found = metrics.query("dataset == 'rated' and split == 'test' and labels == 'noisy' and calibrator == 'none'")
    nll = found.query("model == 'mlp' and metric == 'nll'")["value"].item()
    assert nll == pytest.approx(-(rows * log_softmax(logits.astype(float), axis=1)).sum(axis=1).mean(), abs=1e-6)
    bayes = found.query("model == 'bayes' and metric == 'nll'")["value"].item()
    assert bayes == pytest.approx(entropy(rows, axis=1).mean(), abs=1e-9)


def test_figure_is_drawn(examples):
    folder, environment = examples
    command = [sys.executable, "-m", "halobench.cli.main", "figure", "mine.figures:temperatures"]
    command += ["--tables", "results/tables/mine", "--out", "temperatures"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "temperatures.png").stat().st_size > 5000


def test_config_is_valid_yaml(examples):
    assert yaml.safe_load((examples[0] / "mine.yaml").read_text())["run"] == ["mine"]
