"""Metrics against closed forms, netcal, plain loops and invariances."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax

from halobench.calibration import arrays, metrics
from halobench.calibration.paper_fit import fit_released
from halobench.calibration.temperature_scaling import fit_temperature
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
FITS = {"exact": fit_temperature, "released": fit_released}


def sample(n: int = 700, k: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Over-confident logits, labels, and posterior rows."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n, k))
    posterior = scipy_softmax(z / 2, axis=1)
    labels = (posterior.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return z, labels, posterior


def two_class(confidence: list[float], correct: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of class 0 with these confidences, and labels that make them correct or not."""
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


def test_error_and_its_expectation():
    z, y, t = sample()
    p = metrics.softmax(z)
    assert metrics.error(p, y) == np.mean(p.argmax(axis=1) != y)
    assert metrics.error(p, t) == pytest.approx(np.mean(1 - t[np.arange(len(t)), p.argmax(axis=1)]), rel=1e-14)


# Binned errors


def test_binned_errors_by_hand():
    # In bins of a tenth: [.6, .6] with accuracy 1/2 and [.9] with accuracy 1.
    p, y = two_class([0.62, 0.64, 0.93], [1, 0, 1])
    assert metrics.ece(p, y, bins=10) == pytest.approx((2 * 0.13 + 0.07) / 3, abs=1e-15)
    assert metrics.ace(p, y, bins=3, kind="equal_mass") == pytest.approx((0.38 + 0.64 + 0.07) / 3, abs=1e-15)
    assert metrics.ace(p, y, bins=1, kind="equal_mass") == pytest.approx(abs(2 / 3 - 0.73), abs=1e-15)
    ties = two_class([0.7, 0.7, 0.9], [1, 0, 1])  # ties share their mean correctness
    assert metrics.ace(*ties, bins=3, kind="equal_mass") == pytest.approx((2 * 0.2 + 0.1) / 3, abs=1e-15)
    # Bins are closed on the left, and the last one also contains 1.
    found = metrics.reliability(*two_class([0.5, 0.75, 0.75 - 1e-9, 1.0], [1, 1, 1, 0]), bins=4)
    assert found.count.tolist() == [0, 0, 2, 2]
    assert found.accuracy[2:].tolist() == [1, 0.5]
    np.testing.assert_array_equal(found.lower, [0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(found.upper, [0.25, 0.5, 0.75, 1])


def plain_bins(confidence: np.ndarray, correct: np.ndarray, bins: int) -> dict[str, float]:
    """ECE, average calibration error and MCE, bin by bin; the last bin includes 1."""
    gaps, weights = [], []
    for b in range(bins):
        edges = np.linspace(0, 1, bins + 1)
        inside = (confidence >= edges[b]) & ((confidence < edges[b + 1]) | (b == bins - 1))
        if inside.any():
            gaps.append(abs(correct[inside].mean() - confidence[inside].mean()))
            weights.append(inside.mean())
    return {"ece": float(np.dot(gaps, weights)), "ace_average": float(np.mean(gaps)), "mce": max(gaps)}


def probabilities(kind: str, n: int, k: int) -> np.ndarray:
    """Rows that are random, sharp with ties, certain, uniform, or without mass on one class."""
    rng = np.random.default_rng(k)
    if kind == "certain":
        return np.eye(k)[rng.integers(k, size=n)]
    z = {"uniform": 0, "drawn": 2, "masked": 4, "sharp": 2}[kind] * rng.standard_normal((n, k))
    if kind == "sharp":
        z[::3] = np.sign(z[::3]) * 1e4
    if kind == "masked":
        z[:, 0] = -np.inf
    return metrics.softmax(z)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("kind", "n", "k"),
    [
        ("drawn", 1, 2),
        ("drawn", 500, 2),
        ("drawn", 9000, 10),
        ("drawn", 300, 300),
        ("sharp", 300, 6),
        ("certain", 200, 4),
        ("uniform", 200, 3),
        ("masked", 300, 5),
    ],
)
@pytest.mark.parametrize("bins", [1, 15])
@pytest.mark.parametrize("soft", [False, True])
def test_binned_errors_are_those_of_plain_code(kind, n, k, dtype, bins, soft):
    p = probabilities(kind, n, k).astype(dtype)
    targets = np.random.default_rng(1).integers(k, size=n)
    if soft:
        targets = np.random.default_rng(1).dirichlet(np.ones(k), size=n)
    points, top = np.arange(n), p.argmax(axis=1)
    rows = targets if soft else np.eye(k)[targets]
    expected = plain_bins(p[points, top].astype(np.float64), rows[points, top], bins)
    found = metrics.gap_errors(metrics.reliability(p, targets, bins))
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-14)
    alone = {"ece": metrics.ece, "ace_average": metrics.ace, "mce": metrics.mce}
    assert found == {name: function(p, targets, bins) for name, function in alone.items()}
    classes = [plain_bins(p[:, c].astype(np.float64), rows[:, c], bins)["ece"] for c in range(k)]
    assert metrics.classwise_ece(p, targets, bins) == pytest.approx(np.mean(classes), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k", "bins"), [(3000, 40, 15), (25, 4, 7)])
def test_parity_with_netcal(n, k, bins, dtype):
    """ECE, MCE and netcal's ACE (our ``average``) agree to 1e-12 if no confidence is on a bin edge.

    netcal gives other numbers in these cases: confidences of 1.0 (it clips to 1 - eps, a change of up to 1.2e-7 in
    float32), and k = 2 or labels of only two classes (it bins P(class 1) instead of the confidence).
    """
    netcal = pytest.importorskip("netcal.metrics")
    z, y, _ = sample(n, k, seed=n)
    p = metrics.softmax(z).astype(dtype)
    confidence = p.max(axis=1)
    edges = np.linspace(0, 1, bins + 1)
    assert np.abs(confidence[:, None] - edges).min() > 1e-7  # parity is claimed only off the edges
    exact = p.astype(np.float64)
    assert metrics.ece(p, y, bins) == pytest.approx(netcal.ECE(bins).measure(exact, y), abs=1e-12)
    assert metrics.mce(p, y, bins) == pytest.approx(netcal.MCE(bins).measure(exact, y), abs=1e-12)
    assert metrics.ace(p, y, bins) == pytest.approx(netcal.ACE(bins).measure(exact, y), abs=1e-12)


@pytest.mark.parametrize("name", [*PROBABILITY_METRICS, *LOGIT_METRICS])
def test_invariance_to_order_of_points_and_classes_and_to_one_hot_rows(name):
    z, y, t = sample()
    z[::7] = z[0]  # with tied confidences, the order of points must not matter
    rng = np.random.default_rng(9)
    order, classes = rng.permutation(len(z)), rng.permutation(6)
    metric = PROBABILITY_METRICS.get(name) or LOGIT_METRICS[name]
    given = metrics.softmax(z) if name in PROBABILITY_METRICS else z
    assert metric(given, np.eye(6)[y]) == pytest.approx(metric(given, y), abs=1e-13)
    for targets, renamed in ((y, np.argsort(classes)[y]), (t, t[:, classes])):
        value = metric(given, targets)
        assert metric(given[order], targets[order]) == pytest.approx(value, abs=1e-13)
        assert metric(given[:, classes], renamed) == pytest.approx(value, abs=1e-13)


def test_soft_targets_of_few_digits_are_added_up_in_many():
    """A quarter and three quarters are exact in float16, but their sums over thousands of points aren't."""
    n = 32768
    p, t = np.tile([0.3, 0.7], (n, 1)), np.tile([0.25, 0.75], (n, 1))
    for dtype in (np.float16, np.float32):
        assert metrics.classwise_ece(p, t.astype(dtype)) == pytest.approx(0.05, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f4"])
def test_the_largest_of_each_row_is_predicted_whatever_the_type(dtype):
    """The error names a negative number hidden in a row that sums to 1; -0 never counts as the largest."""
    p = np.full((5, 4), 0.25, dtype=dtype)
    p[1] = [-0.0, 0.5, 0.5, -0.0]
    p[2] = [-0.0, 0.0, 0.0, 1.0]
    y = np.array([0, 1, 3, 0, 0])
    assert metrics.error(p, y) == 0
    assert np.array_equal(metrics.reliability(p, y, 4).count, [0, 3, 1, 1])
    p[3] = [1.25, -0.25, 0, 0]
    with pytest.raises(SpecError) as caught:
        metrics.ece(p, y)
    assert (caught.value.key, caught.value.value) == ("probabilities[3]", -0.25)


# Floors and intervals


def test_ece_floor_is_the_mean_ece_under_calibrated_labels():
    _, _, t = sample(n=200)
    rng = np.random.default_rng(4)
    drawn = [metrics.ece(t, (t.cumsum(axis=1) < rng.random((200, 1))).sum(axis=1).clip(max=5)) for _ in range(600)]
    floor = metrics.ece_floor(t, 15, 2000, rng)
    assert floor == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / math.sqrt(600))


@pytest.mark.parametrize(
    ("n", "draws", "level"),
    [(1, 5, 0.95), (50, 200, 0.95), (50, 100, 0.8), (1 << 17, 3, 0.95), ((1 << 17) + 1, 2, 0.95)],
)
def test_bootstrap_is_that_of_resampling_the_points(n, draws, level):
    """On the same draws, means agree up to rounding of a sum of n, and are inf where an infinite point was drawn."""
    values = np.random.default_rng(0).standard_normal((n, 3))
    values[:: max(n // 3, 1), 2] = np.inf
    rng = np.random.default_rng(7)
    means = np.array([values[rng.integers(n, size=n)].mean(axis=0) for _ in range(draws)])
    ranks = [math.ceil(round(draws * share, 9)) for share in ((1 - level) / 2, (1 + level) / 2)]
    expected = np.sort(means, axis=0)[np.array(ranks) - 1]
    found = metrics.bootstrap_intervals(values, draws, np.random.default_rng(7), level)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


# Bad input


def refusals(functions: dict, given: np.ndarray, targets: object) -> set[str]:
    """The keys in the functions' errors, each of which is one line."""
    keys = set()
    for function in functions.values():
        with pytest.raises(SpecError) as caught:
            function(given, np.asarray(targets))
        assert "\n" not in str(caught.value)
        keys.add(caught.value.key)
    return keys


@pytest.mark.parametrize(
    ("targets", "key"),
    [
        *((each, "targets") for each in ([0], [0.0, 1.0], [True, False], np.full((2, 2), 0.5))),
        ([0, 3], "targets[1]"),
        ([-1, 0], "targets[0]"),
        ([[1.0, 0, 0], [0.5, 0.4, 0.0]], "targets[1]"),
        ([[1.5, -0.5, 0], [1.0, 0.0, 0.0]], "targets[0]"),
        ([[math.nan, 0.5, 0.5], [1.0, 0.0, 0.0]], "targets[0]"),
    ],
)
def test_bad_targets_are_named(targets, key):
    assert refusals(PROBABILITY_METRICS, np.full((2, 3), 1 / 3), targets) == {key}
    assert refusals(LOGIT_METRICS | FITS, np.zeros((2, 3)), targets) == {key}


@pytest.mark.parametrize(
    ("logits", "targets", "key"),
    [
        ([[0.0, math.nan]], [0], "logits[0]"),
        ([[0.0, 1.0], [math.inf, 0.0]], [0, 1], "logits[1]"),
        ([[0.0, 1.0], [-math.inf, -math.inf]], [0, 1], "logits[1]"),
        (np.zeros(3), [0, 0, 0], "logits"),
        (np.zeros((3, 1)), [0, 0, 0], "logits"),
        (np.zeros((0, 3)), np.zeros(0, int), "logits"),
        ([["a", "b"]], [0], "logits"),
    ],
)
def test_what_has_no_softmax_is_named(logits, targets, key):
    assert refusals(LOGIT_METRICS | FITS, np.asarray(logits), targets) == {key}


@pytest.mark.parametrize(
    ("probabilities", "key"),
    [
        ([[2.0, 1.0]], "probabilities[0]"),
        ([[1.5, -0.5]], "probabilities[0]"),
        ([[0.5, 0.5], [math.nan, 0.5]], "probabilities[1]"),
        ([0.5, 0.5], "probabilities"),
        (np.zeros((0, 2)), "probabilities"),
    ],
)
def test_what_are_no_probabilities_is_named(probabilities, key):
    given = np.asarray(probabilities)
    assert refusals(PROBABILITY_METRICS, given, np.zeros(len(given), int)) == {key}


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [2, 100, 600, 5000])
def test_rows_pass_or_fail_by_their_sum_alone(k, dtype):
    """On both sides of the tolerance, where sums by products are too coarse, the exact sum decides."""
    rng = np.random.default_rng(0)
    base = rng.dirichlet(np.ones(k))
    for off in (0, 3e-5, 0.9e-4, 0.99e-4, 0.9999e-4, 1.0001e-4, 1.01e-4, 1.1e-4, 1e-3, 1.0):
        for sign in (-1, 1):
            rows = np.tile(base, (3, 1))
            rows[1] *= 1 + sign * off
            rows = rows.astype(dtype)
            if (np.abs([math.fsum(row) - 1 for row in rows.astype(np.float64)]) <= arrays.SUM_TOLERANCE).all():
                assert arrays.check_rows(rows, "rows") is rows
            else:
                with pytest.raises(SpecError) as caught:
                    arrays.check_rows(rows, "rows")
                assert caught.value.key == "rows[1]"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.25])
def test_a_bad_row_of_a_later_block_is_named_without_a_warning(bad):
    n = 3 * arrays.BLOCK // 100
    p, row, y = np.full((n, 100), 0.01), n - 5, np.zeros(n, int)
    p[row, 3:5] = [bad, -bad]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, function in PROBABILITY_METRICS.items():
            with pytest.raises(SpecError) as caught:
                function(p, y)
            assert caught.value.key == f"probabilities[{row}]", name
    if math.isfinite(bad):
        return
    z = np.zeros((n, 100))
    z[row, 3] = bad
    with pytest.raises(SpecError, match=rf"logits\[{row}\]"):
        arrays.check_logits(z)
    if bad == -math.inf:
        assert arrays.check_logits(z, masked=True) is z
    z[row] = bad  # -inf is accepted only next to a finite logit
    for function in (metrics.nll, metrics.kl, fit_temperature, fit_released):
        with pytest.raises(SpecError) as caught:
            function(z, y)
        assert caught.value.key == f"logits[{row}]"
