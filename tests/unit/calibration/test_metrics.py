"""Metrics against closed forms, netcal, plain loops and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax

from halobench.calibration import metrics
from halobench.core.errors import SpecError

PROBABILITY_METRICS = {
    "error": metrics.error,
    "brier": metrics.brier,
    "ece": metrics.ece,
    "ace_average": metrics.ace,
    "ace_equal_mass": lambda p, t: metrics.ace(p, t, kind="equal_mass"),
    "mce": metrics.mce,
    "classwise_ece": metrics.classwise_ece,
}
LOGIT_METRICS = {"nll": metrics.nll, "kl": metrics.kl}


def sample(n: int = 700, k: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Over-confident logits, labels, and posterior rows."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n, k))
    posterior = scipy_softmax(z / 2, axis=1)
    labels = (posterior.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return z, labels, posterior


def two_class(confidence: list[float], correct: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of class 0 with these confidences, and labels by whether they are correct."""
    c = np.asarray(confidence)
    return np.stack([c, 1 - c], axis=1), 1 - np.asarray(correct)


# Proper scores


def test_softmax_equals_scipys_in_place_too():
    z, _, _ = sample()
    expected = scipy_softmax(z, axis=1)
    np.testing.assert_allclose(metrics.softmax(z), expected, rtol=1e-13)
    assert metrics.softmax(z, out=z) is z
    np.testing.assert_allclose(z, expected, rtol=1e-13)


def test_nll_and_kl_by_their_definitions():
    z, y, t = sample()
    logp = log_softmax(z, axis=1)
    np.testing.assert_allclose(metrics.nll_per_point(z, y), -logp[np.arange(len(y)), y], rtol=1e-12)
    np.testing.assert_allclose(metrics.nll_per_point(z, t), -(t * logp).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(metrics.kl_per_point(z, t), (t * (np.log(t) - logp)).sum(axis=1), atol=1e-13)
    assert metrics.kl(z, y) == metrics.nll(z, y)


def test_kl_of_the_posterior_to_itself_is_zero():
    z, _, _ = sample()
    assert metrics.kl(z, scipy_softmax(z, axis=1)) == pytest.approx(0, abs=1e-14)


def test_uniform_prediction_costs_log_k():
    z, y, t = sample()
    assert metrics.nll(np.zeros_like(z), y) == pytest.approx(math.log(6), rel=1e-14)
    assert metrics.nll(np.zeros_like(z), t) == pytest.approx(math.log(6), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_finite_at_a_logit_gap_of_a_thousand(dtype):
    z = np.array([[1000.0, 0.0, -1000.0], [0.0, 1000.0, 0.0]], dtype)
    assert metrics.nll_per_point(z, np.array([1, 1])).tolist() == [1000.0, 0.0]
    assert metrics.kl(z, np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])) == 1000.0
    p = metrics.softmax(z)
    assert all(math.isfinite(metric(p, np.array([0, 2]))) for metric in PROBABILITY_METRICS.values())


def test_minus_infinity_counts_only_where_the_target_has_mass():
    z = np.array([[0.0, 0.0, -math.inf]])
    assert metrics.nll(z, np.array([0])) == pytest.approx(math.log(2), rel=1e-15)
    assert metrics.nll(z, np.array([2])) == math.inf
    assert metrics.nll(z, np.array([[0.5, 0.5, 0.0]])) == pytest.approx(math.log(2), rel=1e-15)
    assert metrics.nll(z, np.array([[0.5, 0.4, 0.1]])) == math.inf
    assert metrics.kl(z, np.array([[0.5, 0.5, 0.0]])) == 0
    assert metrics.kl(z, np.array([[0.5, 0.4, 0.1]])) == math.inf
    assert metrics.softmax(z).tolist() == [[0.5, 0.5, 0.0]]


def test_brier_by_its_definition():
    z, y, t = sample()
    p = metrics.softmax(z)
    np.testing.assert_allclose(metrics.brier_per_point(p, y), ((p - np.eye(6)[y]) ** 2).sum(axis=1), atol=1e-14)
    expected = sum(t[:, j] * ((p - np.eye(6)[j]) ** 2).sum(axis=1) for j in range(6))
    np.testing.assert_allclose(metrics.brier_per_point(p, t), expected, atol=1e-14)


def test_proper_scores_are_least_at_the_posterior():
    z, _, t = sample()
    worse = metrics.softmax(z)
    assert metrics.brier(t, t) == pytest.approx(np.mean(1 - (t**2).sum(axis=1)), rel=1e-13)
    assert metrics.brier(t, t) < metrics.brier(worse, t)
    assert metrics.nll(np.log(t), t) < metrics.nll(z, t)


def test_error_and_its_expectation():
    z, y, t = sample()
    p = metrics.softmax(z)
    assert metrics.error(p, y) == np.mean(p.argmax(axis=1) != y)
    assert metrics.error(p, t) == pytest.approx(np.mean(1 - t[np.arange(len(t)), p.argmax(axis=1)]), rel=1e-14)


# Binned errors


def test_confidence_one_belongs_to_the_last_bin():
    p, y = two_class([0.95, 1.0], [1, 0])
    assert metrics.ece(p, y) == pytest.approx(0.475, abs=1e-15)
    found = metrics.reliability(p, y)
    assert found.count.tolist() == [0] * 14 + [2]
    assert found.accuracy[-1] == 0.5


def test_bins_are_closed_on_the_left():
    found = metrics.reliability(*two_class([0.5, 0.75, 0.75 - 1e-9], [1, 1, 1]), bins=4)
    assert found.count.tolist() == [0, 0, 2, 1]
    np.testing.assert_array_equal(found.lower, [0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(found.upper, [0.25, 0.5, 0.75, 1])


def test_binned_errors_by_hand():
    # In tenths: [.6, .6] with accuracy 1/2, [.9] with 1.
    p, y = two_class([0.62, 0.64, 0.93], [1, 0, 1])
    assert metrics.ece(p, y, bins=10) == pytest.approx((2 * 0.13 + 0.07) / 3, abs=1e-15)
    assert metrics.ace(p, y, bins=10) == pytest.approx((0.13 + 0.07) / 2, abs=1e-15)
    assert metrics.mce(p, y, bins=10) == pytest.approx(0.13, abs=1e-15)
    assert metrics.ace(p, y, bins=3, kind="equal_mass") == pytest.approx((0.38 + 0.64 + 0.07) / 3, abs=1e-15)
    assert metrics.ace(p, y, bins=1, kind="equal_mass") == pytest.approx(abs(2 / 3 - 0.73), abs=1e-15)


def test_reliability_by_a_plain_loop():
    z, y, t = sample()
    p = metrics.softmax(z)
    for targets in (y, t):
        found = metrics.reliability(p, targets, bins=15)
        confidence, predicted = p.max(axis=1), p.argmax(axis=1)
        rows = np.eye(6)[targets] if targets.ndim == 1 else targets
        for b in range(15):
            inside = (confidence >= b / 15) & (confidence < (b + 1) / 15)
            assert found.count[b] == inside.sum()
            if inside.any():
                assert found.confidence[b] == pytest.approx(confidence[inside].mean(), rel=1e-13)
                accuracy = rows[inside, predicted[inside]].mean()
                assert found.accuracy[b] == pytest.approx(accuracy, rel=1e-13)
            else:
                assert math.isnan(found.confidence[b])
                assert math.isnan(found.accuracy[b])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k", "bins"), [(700, 6, 15), (60, 3, 10), (3000, 40, 15), (25, 4, 7)])
def test_parity_with_netcal(n, k, bins, dtype):
    """ECE, MCE and netcal's ACE (our ``average``) to 1e-12, where confidences are off the edges.

    Exceptions, for which netcal has other numbers: confidences of 1.0 (it clips to 1 - eps, a change of up to 1.2e-7 in
    float32), k = 2 or labels of two classes alone (it bins P(class 1) instead of the confidence).
    """
    netcal = pytest.importorskip("netcal.metrics")
    z, y, _ = sample(n, k, seed=n)
    p = metrics.softmax(z).astype(dtype)
    confidence = p.max(axis=1)
    edges = np.linspace(0, 1, bins + 1)
    assert np.abs(confidence[:, None] - edges).min() > 1e-7  # the parity claimed holds off the edges
    exact = p.astype(np.float64)
    assert metrics.ece(p, y, bins) == pytest.approx(netcal.ECE(bins).measure(exact, y), abs=1e-12)
    assert metrics.mce(p, y, bins) == pytest.approx(netcal.MCE(bins).measure(exact, y), abs=1e-12)
    assert metrics.ace(p, y, bins) == pytest.approx(netcal.ACE(bins).measure(exact, y), abs=1e-12)


def classwise_by_loop(p: np.ndarray, targets: np.ndarray, bins: int) -> float:
    rows = np.eye(p.shape[1])[targets] if targets.ndim == 1 else targets
    edges = np.linspace(0, 1, bins + 1)
    errors = []
    for k in range(p.shape[1]):
        total = 0.0
        for b in range(bins):
            inside = (p[:, k] >= edges[b]) & ((p[:, k] < edges[b + 1]) | (b == bins - 1))
            total += abs((p[inside, k] - rows[inside, k]).sum())
        errors.append(total / len(p))
    return float(np.mean(errors))


@pytest.mark.parametrize("bins", [1, 2, 15, 100])
def test_classwise_ece_by_a_plain_loop(bins):
    for n, k in ((700, 6), (90, 2), (40, 30)):
        z, y, t = sample(n, k, seed=k)
        p = metrics.softmax(3 * z)
        p[0] = np.eye(k)[0]
        for targets in (y, t):
            assert metrics.classwise_ece(p, targets, bins) == pytest.approx(
                classwise_by_loop(p, targets, bins), abs=1e-13
            )


def test_expected_binned_errors_are_those_of_many_label_draws():
    # With a hundred copies of each point whose labels are in proportion to the posterior, expectation = frequency.
    rng = np.random.default_rng(2)
    z = 2 * rng.standard_normal((50, 4))
    shares = rng.multinomial(100, scipy_softmax(z / 2, axis=1))
    p = metrics.softmax(z)
    copies, labels = np.repeat(p, 100, axis=0), np.concatenate([np.repeat(np.arange(4), row) for row in shares])
    for name, metric in PROBABILITY_METRICS.items():
        if name != "ace_equal_mass":  # its groups differ: a hundred copies are cut elsewhere
            assert metric(p, shares / 100) == pytest.approx(metric(copies, labels), abs=1e-12), name
    assert metrics.nll(z, shares / 100) == pytest.approx(metrics.nll(np.repeat(z, 100, axis=0), labels), rel=1e-12)


def test_a_posterior_has_no_expected_calibration_error():
    _, _, t = sample()
    for name in ("ece", "ace_average", "ace_equal_mass", "mce", "classwise_ece"):
        assert PROBABILITY_METRICS[name](t, t) == pytest.approx(0, abs=1e-14), name


@pytest.mark.parametrize("name", [*PROBABILITY_METRICS, *LOGIT_METRICS])
@pytest.mark.parametrize("rows", [False, True])
def test_invariance_to_order_of_points_and_classes(name, rows):
    z, y, t = sample()
    z[::7] = z[0]  # tied confidences must not make the order of points count
    rng = np.random.default_rng(9)
    order, classes = rng.permutation(len(z)), rng.permutation(6)
    metric = PROBABILITY_METRICS.get(name) or LOGIT_METRICS[name]
    given = metrics.softmax(z) if name in PROBABILITY_METRICS else z
    targets = t if rows else y
    value = metric(given, targets)
    renamed = t[:, classes] if rows else np.argsort(classes)[y]
    assert metric(given[order], targets[order]) == pytest.approx(value, abs=1e-13)
    assert metric(given[:, classes], renamed) == pytest.approx(value, abs=1e-13)


@pytest.mark.parametrize("name", [*PROBABILITY_METRICS, *LOGIT_METRICS])
def test_labels_equal_one_hot_rows(name):
    z, y, _ = sample()
    metric = PROBABILITY_METRICS.get(name) or LOGIT_METRICS[name]
    given = metrics.softmax(z) if name in PROBABILITY_METRICS else z
    assert metric(given, y) == pytest.approx(metric(given, np.eye(6)[y]), abs=1e-13)


def test_equal_mass_groups_average_to_the_overall_gap_when_all_are_overconfident():
    # Every group too confident: the mean of absolute gaps is the gap of the means, whatever the groups (of equal size).
    p = np.stack([np.linspace(0.6, 0.9, 300), 1 - np.linspace(0.6, 0.9, 300)], axis=1)
    y = np.ones(300, int)
    assert metrics.ace(p, y, bins=10, kind="equal_mass") == pytest.approx(0.75, rel=1e-12)


def test_float32_probabilities_are_taken():
    z, y, _ = sample()
    p = metrics.softmax(z)
    assert metrics.ece(p.astype(np.float32), y) == pytest.approx(metrics.ece(p, y), abs=2e-2)
    assert metrics.brier(p.astype(np.float32), y) == pytest.approx(metrics.brier(p, y), abs=1e-6)


# Floors and intervals


def test_ece_floor_of_certain_predictions_is_zero():
    assert metrics.ece_floor(np.eye(3)[[0, 1, 2, 0]], 15, 10, np.random.default_rng(0)) == 0


def test_ece_floor_in_closed_form():
    # All n confidences are c, in one bin: E abs(Binomial(n, c) / n - c), which De Moivre gives as
    # 2 m C(n, m) c^m (1 - c)^(n - m + 1) / n with m the least integer above n c.
    n, c = 40, 0.7
    m = math.floor(n * c) + 1
    expected = 2 * m * math.comb(n, m) * c**m * (1 - c) ** (n - m + 1) / n
    p = np.tile([c, 1 - c], (n, 1))
    assert metrics.ece_floor(p, 15, 40_000, np.random.default_rng(1)) == pytest.approx(expected, rel=0.02)


def test_ece_floor_is_the_mean_ece_under_calibrated_labels():
    _, _, t = sample(n=200)
    rng = np.random.default_rng(4)
    drawn = [metrics.ece(t, (t.cumsum(axis=1) < rng.random((200, 1))).sum(axis=1).clip(max=5)) for _ in range(600)]
    floor = metrics.ece_floor(t, 15, 2000, rng)
    assert floor == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / math.sqrt(600))


def test_bootstrap_matches_the_normal_interval_of_a_mean():
    rng = np.random.default_rng(0)
    values = np.stack([rng.standard_normal(400), 5 + 2 * rng.random(400)], axis=1)
    low, high = metrics.bootstrap_intervals(values, 20_000, rng)
    half = 1.96 * values.std(axis=0) / 20
    np.testing.assert_allclose(low, values.mean(axis=0) - half, atol=0.05 * half.max())
    np.testing.assert_allclose(high, values.mean(axis=0) + half, atol=0.05 * half.max())


def test_bootstrap_shares_its_resamples():
    values = np.random.default_rng(0).standard_normal((50, 1))
    columns = np.concatenate([values, values + 3, -values, np.full((50, 1), 2.5)], axis=1)
    low, high = metrics.bootstrap_intervals(columns, 999, np.random.default_rng(1), level=0.9)
    alone = metrics.bootstrap_intervals(values, 999, np.random.default_rng(1), level=0.9)
    assert low[0] == pytest.approx(alone[0][0], abs=1e-15)
    assert (low[1], high[1]) == pytest.approx((low[0] + 3, high[0] + 3), abs=1e-12)
    assert low[3] == high[3] == 2.5


def test_bootstrap_of_infinite_values_is_infinite_and_never_nan():
    values = np.zeros((20, 2))
    values[3, 0] = math.inf
    low, high = metrics.bootstrap_intervals(values, 500, np.random.default_rng(0))
    # A resample misses a given point with probability (1 - 1/20)^20 = .36, so the lower end stays finite.
    assert low.tolist() == [0, 0]
    assert high.tolist() == [math.inf, 0]


def test_bootstrap_of_one_point_is_that_point():
    low, high = metrics.bootstrap_intervals(np.array([[3.0]]), 10, np.random.default_rng(0))
    assert low.tolist() == high.tolist() == [3.0]


# Bad input


@pytest.mark.parametrize("metric", PROBABILITY_METRICS.values(), ids=PROBABILITY_METRICS)
@pytest.mark.parametrize(
    ("probabilities", "targets", "key"),
    [
        (np.array([[2.0, 1.0]]), [0], "probabilities[0]"),
        (np.array([[1.5, -0.5]]), [0], "probabilities[0]"),
        (np.array([[0.5, 0.5], [math.nan, 0.5]]), [0, 1], "probabilities[1]"),
        (np.array([0.5, 0.5]), [0, 1], "probabilities"),
        (np.zeros((0, 2)), np.zeros(0, int), "probabilities"),
        (np.array([[0.5, 0.5]]), [2], "targets"),
        (np.array([[0.5, 0.5]]), [0, 1], "targets"),
        (np.array([[0.5, 0.5]]), [0.0], "targets"),
        (np.array([[0.5, 0.5]]), [[0.5, 0.6]], "targets[0]"),
    ],
)
def test_probability_metrics_name_bad_input(metric, probabilities, targets, key):
    with pytest.raises(SpecError) as caught:
        metric(probabilities, np.asarray(targets))
    assert caught.value.key == key


@pytest.mark.parametrize("metric", LOGIT_METRICS.values(), ids=LOGIT_METRICS)
@pytest.mark.parametrize("row", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_logit_metrics_refuse_what_has_no_softmax(metric, row):
    with pytest.raises(SpecError, match=r"logits\[1\]"):
        metric(np.array([[0.0, 0.0], row]), np.array([0, 0]))


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda p, y: metrics.ece(p, y, bins=0), "bins"),
        (lambda p, y: metrics.ece(p, y, bins=1.5), "bins"),
        (lambda p, y: metrics.ace(p, y, bins=0, kind="equal_mass"), "bins"),
        (lambda p, y: metrics.ace(p, y, kind="adaptive"), "kind"),
        (lambda p, y: metrics.ece_floor(p, 15, 0, np.random.default_rng(0)), "draws"),
        (lambda p, y: metrics.bootstrap_intervals(p, 0, np.random.default_rng(0)), "draws"),
        (lambda p, y: metrics.bootstrap_intervals(p, 5, np.random.default_rng(0), level=95), "level"),
        (lambda p, y: metrics.bootstrap_intervals(p[:, 0], 5, np.random.default_rng(0)), "values"),
        (lambda p, y: metrics.bootstrap_intervals(p * math.nan, 5, np.random.default_rng(0)), "values"),
    ],
)
def test_bad_options_are_named(call, key):
    with pytest.raises(SpecError) as caught:
        call(*two_class([0.7, 0.9], [1, 0]))
    assert caught.value.key == key
