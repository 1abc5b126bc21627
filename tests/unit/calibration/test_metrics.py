"""Metrics against closed forms, plain loops and invariances."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax

from halobench import testing
from halobench.calibration import arrays
from halobench.calibration.calibrate_cell import calibrate
from halobench.calibration.calibrators.exact import fit_temperature
from halobench.calibration.calibrators.paper import fit_paper
from halobench.calibration.scores import metric, sample_scores
from halobench.calibration.scores.resampling import bootstrap_intervals, ece_floor
from halobench.calibration.scores.sample_scores import cross_entropy
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.codec import canonical, parse
from unit.calibration.builders import posterior_sample

LOGIT_METRICS = {"nll": metric.nll}
PROBABILITY_METRICS = {name: getattr(metric, name) for name in plugins.names("metrics") if name not in ("nll", "kl")}
FITS = {"exact": fit_temperature, "paper": fit_paper}


def two_class(confidence: list[float], correct: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of class 0 with these confidences, and labels that make them correct or not."""
    c = np.asarray(confidence)
    return np.stack([c, 1 - c], axis=1), 1 - np.asarray(correct)


# Proper scores


def test_softmax_equals_scipys_in_place_too():
    z, _, _ = posterior_sample()
    expected = scipy_softmax(z, axis=1)
    np.testing.assert_allclose(metric.softmax(z), expected, rtol=1e-13)
    assert metric.softmax(z, out=z) is z
    np.testing.assert_allclose(z, expected, rtol=1e-13)


def test_proper_scores_by_their_definitions():
    z, y, t = posterior_sample()
    p, logp, rows = metric.softmax(z), log_softmax(z, axis=1), np.arange(len(y))
    assert metric.nll(z, y) == pytest.approx(-logp[rows, y].mean(), rel=1e-12)
    assert metric.nll(z, t) == pytest.approx(-(t * logp).sum(axis=1).mean(), rel=1e-12)
    assert metric.kl(z, t) == pytest.approx((t * (np.log(t) - logp)).sum(axis=1).mean(), abs=1e-13)
    assert metric.brier(p, y) == pytest.approx(((p - np.eye(6)[y]) ** 2).sum(axis=1).mean(), abs=1e-14)
    expected = sum(t[:, j] * ((p - np.eye(6)[j]) ** 2).sum(axis=1) for j in range(6))
    assert metric.brier(p, t) == pytest.approx(expected.mean(), abs=1e-14)
    assert metric.error(p, y) == np.mean(p.argmax(axis=1) != y)
    assert metric.error(p, t) == pytest.approx(np.mean(1 - t[rows, p.argmax(axis=1)]), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_finite_at_a_logit_gap_of_a_thousand(dtype):
    z = np.array([[1000.0, 0.0, -1000.0], [0.0, 1000.0, 0.0]], dtype)
    assert cross_entropy(z, np.array([1, 1])).tolist() == [1000.0, 0.0]
    assert metric.kl(z, np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])) == 1000.0
    p = metric.softmax(z)
    assert all(math.isfinite(score(p, np.array([0, 2]))) for score in PROBABILITY_METRICS.values())


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("nll", [1.0, 0.0, 0.0], math.log(2)),
        ("nll", [0.5, 0.5, 0.0], math.log(2)),
        ("nll", [0.5, 0.4, 0.1], math.inf),
        ("kl", [0.5, 0.5, 0.0], 0),
        ("kl", [0.5, 0.4, 0.1], math.inf),
    ],
)
def test_minus_infinity_counts_only_where_the_target_has_mass(name, target, expected):
    z = np.array([[0.0, 0.0, -math.inf]])
    assert getattr(metric, name)(z, np.array([target])) == pytest.approx(expected, rel=1e-15)
    assert metric.softmax(z).tolist() == [[0.5, 0.5, 0.0]]


# Binned errors


def test_binned_errors_by_hand():
    # In bins of a tenth: [.6, .6] with accuracy 1/2 and [.9] with accuracy 1.
    p, y = two_class([0.62, 0.64, 0.93], [1, 0, 1])
    assert metric.ece(p, y, bins=10) == pytest.approx((2 * 0.13 + 0.07) / 3, abs=1e-15)
    assert metric.ace(p, y, bins=3, kind="equal_mass") == pytest.approx((0.38 + 0.64 + 0.07) / 3, abs=1e-15)
    assert metric.ace(p, y, bins=1, kind="equal_mass") == pytest.approx(abs(2 / 3 - 0.73), abs=1e-15)
    ties = two_class([0.7, 0.7, 0.9], [1, 0, 1])  # ties share their mean correctness
    assert metric.ace(*ties, bins=3, kind="equal_mass") == pytest.approx((2 * 0.2 + 0.1) / 3, abs=1e-15)
    # Bins are closed on the left, and the last one also contains 1.
    found = metric.reliability(*two_class([0.5, 0.75, 0.75 - 1e-9, 1.0], [1, 1, 1, 0]), bins=4)
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
    return metric.softmax(z)


@pytest.mark.parametrize(
    ("kind", "n", "k", "bins"),
    [
        ("drawn", 1, 2, 15),
        ("drawn", 500, 2, 1),
        ("drawn", 9000, 10, 15),
        ("drawn", 300, 300, 15),
        ("sharp", 300, 6, 15),
        ("certain", 200, 4, 15),
        ("uniform", 200, 3, 15),
        ("masked", 300, 5, 15),
    ],
)
@pytest.mark.parametrize("soft", [False, True])
def test_binned_errors_are_those_of_plain_code(kind, n, k, bins, soft):
    p = probabilities(kind, n, k).astype(np.float32 if soft else np.float64)
    targets = np.random.default_rng(1).integers(k, size=n)
    if soft:
        targets = np.random.default_rng(1).dirichlet(np.ones(k), size=n)
    points, top = np.arange(n), p.argmax(axis=1)
    rows = targets if soft else np.eye(k)[targets]
    expected = plain_bins(p[points, top].astype(np.float64), rows[points, top], bins)
    for name, value in expected.items():
        assert getattr(metric, name)(p, targets, bins=bins) == pytest.approx(value, rel=1e-12, abs=1e-14)
    classes = [plain_bins(p[:, c].astype(np.float64), rows[:, c], bins)["ece"] for c in range(k)]
    assert metric.classwise_ece(p, targets, bins=bins) == pytest.approx(np.mean(classes), rel=1e-12, abs=1e-14)


def test_soft_targets_of_few_digits_are_added_up_in_many():
    """A quarter and three quarters are exact in float16, but their sums over thousands of points aren't."""
    n = 32768
    p, t = np.tile([0.3, 0.7], (n, 1)), np.tile([0.25, 0.75], (n, 1))
    for dtype in (np.float16, np.float32):
        assert metric.classwise_ece(p, t.astype(dtype)) == pytest.approx(0.05, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f4"])
def test_the_largest_of_each_row_is_predicted_whatever_the_type(dtype):
    """The error names a negative number hidden in a row that sums to 1; -0 never counts as the largest."""
    p = np.full((5, 4), 0.25, dtype=dtype)
    p[1] = [-0.0, 0.5, 0.5, -0.0]
    p[2] = [-0.0, 0.0, 0.0, 1.0]
    y = np.array([0, 1, 3, 0, 0])
    assert metric.error(p, y) == 0
    assert np.array_equal(metric.reliability(p, y, 4).count, [0, 3, 1, 1])
    p[3] = [1.25, -0.25, 0, 0]
    with pytest.raises(SpecError) as caught:
        metric.ece(p, y)
    assert (caught.value.key, caught.value.value) == ("probabilities[3]", -0.25)


# Floors and intervals


def test_ece_floor_is_the_mean_ece_under_calibrated_labels():
    _, _, t = posterior_sample(n=200)
    rng = np.random.default_rng(4)
    drawn = [metric.ece(t, (t.cumsum(axis=1) < rng.random((200, 1))).sum(axis=1).clip(max=5)) for _ in range(200)]
    floor = ece_floor(t, 15, 500, rng)
    assert floor == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / math.sqrt(200))


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
    found = bootstrap_intervals(values, draws, np.random.default_rng(7), level)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


# Bad input


THIRDS, ZEROS = np.full((2, 3), 1 / 3), np.zeros((2, 3))
BAD_TARGETS = [
    *((targets, "targets") for targets in ([0], [0.0, 1.0], [True, False], np.full((2, 2), 0.5))),
    ([0, 3], "targets[1]"),
    ([-1, 0], "targets[0]"),
    ([[1.0, 0, 0], [0.5, 0.4, 0.0]], "targets[1]"),
    ([[1.5, -0.5, 0], [1.0, 0.0, 0.0]], "targets[0]"),
    ([[math.nan, 0.5, 0.5], [1.0, 0.0, 0.0]], "targets[0]"),
]
BAD_LOGITS = [
    ([[0.0, math.nan]], "logits[0]"),
    ([[0.0, 1.0], [math.inf, 0.0]], "logits[1]"),
    ([[0.0, 1.0], [-math.inf, -math.inf]], "logits[1]"),
    (np.zeros(3), "logits"),
    (np.zeros((3, 1)), "logits"),
    (np.zeros((0, 3)), "logits"),
    ([["a", "b"]], "logits"),
]
BAD_PROBABILITIES = [
    ([[2.0, 1.0]], "probabilities[0]"),
    ([[1.5, -0.5]], "probabilities[0]"),
    ([[0.5, 0.5], [math.nan, 0.5]], "probabilities[1]"),
    ([0.5, 0.5], "probabilities"),
    (np.zeros((0, 2)), "probabilities"),
]


@pytest.mark.parametrize(
    ("functions", "predictions", "targets", "key"),
    [
        *((PROBABILITY_METRICS, THIRDS, targets, key) for targets, key in BAD_TARGETS),
        *((LOGIT_METRICS | FITS, ZEROS, targets, key) for targets, key in BAD_TARGETS),
        *((LOGIT_METRICS | FITS, logits, np.zeros(len(logits), int), key) for logits, key in BAD_LOGITS),
        *((PROBABILITY_METRICS, p, np.zeros(len(p), int), key) for p, key in BAD_PROBABILITIES),
    ],
)
def test_bad_arrays_are_named(functions, predictions, targets, key):
    for function in functions.values():
        with pytest.raises(SpecError) as caught:
            function(np.asarray(predictions), np.asarray(targets))
        assert caught.value.key == key
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("k", [2, 5000])
@pytest.mark.parametrize(
    ("off", "fine"), [(0, True), (0.99e-4, True), (-0.99e-4, True), (1.01e-4, False), (-1e-3, False)]
)
def test_rows_pass_or_fail_by_their_sum_alone(k, off, fine):
    rows = np.tile(np.random.default_rng(0).dirichlet(np.ones(k)), (3, 1))
    rows[1] *= 1 + off
    if fine:
        assert arrays.check_rows(rows, "rows") is rows
    else:
        with pytest.raises(SpecError, match=r"rows\[1\]"):
            arrays.check_rows(rows, "rows")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.25])
def test_a_bad_row_of_a_later_block_is_named_without_a_warning(bad):
    n = 3 * arrays.ELEMENTS_PER_BLOCK // 100
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
    for function in (metric.nll, fit_temperature, fit_paper):
        with pytest.raises(SpecError) as caught:
            function(z, y)
        assert caught.value.key == f"logits[{row}]"


# Metrics as plug-ins


OWN = """
import numpy as np

TITLE = "Worst class"
RANGE = (0, 1)
LOWER_IS_BETTER = True

def worst(probabilities, labels, *, floor=0.0):
    return max(floor, *(1 - probabilities[labels == c, c].mean() for c in np.unique(labels)))

def per_sample(probabilities, targets):
    return (1 - probabilities.max(axis=1))

def nan(confidence, correct):
    return np.nan

def pair(confidence, correct):
    return np.zeros(2)

def raises(confidence, correct):
    return confidence[len(confidence)]

def first(probabilities, labels):
    return probabilities[0, labels[0]]

def praises(correct):
    return correct

def doubled(confidence, correct):
    return 2 * confidence - correct + 1

def blind(confidence):
    return confidence

def unknown(confidence, correct, weights):
    return 0.0

def both(logits, correct):
    return 0.0
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_metrics.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_metrics:{}".format


def cell() -> dict[str, np.ndarray]:
    """A small cell whose validation labels are certain and whose test posterior is known."""
    z, y, t = posterior_sample(n=60, k=3)
    arrays = {f"{split}.{name}": each for split in ("val", "test") for name, each in (("logits", z), ("labels", y))}
    return arrays | {"val.clean": y, "test.clean": y, "test.posterior": t}


def test_own_metrics_and_options_are_scored_next_to_the_packages(own):
    entries = [own("worst"), {"half": {"name": own("worst"), "floor": 0.5}}, {"ece5": {"name": "ece", "bins": 5}}]
    entries.append(own("per_sample"))
    spec = parse(CalibrateSpec, {"calibrators": ["none"], "draws": 50, "floor_draws": 5, "also": entries})
    assert parse(CalibrateSpec, canonical(spec)) == spec
    assert {("metrics", own("worst")), ("metrics", "ece")} <= set(spec.plugged)
    arrays = cell()
    table = calibrate(arrays, spec, 0, ("val", "test")).metrics
    table = table[table["split"] == "test"].set_index(["labels", "metric"])
    p, y, t = metric.softmax(arrays["test.logits"]), arrays["test.clean"], arrays["test.posterior"]
    worst = max(1 - p[y == c, c].mean() for c in range(3))
    assert table.loc[("clean", own("worst")), "value"] == pytest.approx(worst, rel=1e-12)
    assert table.loc[("clean", "half"), "value"] == max(0.5, worst)
    assert ("noisy", own("worst")) not in table.index  # it takes labels
    assert table.loc[("noisy", "ece5"), "value"] == metric.ece(p, t, bins=5)
    assert table.loc[("clean", own("per_sample"))].notna().all()  # the mean of values has an interval


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nan", "found a result of NaN or -inf, expected finite numbers or inf"),
        ("pair", r"found a result of shape \(2,\), expected a number, or one per sample, \(60,\)"),
        ("raises", r"IndexError: .*own_metrics.py:\d+"),
    ],
)
def test_a_metric_that_fails_is_named(own, name, said):
    with pytest.raises(SpecError, match=rf"metrics\.own_metrics:{name}: .*{said}") as caught:
        calibrate(cell(), CalibrateSpec(("none",), also=(own(name),)), 0, ("val", "test"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{own}:blind", r"metrics.own_metrics:blind: found .* expected at least one of correct, labels, posterior"),
        ("{own}:unknown", "expected only logits, probabilities, confidence, correct, labels, posterior, targets"),
        ("{own}:both", "either logits or probabilities, confidence, correct"),
        ("{own}:absent", "doesn't define 'absent'"),
        ("ece", "always computed"),
        ("eec", r"one of ace_average, .* \(did you mean 'ece'\?\) or module:object"),
        ({"ece": {"name": "ece", "bins": 5}}, "a different name, since another plug-in has this one"),
        ({"ece_floor": {"name": "ece"}}, "a different name"),
        ({"fine": {"name": "ece", "bin": 5}}, "fine.bin: no such option; those of ece are bins"),
        ({"fine": {"name": "ecee"}}, "fine.name = 'ecee': expected one of"),
        (5, "a name, or NAME"),
    ],
)
def test_a_bad_entry_is_named_before_any_job(own, entry, said):
    entry = entry.format(own="own_metrics") if isinstance(entry, str) else entry
    with pytest.raises(SpecError, match=said) as caught:
        parse(CalibrateSpec, {"also": [entry]})
    assert "also[0]" in caught.value.key or "metrics" in caught.value.key


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nan", "expected finite numbers"),
        ("first", "depends on the order of samples"),
        ("praises", "prefers wrong predictions"),
        ("doubled", r"outside its RANGE \(0, 1\)"),
        ("blind", "expected at least one of correct, labels"),
    ],
)
def test_the_check_of_a_metric_says_what_is_wrong(own, name, said):
    with pytest.raises(AssertionError, match=said):
        testing.check_metric(own(name))
    testing.check_metric(own("worst"), floor=0.1)


@pytest.mark.parametrize(("n", "k"), [(1, 2), (7, 3), (2000, 32), (2, arrays.ELEMENTS_PER_BLOCK + 1)])
def test_the_softmax_that_comes_with_the_cross_entropy_has_the_same_bits(n, k):
    rng = np.random.default_rng(n)
    logits = 9 * rng.standard_normal((n, k))
    for targets in (rng.integers(k, size=n), rng.dirichlet(np.ones(k), size=n)):
        both = logits.copy()
        values = sample_scores.cross_entropy(both, targets, probabilities=both)
        np.testing.assert_array_equal(values, sample_scores.cross_entropy(logits, targets))
        np.testing.assert_array_equal(both, sample_scores.softmax(logits))
