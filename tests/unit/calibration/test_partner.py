"""Partner and top-versus-rest scaling: independent optimisers and libraries, invariances, bad cases, closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_expit, log_softmax, logsumexp

from halobench import fit_partner, fit_temperature, kl, nll
from halobench.calibration import calibrator
from halobench.calibration.calibrators import partner as partner
from halobench.calibration.repair import newton
from halobench.calibration.temperature.search import fit_smoothed
from halobench.theory import nearest_neighbour_kl, partner_kl
from unit.calibration.builders import nearest


def confused(n: int = 400, k: int = 6, seed: int = 0, share: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose top class, with probability `share`, is the label's partner: 0 and 1, 2 and 3, ..."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    top = np.where(rng.random(n) < share, np.minimum(labels ^ 1, k - 1), labels)
    return rng.normal(size=(n, k)) + 4 * rng.uniform(0.3, 1, (n, 1)) * np.eye(k)[top], labels


# The docstring's formulas, term by term -------------------------------------------------------------------------------


def log_parts(
    fit: partner.PartnerFit, z: np.ndarray, counts: np.ndarray, w: np.ndarray
) -> tuple[int, dict[int, float], np.ndarray]:
    """One row's top class a, log P(j | not a) by class j, and the four features, by loops and sums."""
    k, a = len(z), int(np.argmax(z))
    others = [j for j in range(k) if j != a]
    u = {j: fit.beta * (z[j] - z[a]) for j in others}
    gap = z[a] - max(z[j] for j in others)
    h = 2 * gap / (gap + fit.mean_gap)
    scores = {j: w[0] * u[j] + (w[1] + w[2] * h) * math.log(1 + (k - 1) * counts[a, j] / fit.prior) for j in others}
    total = logsumexp(list(scores.values()))
    log_p = {j: score - total for j, score in scores.items()}
    t = -logsumexp([fit.beta * (z[j] - z[a]) for j in others])
    return a, log_p, np.array([t, 1, h, sum(math.exp(log_p[j]) * u[j] for j in others)])


def counted(z: np.ndarray, labels: np.ndarray, symmetric: bool) -> np.ndarray:
    counts = np.zeros((z.shape[1], z.shape[1]))
    for top, label in zip(z.argmax(axis=1), labels, strict=True):
        if top != label:
            counts[top, label] += 1
            counts[label, top] += symmetric
    return counts


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_predictions_are_those_of_the_formula(share):
    logits, labels = confused(share=share)
    fit = fit_partner(logits, labels)
    np.testing.assert_array_equal(fit.confusions, counted(logits, labels, fit.symmetric))
    new = confused(30, seed=1)[0]
    for z, found in zip(new, fit.predict_proba(new), strict=True):
        a, log_p, features = log_parts(fit, z, fit.confusions, fit.which)
        odds = features @ fit.top + fit.classes[a]
        expected = [log_expit(odds) if j == a else log_expit(-odds) + log_p[j] for j in range(len(z))]
        np.testing.assert_allclose(found, np.exp(expected), atol=1e-12)


def test_the_numbers_are_those_that_scipy_finds_with_each_sample_really_left_out():
    logits, labels = confused(100, 5)
    fit = fit_partner(logits, labels)
    without = [counted(np.delete(logits, i, 0), np.delete(labels, i), fit.symmetric) for i in range(len(labels))]
    rows = list(zip(logits, labels, without, strict=True))
    u = fit.beta * (logits - logits.max(axis=1, keepdims=True))
    sizes = np.array([math.sqrt((u**2).sum() / (u.shape[0] * (u.shape[1] - 1))), 4, 4])

    def which(w: np.ndarray) -> float:
        terms = [log_parts(fit, z, counts, w)[1].get(y, 0.0) for z, y, counts in rows]
        return -sum(terms) + newton.RIDGE / 2 * float(((sizes * (w - [1, 0, 0])) ** 2).sum())

    tops = logits.argmax(axis=1)
    place = np.array([(tops[:i] == a).sum() for i, a in enumerate(tops)])
    folds = [counted(logits[place % 5 != f], labels[place % 5 != f], fit.symmetric) for f in range(5)]
    features = np.stack([log_parts(fit, z, folds[i % 5], fit.which)[2] for z, i in zip(logits, place, strict=True)])
    units = np.r_[np.sqrt((features**2).mean(axis=0)), np.full(5, math.sqrt(partner.CLASS_RIDGE / newton.RIDGE))]

    def odds(v: np.ndarray) -> np.ndarray:
        return features @ v[:4] + v[4:][tops]

    def top(v: np.ndarray) -> float:
        away = units * (v - np.r_[1, np.zeros(8)])
        return -float(log_expit(np.where(tops == labels, 1, -1) * odds(v)).sum()) + newton.RIDGE / 2 * float(
            away @ away
        )

    found = np.r_[fit.top, fit.classes]
    left_out = -float(log_expit(np.where(tops == labels, 1, -1) * odds(found)).sum())
    left_out -= sum(log_parts(fit, z, counts, fit.which)[1].get(y, 0.0) for z, y, counts in rows)
    assert fit.nll == pytest.approx(left_out / len(labels), abs=1e-10)
    for objective, weights in ((which, fit.which), (top, found)):
        peer = minimize(objective, weights + 0.3, method="BFGS", options={"gtol": 1e-5})
        np.testing.assert_allclose(weights, peer.x, atol=1e-4)
        assert objective(weights) <= peer.fun + 1e-9
    assert fit.converged
    assert 0 <= fit.excess < 1e-12


def test_the_certificate_bounds_what_is_left_to_gain():
    """A sum of logistic losses, deliberately stopped early, is within the bound of the true optimum."""
    rng = np.random.default_rng(0)
    x, signs = rng.normal(size=(50, 3)), rng.choice([-1, 1], 50)

    def objective(w: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        margins = signs * (x @ w)
        p = np.exp(log_expit(-margins))
        return -float(log_expit(margins).sum()), -(signs * p) @ x, (x * (p * (1 - p))[:, None]).T @ x

    centre, units = np.array([1.0, 0, -1]), np.array([2.0, 1, 0.5])
    best = newton.minimise(objective, centre, units)
    early = newton.minimise(objective, centre, units, np.full(3, 5.0), tolerance=0.5)
    assert best.excess < 1e-12
    assert 0 < early.value - best.value <= early.excess
    assert best.value <= objective(centre)[0]
    assert best.loss == pytest.approx(objective(best.weights)[0], abs=1e-12)


# What holds -----------------------------------------------------------------------------------------------------------


def test_what_must_not_matter_does_not():
    """Constants per row, the scale of logits, and class names don't. (The order of samples does: it sets the folds.)"""
    logits, labels = confused()
    rng, new = np.random.default_rng(1), confused(50, seed=2)[0]
    expected = fit_partner(logits, labels).predict_proba(new)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-12)
    shifted = fit_partner(logits + rng.normal(size=(len(logits), 1)), labels)
    np.testing.assert_allclose(shifted.predict_proba(new + 7), expected, atol=1e-7)
    np.testing.assert_allclose(fit_partner(30 * logits, labels).predict_proba(30 * new), expected, atol=1e-7)
    names = rng.permutation(logits.shape[1])
    renamed = fit_partner(logits[:, names], np.argsort(names)[labels]).predict_proba(new[:, names])
    np.testing.assert_allclose(renamed, expected[:, names], atol=1e-7)


@pytest.mark.parametrize(("k", "m"), [(8, 2), (32, 4)])
def test_it_reaches_the_closed_form_of_known_partners(k, m):
    """One-hot nearest neighbours, 200 samples per class: within .01 nats of the best map, far below TS."""
    logits, labels, _ = nearest(200 * k, k, m, 0.5)
    new, _, posterior = nearest(20_000, k, m, 0.5, seed=1)
    left = kl(np.log(fit_partner(logits, labels).predict_proba(new)), posterior)
    assert left == pytest.approx(partner_kl(k, 0.5, m), abs=0.012)
    assert left < nearest_neighbour_kl(k, 0.5, m) - 0.2


def test_a_one_way_confusion_is_found():
    """Class 0 is often the label where 1 is predicted, but never the reverse: symmetry is not assumed."""
    rng = np.random.default_rng(0)
    top = rng.integers(6, size=900)
    labels = np.where((top == 1) & (rng.random(900) < 0.5), 0, top)
    labels[:60] = rng.integers(6, size=60)
    fit = fit_partner(5 * np.eye(6)[top], labels)
    assert not fit.symmetric
    p = fit.predict_proba(5 * np.eye(6)[:2])
    assert p[1, 0] == pytest.approx(0.5, abs=0.15)
    assert p[0, 1] < 0.05


def bad_cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    logits, labels = confused(300, 6)
    rng = np.random.default_rng(0)
    hidden = logits - 99 * np.eye(6)[4]
    return {
        "never predicted": (hidden, labels),
        "never seen": (logits[labels != 2], labels[labels != 2]),
        "constant gap": (np.eye(6)[logits.argmax(axis=1)], labels),
        "two classes": confused(100, 2),
        "few samples": confused(8, 20),
        "one wrong sample": (np.array([[3.0, 1.0, 0.0]]), np.array([1])),
        "separable": (logits, logits.argmax(axis=1)),
        "separable but for ties": (np.repeat([[1.0, 1.0, 0.0], [0.0, 2.0, 0.0]], 5, axis=0), np.repeat([1, 1], 5)),
        "no gap": (np.zeros((50, 3)), np.arange(50) % 3),
        "reversed": (-5 * np.eye(6)[labels], labels),
        "huge": (1e160 * rng.normal(size=(60, 4)), rng.integers(4, size=60)),
        "tiny": (1e-160 * rng.normal(size=(60, 4)), rng.integers(4, size=60)),
    }


BOUNDED = ("partner", "matrix", "dirichlet", "top_rest", "confusion_mix")


@pytest.mark.parametrize("case", bad_cases())
@pytest.mark.parametrize("name", BOUNDED)
def test_bad_cases_have_a_finite_optimum(name, case):
    logits, labels = bad_cases()[case]
    fit = calibrator.fit(name, logits, labels)
    p = fit.predict_proba(logits)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
    assert fit.converged
    assert not fit.reason
    assert fit.nll <= math.log(logits.shape[1]) + 0.02
    if case == "separable":
        assert fit.nll < 0.1
    if name == "partner":  # a class that no sample was mistaken for is still possible
        assert nll(fit.logits(logits), np.zeros(len(logits), int)) < np.inf


# Top-versus-rest scaling ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 0.0])
def test_top_versus_rest_scaling_is_the_optimum_that_scipy_finds_and_knows_no_class_by_name(share):
    """BFGS on the formulas, row by row; renaming classes renames the probabilities."""
    logits, labels = confused(300, 5, share=share)
    ts = fit_temperature(logits, labels)
    beta = fit_smoothed(logits, labels) if ts.separable else ts.beta
    others = [np.delete(beta * (row - row.max()), row.argmax()) for row in logits]
    t = np.array([-logsumexp(row) for row in others])
    place = [np.delete(np.arange(5), row.argmax()).tolist() for row in logits]
    wrong = [(row, at.index(y)) for row, at, y in zip(others, place, labels, strict=True) if y in at]

    def which(w: np.ndarray) -> float:
        ridge = newton.RIDGE / 2 * (w[0] - 1) ** 2
        return ridge - sum(log_softmax(w[0] * row)[y] for row, y in wrong)

    def whether(v: np.ndarray) -> float:
        sign = np.where(labels == logits.argmax(axis=1), 1, -1)
        ridge = newton.RIDGE / 2 * ((t @ t / len(t)) * (v[0] - 1) ** 2 + v[1] ** 2)
        return ridge - log_expit(sign * (v[0] * t + v[1])).sum()

    w, v = (minimize(f, x, options={"gtol": 1e-9}).x for f, x in ((which, [1.0]), (whether, [1.0, 0.0])))
    p = calibrator.fit("top_rest", logits, labels).predict_proba(logits)
    expected = np.array(
        [
            np.insert(np.exp(log_softmax(w[0] * row) + log_expit(-odds)), at, np.exp(log_expit(odds)))
            for row, odds, at in zip(others, v[0] * t + v[1], logits.argmax(axis=1), strict=True)
        ]
    )
    np.testing.assert_allclose(p, expected, atol=2e-5)
    turned = np.random.default_rng(0).permutation(5)
    renamed = calibrator.fit("top_rest", logits[:, turned], np.argsort(turned)[labels])
    np.testing.assert_allclose(renamed.predict_proba(logits[:, turned]), p[:, turned], atol=1e-9)
