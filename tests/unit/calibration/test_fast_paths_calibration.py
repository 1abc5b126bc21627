"""The quick ways of the fits and metrics against plain float64 code that takes no short cut.

Tolerances: a mean of n terms in float64 is known to about 1e-15 of the terms' size, so NLLs and binned errors must
agree to 1e-12; beta is where a slope known to about 1e-16 crosses 0, which the slope's slope magnifies, so 1e-9.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from halobench.calibration import arrays, metrics, nll_curve, paper_fit
from halobench.calibration import temperature_scaling as ts
from halobench.core.errors import SpecError


def made(n: int, k: int, seed: int = 0, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, k) of standard deviation `scale`, and labels drawn at beta = 1.2 / scale."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, k))
    return scale * z, (1.2 * z + rng.gumbel(size=(n, k))).argmax(axis=1)


def one_hot(targets: np.ndarray, k: int) -> np.ndarray:
    return np.eye(k)[targets] if targets.ndim == 1 else targets.astype(np.float64)


def plain_cumulants(logits: np.ndarray, targets: np.ndarray, beta: float) -> list[float]:
    """NLL and its first three derivatives in beta, from deviations: nothing of it is shared with the fit."""
    z = logits.astype(np.float64)
    z = z - z.max(axis=1, keepdims=True)
    weights = np.exp(beta * z - (beta * z).max(axis=1, keepdims=True))
    p = weights / weights.sum(axis=1, keepdims=True)
    mean = (p * z).sum(axis=1)
    deviation = z - mean[:, None]
    log_total = np.log(weights.sum(axis=1)) + (beta * z).max(axis=1)
    agreement = z[np.arange(len(z)), targets] if targets.ndim == 1 else (targets * z).sum(axis=1)
    columns = [log_total - beta * agreement, mean - agreement, *((p * deviation**m).sum(axis=1) for m in (2, 3))]
    return [float(column.mean()) for column in columns]


def plain_beta(logits: np.ndarray, targets: np.ndarray, low: float = 1e-9, high: float = 1e6) -> float:
    """The optimum by 62 halvings of an interval of log beta, on the plain gradient."""
    low, high = math.log(low), math.log(high)
    for _ in range(62):
        middle = (low + high) / 2
        below = plain_cumulants(logits, targets, math.exp(middle))[1] < 0
        low, high = (middle, high) if below else (low, middle)
    return math.exp((low + high) / 2)


def extreme(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    z, y = made(n, 6)
    z[::3] = np.sign(z[::3]) * 1e4  # entries of +-1e4, with ties of the largest
    return z, y


def tied(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    z, y = made(n, 8)
    return np.round(z), y


def offset(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    z, y = made(n, 5)
    return z + 1e4, y


CASES = {
    "two classes": lambda: made(500, 2),
    "few": lambda: made(700, 10),
    "last across points": lambda: made(600, nll_curve.MANY_CLASSES - 1),
    "first row by row": lambda: made(600, nll_curve.MANY_CLASSES),
    "many": lambda: made(150, 1000),
    "several blocks and a start from a sample": lambda: made(20_000, 10),
    "a row wider than a block": lambda: made(3, arrays.BLOCK + 1),
    "extreme": extreme,
    "ties": tied,
    "offset": offset,
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("case", CASES)
def test_the_fit_is_the_optimum_of_the_plain_objective(case, dtype):
    z, y = CASES[case]()
    z = z.astype(dtype)
    fit = ts.fit_temperature(z, y)
    beta = plain_beta(z, y)
    assert fit.converged
    assert fit.beta == pytest.approx(beta, rel=1e-9)
    least = plain_cumulants(z, y, beta)[0]
    assert abs(plain_cumulants(z, y, fit.beta)[0] - least) <= 1e-12 * max(1, least)
    assert abs(fit.nll - least) <= 1e-12 * max(1, least)


@pytest.mark.parametrize("k", [2, 10, 300])
def test_rows_of_probabilities_are_a_target_like_their_labels(k):
    z, y = made(400, k)
    soft = 0.8 * np.eye(k)[y] + 0.2 * np.random.default_rng(1).dirichlet(np.ones(k), size=400)
    for targets in (np.eye(k)[y], soft, soft.astype(np.float32)):
        assert ts.fit_temperature(z, targets).beta == pytest.approx(plain_beta(z, targets), rel=1e-9)


def test_a_single_point():
    fit = ts.fit_temperature(np.array([[3.0, 1.0]]), np.array([[0.75, 0.25]]))  # 2 beta = log 3
    assert fit.beta == pytest.approx(math.log(3) / 2, rel=1e-12)
    assert fit.converged
    assert ts.fit_temperature(np.array([[3.0, 1.0]]), np.array([0])).separable
    assert ts.fit_temperature(np.array([[3.0, 1.0]]), np.array([1])).beta == 0


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_memory_layout_and_type_are_of_no_account(scale):
    z, y = made(9000, 6, scale=scale)
    z = np.round(z / scale * 4) * scale
    fits = [ts.fit_temperature(given, y) for given in (z, np.asfortranarray(z), np.repeat(z, 2, axis=1)[:, ::2])]
    if scale >= 1:
        fits.append(ts.fit_temperature(z.astype(np.int64), y))
    for fit in fits:
        assert fit.beta * scale == pytest.approx(plain_beta(z / scale, y), rel=1e-9)


@pytest.mark.parametrize("beta", [-2.0, -0.3, 1e-6, 0.3, 2.0, 50.0])
@pytest.mark.parametrize("k", [2, 10, 300])
def test_derivatives_are_those_of_plain_code(k, beta):
    z, y = made(500, k)
    curve = nll_curve.derivatives(z, nll_curve.summarise(z, y).linear, beta)
    nll, *derivatives = plain_cumulants(z, y, beta)
    assert curve.nll == pytest.approx(nll, rel=1e-12)
    # Of the relative step: each derivative in beta times its power of beta. What has terms of both signs is known to a
    # part of their size.
    for power, (ours, theirs) in enumerate(zip(curve[1:], derivatives, strict=True), 1):
        size = np.abs(beta * np.ptp(z, axis=1)).mean() ** power
        assert ours == pytest.approx(theirs * beta**power, rel=1e-10, abs=1e-14 * size)


def test_the_summary_is_that_of_the_plain_objective_at_zero():
    for k in (2, 10, 300):
        z, y = made(500, k)
        summary = nll_curve.summarise(z, y)
        assert summary.slope_at_zero == pytest.approx(plain_cumulants(z, y, 0.0)[1], rel=1e-12)
        assert summary.spread == np.ptp(z, axis=1).max()


@pytest.mark.parametrize("case", ["few", "many", "extreme", "two classes"])
def test_what_the_curvature_proves_holds_at_both_ends(case):
    """From points about the optimum: where a change is proved, the plain gradient has one; where x is off, none is."""
    z, y = CASES[case]()
    summary, beta = nll_curve.summarise(z, y), plain_beta(z, y)
    proved = 0
    for away in [sign * 10.0**power for sign in (-1, 1) for power in range(-12, 0)]:
        at = beta * (1 + away)
        curve = nll_curve.derivatives(z, summary.linear, at)
        x, noise = curve.halley_step(), nll_curve.slope_rounding(z.shape[1], curve.slope, at * summary.linear)
        if ts._changes_sign(curve, x, at * summary.spread, noise):
            proved += 1
            ends = [plain_cumulants(z, y, at * (1 + x) * (1 + sign * ts.CERTIFICATE))[1] for sign in (-1, 1)]
            assert ends[0] < 0 < ends[1]
        for wrong in (-3e-7, 3e-7):
            assert not ts._changes_sign(curve, beta / at - 1 + wrong, at * summary.spread, noise)
    assert proved >= (2 if case == "extreme" else 8)  # where rows spread over 1e4, from the nearest points alone


@pytest.mark.parametrize(
    ("logits", "labels"),
    [([[1, 0], [1 - 1e-9, 0], [0.3, 0], [0.3, 0]], [0, 1, 0, 1]), ([[0, -1 / 3], [5 / 3, 4 / 3]], [1, 0])],
)
def test_an_optimum_within_rounding_of_zero_is_not_given_as_a_huge_temperature(logits, labels):
    """Their slopes at 0 are of the size of rounding: no temperature of 1e9 or 1e15 is certain."""
    fit = ts.fit_temperature(np.array(logits), np.array(labels))
    assert fit.beta == 0 or not fit.converged


def test_nothing_is_proved_without_curvature():
    assert not ts._changes_sign(nll_curve.Derivatives(0.5, 0.0, 0.0, 0.0), 0.0, 1.0, 0.0)
    assert math.isnan(nll_curve.Derivatives(0.5, -1.0, 0.0, 0.0).halley_step())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [2, 100, 600, 5000])
def test_rows_pass_or_fail_by_their_sum_alone(k, dtype):
    """On both sides of the tolerance, where sums by products are too coarse to tell, the verdict is the exact sum's."""
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
def test_a_bad_row_of_a_later_block_is_named(bad):
    n = 3 * arrays.BLOCK // 100
    p = np.full((n, 100), 0.01)
    row = n - 5
    p[row, 3] = bad
    y = np.zeros(n, int)
    for function in (metrics.ece, metrics.classwise_ece, metrics.error, metrics.brier, metrics.ace):
        with pytest.raises(SpecError) as caught:
            function(p, y)
        assert caught.value.key == f"probabilities[{row}]"
    z = np.zeros((n, 100))
    z[row, 3] = bad
    if not math.isfinite(bad):
        fits = (ts.fit_temperature, paper_fit.fit_released)
        z[row] = bad  # a fit takes a row in which a logit is -inf, but not all
        for function in (arrays.check_logits, *(lambda z, fit=fit: fit(z, y) for fit in fits)):
            with pytest.raises(SpecError) as caught:
                function(z)
            assert caught.value.key == f"logits[{row}]"
        z[row] = 0.0
        z[row, 3] = bad
    if bad == -math.inf:
        assert arrays.check_logits(z, masked=True) is z
        z[row] = bad
        with pytest.raises(SpecError, match=rf"logits\[{row}\]"):
            arrays.check_logits(z, masked=True)


def test_soft_targets_of_few_digits_are_added_up_in_many():
    """A quarter and three quarters are exact in float16; their sums over thousands of points aren't."""
    n = 32768
    p, t = np.tile([0.3, 0.7], (n, 1)), np.tile([0.25, 0.75], (n, 1))
    for dtype in (np.float16, np.float32):
        assert metrics.classwise_ece(p, t.astype(dtype)) == pytest.approx(0.05, abs=1e-12)


def test_infinities_of_both_signs_are_reported_without_a_warning():
    p = np.full((5, 2), 0.5)
    p[3] = [-np.inf, np.inf]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in (metrics.ece, metrics.classwise_ece, metrics.error, metrics.brier):
            with pytest.raises(SpecError, match=r"probabilities\[3\]"):
                function(p, np.zeros(5, int))


@pytest.mark.parametrize(
    ("z", "y"),
    [([[1e308, -1e308]] * 3, [0, 0, 0]), ([[8e307, -8e307]] * 4, [0, 0, 0, 1]), ([[0, 1e308, -1e308]] * 2, [0, 1])],
)
def test_a_spread_beyond_float64_is_refused(z, y):
    for fit in (ts.fit_temperature, paper_fit.fit_released):
        with pytest.raises(SpecError, match="a spread within the range of float64"):
            fit(np.array(z), np.array(y))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f4"])
def test_the_largest_of_each_row_is_predicted_whatever_the_type(dtype):
    """A negative number hidden in a row of sum 1 is named; -0, is no largest number."""
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


def plain_bins(confidence: np.ndarray, correct: np.ndarray, bins: int) -> dict[str, float]:
    """ECE, average calibration error and MCE, bin by bin; a value of 1 lies in the last."""
    gaps, weights = [], []
    for b in range(bins):
        edges = np.linspace(0, 1, bins + 1)
        inside = (confidence >= edges[b]) & ((confidence < edges[b + 1]) | (b == bins - 1))
        if inside.any():
            gaps.append(abs(correct[inside].mean() - confidence[inside].mean()))
            weights.append(inside.mean())
    return {"ece": float(np.dot(gaps, weights)), "ace_average": float(np.mean(gaps)), "mce": max(gaps)}


def probabilities(kind: str, n: int, k: int) -> np.ndarray:
    """Rows that are sharp, drawn at random, tied, certain, or with classes of no mass."""
    rng = np.random.default_rng(k)
    if kind == "certain":
        return np.eye(k)[rng.integers(k, size=n)]
    if kind == "uniform":
        return np.full((n, k), 1 / k)
    if kind == "masked":
        z = made(n, k, scale=4)[0]
        z[:, 0] = -np.inf
        return metrics.softmax(z)
    return metrics.softmax({"sharp": extreme(n)[0], "drawn": made(n, k)[0]}[kind])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("kind", "n", "k"),
    [
        ("drawn", 1, 2),
        ("drawn", 500, 2),
        ("drawn", 9000, 10),
        ("drawn", 300, 1000),
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
    rows = one_hot(targets, k)
    expected = plain_bins(p[points, top].astype(np.float64), rows[points, top], bins)
    found = metrics.gap_errors(metrics.reliability(p, targets, bins))
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-14)
    alone = {"ece": metrics.ece, "ace_average": metrics.ace, "mce": metrics.mce}
    assert found == {name: function(p, targets, bins) for name, function in alone.items()}
    classes = [plain_bins(p[:, c].astype(np.float64), rows[:, c], bins)["ece"] for c in range(k)]
    assert metrics.classwise_ece(p, targets, bins) == pytest.approx(np.mean(classes), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(("n", "draws"), [(1, 5), (2, 7), (50, 200), (1 << 17, 3), ((1 << 17) + 1, 2)])
def test_bootstrap_is_that_of_resampling_the_points(n, draws):
    """On the same draws: means to the rounding of a sum of n, and inf where a point that is so was drawn."""
    values = np.random.default_rng(0).standard_normal((n, 3))
    values[:: max(n // 3, 1), 2] = np.inf
    rng = np.random.default_rng(7)
    means = np.array([values[rng.integers(n, size=n)].mean(axis=0) for _ in range(draws)])
    ranks = [-(-draws * 25 // 1000), -(-draws * 975 // 1000)]  # rounded up
    expected = np.sort(means, axis=0)[np.array(ranks) - 1]
    found = metrics.bootstrap_intervals(values, draws, np.random.default_rng(7))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
