"""The examples that docs/extend.md links to run as written, in one grid with a plug-in of each kind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax
from scipy.stats import entropy

from conftest import Workspace
from halobench.core.specs.data import DatasetSpec
from halobench.data.splits import load_data
from halobench.storage import arrays_io

BLOCK = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.M | re.S)


@pytest.fixture(scope="module")
def examples(root, tmp_path_factory):
    """A folder with the examples' files and a configuration; the workflow is elsewhere."""
    folder = tmp_path_factory.mktemp("extend")
    (folder / "config.yaml").symlink_to(root / "config.yaml")
    page = (root / "docs/extend.md").read_text()
    shutil.copytree(root / "examples/plugins", folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for name, text in BLOCK.findall(page):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    named = {f"mine/{kind}.py" for kind in KINDS} | {"mine.yaml"}
    assert set(re.findall(r"\]\(\.\./examples/plugins/([\w./]+)\)", page)) == named
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} >= named
    environment = {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    made = folder, environment
    halobench(made, "run", "--cores", "2", "--configfile", "mine.yaml", "--snakefile", str(root / "Snakefile"))
    return made


def halobench(examples, *arguments):
    """Return what a command prints in the examples' folder; it must succeed."""
    folder, environment = examples
    done = Workspace.at(folder).halobench(*arguments, environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


KINDS = ("losses", "modules", "models", "stripes", "rated", "calibrators", "metrics", "probes", "figures", "tables")


def test_each_kind_is_in_the_tables(examples):
    tables = examples[0] / "results/tables/mine"
    metrics = pd.read_parquet(tables / "metrics.parquet")
    assert {"poly1", "smoothed", "cross_entropy"} < set(metrics["loss"])
    shrunk = metrics[(metrics["calibrator"] == "mine.calibrators:shrunk") & (metrics["metric"] == "nll")]
    assert len(shrunk)
    assert shrunk["value"].notna().all()
    assert {"mine.metrics:worst_class", "ece-100"} < set(metrics["metric"])
    curves = pd.read_parquet(tables / "neighbourhood.parquet")
    assert "axes" in set(curves["probe"])
    assert len(pd.read_csv(tables / "scores.csv").query("calibrator == 'mine.calibrators:shrunk'"))


def test_code_of_each_counts(examples):
    """The code map of each stage lists the plug-in that it ran."""
    cell = examples[0] / "results/runs/stripes/small/poly1/seed0"
    code = {
        stage: json.loads((cell / f"{stage}.json").read_text())["code"] for stage in ("train", "probe", "calibrate")
    }
    assert {"mine/losses.py", "mine/models.py"} <= code["train"].keys()
    assert {"mine/probes.py", "mine/models.py"} <= code["probe"].keys()
    assert {"mine/calibrators.py", "mine/metrics.py", "calibration/metrics/nll"} <= code["calibrate"].keys()


def test_the_commands_in_logs_and_of_show_find_plugins_by_themselves(examples, tmp_path):
    """Pasted into a shell without PYTHONPATH, they give the same bytes."""
    folder = examples[0]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    bare["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), bare["PATH"]])
    cell = "stripes/small/poly1/seed0"
    line = (folder / f"results/logs/train/{cell}.log").read_text().splitlines()[0].removeprefix("$ ")
    assert line.startswith("PYTHONPATH=")
    line = line.replace(f"--out results/runs/{cell}", f"--out {tmp_path}/train")
    done = subprocess.run(line, shell=True, cwd=folder, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    logits = (folder / f"results/runs/{cell}/logits.safetensors").read_bytes()
    assert (tmp_path / "train/logits.safetensors").read_bytes() == logits
    told = halobench(examples, "show", cell)
    for stage in ("source", "train", "probe", "calibrate"):
        log = (folder / f"results/logs/{stage}/{'stripes' if stage == 'source' else cell}.log").read_text()
        assert f"{log.partition(' halobench ')[0].removeprefix('$ ')} halobench stage {stage} " in told


def test_calibrator_is_what_it_says(examples):
    """It goes part of the way in 1/T, so its validation NLL is between those of the logits and of the exact fit.

    With the option ``share: 0.9``, it goes further.
    """
    metrics = pd.read_parquet(examples[0] / "results/tables/mine/metrics.parquet")
    rows = metrics[(metrics["split"] == "val") & (metrics["labels"] == "drawn") & (metrics["metric"] == "nll")]
    wide = rows[rows["loss"] != "reference"].pivot_table(index=["loss", "seed"], columns="calibrator", values="value")
    assert (wide["exact"] <= wide["nearly"] + 1e-12).all()
    assert (wide["nearly"] < wide["mine.calibrators:shrunk"]).all()
    assert (wide["mine.calibrators:shrunk"] <= wide["none"] + 1e-12).all()


def test_scores_of_the_rated_are_expectations_under_the_votes(examples):
    """They are recomputed from the cell's logits and the votes, which are redrawn, as `mine` can't be imported here."""
    rng = np.random.default_rng(0)
    odds = np.exp(2 * rng.normal(size=(240, 5))[:, :3])
    votes = rng.multinomial(20, odds / odds.sum(axis=1, keepdims=True)) / 20
    results = examples[0] / "results"
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
    page = (results / "tables/mine/scores.html").read_text()
    assert "rated: scores on test data in expectation under the known posterior" in page
    assert page.count("The posterior itself &amp;") == 2 * 2, "that of the votes, and that of the label noise"


def test_figure_is_drawn_by_the_run_and_by_itself(examples):
    folder = examples[0]
    made = folder / "results/figures/mine/mine.figures.temperatures.png"
    assert made.stat().st_size > 5000
    assert (made.parent / "summary.png").exists(), "beside all others"
    spec = '{"figure": "mine.figures:temperatures"}'
    halobench(examples, "stage", "figure", "--spec", spec, "--tables", "results/tables/mine", "--out", "again")
    assert (folder / "again.png").read_bytes() == made.read_bytes()


def test_table_is_made_and_pages_hold_both(examples):
    tables = examples[0] / "results/tables/mine"
    made, runs = pd.read_csv(tables / "mine.tables.temperatures.csv"), pd.read_csv(tables / "runs.csv")
    means = runs.groupby("loss")["temperature_exact"].mean()
    pd.testing.assert_series_equal(made.set_index("loss")["temperature_exact mean"], means, check_names=False)
    assert "paper&#39;s code" in (tables / "mine.tables.temperatures.html").read_text()
    assert (tables / "scores.csv").exists(), "beside all others"
    figures = (tables / "figures.html").read_text()
    assert "mine.figures.temperatures.png" in figures
    assert "The exact temperature of each cell." in figures, "its caption"
    assert "mine.tables.temperatures.html" in (tables / "tables.html").read_text()


def test_another_figure_is_drawn_again_alone(examples, root, tmp_path):
    """Snakemake gets the names of the rules that don't run: those of one's own figures and tables, too."""
    folder = shutil.copytree(examples[0], tmp_path / "copy", symlinks=True)
    figures = folder / "results/figures/mine"
    own, missing = (figures / f"{name}.png" for name in ("mine.figures.temperatures", "summary"))
    before = own.stat().st_mtime_ns
    missing.unlink()
    copied = folder, examples[1] | {"PYTHONPATH": str(folder)}
    arguments = ("--configfile", "mine.yaml", "--snakefile", str(root / "Snakefile"))
    halobench(copied, "run", "--cores", "1", *arguments, str(missing.relative_to(folder)))
    assert missing.exists()
    assert own.stat().st_mtime_ns == before


def test_an_edit_of_the_figure_reruns_it_alone(examples, root, tmp_path):
    """Snakemake wouldn't rerun the overview, which shows another figure."""
    folder = shutil.copytree(examples[0], tmp_path / "copy", symlinks=True)
    path = folder / "mine/figures.py"
    path.write_text(path.read_text().replace('"exact T"', '"T"'))
    copied = folder, examples[1] | {"PYTHONPATH": str(folder)}
    arguments = ("--configfile", "mine.yaml", "--snakefile", str(root / "Snakefile"))
    lines = halobench(copied, "status", *arguments).splitlines()
    assert [line for line in lines if "changed" in line] == [line for line in lines if line.startswith("figure ")]
    (line,) = (line for line in lines if line.startswith("figure "))
    assert "mine/mine.figures.temperatures" in line
    assert "mine/figures.py changed" in line
