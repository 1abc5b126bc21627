"""The temperature that is shrunk towards 1: its formula, its limits, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from halobench.calibration.calibrators.exact import fit_exactly
from halobench.calibration.calibrators.shrunk import CLEAR_SCORE, FULL_SCORE, fit_shrunk
from halobench.calibration.repair.groups import Groups
from unit.calibration.builders import drawn, hard, plain_shrunk


@pytest.mark.parametrize("n", [20, 40, 80, 1000])
@pytest.mark.parametrize("scale", [0.1, 0.4, 1.0])
def test_it_is_that_of_plain_code(n, scale):
    z, y = drawn(n, 6, seed=n)
    assert fit_shrunk(scale * z, y).beta == pytest.approx(plain_shrunk(scale * z, y), rel=1e-6)


def test_it_is_1_without_evidence_and_the_best_one_with_much():
    weights = {}
    for n in (20, 100, 500, 4000):
        z, y = drawn(n, seed=2)
        fit = fit_shrunk(0.7 * z, y)
        best = fit_exactly(0.7 * z, y).beta
        weights[n] = fit.weight
        assert (fit.beta == 1) == (abs(fit.z) <= CLEAR_SCORE)
        assert (fit.beta == pytest.approx(best, rel=1e-12)) == (abs(fit.z) >= FULL_SCORE)
        assert min(1, best) <= fit.beta <= max(1, best)
    assert sorted(weights.values(), reverse=True) == list(weights.values())
    assert weights[4000] == 0
    calibrated, y = drawn(4000)
    assert fit_shrunk(calibrated / 3, y).beta == pytest.approx(1, abs=0.05)


def test_single_errors_change_nothing_however_large():
    z = 5 * np.eye(10)[np.arange(250) % 10]
    for errors in (1, 2):
        y = np.where(np.arange(250) < errors, (np.arange(250) + 1) % 10, np.arange(250) % 10)
        assert fit_shrunk(100 * z, y).beta == 1
    y = np.where(np.arange(250) < 20, (np.arange(250) + 1) % 10, np.arange(250) % 10)
    assert fit_shrunk(100 * z, y).beta < 0.02


@pytest.mark.parametrize("case", ["separable", "one class", "no logit stands out"])
def test_it_is_finite_on_any_data(case):
    z, y = hard(case)
    fit = fit_shrunk(z, y)
    assert 0 <= fit.beta < np.inf
    assert 0 <= fit.weight <= 1


def test_ruled_out_classes_are_like_very_unlikely_ones():
    z, y = drawn(60, 5, seed=3)
    low = z.min(axis=1)
    rare = (z == low[:, None]) & (np.arange(5) != y[:, None])
    masked, far = np.where(rare, -np.inf, z), np.where(rare, z - 1e4, z)
    a, b = fit_shrunk(masked, y), fit_shrunk(far, y)
    assert 0 < a.weight < 1
    assert (a.beta, a.z) == (pytest.approx(b.beta, rel=1e-6), pytest.approx(b.z, rel=1e-9))


def test_groups_of_copies_count_once():
    z, y = drawn(50, seed=4)
    rows = np.repeat(np.arange(50), 6)
    alone, known = fit_shrunk(z, y), fit_shrunk(z[rows], y[rows], Groups(rows, "given"))
    noticed = fit_shrunk(z[rows], y[rows], Groups.single(300, "copies", 6.0))
    for each in (known, noticed):
        assert (each.z, each.beta) == (pytest.approx(alone.z, rel=1e-9), pytest.approx(alone.beta, rel=1e-9))
    assert fit_shrunk(z[rows], y[rows]).z == pytest.approx(np.sqrt(6) * alone.z, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_temperature_that_is_right_is_rarely_made_worse(seed):
    """On calibrated logits of 50 samples, dividing by it costs more than .005 nats in few draws, unlike TS."""
    rng, worse = np.random.default_rng(seed), np.zeros(2)
    new = 2 * rng.normal(size=(2000, 5))
    p = np.exp(new) / np.exp(new).sum(axis=1, keepdims=True)

    def nll(beta: float) -> float:
        scores = beta * new
        return float((np.log(np.exp(scores).sum(axis=1)) - (p * scores).sum(axis=1)).mean())

    for _ in range(60):
        z = 2 * rng.normal(size=(50, 5))
        y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
        for i, beta in enumerate((fit_exactly(z, y).beta, fit_shrunk(z, y).beta)):
            worse[i] += nll(beta) > nll(1.0) + 0.005
    assert worse[0] > 15
    assert worse[1] <= 8
