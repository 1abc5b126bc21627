"""Calibrators other than TS: closed forms, invariances, and independent implementations on the same data."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from conftest import needs
from halobench.calibration import calibrator, metrics
from halobench.calibration.calibrators import matrix_cv
from halobench.calibration.evaluate import calibrate
from halobench.calibration.temperature_scaling import fit_temperature
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs import CalibrateSpec

OWN = ("vector", "matrix_cv", "dirichlet", "isotonic", "histogram", "ensemble", "gap", "top_rest", "confusion_mix")
OWN += ("noise_layer", "partner", "local", "ts_mix")
INSTALLED = importlib.util.find_spec("probmetrics") is not None and importlib.util.find_spec("numba") is not None
# Calibrators that need the extra are tested where it is installed.
EACH = [
    pytest.param(name, marks=() if name in OWN or INSTALLED else pytest.mark.skip("needs the extra posthoc"))
    for name in plugins.names("calibrators")
]


def drawn(n: int = 600, k: int = 5, strength: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at 1 / strength the labels are drawn from, then distorted slightly per class."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.standard_normal((n, k))
    labels = np.array([rng.choice(k, p=row) for row in metrics.softmax(z)])
    return strength * z * rng.uniform(0.8, 1.2, k) + rng.normal(0, 0.3, k), labels


def calibrated_at(T: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels and probabilities of a sample whose label frequencies are exactly those at temperature T."""
    counts = np.random.default_rng(3).permutation(np.arange(1, 37)).reshape(12, 3)
    p = counts / counts.sum(axis=1, keepdims=True)
    times = counts.sum(axis=1)
    labels = np.concatenate([np.repeat(np.arange(3), row) for row in counts])
    return np.repeat(T * np.log(p), times, axis=0), labels, np.repeat(p, times, axis=0)


def test_the_extra_is_there_where_it_must_be():
    needs(INSTALLED, "the extra posthoc")


# Where TS is all that is needed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [0.4, 1.0, 6.0])
def test_vector_and_ensemble_are_ts_where_ts_is_the_truth(T):
    """The sample is its own model, so its entropy is the least NLL of any family that contains it."""
    logits, labels, p = calibrated_at(T)
    entropy = -(p * np.log(p)).sum(axis=1).mean()
    for name in ("vector", "ensemble"):
        fit = calibrator.fit(name, logits, labels)
        np.testing.assert_allclose(fit.probabilities(logits), p, atol=1e-6)
        assert fit.nll == pytest.approx(entropy, abs=1e-10)
        assert fit.converged
        assert not fit.separable
    # On other points too: the map was found, not just its values on the sample. (At T = 1 the members coincide.)
    new = np.random.default_rng(0).normal(size=(50, 3)) * 4
    for name in ("vector", "ensemble"):
        expected = metrics.softmax(new / T)
        np.testing.assert_allclose(calibrator.fit(name, logits, labels).probabilities(new), expected, atol=1e-5)


@pytest.mark.skipif(not INSTALLED, reason="needs the extra posthoc")
def test_matrix_leaves_alone_what_ts_has_calibrated():
    """At the truth its penalty and slope are zero, except for the mixture with uniform that it starts from."""
    logits, labels, p = calibrated_at(3.0)
    fit = calibrator.fit("matrix", logits, labels)
    np.testing.assert_allclose(fit.probabilities(logits), p, atol=0.01)


# Independent implementations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.3, 3.0, 30.0])
def test_vector_scaling_is_the_optimum_that_torch_finds(strength):
    """LBFGS on Guo's parametrisation in float64, with torch's own gradient, gives the same NLL and map."""
    torch = pytest.importorskip("torch")
    logits, labels = drawn(500, 5, strength)
    labels[::3] = np.random.default_rng(1).integers(5, size=len(labels[::3]))
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    weights, biases = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    parameters = [weights.requires_grad_(), biases.requires_grad_()]
    optimizer = torch.optim.LBFGS(parameters, max_iter=2000, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(z * weights + biases, y)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    fit = calibrator.fit("vector", logits, labels)
    expected = torch.softmax(z * weights + biases, dim=1).detach().numpy()
    np.testing.assert_allclose(fit.probabilities(logits), expected, atol=5e-5)
    assert fit.nll == pytest.approx(closure().item(), abs=1e-9)


def test_tuned_matrix_scaling_is_the_optimum_that_scipy_finds_at_its_strength(monkeypatch):
    """BFGS without a gradient, on weights and biases of the raw logits; the strength with the least error wins."""
    logits, labels = drawn(300, 3)
    beta, spread = fit_temperature(logits, labels).beta, (logits - logits.mean(axis=1, keepdims=True)).std()

    def mapped(flat, z):
        V, b = np.split(flat, [9])
        return beta * z + (z - z.mean(axis=1, keepdims=True)) / spread @ V.reshape(3, 3) + b

    def objective(flat, strength):
        return metrics.nll(mapped(flat, logits), labels) + strength / 2 * float(flat @ flat) / len(labels)

    fits = {}
    for strength in (3.0, 1e6):
        monkeypatch.setattr(matrix_cv, "STRENGTHS", (strength,))
        fits[strength] = calibrator.fit("matrix_cv", logits, labels).probabilities(logits)
        peer = minimize(objective, np.zeros(12), args=(strength,), method="BFGS").x
        np.testing.assert_allclose(fits[strength], metrics.softmax(mapped(peer, logits)), atol=1e-3)
    monkeypatch.setattr(matrix_cv, "STRENGTHS", (3.0, 1e6))
    turned = logits @ np.roll(np.eye(3), 1, axis=0)  # only a matrix undoes this
    best = calibrator.fit("matrix_cv", turned, labels)
    monkeypatch.setattr(matrix_cv, "STRENGTHS", (3.0,))
    assert best.nll == calibrator.fit("matrix_cv", turned, labels).nll < 0.7 * fit_temperature(turned, labels).nll


@pytest.mark.parametrize("k", [2, 5])
def test_isotonic_is_sklearns_calibrated_classifier(k):
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV

    frozen = pytest.importorskip("sklearn.frozen")

    class Given(ClassifierMixin, BaseEstimator):
        """A fitted classifier whose probabilities are its inputs."""

        def fit(self, X, y):
            self.classes_ = np.arange(k)
            return self

        def predict_proba(self, X):
            return X

        def predict(self, X):
            return X.argmax(axis=1)

    logits, labels = drawn(500, k)
    p, new = metrics.softmax(logits), metrics.softmax(drawn(200, k, seed=1)[0])
    given = frozen.FrozenEstimator(Given().fit(p, labels))
    peer = CalibratedClassifierCV(given, method="isotonic").fit(p, labels)
    ours = calibrator.fit("isotonic", logits, labels).probabilities(np.log(new))
    np.testing.assert_allclose(ours, peer.predict_proba(new), atol=1e-6)


def test_histogram_is_a_count_by_hand():
    logits, labels = drawn(600, 4)
    p = metrics.softmax(logits)
    expected = np.empty_like(p)
    for j in range(4):  # 600 distinct scores in 15 bins of 40
        order = np.argsort(p[:, j])
        for part in order.reshape(15, 40):
            expected[part, j] = (labels[part] == j).mean()
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(calibrator.fit("histogram", logits, labels).probabilities(logits), expected, atol=1e-12)


def test_equal_scores_share_a_bin():
    logits = np.repeat([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]], [50, 7, 8], axis=0)
    labels = np.r_[np.arange(50) % 2, [0] * 6, 1, [1] * 8]
    found = calibrator.fit("histogram", logits, labels).probabilities(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]))
    np.testing.assert_allclose(found, [[0.5, 0.5], [6 / 7, 1 / 7], [0, 1]], atol=1e-12)


def test_ensemble_is_the_best_of_a_fine_grid():
    logits, labels = drawn(300, 4, 4.0)
    wrong = np.random.default_rng(2).random(300) < 0.3
    labels = np.where(wrong, np.random.default_rng(3).integers(4, size=300), labels)
    T = fit_temperature(logits, labels).T
    members = [metrics.softmax(logits / T), metrics.softmax(logits), np.full((300, 4), 0.25)]
    seen = np.stack([member[np.arange(300), labels] for member in members], axis=1)
    steps = np.linspace(0, 1, 201)
    grid = [(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-12]
    values = -np.log(seen @ np.clip(grid, 0, 1).T).mean(axis=0)
    fit = calibrator.fit("ensemble", logits, labels)
    assert fit.nll <= values.min() + 1e-12
    assert fit.nll == pytest.approx(values.min(), abs=2e-5)
    best = np.array(grid[values.argmin()])
    np.testing.assert_allclose(
        fit.probabilities(logits), sum(w * m for w, m in zip(best, members, strict=True)), atol=0.01
    )


# What holds for each --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
def test_each_gives_the_same_bytes_again_also_for_float32_and_leaves_its_arguments_alone(name):
    logits, labels = drawn()
    logits = logits.astype(np.float32)
    kept = logits.copy(), labels.copy()
    first, again, wide = (calibrator.fit(name, z, labels).logits(z) for z in (logits, logits, logits.astype(float)))
    assert first.tobytes() == again.tobytes() == wide.tobytes()
    np.testing.assert_array_equal(logits, kept[0])
    np.testing.assert_array_equal(labels, kept[1])


@pytest.mark.parametrize("name", EACH)
def test_each_gives_distributions_and_calibrates(name):
    logits, labels = drawn(1000, 4, 4.0)
    new, answers = drawn(4000, 4, 4.0)
    fit = calibrator.fit(name, logits, labels)
    p = fit.probabilities(new)
    assert p.dtype == np.float64
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(metrics.softmax(fit.logits(new)), p, atol=1e-15)
    assert metrics.ece(p, answers) < 0.5 * metrics.ece(metrics.softmax(new), answers)
    assert metrics.brier(p, answers) < metrics.brier(metrics.softmax(new), answers)
    assert fit.converged
    assert math.isnan(fit.T)
    assert math.isnan(fit.beta)


def test_the_ensemble_keeps_predictions_whatever_its_weights():
    rng = np.random.default_rng(0)
    logits, labels = drawn(400, 6, 20.0)
    against = -np.eye(6)[labels] * 5 + rng.normal(size=(400, 6))  # the less likely a class, the larger its logit
    for z, y in ((logits, labels), (against, labels), (logits, rng.integers(6, size=400))):
        fit = calibrator.fit("ensemble", z, y)
        new = 30 * rng.normal(size=(500, 6))
        np.testing.assert_array_equal(fit.logits(new).argmax(axis=1), new.argmax(axis=1))
        np.testing.assert_array_equal(fit.probabilities(new).argmax(axis=1), new.argmax(axis=1))


@pytest.mark.parametrize("name", EACH)
def test_classes_that_validation_lacks_get_little_or_nothing(name):
    logits, labels = drawn(600, 5)
    there = labels != 2
    fit = calibrator.fit(name, logits[there], labels[there])
    p = fit.probabilities(logits)
    assert np.isfinite(p).all()
    assert fit.converged
    if name in ("isotonic", "histogram"):
        assert (p[:, 2] == 0).all()
        assert metrics.nll(fit.logits(logits), labels) == math.inf
    elif name in ("vector", "svs", "matrix", "matrix_cv", "dirichlet"):
        assert 0 < p[:, 2].max() < metrics.softmax(logits)[:, 2].max()
        assert np.isfinite(metrics.nll(fit.logits(logits), labels))
    else:
        assert np.isfinite(metrics.nll(fit.logits(logits), labels))


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("labels", [np.zeros(40, int), np.arange(40) % 3], ids=["one class", "all classes"])
def test_separable_data_have_no_optimum_or_a_finite_one(name, labels):
    logits = 4 * np.eye(3)[labels] + np.random.default_rng(0).uniform(-1, 1, (40, 3))
    fit = calibrator.fit(name, logits, labels)
    assert fit.separable == (name in ("vector", "ensemble"))
    if fit.separable:
        assert not fit.converged
        with pytest.raises(SpecError, match="finite optimum"):
            fit.logits(logits)
    else:
        p = fit.probabilities(logits)
        assert np.isfinite(p).all()
        right = (p.argmax(axis=1) == labels).mean()
        assert right == 1 or (name == "histogram" and right > 0.9)  # a bin may span the gap


@pytest.mark.parametrize("name", EACH)
def test_logits_that_tell_nothing_or_the_contrary_are_flattened(name):
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=400)
    one = calibrator.fit(name, np.array([[0.0, 1.0, 3.0]]), np.array([1]))  # one point is enough
    assert one.separable or np.isfinite(one.probabilities(np.array([[2.0, 1.0, 0.0]]))).all()
    for logits in (np.zeros((400, 4)), -5 * np.eye(4)[labels], 1e4 * rng.normal(size=(400, 4))):
        fit = calibrator.fit(name, logits, labels)
        p = fit.probabilities(logits)
        assert np.isfinite(p).all()
        assert fit.nll <= math.log(4) + 0.01


@pytest.mark.parametrize(
    ("logits", "labels", "key"),
    [
        (np.zeros((3, 1)), np.zeros(3, int), "logits"),
        (np.full((3, 2), np.nan), np.zeros(3, int), "logits[0]"),
        (np.zeros((3, 2)), np.zeros(4, int), "labels"),
        (np.zeros((3, 2)), np.full(3, 2), "labels[0]"),
        (np.zeros((3, 2)), np.full((3, 2), 0.5), "labels"),
    ],
)
def test_bad_arrays_are_named(logits, labels, key):
    with pytest.raises(SpecError) as caught:
        calibrator.fit("ts_mix", logits, labels)
    assert caught.value.key == key


def test_a_missing_package_is_named_with_its_extra_before_anything_is_fitted(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    expected = r"calibrators = 'matrix': expected its packages .*numba.: pip install --editable '\.\[posthoc\]'"
    for fit in (
        lambda: calibrator.fit("matrix", *drawn()),
        lambda: calibrate({}, CalibrateSpec(("none", "matrix")), 0),
    ):
        with pytest.raises(SpecError, match=expected):
            fit()
    assert calibrator.fit("histogram", *drawn()).converged
