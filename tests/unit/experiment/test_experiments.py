"""The committed experiments: each is a valid configuration and runs what it says it does."""

from __future__ import annotations

import pytest
import torch
import yaml
from snakemake.utils import update_config

from conftest import ROOT
from halobench.experiment.config_loader import load_config
from halobench.experiment.grid import Config

FILES = sorted((ROOT / "workflow/experiments").glob("*.yaml"))


def experiment(name: str) -> Config:
    """config.yaml overridden by a file of workflow/experiments, merged as Snakemake does."""
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(raw, yaml.safe_load((ROOT / f"workflow/experiments/{name}.yaml").read_text()))
    return load_config(raw)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_experiments_file_runs_what_it_is_named_after(path):
    config = experiment(path.stem)
    assert config.run[0] == path.stem
    assert all(config.cells(name) for name in config.run)


@pytest.mark.parametrize("path", ["config/config.yaml", ".test/config.yaml"])
def test_a_configuration_of_its_own_is_whole(path):
    """What snakedeploy copies, and what continuous integration runs: neither is merged with config.yaml."""
    config = load_config(yaml.safe_load((ROOT / path).read_text()))
    assert all(config.cells(name) for name in config.run)


def test_halos_have_nulls_that_learn_nothing_about_the_images():
    """Labels that keep one class in ten are independent of the images, and tiny steps leave every weight as it was."""
    config = experiment("halos")
    cells = config.cells("halo-nulls")
    shuffled = {config.datasets[cell.dataset].noise for cell in cells if cell.dataset.endswith("-shuffled")}
    assert {(noise.kind, noise.p) for noise in shuffled} == {("uniform", 0.9)}
    untrained = [config.recipe(cell.dataset, cell.model) for cell in cells if cell.model.endswith("-untrained")]
    assert untrained
    weights = torch.randn(1000)
    assert all(torch.equal(weights - 1e3 * recipe.lr, weights) for recipe in untrained)
    for cell in cells:  # what is compared is trained for as long
        stem = cell.dataset.removesuffix("-shuffled")
        assert config.recipe(cell.dataset, cell.model) == config.recipe(stem, cell.model)


def passes(config: Config) -> int:
    """An upper bound on the images a cell's probes evaluate: a grid and five bisected radii per ray."""
    return sum(
        (probe.points + probe.control)
        * probe.directions
        * (len(probe.radii) + len(probe.relative_radii) + 5 * probe.bisections)
        for probe in config.probes.values()
        if not probe.searches
    )


def test_quick_probes_take_a_fraction_of_full_ones_and_keep_what_claims_read():
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    full = load_config(raw)
    update_config(raw, yaml.safe_load((ROOT / "workflow/quick.yaml").read_text()))
    quick = load_config(raw)
    assert (passes(full), passes(quick)) == (94_500, 3_360), "docs/run.md has both"
    assert quick.probes.keys() == full.probes.keys()
    assert all(probe.kind == full.probes[name].kind for name, probe in quick.probes.items())
    assert all(0.5 in probe.relative_radii for probe in quick.probes.values() if not probe.searches)
    dataset, model = "digits", "efficientnet"
    trained = full.recipe(dataset, model).epochs * full.datasets[dataset].train
    assert passes(quick) < trained < passes(full)
