"""Distributions in the real workflow: sources without arrays, cells that aren't probed, and what reruns."""

from __future__ import annotations

import pandas as pd
import pytest

from conftest import Workspace, finished_workspace, tiny_config
from halobench.experiment.config_loader import load_config
from halobench.storage.records import read_record
from halobench.storage.verify import verify

pytestmark = pytest.mark.theory
GRID = {"datasets": ["overlap-k4", "overlap-k8"], "models": ["attention"], "losses": ["cross_entropy"], "seeds": [0]}
FIGURES = ("log_k", "gaussians", "repair")  # those that no grid of images has


def bench_config() -> dict:
    """Two overlap distributions and two Gaussians, with a few epochs each; one block is probed."""
    made = tiny_config()
    made["sources"] = {f"overlap-k{k}": {"loader": "overlap", "classes": k} for k in (4, 8)}
    made["sources"]["two"] = {"loader": "gaussians", "mu": 0.1, "shape": [1, 4, 4]}
    made["datasets"] = {name: {"source": name, "train": 80, "val": 60, "test": 100} for name in made["sources"]}
    made["models"] = {name: {"name": name} for name in ("attention", "nearest")}
    made["models"]["mlp"] = {"name": "mlp", "width": 16}
    gaussian = {"datasets": ["two"], "models": ["mlp"], "losses": ["cross_entropy"], "seeds": [0], "probe": False}
    blocks = [GRID, GRID | {"models": ["nearest"], "probe": False}, gaussian]
    made["experiments"]["tiny"] = {"grid": blocks, "figures": [*FIGURES, "summary"]}
    made["experiments"]["tiny"]["tables"] = ["all", "repair", "repair_metrics"]
    made["calibrators"].append("partner")
    return made


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workspace:
    return finished_workspace(tmp_path_factory, "bench", bench_config())


def table(workspace: Workspace, name: str) -> pd.DataFrame:
    return pd.read_parquet(workspace.folder / f"results/tables/tiny/{name}.parquet")


def test_sources_hold_meta_data_and_cells_are_probed_where_asked(bench):
    results = bench.folder / "results"
    for name in ("overlap-k4", "two"):
        files = {path.name for path in (results / f"sources/{name}").iterdir() if not path.name.startswith(".")}
        assert files == {"meta.json", "source.json"}
    assert (results / "runs/overlap-k4/attention/cross_entropy/seed0/probe.json").exists()
    assert not (results / "runs/overlap-k4/nearest/cross_entropy/seed0/probe.json").exists()
    assert set(table(bench, "neighbourhood")["model"]) == {"attention"}
    runs = table(bench, "runs").set_index(["dataset", "model", "seed"])
    assert runs["probe_seconds"].isna().sum() == 3
    assert runs.loc[("overlap-k8", "nearest", 0), ["steps", "interpolates"]].tolist() == [0, True]
    facts = runs.loc[("overlap-k8", "attention", 0), ["distribution", "beta", "group", "classes"]]
    assert facts.tolist() == ["overlap", 0.5, 2, 8]
    assert runs.loc[("two", "mlp", 0), "separation"] == pytest.approx(0.4)
    assert set(table(bench, "history")["model"]) == {"attention", "mlp"}


def test_figures_and_tables_that_have_something_to_show_are_made(bench):
    """All such figures would include these."""
    drawn = {path.stem for path in (bench.folder / "results/figures/tiny").glob("*.png")}
    assert drawn == {*FIGURES, "summary"}
    everything = bench_config()
    everything["experiments"]["tiny"]["figures"] = ["all", "repair"]
    assert drawn < set(load_config(everything).figures("tiny"))
    printed = {path.stem for path in (bench.folder / "results/tables/tiny").glob("*.tex")}
    assert printed == {"scores", "repair", "repair_metrics"}
    numbers = pd.read_csv(bench.folder / "results/tables/tiny/scores.csv")
    assert set(numbers["dataset"]) == {"two"}
    assert numbers["separation"].tolist() == pytest.approx([0.4] * len(numbers))
    assert set(numbers["model"]) == {"mlp", "bayes"}
    metrics = table(bench, "metrics")
    assert {"rho", "kl_two_level", "kl_own", "kl_per_log_k"} <= set(
        metrics.loc[metrics["model"] == "attention", "metric"]
    )
    references = metrics[(metrics["loss"] == "reference") & (metrics["dataset"] == "overlap-k8")]
    assert set(references["model"]) == {"bayes", "uniform", "nearest"}


def test_parts_of_each_cells_ladder_add_up_and_none_is_below_zero_but_by_chance(bench):
    metrics = table(bench, "metrics")
    rows = metrics[metrics["metric"].str.startswith("repair_")]
    cells = rows.groupby(["dataset", "model", "loss", "seed"])
    assert len(cells) == 5
    scored = metrics[(metrics["split"] == "test") & (metrics["labels"] == "noisy") & (metrics["calibrator"] == "none")]
    nll = scored[scored["metric"] == "nll"].set_index(["dataset", "model", "loss", "seed"])["value"]
    for cell, ladder in cells:
        by = ladder.set_index(ladder["metric"].str.removeprefix("repair_"))
        parts = by.loc[["noise", "training", "richer_map", "temperature"]]
        assert parts["value"].sum() == pytest.approx(by["value"]["nll"], abs=1e-9)
        assert by["value"]["nll"] == pytest.approx(nll[cell], abs=1e-9)
        assert (parts["value"] >= -2 * (parts["high"] - parts["low"]) / 3.92 - 1e-12).all(), cell
    numbers = pd.read_csv(bench.folder / "results/tables/tiny/repair.csv")
    assert set(rows["dataset"]) == set(numbers["dataset"])
    record = read_record(bench.folder / "results/runs/overlap-k4/attention/cross_entropy/seed0/repair.json", ["code"])
    plugins = {"models/architectures/attention", "data/loaders/overlap"}
    assert plugins < set(record["code"]), "an edit of what draws samples, or of the model that reads them, counts"


def test_no_map_beats_bayes_and_no_temperature_the_oracle(bench):
    """The oracle's temperature is the best on the scored points themselves, whose posterior is known."""
    metrics = table(bench, "metrics")
    kl = metrics[(metrics["metric"] == "kl") & (metrics["labels"] == "noisy") & (metrics["split"] == "test")]
    by_calibrator = kl[kl["loss"] != "reference"].pivot(
        index=["dataset", "model", "loss", "seed"], columns="calibrator", values="value"
    )
    assert len(by_calibrator) == 5
    assert (by_calibrator.stack() >= 0).all()
    temperatures = by_calibrator[["none", "paper", "exact"]]
    assert temperatures.ge(by_calibrator["oracle"] - 1e-12, axis=0).all(axis=None)


def test_nothing_runs_again_and_all_is_as_recorded(bench):
    done = bench.snakemake("--cores", "1", "-n")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert verify(bench.folder / "results").faults == ()


@pytest.mark.rerun
def test_an_edit_of_a_distribution_runs_its_cells_alone(bench, tmp_path):
    workspace = bench.copy(tmp_path / "w")
    config = bench_config()
    config["sources"]["overlap-k8"]["beta"] = 0.4
    config["experiments"]["tiny"]["grid"][1]["probe"] = True
    workspace.write(config)
    told = workspace.halobench("status").stdout.splitlines()
    assert any("overlap-k8" in line and "beta" in line for line in told)
    jobs = [line.partition(":")[0] for line in told]
    assert [job for job in jobs if "overlap-k4" in job] == ["probe overlap-k4/nearest/cross_entropy/seed0"]
