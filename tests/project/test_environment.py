"""environment.yml lists what pyproject.toml does, and the package knows which extra installs a module."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions

import yaml

from conftest import ROOT
from halobench.core.extras import EXTRAS

CONDA = {"torch": "pytorch"}  # by PyPI name, where conda's differs
TOOLS = {"pip"}  # conda needs it to install the package itself


def split(requirement: str) -> tuple[str, frozenset[str]]:
    """A requirement's name and version bounds, e.g. ``snakemake>=9,<10`` -> (snakemake, {>=9, <10})."""
    name, bounds = re.fullmatch(r"([A-Za-z0-9._-]+)\s*(.*)", requirement).groups()
    return name.lower(), frozenset(bound.strip() for bound in bounds.split(",") if bound.strip())


def test_conda_and_pip_install_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    extras = project["optional-dependencies"]
    assert extras["workflow"][0] == "halobench[parquet,plot,train]"
    listed = [*project["dependencies"], *extras["parquet"], *extras["plot"], *extras["train"], *extras["workflow"][1:]]
    wanted = {CONDA.get(name, name): bounds for name, bounds in map(split, listed)}
    wanted["python"] = frozenset({project["requires-python"]})
    found = dict(split(entry) for entry in environment["dependencies"])
    assert len(found) == len(environment["dependencies"])
    assert {name: bounds for name, bounds in found.items() if name not in TOOLS} == wanted
    assert all(any(bound.startswith(">=") for bound in bounds) for bounds in wanted.values())


def test_the_workflow_asks_for_the_snakemake_that_pip_installs():
    """Older ones don't read profile.yaml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (version,) = re.findall(r'^min_version\("(.*)"\)$', (ROOT / "workflow/rules/stages.smk").read_text(), re.M)
    assert f"snakemake>={version},<10" in project["optional-dependencies"]["workflow"]
    assert f'"=={version}.*"' in (ROOT / ".github/workflows/tests.yml").read_text(), "the oldest runs the grid, too"


def test_each_module_is_listed_under_the_extra_that_installs_it():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    homes = packages_distributions()
    for extra, modules in EXTRAS.items():
        installed = {split(each)[0] for each in extras[extra] if not each.startswith("halobench[")}
        assert {homes[module][0].lower().replace("_", "-") for module in modules} == installed, extra
    pulled = re.findall(r"[a-z]+", " ".join(extras["all"] + extras["slurm"][:1] + extras["workflow"][:1]))
    assert set(EXTRAS) <= set(pulled), "the extra `all` installs each of the others"


def test_the_version_is_the_one_that_is_cited_and_described():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert newest in (version, "Unreleased")
