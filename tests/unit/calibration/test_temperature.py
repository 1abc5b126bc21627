"""Temperature fits against closed forms, plain float64 code without shortcuts, torch's LBFGS and invariances.

Tolerances: a mean of n terms in float64 is known to about 1e-15 of the terms' size, so NLLs must agree to 1e-12; beta
is where a slope known to about 1e-16 crosses 0, an error that the curvature magnifies, so it must agree to 1e-9.
"""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.special import softmax as scipy_softmax

from halobench.calibration import arrays
from halobench.calibration.calibrators.exact import fit_temperature, scale, tempered
from halobench.calibration.calibrators.paper import fit_paper
from halobench.calibration.scores import metric
from halobench.calibration.temperature import nll_curve, search
from halobench.calibration.temperature.rescaling import FLAT
from halobench.calibration.temperature.search import fit_smoothed
from halobench.core.errors import SpecError
from unit.calibration.builders import torch_lbfgs


def sample(kind: str, n: int = 2000, k: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits m Z with y ~ softmax(Z): over (m = 2.5), under (m = 0.4), hard (m = 5 with a quarter of labels random)."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n, k))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    if kind == "hard":
        y = np.where(rng.random(n) < 0.25, rng.integers(k, size=n), y)
    return z * {"over": 2.5, "under": 0.4, "hard": 5.0}[kind], y


def soften(y: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """Rows of probabilities centred on the labels."""
    return 0.7 * np.eye(k)[y] + 0.3 * np.random.default_rng(seed).dirichlet(np.ones(k), size=len(y))


def plain_cumulants(logits: np.ndarray, targets: np.ndarray, beta: float) -> list[float]:
    """NLL and its first three derivatives in beta, from deviations, sharing no code with the fit."""
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


def plain_beta(logits: np.ndarray, targets: np.ndarray, near: float) -> float:
    """The optimum between a third and three times `near`, found by Brent's method on the plain gradient in log beta."""
    slope = lambda log_beta: plain_cumulants(logits, targets, math.exp(log_beta))[1]  # noqa: E731
    return math.exp(brentq(slope, math.log(near / 3), math.log(near * 3), xtol=1e-14, rtol=1e-15))


def made(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, k) of standard deviation 2, and labels drawn at beta = 1."""
    z, y = sample("over", n, k)
    return z / 2.5, y


def changed(change, n: int = 300, k: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """The same logits and labels after `change`."""
    z, y = made(n, k)
    return change(z, y)


def misleading(z, y):
    """The first half of the rows, and every fourth, favour other temperatures than the whole."""
    z[: len(z) // 2] *= 3
    z[::4] *= 0.2
    return z, y


def extreme(z, y):
    """Entries of +-1e4, with ties for the largest."""
    z[::3] = np.sign(z[::3]) * 1e4
    return z, y


CASES = {
    "over-confident": lambda: sample("over"),
    "under-confident": lambda: sample("under"),
    "T near 10": lambda: sample("hard"),
    "two classes": lambda: made(500, 2),
    "last across points": lambda: made(600, nll_curve.MANY_CLASSES - 1),
    "first row by row": lambda: made(600, nll_curve.MANY_CLASSES),
    "many classes": lambda: made(150, 1000),
    "several blocks and a start from a sample": lambda: made(16_400, 10),
    "a sample that misleads": lambda: changed(misleading, 16_400, 10),
    "a row wider than a block": lambda: made(3, arrays.ELEMENTS_PER_BLOCK + 1),
    "extreme": lambda: changed(extreme, k=6),
    "ties": lambda: changed(lambda z, y: (np.round(z), y)),
    "offset": lambda: changed(lambda z, y: (z + 1e4, y)),
    "one label away from separable": lambda: changed(lambda z, y: (z, np.r_[z[0].argmin(), z[1:].argmax(axis=1)])),
    "soft rows": lambda: changed(lambda z, y: (z, soften(y, 8))),
    "soft rows of many classes": lambda: changed(lambda z, y: (z, soften(y, 300).astype(np.float32)), k=300),
}


LARGE = ("several blocks and a start from a sample", "a sample that misleads", "a row wider than a block")


@pytest.mark.parametrize(
    ("case", "dtype"),
    [*((case, np.float32) for case in CASES), *((case, np.float64) for case in CASES if case not in LARGE)],
)
def test_the_fit_is_the_optimum_of_the_plain_objective(case, dtype):
    z, y = CASES[case]()
    z = z.astype(dtype)
    fit = fit_temperature(z, y)
    beta = plain_beta(z, y, fit.beta)
    assert fit.converged
    assert not fit.separable
    assert pytest.approx(1 / beta, rel=1e-9) == fit.T
    assert abs(fit.gradient) < 1e-9 * np.ptp(z)
    assert fit.beta == pytest.approx(beta, rel=1e-9)
    least = plain_cumulants(z, y, beta)[0]
    assert abs(plain_cumulants(z, y, fit.beta)[0] - least) <= 1e-12 * max(1, least)
    assert abs(fit.nll - least) <= 1e-12 * max(1, least)


@pytest.mark.parametrize(("right", "wrong", "k"), [(3, 1, 2), (9, 1, 10), (60, 40, 5)])
def test_closed_form_of_one_hot_logits(right, wrong, k):
    # Confidence c = e^b / (e^b + k - 1) must equal the accuracy a, so b = log(a (k - 1) / (1 - a)).
    z = np.tile(np.eye(k)[0], (right + wrong, 1))
    y = np.r_[np.zeros(right, int), 1 + np.arange(wrong) % (k - 1)]
    a = right / (right + wrong)
    fit = fit_temperature(z, y)
    assert fit.beta == pytest.approx(math.log(a * (k - 1) / (1 - a)), rel=1e-12)
    assert fit.nll == pytest.approx(-a * math.log(a) - (1 - a) * math.log((1 - a) / (k - 1)), rel=1e-12)


def test_invariance_to_order_layout_type_and_row_shifts_and_equivariance_to_scale():
    z, y = sample("hard", n=500)
    rng = np.random.default_rng(5)
    beta = fit_temperature(z, y).beta
    order, classes = rng.permutation(500), rng.permutation(10)
    whole = np.round(4 * z)
    same = [
        (z + 100 * rng.standard_normal((500, 1)), y),
        (z[order], y[order]),
        (z[:, classes], np.argsort(classes)[y]),
        (z, np.eye(10)[y]),
        (np.asfortranarray(z), y),
        (np.repeat(z, 2, axis=1)[:, ::2], y),
    ]
    assert [fit_temperature(*each).beta for each in same] == pytest.approx([beta] * len(same), rel=1e-9)
    assert fit_temperature(whole.astype(int), y).beta == pytest.approx(fit_temperature(whole, y).beta, rel=1e-12)
    for factor in (1e-300, 1e-30, 1e-8, 1e8, 1e30, 1e150):
        fit = fit_temperature(z * factor, y)
        assert fit.converged
        assert fit.beta * factor == pytest.approx(beta, rel=1e-9)
    with pytest.raises(SpecError, match=r"logits: too close together .*1/T exceeds float64"):
        fit_temperature(z * 1e-320, y)


def test_separable_data_have_no_temperature():
    z, _ = sample("over", n=200)
    one_hot = np.eye(10)[z.argmax(axis=1)]
    ties = np.array([[1.0, 1.0, 0.0], [2.0, 0.0, 1.0]]), np.array([[0.3, 0.7, 0.0], [1.0, 0.0, 0.0]])
    for logits, targets, limit in ((z, z.argmax(axis=1), 0), (z, one_hot, 0), (*ties, math.log(2) / 2)):
        fit = fit_temperature(logits, targets)
        assert (fit.separable, fit.converged, fit.beta) == (True, False, math.inf)
        assert math.isnan(fit.T)
        assert fit.nll == pytest.approx(limit, rel=1e-12)
    for mass in (1e-3, 1e-100, 1e-300):
        fit = fit_temperature(z, (1 - mass) * one_hot + mass / 10)
        assert (fit.separable, fit.converged) == (False, True)
        assert 0 < fit.T < 1


def test_no_better_than_uniform_gives_infinite_temperature():
    z, _ = sample("over", n=200)
    least = z.argmin(axis=1)
    for logits in (z, z.astype(np.float32), np.full_like(z, 3.0), z[:1]):
        fit = fit_temperature(logits, least[: len(logits)])
        assert (fit.T, fit.beta, fit.converged, fit.separable) == (math.inf, 0, True, False)
        assert fit.nll == pytest.approx(math.log(10), rel=1e-12)
        assert fit.gradient >= 0


@pytest.mark.parametrize("beta", [-2.0, 1e-6, 0.3, 50.0])
@pytest.mark.parametrize("k", [2, 300])
def test_derivatives_are_those_of_plain_code(k, beta):
    z, y = made(500, k)
    curve = nll_curve.derivatives(z, np.ones(len(z)), nll_curve.summarise(z, y).linear, beta)
    nll, *derivatives = plain_cumulants(z, y, beta)
    assert curve.nll == pytest.approx(nll, rel=1e-12)
    # In the relative step: each derivative in beta is multiplied by that power of beta. Sums of terms of both signs are
    # only accurate relative to the terms' size.
    for power, (ours, theirs) in enumerate(zip(curve[1:], derivatives, strict=True), 1):
        size = np.abs(beta * np.ptp(z, axis=1)).mean() ** power
        assert ours == pytest.approx(theirs * beta**power, rel=1e-10, abs=1e-14 * size)


@pytest.mark.parametrize("case", ["ties", "many classes", "extreme", "two classes"])
def test_what_the_curvature_proves_holds_at_both_ends(case):
    """Near the optimum, wherever a sign change is proved, the plain gradient has one; if x is off, none is proved."""
    z, y = CASES[case]()
    summary, beta = nll_curve.summarise(z, y), plain_beta(z, y, fit_temperature(z, y).beta)
    proved = 0
    for away in [sign * 10.0**power for sign in (-1, 1) for power in range(-12, 0)]:
        at = beta * (1 + away)
        curve = nll_curve.derivatives(z, np.ones(len(z)), summary.linear, at)
        x, noise = curve.halley_step(), nll_curve.slope_rounding(z.shape[1], curve.slope, at * summary.linear)
        if search._changes_sign(curve, x, at * summary.spread, noise):
            proved += 1
            ends = [plain_cumulants(z, y, at * (1 + x) * (1 + sign * search.CERTIFICATE))[1] for sign in (-1, 1)]
            assert ends[0] < 0 < ends[1]
        for wrong in (-3e-7, 3e-7):
            assert not search._changes_sign(curve, beta / at - 1 + wrong, at * summary.spread, noise)
    assert proved >= (2 if case == "extreme" else 8)  # if rows spread over 1e4, only from the nearest points


@pytest.mark.parametrize(
    ("logits", "labels"),
    [([[1, 0], [1 - 1e-9, 0], [0.3, 0], [0.3, 0]], [0, 1, 0, 1]), ([[0, -1 / 3], [5 / 3, 4 / 3]], [1, 0])],
)
def test_an_optimum_within_rounding_of_zero_is_not_given_as_a_huge_temperature(logits, labels):
    """Their slopes at 0 are as small as rounding errors, so no temperature of 1e9 or 1e15 is certain."""
    fit = fit_temperature(np.array(logits), np.array(labels))
    assert fit.beta == 0 or not fit.converged


def test_float32_logits_are_not_copied_whole():
    z, y = sample("over", n=10_000, k=100)
    z = z.astype(np.float32)
    tracemalloc.start()
    fit_temperature(z, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * z.nbytes


@pytest.mark.parametrize(
    ("z", "y"),
    [([[1e308, -1e308]] * 3, [0, 0, 0]), ([[8e307, -8e307]] * 4, [0, 0, 0, 1]), ([[0, 1e308, -1e308]] * 2, [0, 1])],
)
def test_a_spread_beyond_float64_is_refused(z, y):
    for fit in (fit_temperature, fit_paper):
        with pytest.raises(SpecError, match="logits: too far apart for float64"):
            fit(np.array(z), np.array(y))


@pytest.mark.parametrize("fit", [fit_temperature, fit_paper])
def test_what_a_newcomer_hands_over_is_told_with_what_to_do(fit):
    z, y = sample("hard", n=50, k=2)
    for logits, targets, told in (
        (z[:, 1] - z[:, 0], y, "for two classes and a single logit z, pass columns 0 and z"),
        (z, y.astype(float), r"whole numbers from 0 to 1 \(use targets\.astype\(int\)\)"),
        (z, y + 1, "a label from 0 to 1, .*; labels start at 0"),
        (scipy_softmax(z, axis=1), y, "expected pre-softmax logits"),
        (scipy_softmax(z, axis=1).astype(np.float16), y, "expected pre-softmax logits"),
        (np.tile([[0.33, 0.66], [0.34, 0.67]], (25, 1)), y, "expected pre-softmax logits"),  # sums of .99 and 1.01
        (np.ma.masked_greater(z, 0), y, "masked entries"),
    ):
        with pytest.raises(SpecError, match=told):
            fit(logits, targets)


def calibrated_logits(T: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose optimum is `T`; the optimiser starts from 1."""
    z, y = sample("over", n=400)
    return z * (T * fit_temperature(z, y).beta), y


def astray() -> tuple[np.ndarray, np.ndarray]:
    """Logits with an optimum near .55, for which the paper's fit ends below 0."""
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(10_000, 10))
    return 0.5525 * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


RELEASED = {
    "over": lambda: sample("over"),
    "under": lambda: sample("under"),
    "hard": lambda: sample("hard"),
    "rows": lambda: (sample("over")[0], soften(sample("over")[1], 10)),
    "two classes": lambda: sample("over", n=50, k=2, seed=4),
    "many classes": lambda: sample("hard", n=500, k=200, seed=2),
    "separable": lambda: (sample("over")[0], sample("over")[0].argmax(axis=1)),
    "reversed": lambda: (sample("over")[0], sample("over")[0].argmin(axis=1)),
    "large": lambda: (sample("hard")[0] * 100, sample("hard")[1]),
    "small": lambda: (sample("hard")[0] * 1e-3, sample("hard")[1]),
    "tiny": lambda: (sample("hard")[0] * 1e-9, sample("hard")[1]),
    "astray": astray,
    "calibrated": calibrated_logits,
    # This close to the start, each stopping rule applies at some point.
    **{f"calibrated to {e:g}": lambda e=e: calibrated_logits(1 + e) for e in np.logspace(-7, -1, 13)},
}


@pytest.mark.parametrize("name", RELEASED)
def test_paper_fit_is_torch_lbfgs(name):
    z, t = RELEASED[name]()
    fit = fit_paper(z, t)
    assert pytest.approx(torch_lbfgs(z, t), rel=1e-10) == fit.T
    assert name != "astray" or fit.T < 0
    nll, slope, *_ = plain_cumulants(z, t, fit.beta)
    assert (fit.nll, fit.gradient) == (pytest.approx(nll, rel=1e-12), pytest.approx(slope, rel=1e-6, abs=1e-9))
    assert name != "calibrated" or fit.converged


@pytest.mark.parametrize("rows", [False, True])
def test_a_class_that_is_ruled_out_counts_for_nothing(rows):
    """-inf where no target has mass is fitted like a very low logit, and the fit scales with the logits."""
    z, y = sample("hard", n=500)
    rng = np.random.default_rng(1)
    out = (rng.random(z.shape) < 0.3) & (np.arange(10) != y[:, None])
    masked, low = np.where(out, -np.inf, z), np.where(out, z - 1000, z)
    targets = np.where(out, 0, soften(y, 10)) if rows else y
    targets = targets / targets.sum(axis=1, keepdims=True) if rows else y
    fit, reference = fit_temperature(masked, targets), fit_temperature(low, targets)
    assert fit.converged
    assert fit.beta == pytest.approx(reference.beta, rel=1e-12)
    assert fit.nll == pytest.approx(reference.nll, rel=1e-12)
    for factor in (1e-200, 1e-6, 1e6, 1e200):
        assert fit_temperature(masked * factor, targets).beta * factor == pytest.approx(fit.beta, rel=1e-12)
    # At beta = 0 the softmax is uniform over the remaining classes.
    against = fit_temperature(np.where(out, -np.inf, -np.eye(10)[y]), y)
    assert (against.T, against.beta) == (math.inf, 0.0)
    assert against.nll == pytest.approx(np.log((~out).sum(axis=1)).mean())
    assert math.isnan(fit_paper(masked, targets).T)
    masked[3, y[3]] = -np.inf
    label = r"-inf" if rows else rf"-inf \(label {y[3]}\)"
    with pytest.raises(SpecError, match=rf"logits\[3\]: found {label}, expected a finite logit.*rows affected: 1"):
        fit_temperature(masked, targets)


@pytest.mark.parametrize("share", [0.0, 0.2])
@pytest.mark.parametrize("factor", [1e-200, 1.0, 1e200])
def test_smoothing_spreads_over_the_classes_that_are_not_ruled_out(share, factor):
    """Also on separable data, where there is no other optimum; compared with Brent's method on scipy's log softmax."""
    rng = np.random.default_rng(2)
    z, n = rng.standard_normal((60, 5)), 60
    y = np.where(rng.random(n) < share, rng.integers(5, size=n), z.argmax(axis=1))
    out = (rng.random(z.shape) < 0.3) & (np.arange(5) != y[:, None])
    z[out] = -np.inf
    spread = np.where(out, 0, 1 / (n + 1) / (~out).sum(axis=1, keepdims=True)) + n / (n + 1) * np.eye(5)[y]
    nll = lambda beta: -(spread * np.where(out, 0, log_softmax(beta * z, axis=1))).sum() / n  # noqa: E731
    expected = minimize_scalar(nll, bounds=(1e-3, 100), method="bounded", options={"xatol": 1e-9}).x
    assert fit_temperature(z, y).separable == (share == 0)
    assert fit_smoothed(z * factor, y) * factor == pytest.approx(expected, rel=1e-5)
    only = np.where(np.eye(5)[y] == 1, 0.0, -np.inf)
    assert fit_smoothed(only, y) == 0


def test_scale_keeps_the_softmax_the_largest_and_ties():
    rng = np.random.default_rng(0)
    z = (1e4 + rng.standard_normal((500, 10))).astype(np.float32)
    z[0, :4] = z[0].max()
    z[1] = np.nextafter(np.float32(1), np.float32(2)) * (np.arange(10) == 7) + np.float32(1) * (np.arange(10) != 7)
    np.testing.assert_array_equal(scale(np.array([[1.0, 5.0, -math.inf]]), 0.0), [[0.0, 0.0, -math.inf]])
    for beta in (1e-12, 0.1, 1.0, 1e6):
        scaled = scale(z, beta)
        assert (scaled.argmax(axis=1) == z.argmax(axis=1)).all()
        assert ((scaled == 0) == (z == z.max(axis=1, keepdims=True))).all()
        expected = beta * z.astype(np.float64)
        expected -= logsumexp(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(log_softmax(scaled, axis=1), expected, atol=1e-7 * max(beta, 1))


@pytest.mark.parametrize("spread", [1e-6, 1e12])
def test_tempered_keeps_predictions_down_to_the_limit(spread):
    rng = np.random.default_rng(0)
    z = spread * rng.normal(size=(300, 6))
    z[:, 5] = -np.inf
    for beta in (0.0, 1e-30 / spread, 1 / spread):
        found = tempered(z, beta)
        assert np.array_equal(metric.softmax(found).argmax(axis=1), z.argmax(axis=1))
        assert np.isneginf(found[:, 5]).all()
    confidence = metric.softmax(tempered(z, 0.0)).max(axis=1)
    np.testing.assert_allclose(confidence, 1 / 5, atol=FLAT)
    assert np.array_equal(tempered(z, 1 / spread), scale(z, 1 / spread))
    assert np.array_equal(tempered(np.zeros((2, 3)), 0.0), np.zeros((2, 3)))
