"""Local maps and their mixtures: exact cases, invariances, and what mixing never costs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from halobench import kl
from halobench.calibration import calibrator
from halobench.calibration.calibrators.partner import fit_checked
from halobench.calibration.repair import families, mixture
from halobench.calibration.scores.sample_scores import cross_entropy, softmax
from unit.calibration.builders import hard


def clusters(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits near six centres, labels, and the posterior, which differs between centres with the same top class."""
    rng = np.random.default_rng(seed)
    centres = np.array([[6, 0, 0], [6, 3, 0], [0, 6, 0], [0, 6, 3], [0, 0, 6], [3, 0, 6.0]])
    posterior = np.array([[1, 0, 0], [0.4, 0.6, 0], [0, 1, 0], [0, 0.3, 0.7], [0, 0, 1], [0.5, 0, 0.5]])
    which = rng.integers(6, size=n)
    labels = (rng.random((n, 1)) > posterior[which].cumsum(axis=1)).sum(axis=1)
    return centres[which] + 0.2 * rng.normal(size=(n, 3)), labels, posterior[which]


def test_where_logits_identify_regions_a_local_map_learns_them():
    z, y, _ = clusters(600)
    fresh, _, posterior = clusters(1000, 1)
    left = {name: kl(calibrator.fit(name, z, y).logits(fresh), posterior) for name in ("partner", "local")}
    assert left["local"] < left["partner"] / 2


@pytest.mark.parametrize("name", families.FAMILIES)
def test_each_family_ignores_shifts_and_scale_and_is_finite_far_away(name):
    z, y, _ = clusters(300)
    fresh = clusters(50, 1)[0]

    def fitted(logits: np.ndarray) -> families.Map:
        return families.fit_families(logits, y, y, 0, fit_checked, [name])[name]

    p, moved = softmax(fitted(z)(fresh)), fresh + np.arange(50)[:, None] % 4
    np.testing.assert_allclose(softmax(fitted(z + 7 * y[:, None])(moved)), p, atol=1e-6)
    for scale in (1e-200, 1e200):
        np.testing.assert_allclose(softmax(fitted(scale * z)(scale * fresh)), p, atol=0.01)
    assert np.isfinite(cross_entropy(fitted(z)(1e4 * fresh), np.zeros(50, int))).all()


@pytest.mark.parametrize("case", ["separable", "one class", "no logit stands out"])
def test_each_family_is_finite_on_hard_data(case):
    z, y = hard(case)
    for name, fitted in families.fit_families(z, y, y, 0, fit_checked).items():
        assert np.isfinite(softmax(fitted(z))).all(), name


def test_ranks_have_the_frequencies_of_the_labels_ranks():
    """Rows that are permutations of each other share a bin; 60% of the labels have the second rank, 40% the last."""
    rng = np.random.default_rng(4)
    z = rng.permuted(np.tile([3.0, 2.0, 1.0, 0.0], (500, 1)), axis=1)
    order = np.argsort(-z, axis=1)
    y = order[np.arange(500), np.where(np.arange(500) % 5 < 3, 1, 3)]
    (fitted,) = families.fit_families(z, y, y, 0, fit_checked, ["ranks"]).values()
    p = np.exp(fitted(z))
    np.testing.assert_allclose(np.take_along_axis(p, order, axis=1)[0], [0, 0.6, 0, 0.4], atol=0.001)
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_ranks_may_differ_between_bins():
    """The second rank is right below a gap of 1, and the first above it."""
    rng = np.random.default_rng(5)
    z, z_new = 2 * rng.normal(size=(2, 2000, 5))

    def label(z: np.ndarray) -> np.ndarray:
        order = np.argsort(-z, axis=1)
        gap = np.diff(-np.sort(-z, axis=1)[:, :2], axis=1)[:, 0]
        return order[np.arange(len(z)), (gap > -1).astype(int)]

    y = label(z)
    (fitted,) = families.fit_families(z, y, y, 0, fit_checked, ["ranks"]).values()
    assert (fitted(z_new).argmax(axis=1) == label(z_new)).mean() > 0.95


def test_neighbours_of_tied_logits_are_all_that_tie():
    """One-hot logits: the average is over the class, shrunk towards partner scaling."""
    y = np.tile([0, 0, 0, 1, 2, 2, 2, 2], 50)
    z = 5 * np.eye(3)[np.tile([0, 0, 0, 0, 2, 2, 2, 2], 50)]
    (fitted,) = families.fit_families(z, y, y, 0, fit_checked, ["neighbours"]).values()
    np.testing.assert_allclose(np.exp(fitted(z[:1]))[0], [0.75, 0.25, 0], atol=0.02)


def test_posteriors_as_targets_are_averaged_as_they_are():
    z, labels, posterior = clusters(300)
    for name in ("neighbours", "trees"):
        (fitted,) = families.fit_families(z, posterior, labels, 0, fit_checked, [name]).values()
        assert kl(fitted(z), posterior) < 0.02, name


@pytest.mark.parametrize("known", [True, False])
def test_the_weights_of_a_mixture_are_the_best(known):
    """Compared with a general-purpose optimiser on the simplex."""
    rng = np.random.default_rng(3)
    p = softmax(rng.normal(size=(3, 400, 4)).reshape(-1, 4)).reshape(3, 400, 4)
    targets = 0.7 * p[0] + 0.3 * p[1] if known else rng.integers(4, size=400)
    found = mixture.weights(p, targets)

    def nll(raw: np.ndarray) -> float:
        return cross_entropy(np.log(np.tensordot(softmax(raw[None])[0], p, 1)), targets).mean()

    best = minimize(nll, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000})
    assert nll(np.log(found)) <= best.fun + 1e-4
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("n", [1, 12])
def test_tiny_and_separable_data_have_a_finite_fit(n):
    """Below ten samples, no weights are fitted."""
    z = 9 * np.eye(3)[np.arange(n) % 3]
    fitted = calibrator.fit("local", z, np.arange(n) % 3)
    assert np.isfinite(fitted.nll)
    assert np.isfinite(fitted.predict_proba(np.random.default_rng(0).normal(size=(9, 3)))).all()
