"""Closed forms against independent computations: full rows of k logits, direct minimisation, and sampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp

from halobench.calibration.overlap_theory import (
    mixup_kl_bound,
    nearest_neighbour_kl,
    partner_kl,
    posterior_entropy,
    two_level_kl,
    uniform_kl,
)
from halobench.core.errors import SpecError
from halobench.data.distribution import overlap_regions

pytestmark = pytest.mark.theory


def expected_kl(logits: np.ndarray, posterior: np.ndarray, mass: np.ndarray) -> float:
    """E KL(posterior || softmax(logits)) over weighted rows, term by term."""
    log_q = logits - logsumexp(logits, axis=1, keepdims=True)
    terms = np.where(posterior > 0, posterior * (np.log(np.where(posterior > 0, posterior, 1)) - log_q), 0)
    return float(mass @ terms.sum(axis=1))


def minimised(logits: np.ndarray, posterior: np.ndarray, mass: np.ndarray) -> float:
    """The least `expected_kl` over temperatures, found by a scan and Brent's method."""

    def at(t: float) -> float:
        return expected_kl(t * logits, posterior, mass)

    scanned = np.concatenate([[0.0], np.geomspace(1e-4, 1e4, 300)])
    best = int(np.argmin([at(t) for t in scanned]))
    low, high = scanned[max(best - 1, 0)], scanned[min(best + 1, len(scanned) - 1)]
    return min(at(0.0), minimize_scalar(at, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).fun)


def one_group(k: int, m: int, beta: float, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior rows and masses that represent the whole distribution: one own region and m shared ones.

    In the i-th shared row the model puts class i of the group on top.
    """
    posterior = np.zeros((1 + m, k))
    posterior[0, 0] = 1
    posterior[1:, :m] = shares
    return posterior, np.concatenate([[1 - beta], beta * shares])


@pytest.mark.parametrize("shares", [None, (0.5, 0.3, 0.2)])
@pytest.mark.parametrize("k", [6, 120])
def test_one_nearest_neighbour_against_one_hot_rows(k, shares):
    m = len(shares or (1, 1))
    p = np.array(shares or (0.5, 0.5))
    posterior, mass = one_group(k, m, 0.4, p)
    logits = np.zeros((1 + m, k))
    logits[0, 0] = 1
    logits[1 + np.arange(m), np.arange(m)] = 1  # the nearest point's label, drawn from the shares
    given = None if shares is None else p
    assert nearest_neighbour_kl(k, 0.4, m, given) == pytest.approx(minimised(logits, posterior, mass), abs=1e-8)


CASES = [tuple(values) for values in np.random.default_rng(7).uniform(size=(15, 5))]


@pytest.mark.parametrize("draw", CASES)
def test_two_levels_against_direct_minimisation(draw):
    """The formula against rows of k logits minimised over t, with no step in common."""
    m, groups = 2 + int(draw[0] * 4), 1 + int(draw[1] * 40)
    k, beta = m * groups, 0.05 + 0.9 * draw[2]
    top, own = 0.5 + 20 * draw[3], 0.2 + 25 * draw[4]
    partner = top * (1.6 * draw[0] % 1)
    posterior, mass = one_group(k, m, beta, np.full(m, 1 / m))
    logits = np.zeros((1 + m, k))
    logits[0, 0] = own
    for row in range(m):
        logits[1 + row, :m] = partner
        logits[1 + row, row] = top
    found = two_level_kl(k, beta, m, own, top, partner)
    assert found == pytest.approx(minimised(logits, posterior, mass), abs=1e-8)
    assert two_level_kl(k, beta, m, 3 * own, 3 * top, 3 * partner) == pytest.approx(found, abs=1e-9), (
        "only ratios matter"
    )


@pytest.mark.parametrize("beta", [0.1, 0.9])
@pytest.mark.parametrize(("k", "m", "shares"), [(8, 2, None), (32, 4, None), (6, 6, None), (12, 3, (0.5, 0.3, 0.2))])
def test_known_partners_against_direct_minimisation(k, m, shares, beta):
    """Compares with the best answer to each neighbour's label, found without the formula."""
    p = np.full(m, 1 / m) if shares is None else np.array(shares)
    found = partner_kl(k, beta, m, shares if shares is None else p)
    entropy = -beta * float(p @ np.log(p))
    total = 0.0
    for a in range(m):
        target = beta * p[a] * p + (1 - beta) / m * np.eye(m)[a]
        # An answer to a: logits of the group's classes, the last of which is 0; other classes get no mass.

        def nll(logits: np.ndarray, target: np.ndarray = target) -> float:
            row = np.append(logits, 0.0)
            return float(-target @ (row - logsumexp(row)))

        total += minimize(nll, np.zeros(m - 1), tol=1e-14, options={"gtol": 1e-10}).fun
    assert found == pytest.approx(total - entropy, abs=1e-8)
    if shares is None:
        b = beta * (m - 1) / m
        closed = -b * np.log(b) - (1 - b) * np.log(1 - b) + b * np.log(m - 1) - beta * np.log(m)
        assert found == pytest.approx(closed, abs=1e-12)
        assert nearest_neighbour_kl(k, beta, m) - found == pytest.approx(b * np.log((k - 1) / (m - 1)), abs=1e-12)


@pytest.mark.parametrize("own", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("rho", [0.0, 0.6])
@pytest.mark.parametrize(("beta", "m"), [(0.2, 2), (0.5, 4)])
def test_the_asymptote(rho, own, beta, m):
    """Within 2% at 2^40 classes; own regions that are less certain cost more, or force a lower temperature on both."""
    low, high = (two_level_kl(2.0**power, beta, m, own, 1, rho) for power in (39, 40))
    shortfall, ratio = beta * (1 - 1 / m) * (1 - rho), min(own, 1)
    slope = min((1 - beta) * (1 - ratio) + shortfall, shortfall / ratio)
    assert (high - low) / np.log(2) == pytest.approx(slope, rel=0.02)


def test_the_bound_of_ideal_mixup_holds_and_is_reached():
    """What other regions add to a mixed target costs most if it is on classes without mass in this region."""
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), size=(2, 200))
    for foreign in (0.0, 0.03, 0.6):
        bound = mixup_kl_bound(foreign)
        mixed = (1 - foreign) * p + foreign * q
        assert ((p * np.log(p / mixed)).sum(axis=1) <= bound + 1e-12).all()
        np.testing.assert_allclose((p * np.log(p / ((1 - foreign) * p))).sum(axis=1), bound, atol=1e-12)


def test_entropy_and_uniform_guess_and_that_values_broadcast():
    assert posterior_entropy(0.5, 2) == pytest.approx(0.5 * np.log(2))
    shares = np.array([0.9, 0.1])
    assert posterior_entropy(0.3, 2, shares) == pytest.approx(-0.3 * (shares * np.log(shares)).sum())
    regions = overlap_regions(8, 4, 0.5)
    assert uniform_kl(8, 0.5, 4) == pytest.approx(expected_kl(np.zeros((10, 8)), regions.posterior, regions.mass))
    rho = np.linspace(0, 1, 5)
    found = two_level_kl(np.array([[8], [64]]), 0.5, 2, 1.0, 1.0, rho)
    assert found.shape == (2, 5)
    assert found[1, 3] == pytest.approx(two_level_kl(64, 0.5, 2, 1.0, 1.0, 0.75))
    assert (np.diff(found, axis=1) < 0).all()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: nearest_neighbour_kl(9, 0.5, 2), "classes = 9.0: expected a multiple of group"),
        (lambda: nearest_neighbour_kl(8, 1.0, 2), r"beta = 1.0: expected a probability mass in \(0, 1\)"),
        (lambda: nearest_neighbour_kl(8, 0.5, 1), "group = 1.0: expected a whole number of at least 2"),
        (
            lambda: nearest_neighbour_kl(8, 0.5, 2, np.array([0.5, 0.6])),
            r"shares = \[0.5, 0.6\]: expected 2 shares above 0",
        ),
        (lambda: two_level_kl(8, 0.5, 2, 1, 1, 2), "partner_gap = 2.0: expected a gap of at most top_gap"),
        (lambda: two_level_kl(8, 0.5, 2, np.nan, 1, 0), "own_gap = nan: expected a finite gap"),
        (lambda: mixup_kl_bound(1.0), r"foreign = 1.0: expected a weight in \[0, 1\)"),
        (lambda: uniform_kl(7, 0.5, 3), "classes = 7.0: expected a multiple"),
    ],
)
def test_bad_values_are_named(call, told):
    with pytest.raises(SpecError, match=told):
        call()
