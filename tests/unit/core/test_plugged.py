"""Calibrators and probes as plug-ins: what they receive, and how bad ones are handled."""

from __future__ import annotations

import dataclasses
import random
import sys

import numpy as np
import pytest
import torch

from halobench.calibration import calibrator
from halobench.calibration.calibrate_cell import calibrate
from halobench.calibration.calibrators.exact import fit_temperature
from halobench.calibration.scores import metric
from halobench.core.errors import SpecError
from halobench.core.plugins.kinds import kinds
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.codec import canonical, parse, to_json
from halobench.core.specs.probe import ProbeSpec
from halobench.probing.probe import probe
from halobench.probing.rays import TrainingPoints

MODULE = """
import random

import numpy as np
import torch

from halobench.calibration.calibrators.exact import fit_temperature


def exact(logits, labels):
    beta = fit_temperature(logits, labels).beta
    return lambda given: beta * given


def edits(logits, labels):
    logits *= 0
    labels *= 0
    def transform(given):
        given *= 2
        return given
    return transform


def part(logits, labels, *, share=0.5):
    beta = 1 + share * (fit_temperature(logits, labels).beta - 1)
    return lambda given: beta * given


def nothing(logits, labels):
    return None


def narrow(logits, labels):
    return lambda given: given[:, :1]


def nan(logits, labels):
    return lambda given: given * np.nan


def raises(logits, labels):
    raise ValueError("boom")


def raises_later(logits, labels):
    return lambda given: 1 / 0


def draws(logits, labels):
    noise = np.random.rand() + random.random() + float(torch.rand(()))
    return lambda given: given * noise


def random_axes(points, labels, training_points, *, count, rng):
    return torch.from_numpy(rng.normal(size=(len(points), count, points.shape[1]))).float()


def global_axes(points, labels, training_points, *, count, rng):
    return torch.randn(len(points), count, points.shape[1])


def edited(points, labels, training_points, *, count, rng):
    found = random_axes(points, labels, training_points, count=count, rng=rng)
    points.zero_()
    labels[:] = 0
    return found


def flat(points, labels, training_points, *, count, rng):
    return torch.zeros(len(points), count, points.shape[1])


def few(points, labels, training_points, *, count, rng):
    return torch.ones(len(points), points.shape[1])


def diagonal(points, labels, training_points, *, count, rng, components=3):
    found = torch.zeros(len(points), count, points.shape[1])
    found[:, :, :components] = 1
    return found


def boom(points, labels, training_points, *, count, rng):
    raise KeyError("nowhere")
"""


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    (tmp_path / "plugged_here.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("plugged_here", None)


def drawn(n: int = 300, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, k))
    return 3 * z, (z + rng.gumbel(size=(n, k))).argmax(axis=1)


def test_a_calibrator_is_fitted_and_maps_logits_and_cannot_change_what_it_is_given():
    logits, labels = drawn()
    kept = logits.copy(), labels.copy()
    found = calibrator.fit("plugged_here:exact", logits, labels)
    beta = fit_temperature(logits, labels).beta
    np.testing.assert_allclose(found.predict_proba(logits), metric.softmax(beta * logits))
    calibrator.fit("plugged_here:edits", logits, labels).logits(logits)
    assert np.array_equal(logits, kept[0])
    assert np.array_equal(labels, kept[1])


def test_a_calibrator_gets_the_options_of_its_entry():
    """Two entries of one plug-in are two calibrators; the code version lists the plug-in once."""
    rng = np.random.default_rng(1)
    arrays = {}
    for split in ("val", "test"):
        logits, labels = drawn(200)
        shuffled = rng.permutation(200)
        arrays |= {f"{split}.logits": logits[shuffled], f"{split}.labels": labels[shuffled]}
        arrays[f"{split}.clean"] = arrays[f"{split}.labels"]
    name = "plugged_here:part"
    entries = ["none", name, {"near": {"name": name, "share": 0.9}}, {"all": {"name": name, "share": 1.0}}, "exact"]
    spec = parse(CalibrateSpec, {"calibrators": entries, "draws": 5, "floor_draws": 5})
    assert parse(CalibrateSpec, canonical(spec)) == spec
    assert spec.names == ("none", name, "near", "all", "exact")
    assert [plugin for plugin in spec.plugged if plugin[0] == "calibrators"] == [
        ("calibrators", name),
        ("calibrators", "exact"),
    ]
    found = calibrate(arrays, spec, 0, ("val", "test"))
    rows = found.metrics.query("split == 'val' and metric == 'nll' and labels == 'drawn'").set_index("calibrator")
    beta = fit_temperature(arrays["val.logits"], arrays["val.labels"]).beta
    for label, share in (("none", 0.0), (name, 0.5), ("near", 0.9), ("all", 1.0), ("exact", 1.0)):
        scaled = (1 + share * (beta - 1)) * arrays["val.logits"]
        assert rows.loc[label, "value"] == pytest.approx(metric.nll(scaled, arrays["val.labels"]), abs=1e-12)
    assert [fit["calibrator"] for fit in found.fits] == [name, "near", "all", "exact"]


def test_an_option_at_its_default_is_no_part_of_a_spec():
    """Specs that are plain lists of names keep their exact bytes."""
    entries = {"calibrators": ["none", {"half": {"name": "plugged_here:part", "share": 0.5}}]}
    assert to_json(parse(CalibrateSpec, entries)) == '{"calibrators":["none",{"half":{"name":"plugged_here:part"}}]}'
    assert to_json(parse(CalibrateSpec, {"calibrators": ["none", "paper"]})) == '{"calibrators":["none","paper"]}'
    assert to_json(CalibrateSpec()) == "{}"


def test_a_file_named_as_a_calibrator_without_a_file_is_refused(tmp_path, monkeypatch):
    """It would never be used."""
    CalibrateSpec(calibrators=("oracle",))
    (tmp_path / "oracle.py").write_text("def fit(logits, labels): ...\n")
    declared = dataclasses.replace(kinds()["calibrators"], file=str(tmp_path / "__init__.py"))
    monkeypatch.setitem(kinds(), "calibrators", declared)
    with pytest.raises(SpecError, match=r"'oracle' is built in, so calibrators/oracle.py would never be used"):
        CalibrateSpec(calibrators=("oracle",))


def test_global_generators_give_a_plugin_the_same_numbers_and_are_put_back():
    logits, labels = drawn()
    random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), torch.get_rng_state()
    first = calibrator.fit("plugged_here:draws", logits, labels).logits(logits)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    random.seed(2)
    torch.manual_seed(2)
    assert np.array_equal(calibrator.fit("plugged_here:draws", logits, labels).logits(logits), first)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing", "calibrators.plugged_here:nothing: fit.* returned None; it must return a function"),
        (
            "narrow",
            r"calibrators.plugged_here:narrow: found calibrated logits of shape \(300, 1\), expected the input's shape",
        ),
        ("nan", r"calibrators.plugged_here:nan.logits\[0\]"),
        ("raises", r"calibrators.plugged_here:raises: raised ValueError: boom \(plugged_here.py:\d+\)"),
        ("raises_later", "calibrators.plugged_here:raises_later: raised ZeroDivisionError"),
    ],
)
def test_a_bad_calibrator_is_named(name, told):
    with pytest.raises(SpecError, match=told):
        calibrator.fit(f"plugged_here:{name}", *drawn()).logits(drawn()[0])


def walked(name: str, seed: int = 0, **options):
    points = torch.from_numpy(np.random.default_rng(1).normal(size=(30, 6))).float()
    labels = np.arange(30) % 3
    model = torch.nn.Linear(6, 3, bias=False).eval()
    with torch.no_grad():
        model.weight.copy_(torch.eye(3, 6))
    spec = ProbeSpec(kind=f"plugged_here:{name}", radii=(0.0, 1.0), directions=2, **options)
    kept = points.clone(), labels.copy()
    found = probe(model, points, labels, spec, TrainingPoints(points, labels), rng=np.random.default_rng(seed))
    assert torch.equal(points, kept[0])
    assert np.array_equal(labels, kept[1])
    return found.curves["confidence"].to_numpy()


def test_a_probe_walks_where_its_plugin_says_and_can_edit_nothing():
    assert np.array_equal(walked("random_axes"), walked("random_axes"))
    assert not np.array_equal(walked("random_axes"), walked("random_axes", seed=1))
    assert np.array_equal(walked("random_axes"), walked("edited"))
    assert np.array_equal(walked("global_axes"), walked("global_axes"))
    assert not np.array_equal(walked("global_axes"), walked("global_axes", seed=1))


def test_a_probe_that_takes_components_gets_those_of_its_spec():
    assert not np.array_equal(walked("diagonal", components=1), walked("diagonal", components=2))
    assert np.array_equal(walked("random_axes", components=1), walked("random_axes", components=2))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("flat", "probes.plugged_here:flat: returned a zero or non-finite direction"),
        ("few", r"probes.plugged_here:few: found shape \(30, 6\)"),
        ("boom", r"probes.plugged_here:boom: raised KeyError: 'nowhere' \(plugged_here.py:\d+\)"),
    ],
)
def test_a_bad_probe_is_named(name, told):
    with pytest.raises(SpecError, match=told):
        walked(name)
