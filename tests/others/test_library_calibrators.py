"""Calibrators and metrics of netcal and probmetrics: the same numbers from them as through halobench."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest

from conftest import needs
from halobench.calibration import calibrator
from halobench.calibration.calibrate_cell import Calibrated, calibrate
from halobench.calibration.scores import metric
from halobench.calibration.scores.metric import nll
from halobench.calibration.scores.sample_scores import softmax
from halobench.core.errors import SpecError
from halobench.core.specs.calibrate import CalibrateSpec
from unit.calibration.builders import drawn, posterior_sample

HISTOGRAM = "netcal/HistogramBinning"


@pytest.fixture(autouse=True)
def extra() -> None:
    """Skip or fail if the extra isn't installed."""
    there = all(importlib.util.find_spec(package) for package in ("probmetrics", "numba", "netcal"))
    needs(there, "the extra posthoc")


def scored(names: tuple[str, ...], k: int) -> Calibrated:
    """Scores of calibrators on 200 validation and 100 test samples of k classes."""
    arrays = {}
    for split, n, seed in (("val", 200, 0), ("test", 100, 1)):
        logits, labels = drawn(n, k, seed=seed)
        arrays |= {f"{split}.logits": logits, f"{split}.labels": labels, f"{split}.clean": labels}
    return calibrate(arrays, CalibrateSpec(names, draws=10, floor_draws=2), 0, ("val", "test"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binned_errors_are_netcals(dtype):
    """ECE, MCE and netcal's ACE (our ``average``) agree to 1e-12 if no confidence is on a bin edge.

    netcal gives other numbers in these cases: confidences of 1.0 (it clips to 1 - eps, a change of up to 1.2e-7 in
    float32), and k = 2 or labels of only two classes (it bins P(class 1) instead of the confidence).
    """
    from netcal import metrics

    z, y, _ = posterior_sample(3000, 40, seed=3000)
    p = metric.softmax(z).astype(dtype)
    for ours, theirs in ((metric.ece, metrics.ECE), (metric.mce, metrics.MCE), (metric.ace, metrics.ACE)):
        assert ours(p, y, bins=15) == pytest.approx(theirs(15).measure(p.astype(np.float64), y), abs=1e-12)


@pytest.mark.parametrize("k", [2, 4])
def test_a_librarys_calibrator_is_that_of_its_class_with_its_options(k):
    from netcal.binning import HistogramBinning
    from probmetrics.calibrators import MixtureCalibrator, TemperatureScalingCalibrator

    (logits, labels), new = drawn(500, k), drawn(200, k, seed=1)[0]
    peer = HistogramBinning(bins=7)
    peer.fit(softmax(logits), labels)
    expected = peer.transform(softmax(new)).reshape(200, -1)[:, -1]  # of two classes, only the second
    fit = calibrator.fit(HISTOGRAM, logits, labels, bins=7)
    np.testing.assert_allclose(fit.predict_proba(new)[:, -1], expected, atol=1e-12)
    np.testing.assert_allclose(fit.predict_proba(new).sum(axis=1), 1, atol=1e-9)
    assert fit.nll == pytest.approx(nll(fit.logits(logits), labels), abs=1e-12)
    mixture = MixtureCalibrator(TemperatureScalingCalibrator(), output_constant=2.0).fit(softmax(logits), labels)
    options = {"calibrator": "TemperatureScalingCalibrator", "output_constant": 2.0}
    fit = calibrator.fit("probmetrics/MixtureCalibrator", logits, labels, **options)
    np.testing.assert_allclose(fit.predict_proba(new), mixture.predict_proba(softmax(new)), atol=1e-7)


@pytest.mark.parametrize("name", ["probmetrics/SVSCalibrator", "netcal/IsotonicRegression"])
def test_saved_ones_are_fitted_again_to_the_same_probabilities(name, tmp_path):
    fit, new = calibrator.fit(name, *drawn(300, 4)), drawn(80, 4, seed=1)[0]
    fit.save(tmp_path / "calibrator.npz")
    opened = calibrator.Calibrator.load(tmp_path / "calibrator.npz")
    np.testing.assert_allclose(opened.predict_proba(new), fit.predict_proba(new), rtol=0, atol=1e-12)


def test_a_probability_of_0_is_an_infinite_nll():
    logits, labels = drawn(600, 5)
    fit = calibrator.fit(HISTOGRAM, logits[labels != 2], labels[labels != 2])
    assert np.isfinite(fit.predict_proba(logits)).all()
    assert nll(fit.logits(logits), labels) == math.inf


@pytest.mark.parametrize(
    ("name", "options", "key", "expected"),
    [
        ("probmetrics/SMSCalibrater", {}, "calibrator", r"class in probmetrics \(did you mean 'SMSCalibrator'\?\)"),
        ("probmetrics/sms", {}, "calibrator", r"class in probmetrics \(did you mean 'SMSCalibrator'\?\)"),
        ("netcal/Histogram", {}, "calibrator", r"class in netcal \(did you mean 'HistogramBinning'\?\)"),
        (
            HISTOGRAM,
            {"bin": 5},
            "bin",
            r"no such option; those of netcal/HistogramBinning are bins, .*did you mean 'bins'",
        ),
    ],
)
def test_a_name_or_an_option_that_a_library_lacks_is_named(name, options, key, expected):
    with pytest.raises(SpecError, match=expected) as caught:
        calibrator.fit(name, *drawn(), **options)
    assert caught.value.key == key


def test_a_librarys_fit_that_fails_leaves_its_row_empty_with_the_reason():
    """The first takes only two classes, and the second needs a package of its own."""
    names = ("none", "probmetrics/BinaryLogisticCalibrator", "probmetrics/DirichletCalibrator", "top_rest")
    found = scored(names, 4)
    empty = found.metrics[found.metrics["value"].isna()]
    assert set(empty["calibrator"]) == set(names[1:3])
    assert len(empty) == len(found.metrics) / 2
    reasons = {fit["calibrator"]: fit.get("reason", "") for fit in found.fits}
    assert all(reasons[name] for name in names[1:3])
    assert reasons["top_rest"] == ""
    logits, labels = drawn(200, 4)
    with pytest.raises(SpecError) as caught:
        calibrator.fit(names[1], logits, labels).logits(logits)
    assert str(caught.value) == f"this calibrator couldn't be fitted: {reasons[names[1]]}"


def test_a_librarys_map_that_fails_on_test_samples_keeps_its_validation_scores(monkeypatch):
    from netcal.binning import HistogramBinning

    transform = HistogramBinning.transform
    monkeypatch.setattr(
        HistogramBinning, "transform", lambda self, X: transform(self, X) if len(X) == 200 else np.full(X.shape, np.nan)
    )
    found = scored((HISTOGRAM,), 2)
    missing = found.metrics["value"].isna()
    assert set(found.metrics[missing]["split"]) == {"test"} != set(found.metrics[~missing]["split"])
    assert "logits[0] = nan: expected finite numbers" in found.fits[0]["reason"]
