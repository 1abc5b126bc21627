"""The worked examples of docs/extend.md run as they stand there: one grid with a plug-in of each kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml

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


KINDS = ("losses", "models", "stripes", "calibrators", "probes", "figures")


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


def test_the_commands_in_logs_and_of_show_find_plugins_by_themselves(examples, tmp_path):
    """Pasted into a shell without PYTHONPATH they give the same bytes."""
    folder, environment = examples
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    bare["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), bare["PATH"]])
    cell = "stripes/small/poly1/seed0"
    line = (folder / f"results/logs/train/{cell}.log").read_text().splitlines()[0].removeprefix("$ ")
    assert line.startswith("PYTHONPATH=")
    line = line.replace(f"--out results/runs/{cell}", f"--out {tmp_path}/train")
    line = line.replace("--checkpoint results", f"--checkpoint {tmp_path}")
    done = subprocess.run(line, shell=True, cwd=folder, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    logits = (folder / f"results/runs/{cell}/logits.safetensors").read_bytes()
    assert (tmp_path / "train/logits.safetensors").read_bytes() == logits
    command = [sys.executable, "-m", "halobench.cli.main", "show", cell]
    told = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    for stage in ("source", "train", "probe", "calibrate"):
        log = (folder / f"results/logs/{stage}/{'stripes' if stage == 'source' else cell}.log").read_text()
        assert f"{log.partition(' halobench ')[0].removeprefix('$ ')} halobench {stage} " in told


def test_calibrator_is_what_it_says(examples):
    """Half way in 1/T: its NLL on validation lies between that of the logits and that of the exact fit."""
    metrics = pd.read_parquet(examples[0] / "results/tables/mine/metrics.parquet")
    rows = metrics[(metrics["split"] == "val") & (metrics["labels"] == "drawn") & (metrics["metric"] == "nll")]
    wide = rows[rows["loss"] != "reference"].pivot_table(index=["loss", "seed"], columns="calibrator", values="value")
    assert (wide["exact"] <= wide["mine.calibrators:shrunk"] + 1e-12).all()
    assert (wide["mine.calibrators:shrunk"] <= wide["none"] + 1e-12).all()


def test_figure_is_drawn(examples):
    folder, environment = examples
    command = [sys.executable, "-m", "halobench.cli.main", "figure", "mine.figures:temperatures"]
    command += ["--tables", "results/tables/mine", "--out", "temperatures"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "temperatures.png").stat().st_size > 5000


def test_config_is_valid_yaml(examples):
    assert yaml.safe_load((examples[0] / "mine.yaml").read_text())["run"] == ["mine"]
