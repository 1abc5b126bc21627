"""Claims of one's own: six keys suffice, and what no cell of the grid can meet is named before any job."""

from __future__ import annotations

import copy
import re

import pytest
import yaml

from conftest import tiny_config
from halobench.core.errors import SpecError
from halobench.experiment.config_loader import load_config
from halobench.results.claims import load_claims
from halobench.runner.claims_in_grid import untested

SHORT = {
    "name": "less_nll",
    "statement": "Mixup leaves less NLL",
    "value": "nll",
    "a": {"loss": "mixup2"},
    "b": {"loss": "cross_entropy"},
    "margin": -0.05,
}


ROUND = {"probe": "spere", "quantity": "certainty", "calibrator": "none"}


def loaded(tmp_path, **changes):
    """The claim in a file with the short entry after these changes, of which None drops a key."""
    entry = {key: value for key, value in (copy.deepcopy(SHORT) | changes).items() if value is not None}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [entry]}))
    return load_claims(path)[0]


def test_six_keys_make_a_claim(tmp_path):
    claim = loaded(tmp_path)
    assert (claim.table, claim.value, claim.statistic, claim.direction) == ("metrics", "value", "difference", "below")
    conditions = {"split": "test", "labels": "clean", "calibrator": "exact", "metric": "nll"}
    assert claim.sides == [conditions | {"loss": "mixup2"}, conditions | {"loss": "cross_entropy"}]
    assert (claim.kind, claim.theme, claim.label) == ("own", "own", "Less nll")
    assert not claim.must_interpolate("cross_entropy"), "models of a claim of one's own may be of any kind"
    assert loaded(tmp_path, margin=0.1).direction == "above"
    assert loaded(tmp_path, b=None, margin=1.0).statistic == "level"
    assert loaded(tmp_path, b=None, baselines={"loss": "cross*"}).statistic == "against_best"
    own = loaded(tmp_path, where={"labels": "noisy"}, a={"loss": "mixup2", "calibrator": "none"},
                 b={"loss": "cross_entropy", "calibrator": "paper"})  # fmt: skip
    assert [side["calibrator"] for side in own.sides] == ["none", "paper"]
    assert own.where["labels"] == "noisy"
    runs = loaded(tmp_path, value="temperature_exact", b=None, margin=1.0)
    assert (runs.table, runs.where) == ("runs", {})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"a": None}, r"a: missing; a claim needs name, statement, value, a, margin and, to compare a, b or baselines"),
        ({"margin": None}, "margin: missing"),
        ({"margin": 0}, "direction: missing; set below or above"),
        ({"value": "noise", "b": None}, "table: missing; set metrics or neighbourhood or radii"),
        ({"table": "metric"}, "table = 'metric': expected one of metrics"),
        ({"a": {"loss": "mixup*"}}, "the name of a single loss"),
        ({"wher": {}}, "wher"),
    ],
)
def test_what_is_missing_is_named(tmp_path, changes, said):
    with pytest.raises(SpecError, match=said):
        loaded(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"a": {"loss": "mixup3"}}, r"claims\.less_nll\.loss = 'mixup3': expected a loss of the grid: .*'mixup2'"),
        (
            {"where": {"noise": ">2"}},
            r"no cell of this grid has loss mixup2, noise >2; its values are dataset clean, no",
        ),
        ({"where": {"dataset": "overlap*"}}, r"no cell of this grid has dataset overlap\*, loss mixup2"),
        ({"b": None, "statistic": "slope"}, "a slope needs 5 data sets with different numbers of classes; .* has 2"),
        (
            {"value": "relative_median", "where": ROUND},
            r"probe = 'spere': .*sphere",
        ),
        ({"b": None, "baselines": {"loss": "focal*"}}, r"no cell of this grid has loss focal\*"),
        (
            {"a": {"loss": "mixup2", "noise": 0}, "b": {"loss": "cross_entropy", "noise": ">0"}},
            "no data set and model of this grid has cells of both sides",
        ),
    ],
)
def test_what_no_cell_meets_is_named_before_any_job_but_not_refused(tmp_path, changes, said):
    """The file may serve other experiments, too."""
    config = load_config(tiny_config())
    (why,) = untested([loaded(tmp_path), loaded(tmp_path, **changes)], config)
    assert re.search(said, str(why))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"where": {"labels": "noisey"}}, r"labels = 'noisey': expected one of .* \(did you mean 'noisy'\?\)"),
        ({"where": {"split": ["tst"]}}, r"split = 'tst': expected one of test, train, val"),
        (
            {"value": "relative_median", "where": ROUND | {"probe": "sphere", "quantity": "certainly"}},
            r"quantity = 'certainly': .*did you mean 'certainty'",
        ),
    ],
)
def test_what_no_grid_has_is_refused_before_any_job(tmp_path, changes, said):
    with pytest.raises(SpecError, match=said):
        list(untested([loaded(tmp_path, **changes)], load_config(tiny_config())))


def test_claims_of_the_package_may_be_about_other_grids(root):
    config = tiny_config()
    config["losses"].pop("mixup2")
    config["experiments"]["tiny"]["grid"][0]["losses"] = ["cross_entropy"]
    assert list(untested(load_claims(root / "workflow/claims.yaml"), load_config(config))) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"value": 3}, "value = 3: expected a name"),
        ({"table": ["metrics"]}, "table = .*: expected a name"),
        ({"margin": "-0.05"}, "margin = '-0.05': expected a number"),
        ({"statistic": "ratio", "margin": 0.8}, "direction: missing"),
        ({"b": None, "baselines": {"loss": "mixup2"}}, "baselines = .*: expected conditions that differ"),
    ],
)
def test_odd_values_are_named(tmp_path, changes, said):
    with pytest.raises(SpecError, match=said):
        loaded(tmp_path, **changes)


def test_a_calibrator_that_the_grid_does_not_fit_is_named(tmp_path):
    config = tiny_config() | {"calibrators": ["none"]}
    (why,) = untested([loaded(tmp_path)], load_config(config))
    assert "calibrator = 'exact': expected one of none" in str(why)


def test_a_claim_about_probes_needs_a_probed_cell(tmp_path):
    config = tiny_config()
    config["experiments"]["tiny"]["grid"][0]["probe"] = False
    config["experiments"]["tiny"] |= {"figures": [], "tables": []}
    changes = {"value": "relative_median", "where": ROUND | {"probe": "sphere"}}
    (why,) = untested([loaded(tmp_path, **changes)], load_config(config))
    assert "no cell of this grid is probed, so radii is empty" in str(why)
