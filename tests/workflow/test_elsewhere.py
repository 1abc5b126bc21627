"""The workflow run from elsewhere: from one's own folder, as a module of another workflow, deployed, and variants."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import ROOT, SOAK, Workspace, needs, one_cell, two_modules
from halobench.cli.main import main

CELL = "runs/noisy/mlp/mixup2/seed0"
FILES = {"Snakefile", "config.yaml", "config", "workflow", "profiles", "LICENSE", "runs.txt"}


def own(folder: Path, config: object, snakefile: str = "") -> Workspace:
    """A folder with only a configuration and perhaps a Snakefile."""
    workspace = Workspace.at(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    if snakefile:
        (folder / "Snakefile").write_text(snakefile)
    return workspace


def run(workspace: Workspace, *arguments: str, command: str = "run", **environment: str) -> str:
    """Return what a command prints; it must succeed."""
    done = workspace.module("halobench.cli.main", command, *arguments, environment=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def check_ran(workspace: Workspace, results: str, *arguments: str, **environment: str) -> None:
    """The grid's cell is in this results folder and nowhere else, and a second run has nothing to do."""
    folder = workspace.folder
    assert [str(path.relative_to(folder)) for path in folder.rglob("train.json")] == [f"{results}/{CELL}/train.json"]
    assert len(pd.read_csv(folder / f"{results}/tables/tiny/runs.csv")) == 1
    assert (folder / f"{results}/figures/tiny/summary.png").exists()
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names <= FILES | {results.partition("/")[0]}
    assert "Nothing to be done" in run(workspace, "-n", *arguments, **environment)


def test_as_a_module_under_other_names_and_a_prefix_next_to_rules_of_ones_own(tmp_path):
    """The Snakefile is the documented one. It overrides one rule, and one is renamed: the module is evaluated thrice.

    A changed value reruns its jobs, as Snakemake remembers parameters; a failed job is listed with its log.
    """
    (text,) = re.findall(r'^```python title="Snakefile"\n(.*?)^```', (ROOT / "docs/run.md").read_text(), re.M | re.S)
    text += "use rule reference from halobench as own_reference with:\n    priority: 3\n"
    for documented, mine in {
        "/home/me/halobench/workflow/Snakefile": str(ROOT / "workflow/Snakefile"),
        "config: config ": 'config: config["bench"] ',
        "rule * from halobench": "rule * from halobench exclude reference",
        'experiment="demo"': 'experiment="tiny"',
    }.items():
        assert text.count(documented) == 1
        text = text.replace(documented, mine)
    config = one_cell()
    workspace = own(tmp_path, {"bench": config}, text)
    run(workspace, "--cores", "2", "--set-resources", "halobench_calibrate:mem_mb=1000")
    assert (tmp_path / "runs.txt").read_text().strip() == "2"
    check_ran(workspace, "calibration/results")
    config["train"] |= {"lr": 1e25, "optimizer": "sgd"}
    own(tmp_path, {"bench": config})
    done = workspace.module("halobench.cli.main", "run", "--cores", "1")
    assert done.returncode == 1
    table = done.stderr[done.stderr.index("1 job failed; here are the last lines of each log:") :]
    assert "calibration/results/logs/train/noisy/mlp/mixup2/seed0.log" in table


@pytest.mark.soak
@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_as_two_modules_with_two_configurations(tmp_path, snakefile):
    """Each trains its own model by its own recipe."""
    workspace = Workspace(tmp_path, {})
    rates = two_modules(workspace, snakefile)
    done = workspace.snakemake("--cores", "2", *rates)
    assert done.returncode == 0, done.stderr[-4000:]
    assert {path: json.loads((tmp_path / path).read_text())["spec"]["train"]["lr"] for path in rates} == rates


def repository(folder: Path) -> Path:
    """A git repository with the workflow as it is now."""
    folder.mkdir()
    for name in ("Snakefile", "config.yaml", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    commit = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "commit", "--quiet", "--message=now"]
    for command in (["init", "--quiet", "--initial-branch=main"], ["add", "."], commit):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="needs snakedeploy, which needs Python 3.12 or older")
def test_deployed_by_snakedeploy(tmp_path):
    """Snakemake reads the workflow from an address on GitHub, for which git uses a local repository."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    snakedeploy = shutil.which("snakedeploy", path=places) or ""
    needs(bool(snakedeploy), "snakedeploy: pip install 'snakedeploy>=0.17,<1'")
    address = "https://github.com/nobody/halobench"
    environment = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository(tmp_path / 'origin')}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    command = [snakedeploy, "deploy-workflow", address, str(tmp_path / "mine"), "--branch", "main"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config = tmp_path / "mine/config/config.yaml"
    assert config.read_text() == (ROOT / "config/config.yaml").read_text()
    config.write_text(yaml.safe_dump(one_cell()))
    workspace = Workspace.at(tmp_path / "mine")
    if SOAK:
        run(workspace, "--cores", "2", **environment)
        check_ran(workspace, "results", **environment)
    else:
        assert re.search(r"^total +\d\d$", run(workspace, "-n", **environment), re.M)


def test_from_a_folder_of_ones_own_and_into_another_results_folder(tmp_path):
    """A variant on the command line or in the configuration trains its own cell and leaves the first one alone."""
    config, metrics = one_cell(), f"{CELL}/metrics.csv"
    workspace = own(tmp_path, config)
    here = ("--snakefile", str(ROOT / "Snakefile"))
    run(workspace, "--cores", "2", *here, "--", f"results/{metrics}")
    before = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}
    config["train"]["lr"] = 0.01
    own(tmp_path, config)
    said = run(workspace, *here, command="status")
    assert "train noisy/mlp/mixup2/seed0: train.lr was 0.003 and is now 0.01\n" in said
    aim = ("--", f"variants/fast/{metrics}")
    said = run(workspace, "--results", "variants/fast/", "--cores", "2", *here, *aim)
    assert "will be replaced" not in said
    said = run(workspace, *here, "--results=variants/fast", command="status")
    assert f"probe {CELL.removeprefix('runs/')}: it has never run\n" in said
    own(tmp_path, config | {"results": "variants/fast"})
    assert "Nothing to be done" in run(workspace, "-n", *here, *aim)
    assert {path: path.read_bytes() for path in before} == before
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert names == {"config.yaml", "results", "variants"}
    own(tmp_path, config | {"results": str(tmp_path)})
    done = workspace.module("halobench.cli.main", "status", *here)
    assert done.returncode == 1
    assert f"results = {str(tmp_path)!r}: expected a folder other than the working directory" in done.stderr


def test_cells_that_no_configuration_names_are_listed_and_a_renamed_one_is_adopted(finished_one, tmp_path):
    """Snakemake's --list-untracked lists them, as docs/run.md says; a moved folder counts under its new name."""
    workspace = finished_one.copy(tmp_path / "copy")
    config, runs = workspace.folder / "config.yaml", workspace.folder / "results/runs/noisy/mlp"
    config.write_text(config.read_text().replace("mixup2", "mixed"))
    assert f"results/{CELL}/model.safetensors" in untracked(workspace)
    (runs / "mixup2").rename(runs / "mixed")
    assert "train" not in run(workspace, command="status").splitlines()[-1]


@pytest.mark.soak
def test_a_fresh_results_folder_by_its_whole_path_takes_several_targets(tmp_path):
    (tmp_path / "clone").mkdir()
    workspace, results = Workspace(tmp_path / "clone", one_cell()), tmp_path / "results"
    targets = [f"{results}/{CELL}/{name}" for name in ("metrics.csv", "radii.parquet")]
    said = run(workspace, "-n", "--cores", "2", "--results", str(results), "--", *targets)
    assert re.search(r"^train +1$", said, re.M)


def untracked(workspace: Workspace) -> set[str]:
    """The files that Snakemake doesn't know about."""
    return set(workspace.snakemake("--list-untracked").stdout.splitlines())


@pytest.mark.parametrize("command", ["run", "status"])
def test_without_a_workflow_it_says_where_one_is(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main([command]) == 2
    right = "run this in a clone of halobench, or pass --snakefile CLONE/Snakefile"
    assert capsys.readouterr().err == f"halobench: error: no Snakefile in {tmp_path}; {right}\n"
