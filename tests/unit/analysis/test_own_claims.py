"""Claims of one's own: six keys suffice, and what no cell of the grid can meet is named before any job."""

from __future__ import annotations

import copy

import pytest
import yaml

from halobench.analysis.claims import load_claims
from halobench.core.errors import SpecError

SHORT = {
    "name": "less_nll",
    "statement": "Mixup leaves less NLL",
    "value": "nll",
    "a": {"loss": "mixup2"},
    "b": {"loss": "cross_entropy"},
    "margin": -0.05,
}


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
