"""Weights of samples: integer weights are repeated samples, and what is stated holds for the weighted mean."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from halobench import SpecError, diagnose, fit_auto, fit_partner, fit_temperature
from halobench.calibration.arrays import weighted
from halobench.calibration.calibrators import top_rest
from halobench.calibration.calibrators.shrunk import evidence, fit_mixed
from halobench.calibration.diagnosis.parts import Temperature
from halobench.calibration.repair.groups import Groups
from halobench.calibration.repair.newton import RIDGE
from halobench.calibration.repair.trials import Confidence
from halobench.calibration.repair.tuned import weights_along
from halobench.calibration.temperature.search import fit_smoothed
from halobench.sklearn import TemperatureScaling
from unit.calibration.builders import drawn
from unit.calibration.builders import without_ladder as without_ladder  # a fixture

OWN = ("top_rest", "partner")
TIMES = np.random.default_rng(7).integers(0, 4, 300)


def repeated(*arrays: np.ndarray) -> list[np.ndarray]:
    return [np.repeat(array, TIMES, axis=0) for array in arrays]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["labels", "rows", "votes"])
def test_integer_weights_are_repeated_samples(kind, masked):
    z, y = drawn(300, 4, flips=0.2)
    if masked:
        z = np.where((np.arange(300)[:, None] % 3 == 0) & (np.arange(4) == (y[:, None] + 1) % 4), -np.inf, z)
    rows = 0.9 * np.eye(4)[y] + 0.1 * np.eye(4)[(y + 2) % 4]
    given = {"labels": y, "rows": rows, "votes": 3 * np.eye(4, dtype=int)[y] + np.eye(4, dtype=int)[(y + 2) % 4]}[kind]
    of = (lambda z, t, **kw: fit_temperature(z, votes=t, **kw)) if kind == "votes" else fit_temperature
    found, expected = of(z, given, sample_weight=TIMES), of(*repeated(z, given))
    assert found.converged
    assert (found.beta, found.nll) == pytest.approx((expected.beta, expected.nll), rel=1e-12)
    assert of(z, given, sample_weight=100.0 * TIMES).beta == pytest.approx(found.beta, rel=1e-13)


def test_smoothed_and_shrunk_temperatures_take_weights():
    z, y = drawn(300, 4, flips=0.2)
    kept, rows = weighted(y, TIMES, 4)
    mine, (often, labels) = (z[kept], rows), repeated(z, y)
    assert fit_mixed(*mine, 0.3, False) == pytest.approx(fit_mixed(often, labels, 0.3, False), rel=1e-11)
    # 1 / (n + 1) depends on the number of rows, so the optimum is searched for by plain code.
    n, w = len(mine[0]), rows.sum(axis=1, keepdims=True)
    smoothed = n / (n + 1) * rows + w / (n + 1) / 4
    nll = lambda beta: -(smoothed * log_softmax(beta * mine[0], axis=1)).sum() / n  # noqa: E731
    expected = minimize(nll, 1.0, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-15}).x[0]
    assert fit_smoothed(*mine) == pytest.approx(expected, rel=1e-6)


def test_weights_along_and_top_rest_minimise_the_weighted_objective():
    z, y = drawn(300, 4, flips=0.2)
    kept, rows = weighted(y, TIMES, 4)
    x = np.column_stack([z, np.ones(300)])
    ridge, mean = np.full((5, 4), 2.0), TIMES[kept].mean()
    ((found, _),) = weights_along(z[kept], x[kept], rows, [ridge], 1e-9)
    ((expected, _),) = weights_along(*repeated(z, x, y), [mean * ridge], 1e-9)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    w, of, top = rows.sum(axis=1), y[kept], z[kept].argmax(axis=1)
    u = fit_temperature(z, y, sample_weight=TIMES).beta * z[kept]
    u -= u[np.arange(len(u)), top][:, None]
    u[np.arange(len(u)), top] = -np.inf
    odds, right = -np.log(np.exp(u).sum(axis=1)), of == top
    unit = np.sqrt((odds**2).mean())

    def nll(v: np.ndarray) -> float:
        score = v[0] * odds + v[1]
        ridge = (unit * (v[0] - 1)) ** 2 + v[1] ** 2 + (v[2] - 1) ** 2
        others = np.where(right, 0.0, log_softmax(v[2] * u, axis=1)[np.arange(len(u)), np.where(right, 0, of)])
        return float(
            w @ (np.logaddexp(0, score) - right * score) - (w * ~right) @ np.nan_to_num(others) + RIDGE * ridge / 2
        )

    fitted = top_rest.fit(z[kept], rows).transform
    at = np.array([fitted.v, fitted.c, fitted.w])
    best = minimize(nll, at + 0.1, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}).x
    np.testing.assert_allclose(at, best, atol=1e-5)


def test_what_is_stated_holds_for_the_weighted_mean():
    """T's interval covers, the evidence is standard normal if T = 1, and the ECE is that of repeated samples."""
    covered, z_scores = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        z = 1.5 * rng.normal(size=(200, 4))
        y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
        _, rows = weighted(y, rng.lognormal(0, 0.7, 200), 4)
        found = Temperature.of(3 * z, rows)
        covered.append(found.low < 3 < found.high)
        z_scores.append(evidence(z, rows, Groups.single(200), np.ones(200)))
    assert 0.9 <= np.mean(covered) <= 0.99
    assert 0.7 < np.std(z_scores) < 1.05, "smoothing keeps negative ones small"
    confidence, right = np.random.default_rng(0).uniform(size=(2, 300))
    unit = Confidence.of(*repeated(confidence, right), np.ones(TIMES.sum()))
    times = TIMES / TIMES.mean()
    mine = Confidence.of(confidence, times * right, times)
    assert (mine.mean, mine.accuracy, mine.ece) == pytest.approx((unit.mean, unit.accuracy, unit.ece), abs=1e-12)


def shifted(n: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits three times too large for half of the inputs, whose columns are rolled, labels, and the other half."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, 4))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    fine = rng.random(n) < 0.5
    return np.where(fine[:, None], z, 3 * z), y, fine


@pytest.mark.usefixtures("without_ladder")
def test_weights_calibrate_the_inputs_that_they_stand_for():
    """With weights of nearly 0 for the wrong inputs, nothing is gained; with equal weights, TS gains much."""
    z, y, fine = shifted()
    assert fit_auto(z, y, candidates=OWN).temperature.T > 1.3
    few = fit_auto(z, y, candidates=OWN, sample_weight=np.where(fine, 1.0, 1e-3))
    assert abs(few.temperature.T - 1) < 0.1
    assert abs(few.temperature_gain.value) < 0.005
    none = fit_auto(z, y, candidates=OWN, sample_weight=fine)
    assert none.temperature == fit_auto(z[fine], y[fine], candidates=OWN).temperature
    found = diagnose(z, y, z[fine], y[fine], candidates=OWN, sample_weight=np.where(fine, 1.0, 0.1))
    assert f"which their weights make count as {found.effective:.3g}" in found.summary()
    assert found.effective == pytest.approx((fine + 0.1 * ~fine).sum() ** 2 / (fine + 0.01 * ~fine).sum())
    assert found.ladder is None
    assert found.shift is None
    assert found.errors == (z.argmax(axis=1) != y).sum(), "counts aren't weighted"
    for mine, plain in zip(found.confusions, diagnose(z, y, candidates=OWN).confusions, strict=True):
        assert vars(mine) == pytest.approx(vars(plain))
    said = " ".join(str(found).split())
    assert "Samples are counted, and T is fitted for what is expected, without their weights." in said
    assert "test samples, which have no weights, and aren't compared with them" in said
    some = diagnose(z, y, candidates=OWN, sample_weight=fine)
    assert f"without {(~fine).sum()} of weight 0" in some.summary()
    assert str(some).partition("Which")[2] == str(diagnose(z[fine], y[fine], candidates=OWN)).partition("Which")[2]
    assert set(found.scores) >= {"none", "exact"}


@pytest.mark.usefixtures("without_ladder")
def test_equal_weights_change_nothing():
    z, y = drawn(300, flips=0.3)
    weights = np.full(300, 0.3)
    assert fit_temperature(z, y, sample_weight=weights) == fit_temperature(z, y)
    np.testing.assert_array_equal(
        fit_partner(z, y, sample_weight=weights).predict_proba(z), fit_partner(z, y).predict_proba(z)
    )
    mine, plain = (diagnose(z, y, candidates=OWN, **each) for each in ({"sample_weight": weights}, {}))
    assert mine.as_json() == plain.as_json()
    assert str(mine) == str(plain)
    fitted = TemperatureScaling().fit(z, y, sample_weight=TIMES)
    assert fitted.temperature_ == fit_temperature(z, y, sample_weight=TIMES).T


@pytest.mark.usefixtures("without_ladder")
def test_one_sample_with_nearly_all_weight_decides_nothing():
    z, y = drawn(300, flips=0.3)
    weights = np.where(np.arange(300) == 3, 1e9, 1.0)
    found = fit_auto(z, y, candidates=OWN, sample_weight=weights)
    assert (found.chosen, found.temperature.T) == ("none", 1.0)
    assert found.reason == "by their weights, samples count as fewer than 20 (as 1)"
    told = diagnose(z, y, candidates=OWN, sample_weight=weights)
    assert told.summary().endswith(", which their weights make count as 1")
    assert (told.temperature.low, told.temperature.high) == (0, np.inf)
    assert str(diagnose(z, y, candidates=OWN, sample_weight=np.where(weights > 1, 1e200, 1.0)))
    grouped = fit_auto(
        z, y, candidates=OWN, groups=np.arange(300) // 10, sample_weight=np.where(np.arange(300) < 10, 1.0, 1e-9)
    )
    assert grouped.reason == "by their weights, groups count as fewer than 20 (as 1)"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: -w, r"sample_weight\[0\] = -1.0: expected a finite number of at least 0"),
        (lambda w: np.where(np.arange(300) == 5, np.nan, w), r"sample_weight\[5\] = nan"),
        (lambda w: np.where(np.arange(300) == 5, np.inf, w), r"sample_weight\[5\] = inf"),
        (lambda w: 0 * w, "sample_weight: all are zero; give at least one sample a weight above 0"),
        (lambda w: w[:-1], r"sample_weight: found shape \(299,\), expected one weight per sample, i.e. shape \(300,\)"),
        (lambda w: w.astype(str), "sample_weight: found dtype"),
        (lambda w: [[1, 2], [3]], "sample_weight: found rows of different lengths"),
        (lambda w: [*w[:-1], None], r"sample_weight\[299\] = nan"),
        (lambda w: np.ma.masked_less(np.arange(300.0), 5), "sample_weight: found masked entries"),
    ],
)
def test_bad_weights_are_named(change, told):
    z, y = drawn(300, flips=0.3)
    for fit in (fit_temperature, fit_partner, fit_auto, diagnose, TemperatureScaling().fit):
        with pytest.raises(SpecError, match=told):
            fit(z, y, sample_weight=change(np.ones(300)))


def test_weights_that_leave_one_group_are_refused():
    z, y = drawn(300, flips=0.3)
    groups = np.arange(300) // 150
    with pytest.raises(SpecError, match="groups: all samples with a weight above 0 are in one group"):
        fit_auto(z, y, groups=groups, candidates=OWN, sample_weight=groups)
    assert softmax(z, axis=1).shape == fit_auto(z, y, groups=groups, candidates=OWN).predict_proba(z).shape
