"""Rivals of partner scaling: closed forms, other optimisers on the same objective, and invariances."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from halobench.calibration import calibrator, metrics
from halobench.calibration.calibrators import confusion_mix, dirichlet, noise_layer
from halobench.calibration.temperature_scaling import fit_temperature

INSTALLED = importlib.util.find_spec("probmetrics") is not None and importlib.util.find_spec("numba") is not None
OWN = ("dirichlet", "confusion_mix", "noise_layer")
RIVALS = [*OWN, pytest.param("svs", marks=pytest.mark.skipif(not INSTALLED, reason="needs the extra posthoc"))]


def confused(n: int = 400, k: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are three times too large, and labels a fifth of which are turned into the next class."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n, k))
    labels = np.array([rng.choice(k, p=row) for row in metrics.softmax(z)])
    return 3 * z, np.where(rng.random(n) < 0.2, (labels + 1) % k, labels)


@pytest.mark.parametrize("name", RIVALS)
def test_shifts_change_nothing_and_permuted_classes_permute_the_result(name):
    logits, labels = confused()
    new = confused(100, seed=1)[0]
    p = calibrator.fit(name, logits, labels).probabilities(new)
    shifted = calibrator.fit(name, logits + np.random.default_rng(2).normal(size=(400, 1)), labels)
    np.testing.assert_allclose(shifted.probabilities(new - 7), p, atol=2e-3)
    order = np.array([2, 0, 3, 1])  # column j of the permuted logits is class order[j]
    permuted = calibrator.fit(name, logits[:, order], np.argsort(order)[labels])
    np.testing.assert_allclose(permuted.probabilities(new[:, order]), p[:, order], atol=2e-3)


@pytest.mark.parametrize("name", ["confusion_mix", "noise_layer"])
def test_one_hot_logits_get_the_frequencies_of_labels(name):
    """Logits that show only the predicted class leave nothing else to learn."""
    top = np.repeat(np.arange(3), 4000)
    shares = np.array([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.25, 0.25, 0.5]])
    labels = np.concatenate([np.repeat(np.arange(3), np.round(4000 * row).astype(int)) for row in shares])
    p = calibrator.fit(name, 8 * np.eye(3)[top], labels).probabilities(8 * np.eye(3))
    np.testing.assert_allclose(p, shares, atol=0.005)


@pytest.mark.parametrize("name", ["confusion_mix", "noise_layer", "dirichlet"])
def test_it_is_close_to_ts_where_ts_is_the_truth(name):
    rng = np.random.default_rng(4)
    z = 2 * rng.standard_normal((7000, 10))
    labels = np.array([rng.choice(10, p=row) for row in metrics.softmax(z)])
    logits = 4 * z
    fit, ts = calibrator.fit(name, logits[:2000], labels[:2000]), fit_temperature(logits[:2000], labels[:2000])
    harm = metrics.nll(fit.logits(logits[2000:]), labels[2000:]) - metrics.nll(logits[2000:] / ts.T, labels[2000:])
    assert abs(harm) < 0.006


# Dirichlet calibration ------------------------------------------------------------------------------------------------


def test_dirichlet_calibration_is_the_optimum_that_scipy_finds_at_its_strengths(monkeypatch):
    """BFGS without a gradient, on W and b of the log-probabilities themselves, from the identity."""
    logits, labels = confused(300, 3)
    log_p = np.log(metrics.softmax(logits))
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
        return metrics.nll(mapped(flat, log_p), labels) + sum(each.sum() for each in ridge) / 2 / len(labels)

    for strengths in ((1.0, 100.0), (100.0, 1.0)):
        monkeypatch.setattr(dirichlet, "STRENGTHS", (strengths,))
        fit = calibrator.fit("dirichlet", logits, labels)
        peer = minimize(objective, np.r_[beta * np.eye(3).ravel(), np.zeros(3)], args=strengths, method="BFGS").x
        np.testing.assert_allclose(fit.probabilities(logits), metrics.softmax(mapped(peer, log_p)), atol=1e-3)


def test_dirichlet_calibration_finds_the_map_that_labels_were_drawn_from():
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.standard_normal((24000, 3))
    W, b = np.array([[0.8, 0.0, 0.3], [0.0, 0.5, 0.0], [0.4, 0.0, 1.0]]), np.array([0.5, 0.0, -0.5])
    truth = metrics.softmax(np.log(metrics.softmax(logits)) @ W + b)
    labels = np.array([rng.choice(3, p=row) for row in truth])
    p = calibrator.fit("dirichlet", logits[:20000], labels[:20000]).probabilities(logits[20000:])
    assert np.abs(p - truth[20000:]).mean() < 0.01


# The mixture with confusions ------------------------------------------------------------------------------------------


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
            likelihood = metrics.softmax(logits / T)[np.arange(n), labels]
            weights = np.linspace(1 / (n + 1), 1, 300)[:, None]
            values = -np.log((1 - weights) * likelihood + weights * C).mean(axis=1)
            best = min(best, (values.min(), T, weights[values.argmin(), 0], prior))
    _, T, weight, prior = best
    rows = np.stack(
        [(np.bincount(labels[top == a], minlength=3) + prior / 3) / ((top == a).sum() + prior) for a in range(3)]
    )
    expected = (1 - weight) * metrics.softmax(logits / T) + weight * rows[top]
    fit = calibrator.fit("confusion_mix", logits, labels)
    assert fit.converged
    np.testing.assert_allclose(fit.probabilities(logits), expected, atol=0.01)


# The noise layer ------------------------------------------------------------------------------------------------------


def test_the_noise_layer_is_the_optimum_that_scipy_finds_at_its_strength(monkeypatch):
    """BFGS on log beta and the logits of Q, for the log-likelihood with its prior and a ridge towards TS."""
    logits, labels = confused(300, 3)
    n, prior = len(labels), np.full((3, 3), noise_layer.SPREAD / 3) + 10 * np.eye(3)
    monkeypatch.setattr(noise_layer, "STRENGTHS", (10.0,))

    def objective(flat):
        p, Q = metrics.softmax(math.exp(flat[0]) * logits), metrics.softmax(flat[1:].reshape(3, 3))
        likelihood = (p * Q.T[labels]).sum(axis=1)
        ridge = 0.3 / 2 * (flat[0] - log_beta) ** 2
        return (ridge - np.log(likelihood).sum() - (prior * np.log(Q)).sum()) / n

    log_beta = math.log(fit_temperature(logits, labels).beta)
    start = np.r_[log_beta, (3 * np.eye(3)).ravel()]
    peer = minimize(objective, start, method="BFGS").x
    expected = metrics.softmax(math.exp(peer[0]) * logits) @ metrics.softmax(peer[1:].reshape(3, 3))
    np.testing.assert_allclose(calibrator.fit("noise_layer", logits, labels).probabilities(logits), expected, atol=1e-3)


def test_the_noise_layer_finds_the_transitions_that_labels_went_through():
    logits, labels = confused(20000)
    fit = calibrator.fit("noise_layer", logits, labels)
    certain = fit.probabilities(60 * np.eye(4))
    np.testing.assert_allclose(certain, 0.8 * np.eye(4) + 0.2 * np.roll(np.eye(4), 1, axis=1), atol=0.02)


# Structured vector scaling --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not INSTALLED, reason="needs the extra posthoc")
def test_structured_vector_scaling_is_the_optimum_that_scipy_finds():
    """BFGS without a gradient on the authors' objective, from smoothed TS in float64."""
    logits, labels = confused(300, 3)
    x = calibrator.fit("ts_mix", logits, labels).logits(logits)

    def objective(flat):
        return metrics.nll(x * flat[:3] + flat[3:], labels) + 3 / 300 * float(
            ((flat - np.repeat([1, 0], 3)) ** 2).sum()
        )

    peer = minimize(objective, np.repeat([1.0, 0.0], 3), method="BFGS").x
    fit = calibrator.fit("svs", logits, labels)
    np.testing.assert_allclose(fit.probabilities(logits), metrics.softmax(x * peer[:3] + peer[3:]), atol=2e-3)
