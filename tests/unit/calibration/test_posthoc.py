"""Calibrators other than TS: closed forms, invariances, and general-purpose optimisers on the same data."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from halobench.calibration import calibrator
from halobench.calibration.calibrate_cell import calibrate
from halobench.calibration.calibrators import confusion_mix, dirichlet
from halobench.calibration.calibrators.exact import fit_temperature
from halobench.calibration.scores.metric import ece, kl, nll
from halobench.calibration.scores.sample_scores import softmax
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs.calibrate import CalibrateSpec
from unit.calibration.builders import distorted, drawn

# The fits of a temperature have tests of their own, and auto is one of the others or TS.
OWN = [name for name in plugins.names("calibrators") if name not in ("auto", "exact", "paper")]


def plain_nll(logits: np.ndarray, labels: np.ndarray) -> float:
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()


# What holds for each --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_each_gives_distributions_and_calibrates_and_float32_changes_no_byte(name):
    logits, labels = distorted(400, 4, 4.0)
    new, answers = distorted(4000, 4, 4.0)
    narrow = logits.astype(np.float32)
    fit, wide = (calibrator.fit(name, z, labels) for z in (narrow, narrow.astype(float)))
    assert fit.logits(narrow).tobytes() == wide.logits(narrow.astype(float)).tobytes()
    p = fit.predict_proba(new)
    assert p.dtype == np.float64
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(softmax(fit.logits(new)), p, atol=1e-15)
    assert ece(p, answers, bins=10) < 0.5 * ece(softmax(new), answers, bins=10)
    assert fit.converged
    assert not fit.reason
    assert fit.nll == pytest.approx(nll(fit.logits(logits), labels), abs=0.02)  # of some, the leave-one-out NLL


@pytest.mark.parametrize("name", OWN)
def test_classes_that_validation_lacks_get_little_or_nothing(name):
    logits, labels = distorted(300, 5)
    seen = labels != 2
    fit = calibrator.fit(name, logits[seen], labels[seen])
    p = fit.predict_proba(logits)
    assert p[:, 2].mean() < softmax(logits)[:, 2].mean() or name in ("top_rest", "shrunk")
    assert nll(fit.logits(logits), labels) < math.inf


@pytest.mark.parametrize("name", ["dirichlet", "confusion_mix"])
def test_shifts_change_nothing_and_permuted_classes_permute_the_result(name):
    logits, labels = drawn(400, flips=0.2)
    new = drawn(100, seed=1)[0]
    p = calibrator.fit(name, logits, labels).predict_proba(new)
    shifted = calibrator.fit(name, logits + np.random.default_rng(2).normal(size=(400, 1)), labels)
    np.testing.assert_allclose(shifted.predict_proba(new - 7), p, atol=2e-3)
    order = np.array([2, 0, 3, 1])  # column j of the permuted logits is class order[j]
    permuted = calibrator.fit(name, logits[:, order], np.argsort(order)[labels])
    np.testing.assert_allclose(permuted.predict_proba(new[:, order]), p[:, order], atol=2e-3)


@pytest.mark.parametrize("name", OWN)
def test_it_is_close_to_ts_where_ts_is_the_truth(name):
    rng = np.random.default_rng(4)
    z = 2 * rng.standard_normal((2500, 5))
    p, labels = softmax(z[500:]), (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    assert kl(calibrator.fit(name, 4 * z[:500], labels[:500]).logits(4 * z[500:]), p) < 0.01


# Matrix scaling and Dirichlet calibration -----------------------------------------------------------------------------


def test_matrix_scaling_is_the_optimum_that_scipy_finds_at_its_strength():
    """BFGS without a gradient, on weights and biases of the raw logits; the strength with the least error wins."""
    logits, labels = distorted(120, 3)
    beta, spread = fit_temperature(logits, labels).beta, (logits - logits.mean(axis=1, keepdims=True)).std()

    def mapped(flat, z):
        V, b = np.split(flat, [9])
        return beta * z + (z - z.mean(axis=1, keepdims=True)) / spread @ V.reshape(3, 3) + b

    def objective(flat, strength):
        return plain_nll(mapped(flat, logits), labels) + strength / 2 * float(flat @ flat) / len(labels)

    for strength in (3.0, 1e6):
        p = calibrator.fit("matrix", logits, labels, strengths=[strength]).predict_proba(logits)
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
    logits, labels = drawn(120, 3, flips=0.2)
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
        return plain_nll(mapped(flat, log_p), labels) + sum(each.sum() for each in ridge) / 2 / len(labels)

    for strengths in ((1.0, 100.0), (100.0, 1.0)):
        monkeypatch.setattr(dirichlet, "STRENGTHS", (strengths,))
        fit = calibrator.fit("dirichlet", logits, labels)
        peer = minimize(objective, np.r_[beta * np.eye(3).ravel(), np.zeros(3)], args=strengths, method="BFGS").x
        np.testing.assert_allclose(fit.predict_proba(logits), softmax(mapped(peer, log_p)), atol=1e-3)


# The mixture with confusions ------------------------------------------------------------------------------------------


def test_one_hot_logits_get_the_frequencies_of_labels():
    """Logits that show only the predicted class leave nothing else to learn."""
    top = np.repeat(np.arange(3), 1000)
    shares = np.array([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.25, 0.25, 0.5]])
    labels = np.concatenate([np.repeat(np.arange(3), np.round(1000 * row).astype(int)) for row in shares])
    p = calibrator.fit("confusion_mix", 8 * np.eye(3)[top], labels).predict_proba(8 * np.eye(3))
    np.testing.assert_allclose(p, shares, atol=0.01)


def test_the_mixture_has_the_least_leave_one_out_nll_of_a_fine_grid():
    """Every sample's counts are counted again without it."""
    logits, labels = drawn(120, 3, flips=0.2)
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
    np.testing.assert_allclose(fit.predict_proba(logits), expected, atol=0.01)


def test_a_missing_package_is_named_with_its_extra_before_anything_is_fitted(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    name = "probmetrics/SMSCalibrator"
    for fit in (lambda: calibrator.fit(name, *drawn()), lambda: calibrate({}, CalibrateSpec(("none", name)), 0)):
        with pytest.raises(SpecError, match=r"numba; run pip install \"halobench\[posthoc\]\"") as caught:
            fit()
        assert str(caught.value).startswith(f"calibrators: {name} needs ")
