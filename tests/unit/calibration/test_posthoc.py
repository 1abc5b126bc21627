"""Calibrators other than TS: closed forms, invariances, and independent implementations on the same data."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from conftest import needs
from halobench import testing
from halobench.calibration import calibrator
from halobench.calibration.calibrators import confusion_mix, dirichlet, noise_layer
from halobench.calibration.evaluate import Calibrated, calibrate
from halobench.calibration.metric import ece, nll
from halobench.calibration.sample_scores import softmax
from halobench.calibration.temperature_scaling import fit_temperature
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs import CalibrateSpec

INSTALLED = all(importlib.util.find_spec(package) for package in ("probmetrics", "numba", "netcal"))
extra = pytest.mark.skipif(not INSTALLED, reason="needs the extra posthoc")
SMS, SVS, ISOTONIC = "probmetrics/SMSCalibrator", "probmetrics/SVSCalibrator", "netcal/IsotonicRegression"
ETS, HISTOGRAM = "probmetrics/ETSCalibrator", "netcal/HistogramBinning"
OWN = plugins.names("calibrators")
LIBRARY = [pytest.param(name, marks=extra) for name in (SMS, SVS, ETS, ISOTONIC, HISTOGRAM)]
EACH = [*OWN, *LIBRARY]
CAN_BE_0 = (ISOTONIC, HISTOGRAM)


def drawn(n: int = 600, k: int = 5, strength: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at 1 / strength the labels are drawn from, then distorted slightly per class."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.standard_normal((n, k))
    labels = np.array([rng.choice(k, p=row) for row in softmax(z)])
    return strength * z * rng.uniform(0.8, 1.2, k) + rng.normal(0, 0.3, k), labels


def confused(n: int = 400, k: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are three times too large, and labels a fifth of which are turned into the next class."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n, k))
    labels = np.array([rng.choice(k, p=row) for row in softmax(z)])
    return 3 * z, np.where(rng.random(n) < 0.2, (labels + 1) % k, labels)


def scored(names: tuple[str, ...], k: int) -> Calibrated:
    """Scores of calibrators on 200 validation and 100 test samples of k classes."""
    arrays = {}
    for split, n, seed in (("val", 200, 0), ("test", 100, 1)):
        logits, labels = drawn(n, k, seed=seed)
        arrays |= {f"{split}.logits": logits, f"{split}.labels": labels, f"{split}.clean": labels}
    return calibrate(arrays, CalibrateSpec(names, draws=10, floor_draws=2), 0, ("val", "test"))


# What holds for each --------------------------------------------------------------------------------------------------


def test_the_extra_is_there_where_it_must_be():
    needs(INSTALLED, "the extra posthoc")


@pytest.mark.parametrize("name", LIBRARY)
def test_calibrators_of_libraries_pass_the_checks(name):
    testing.check_calibrator(name)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("k", [2, 4])
def test_each_gives_distributions_and_calibrates_and_float32_changes_no_byte(name, k):
    logits, labels = drawn(1000, k, 4.0)
    new, answers = drawn(4000, k, 4.0)
    narrow = logits.astype(np.float32)
    fit, wide = (calibrator.fit(name, z, labels) for z in (narrow, narrow.astype(float)))
    assert fit.logits(narrow).tobytes() == wide.logits(narrow.astype(float)).tobytes()
    p = fit.probabilities(new)
    assert p.dtype == np.float64
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(softmax(fit.logits(new)), p, atol=1e-15)
    assert ece(p, answers, bins=10) < 0.5 * ece(softmax(new), answers, bins=10)
    assert fit.converged
    assert not fit.reason
    assert fit.nll == pytest.approx(nll(fit.logits(logits), labels), abs=0.02)  # of some, the leave-one-out NLL


@pytest.mark.parametrize("name", EACH)
def test_classes_that_validation_lacks_get_little_or_nothing(name):
    logits, labels = drawn(600, 5)
    there = labels != 2
    fit = calibrator.fit(name, logits[there], labels[there])
    p = fit.probabilities(logits)
    assert np.isfinite(p).all()
    assert p[:, 2].mean() < softmax(logits)[:, 2].mean() or name in (ETS, "gap", "top_rest")
    assert (nll(fit.logits(logits), labels) < math.inf) == (name not in CAN_BE_0)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("labels", [np.zeros(40, int), np.arange(40) % 3], ids=["one class", "all classes"])
def test_separable_data_have_a_finite_fit(name, labels):
    logits = 4 * np.eye(3)[labels] + np.random.default_rng(0).uniform(-1, 1, (40, 3))
    p = calibrator.fit(name, logits, labels).probabilities(logits)
    assert np.isfinite(p).all()
    assert (p.argmax(axis=1) == labels).mean() > 0.9


NAMELESS = ("dirichlet", "confusion_mix", "noise_layer", pytest.param(SVS, marks=extra), pytest.param(SMS, marks=extra))


@pytest.mark.parametrize("name", NAMELESS)
def test_shifts_change_nothing_and_permuted_classes_permute_the_result(name):
    logits, labels = confused()
    new = confused(100, seed=1)[0]
    p = calibrator.fit(name, logits, labels).probabilities(new)
    shifted = calibrator.fit(name, logits + np.random.default_rng(2).normal(size=(400, 1)), labels)
    np.testing.assert_allclose(shifted.probabilities(new - 7), p, atol=2e-3)
    order = np.array([2, 0, 3, 1])  # column j of the permuted logits is class order[j]
    permuted = calibrator.fit(name, logits[:, order], np.argsort(order)[labels])
    np.testing.assert_allclose(permuted.probabilities(new[:, order]), p[:, order], atol=2e-3)


@pytest.mark.parametrize("name", ["confusion_mix", "noise_layer", "dirichlet", "matrix"])
def test_it_is_close_to_ts_where_ts_is_the_truth(name):
    rng = np.random.default_rng(4)
    z = 2 * rng.standard_normal((7000, 10))
    labels = np.array([rng.choice(10, p=row) for row in softmax(z)])
    logits = 4 * z
    fit, ts = calibrator.fit(name, logits[:2000], labels[:2000]), fit_temperature(logits[:2000], labels[:2000])
    harm = nll(fit.logits(logits[2000:]), labels[2000:]) - nll(logits[2000:] / ts.T, labels[2000:])
    assert abs(harm) < 0.006


# Matrix scaling and Dirichlet calibration -----------------------------------------------------------------------------


def test_matrix_scaling_is_the_optimum_that_scipy_finds_at_its_strength():
    """BFGS without a gradient, on weights and biases of the raw logits; the strength with the least error wins."""
    logits, labels = drawn(300, 3)
    beta, spread = fit_temperature(logits, labels).beta, (logits - logits.mean(axis=1, keepdims=True)).std()

    def mapped(flat, z):
        V, b = np.split(flat, [9])
        return beta * z + (z - z.mean(axis=1, keepdims=True)) / spread @ V.reshape(3, 3) + b

    def objective(flat, strength):
        return nll(mapped(flat, logits), labels) + strength / 2 * float(flat @ flat) / len(labels)

    for strength in (3.0, 1e6):
        p = calibrator.fit("matrix", logits, labels, strengths=[strength]).probabilities(logits)
        peer = minimize(objective, np.zeros(12), args=(strength,), method="BFGS").x
        np.testing.assert_allclose(p, softmax(mapped(peer, logits)), atol=1e-3)
    turned = logits @ np.roll(np.eye(3), 1, axis=0)  # only a matrix undoes this
    best, weak = (calibrator.fit("matrix", turned, labels, strengths=each) for each in ([1e6, 3.0], [3.0]))
    assert best.nll == weak.nll < 0.7 * fit_temperature(turned, labels).nll
    for bad in ([], [0.0], [1.0, -1.0]):
        with pytest.raises(SpecError, match="at least one strength above 0"):
            calibrator.fit("matrix", logits, labels, strengths=bad)


def test_dirichlet_calibration_is_the_optimum_that_scipy_finds_at_its_strengths(monkeypatch):
    """BFGS without a gradient, on W and b of the log-probabilities themselves, from the identity."""
    logits, labels = confused(300, 3)
    log_p = np.log(softmax(logits))
    beta = fit_temperature(logits, labels).beta
    unit = max(1.0, (logits - logits.mean(axis=1, keepdims=True)).std())
    centre, away = log_p.mean(axis=0), ~np.eye(3, dtype=bool)

    def mapped(flat, x):
        W, b = np.split(flat, [9])
        return (x - centre) @ W.reshape(3, 3) + beta * centre + b

    def objective(flat, off, intercept):
        """The ridges act on weights of x / unit, i.e. unit times those of x."""
        W, b = flat[:9].reshape(3, 3), flat[9:]
        ridge = off * (unit * W[away]) ** 2, 0.3 * (unit * (np.diag(W) - beta)) ** 2, intercept * b**2
        return nll(mapped(flat, log_p), labels) + sum(each.sum() for each in ridge) / 2 / len(labels)

    for strengths in ((1.0, 100.0), (100.0, 1.0)):
        monkeypatch.setattr(dirichlet, "STRENGTHS", (strengths,))
        fit = calibrator.fit("dirichlet", logits, labels)
        peer = minimize(objective, np.r_[beta * np.eye(3).ravel(), np.zeros(3)], args=strengths, method="BFGS").x
        np.testing.assert_allclose(fit.probabilities(logits), softmax(mapped(peer, log_p)), atol=1e-3)


# The mixture with confusions, and the noise layer ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["confusion_mix", "noise_layer"])
def test_one_hot_logits_get_the_frequencies_of_labels(name):
    """Logits that show only the predicted class leave nothing else to learn."""
    top = np.repeat(np.arange(3), 4000)
    shares = np.array([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.25, 0.25, 0.5]])
    labels = np.concatenate([np.repeat(np.arange(3), np.round(4000 * row).astype(int)) for row in shares])
    p = calibrator.fit(name, 8 * np.eye(3)[top], labels).probabilities(8 * np.eye(3))
    np.testing.assert_allclose(p, shares, atol=0.005)


def test_the_mixture_has_the_least_leave_one_out_nll_of_a_fine_grid():
    """Every sample's counts are counted again without it."""
    logits, labels = confused(120, 3)
    top, n = logits.argmax(axis=1), 120
    best = (math.inf, 0.0, 0.0, 0.0)
    for prior in confusion_mix.PRIORS:
        C = np.empty(n)
        for i in range(n):
            others = (top == top[i]) & (np.arange(n) != i)
            C[i] = ((labels[others] == labels[i]).sum() + prior / 3) / (others.sum() + prior)
        for T in np.geomspace(0.3, 30, 300):
            likelihood = softmax(logits / T)[np.arange(n), labels]
            weights = np.linspace(1 / (n + 1), 1, 300)[:, None]
            values = -np.log((1 - weights) * likelihood + weights * C).mean(axis=1)
            best = min(best, (values.min(), T, weights[values.argmin(), 0], prior))
    _, T, weight, prior = best
    rows = np.stack(
        [(np.bincount(labels[top == a], minlength=3) + prior / 3) / ((top == a).sum() + prior) for a in range(3)]
    )
    expected = (1 - weight) * softmax(logits / T) + weight * rows[top]
    fit = calibrator.fit("confusion_mix", logits, labels)
    assert fit.converged
    np.testing.assert_allclose(fit.probabilities(logits), expected, atol=0.01)


def test_the_noise_layer_is_the_optimum_that_scipy_finds_at_its_strength(monkeypatch):
    """BFGS on log beta and the logits of Q, for the log-likelihood with its prior and a ridge towards TS."""
    logits, labels = confused(300, 3)
    n, prior = len(labels), np.full((3, 3), noise_layer.SPREAD / 3) + 10 * np.eye(3)
    monkeypatch.setattr(noise_layer, "STRENGTHS", (10.0,))

    def objective(flat):
        p, Q = softmax(math.exp(flat[0]) * logits), softmax(flat[1:].reshape(3, 3))
        likelihood = (p * Q.T[labels]).sum(axis=1)
        ridge = 0.3 / 2 * (flat[0] - log_beta) ** 2
        return (ridge - np.log(likelihood).sum() - (prior * np.log(Q)).sum()) / n

    log_beta = math.log(fit_temperature(logits, labels).beta)
    start = np.r_[log_beta, (3 * np.eye(3)).ravel()]
    peer = minimize(objective, start, method="BFGS").x
    expected = softmax(math.exp(peer[0]) * logits) @ softmax(peer[1:].reshape(3, 3))
    np.testing.assert_allclose(calibrator.fit("noise_layer", logits, labels).probabilities(logits), expected, atol=1e-3)


# Calibrators of other libraries ---------------------------------------------------------------------------------------


@extra
@pytest.mark.parametrize("k", [2, 4])
def test_a_librarys_calibrator_is_that_of_its_class_with_its_options(k):
    from netcal.binning import HistogramBinning
    from probmetrics.calibrators import MixtureCalibrator, TemperatureScalingCalibrator

    (logits, labels), new = drawn(500, k), drawn(200, k, seed=1)[0]
    peer = HistogramBinning(bins=7)
    peer.fit(softmax(logits), labels)
    expected = peer.transform(softmax(new)).reshape(200, -1)[:, -1]  # of two classes, only the second
    fit = calibrator.fit(HISTOGRAM, logits, labels, bins=7)
    np.testing.assert_allclose(fit.probabilities(new)[:, -1], expected, atol=1e-12)
    mixture = MixtureCalibrator(TemperatureScalingCalibrator(), output_constant=2.0).fit(softmax(logits), labels)
    options = {"calibrator": "TemperatureScalingCalibrator", "output_constant": 2.0}
    fit = calibrator.fit("probmetrics/MixtureCalibrator", logits, labels, **options)
    np.testing.assert_allclose(fit.probabilities(new), mixture.predict_proba(softmax(new)), atol=1e-7)


@extra
@pytest.mark.parametrize(
    ("name", "options", "key", "expected"),
    [
        ("probmetrics/SMSCalibrater", {}, "calibrator", r"class in probmetrics \(did you mean 'SMSCalibrator'\?\)"),
        ("probmetrics/sms", {}, "calibrator", r"class in probmetrics \(did you mean 'SMSCalibrator'\?\)"),
        ("netcal/Histogram", {}, "calibrator", r"class in netcal \(did you mean 'HistogramBinning'\?\)"),
        ("torchcal/TS", {}, "calibrator", r"one of .*, probmetrics/NAME, netcal/NAME or module:object"),
        (HISTOGRAM, {"bin": 5}, "bin", r"one of the options of netcal/HistogramBinning: bins, .*did you mean 'bins'"),
    ],
)
def test_a_name_or_an_option_that_a_library_lacks_is_named(name, options, key, expected):
    with pytest.raises(SpecError, match=expected) as caught:
        calibrator.fit(name, *drawn(), **options)
    assert caught.value.key == key


@extra
def test_a_librarys_fit_that_fails_leaves_its_row_empty_with_the_reason():
    """The first takes only two classes, and the second needs a package of its own."""
    names = ("none", "probmetrics/BinaryLogisticCalibrator", "probmetrics/DirichletCalibrator", "gap")
    found = scored(names, 4)
    empty = found.metrics[found.metrics["value"].isna()]
    assert set(empty["calibrator"]) == set(names[1:3])
    assert len(empty) == len(found.metrics) / 2
    reasons = {fit["calibrator"]: fit.get("reason", "") for fit in found.fits}
    assert reasons[names[1]].startswith("ValueError: Invalid input shape: (200, 4)")
    assert "'dirichletcal' package is required" in reasons[names[2]]
    assert reasons["gap"] == ""
    logits, labels = drawn(200, 4)
    with pytest.raises(SpecError, match="calibrator = 'ValueError: Invalid input shape"):
        calibrator.fit(names[1], logits, labels).logits(logits)


@extra
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


def test_a_missing_package_is_named_with_its_extra_before_anything_is_fitted(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    expected = rf"calibrators = '{SMS}': expected its packages .*numba.: pip install \"halobench\[posthoc\]\""
    for fit in (
        lambda: calibrator.fit(SMS, *drawn()),
        lambda: calibrate({}, CalibrateSpec(("none", SMS)), 0),
    ):
        with pytest.raises(SpecError, match=expected):
            fit()
    assert calibrator.fit("gap", *drawn()).converged
