"""The committed experiments: each is a valid configuration and runs what it says it does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from snakemake.utils import update_config

from conftest import ROOT
from halobench.experiment.config_loader import load_config
from halobench.experiment.grid import Config

FILES = sorted([*(ROOT / "workflow/experiments").glob("*.yaml"), *(ROOT / "studies").glob("*/*.yaml")])


def merged(*paths: str | Path) -> dict:
    """config.yaml overridden by other files, as Snakemake merges them."""
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    for path in paths:
        update_config(raw, yaml.safe_load((ROOT / path).read_text()))
    return raw


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_experiments_file_runs_what_it_is_named_after(path):
    for package in {"strangers": ["ccexam", "digit_recognizer"]}.get(path.stem, ()):
        pytest.importorskip(package)  # networks of others, which aren't installed for tests
    config = load_config(merged(path))
    assert config.run[0] == path.stem
    assert all(config.cells(name) for name in config.run)


@pytest.mark.parametrize("path", ["config/config.yaml", ".test/config.yaml"])
def test_a_configuration_of_its_own_is_whole(path):
    """What snakedeploy copies, and what continuous integration runs: neither is merged with config.yaml."""
    config = load_config(yaml.safe_load((ROOT / path).read_text()))
    assert all(config.cells(name) for name in config.run)


def test_halos_have_nulls_that_learn_nothing_about_the_images():
    """Labels that keep one class in ten are independent of the images, and tiny steps leave every weight as it was."""
    config = load_config(merged("studies/halos/halos.yaml"))
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
    rays = {probe: (probe.points + probe.control) * probe.directions for probe in config.probes.values()}
    radii = {probe: len(probe.radii) + len(probe.relative_radii) + 5 * probe.bisections for probe in rays}
    return sum(rays[probe] * radii[probe] for probe in rays if not probe.searches)


def test_quick_probes_take_a_fraction_of_full_ones_and_keep_what_claims_read():
    full, quick = load_config(merged()), load_config(merged("workflow/quick.yaml"))
    page = (ROOT / "docs/run.md").read_text()
    assert f"at most {passes(quick):,} images instead of {passes(full):,}" in page
    assert quick.probes.keys() == full.probes.keys()
    assert all(probe.kind == full.probes[name].kind for name, probe in quick.probes.items())
    assert all(0.5 in probe.relative_radii for probe in quick.probes.values() if not probe.searches)
