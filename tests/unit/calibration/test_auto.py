"""The choice of a calibrator by cross-fitting: its rule, its stated gain, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from halobench import SpecError, diagnose, fit_auto
from halobench.calibration import calibrator
from halobench.calibration.calibrators import auto
from halobench.calibration.calibrators.auto import TS
from halobench.calibration.calibrators.shrunk import fit_shrunk
from halobench.calibration.repair import trials as trials_module
from halobench.calibration.repair.groups import Groups
from halobench.calibration.repair.trials import FOLDS, Trials, variance
from halobench.calibration.scores.sample_scores import softmax
from halobench.core.seeding import generator
from unit.calibration.builders import drawn, plain_shrunk
from unit.calibration.builders import without_ladder as without_ladder  # a fixture

OWN = ("top_rest", "partner")


def plain_choice(gains: np.ndarray, errors: np.ndarray) -> int:
    """The rule for mean gains (m,) out of fold and their errors, candidate by candidate; -1 for the temperature."""
    clear = [j for j in range(len(gains)) if gains[j] > 1.96 * 1.25 * errors[j]]
    return next((j for j in clear if gains[j] > max(gains[clear]) - 0.005), -1)


@pytest.mark.parametrize(("n", "flips"), [(300, 0.0), (700, 0.35)])
def test_choice_and_gain_are_those_of_plain_code(n, flips):
    z, y = drawn(n, flips=flips)
    fold = generator(3, "auto", "folds").permutation(len(y)) % FOLDS
    weight = fit_shrunk(z, y).weight
    gains, variances, base = np.empty((len(y), 2)), np.empty((len(y), 2)), np.empty(len(y))
    for number in range(FOLDS):
        out = fold == number
        rows, p = np.arange(out.sum()), softmax(plain_shrunk(z[~out], y[~out], weight) * z[out])
        base[out] = np.log(p[rows, y[out]]) - np.log(softmax(z[out])[rows, y[out]])
        for j, name in enumerate(OWN):
            q = calibrator.fit(name, z[~out], y[~out]).predict_proba(z[out])
            gains[out, j] = np.log(q[rows, y[out]]) - np.log(p[rows, y[out]])
            ratio = np.log(q) - np.log(p)
            variances[out, j] = [(a * r**2).sum() - (a * r).sum() ** 2 for a, r in zip(p, ratio, strict=True)]
    fit = fit_auto(z, y, candidates=OWN, seed=3)
    means = gains.mean(axis=0)
    errors = np.sqrt(np.maximum(gains.var(axis=0, ddof=1), variances.mean(axis=0)) / len(y))
    chosen = plain_choice(means, errors)
    assert fit.chosen == (OWN[chosen] if chosen >= 0 else TS)
    assert [each.value for each in fit.candidates] == pytest.approx(means.tolist(), abs=1e-7)
    assert fit.temperature_gain.value == pytest.approx(base.mean(), abs=1e-7)
    assert [each.value for each in fit.over_none] == pytest.approx((base.mean() + means).tolist(), abs=1e-7)
    if chosen < 0:
        assert (fit.gain.value, fit.gain.low, fit.gain.high) == (0, 0, 0)
        return
    mean, error = means[chosen], errors[chosen]
    assert fit.gain.value == pytest.approx(mean - (1.96 * 1.25 * error) ** 2 / mean, abs=1e-7)
    assert mean - fit.gain.low == pytest.approx(1.96 * 1.25 * error, rel=1e-6)
    assert fit.gain.high - mean == pytest.approx(1.96 * 1.25 * error, rel=1e-6)
    whole = calibrator.fit(OWN[chosen], z, y)
    np.testing.assert_array_equal(fit.predict_proba(z), whole.predict_proba(z))


def trials(gains: np.ndarray, variances: np.ndarray, groups: Groups | None = None) -> Trials:
    """Trials of one candidate, with the gains (n,) of samples and their variances if the base were the truth."""
    groups = Groups.single(len(gains)) if groups is None else groups
    return Trials(("partner",), groups, gains[:, None], variances[:, None], np.zeros((len(gains), 2)), {}, {}, 1.0)


def test_rare_labels_that_were_not_drawn_count():
    """A candidate that gains on all samples isn't chosen if its gain would vary widely, were the base the truth."""
    gains = np.where(np.arange(60) < 2, -0.01, 0.1)
    assert trials(gains, np.zeros(60)).choice() == "partner"
    assert trials(gains, np.ones(60)).choice() is None
    z = 3 * np.eye(3)
    p, certain = softmax(z), 20 * z
    ratio = certain - 60 - z + np.log(np.exp(z).sum(axis=1, keepdims=True))
    expected = (p * ratio**2).sum(axis=1) - (p * ratio).sum(axis=1) ** 2
    np.testing.assert_allclose(variance(z, certain), expected, rtol=1e-9)


def test_of_candidates_that_gain_about_the_same_the_first_is_chosen():
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.normal(size=(400, 1))
    for first, second, chosen in ((0.100, 0.104, "a"), (0.100, 0.106, "b"), (-0.1, 0.1, "b"), (0.1, -0.1, "a")):
        gains = np.array([first, second]) + noise - noise.mean()
        assert Trials(("a", "b"), Groups.single(400), gains, gains * 0, gains, {}, {}, 1.0).choice() == chosen


def test_the_reduced_gain_is_less_biased_than_the_one_that_passed_the_gate():
    """Over true gains of either sign, the mean of the stated gain is near the true one, and far below the raw one."""
    rng, stated, raw, true = np.random.default_rng(0), [], [], []
    for gain in rng.normal(scale=0.1, size=4000):
        one = trials(gain + rng.normal(size=100), np.zeros(100))
        if one.choice():
            found = one.of_choice("partner")
            stated.append(found.value)
            raw.append(one.gains.mean())
            true.append(gain)
            assert 0 < found.value < one.gains.mean() < found.high
            assert 0 < found.low < found.value
    bias, before = np.mean(stated) - np.mean(true), np.mean(raw) - np.mean(true)
    assert before > 0.05
    assert abs(bias) < before / 3


def test_copies_of_samples_leave_the_standard_error_as_it_is():
    """Gains of five copies each have the error of the samples that were copied, in closed form."""
    rng = np.random.default_rng(0)
    gains, variances = rng.normal(size=40), rng.random(40)
    alone = trials(gains, variances).errors
    five = np.repeat(gains, 5), np.repeat(variances, 5)
    copied = trials(*five, Groups(np.repeat(np.arange(40), 5), "given")).errors
    assert alone**2 == pytest.approx(max(gains.var(ddof=1), variances.mean()) / 40, rel=1e-12)
    np.testing.assert_allclose(copied, alone, rtol=1e-12)
    np.testing.assert_allclose(trials(*five).errors, alone / np.sqrt(5), rtol=0.02)
    np.testing.assert_allclose(trials(*five, Groups.single(200, "order", 5.0)).errors, alone, rtol=0.02)
    suspected = trials(*five, Groups.single(200, "copies", 5.0)).errors
    np.testing.assert_array_equal(suspected, trials(*five).errors, "since other folds judge candidates, too")


def test_folds_keep_groups_together_and_are_the_usual_ones_for_single_samples():
    rng = np.random.default_rng(0)
    groups = rng.integers(30, size=400)
    groups = np.unique(groups, return_inverse=True)[1]
    fold = Groups(groups, "given").folds(FOLDS, np.random.default_rng(1))
    assert all(len(set(fold[groups == group])) == 1 for group in range(30))
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= np.bincount(groups).max()
    single = Groups.single(83).folds(FOLDS, np.random.default_rng(1))
    np.testing.assert_array_equal(single, np.random.default_rng(1).permutation(83) % FOLDS)


def test_groups_may_have_any_names_and_single_ones_change_nothing():
    z, y = drawn(200, flips=0.35)
    plain = fit_auto(z, y, candidates=OWN)
    by_name = calibrator.fit("auto", z, y, candidates=OWN)
    np.testing.assert_array_equal(by_name.predict_proba(z), plain.predict_proba(z))
    single = fit_auto(z, y, candidates=OWN, groups=[f"patient {i:03}" for i in range(200)])
    assert (single.chosen, single.candidates) == (plain.chosen, plain.candidates)
    assert single.groups.kind == "given"
    pairs = np.arange(200) // 2
    named = np.array(list("abcdefghij"), dtype=object)[pairs // 10] + pairs.astype(str).astype(object)
    by_name, by_number = (fit_auto(z, y, candidates=OWN, groups=each) for each in (named, 7 * pairs + 0.5))
    assert by_name.groups.count == by_number.groups.count == 100
    few = fit_auto(z, y, candidates=OWN, groups=np.arange(200) // 11)
    assert few.keeps_temperature
    assert few.reason == "there are fewer than 20 groups"


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (np.zeros(99), r"groups: found shape \(99,\), expected one group per sample, i.e. shape \(100,\)"),
        (["clinic"] * 100, "groups: all samples are in the group clinic; pass at least two groups"),
        (np.r_[np.arange(99), np.nan], r"groups\[99\]: missing"),
        ([None] + ["a", "b", "c"] * 33, r"groups\[0\]: missing"),
    ],
)
def test_bad_groups_are_named(groups, expected):
    z, y = drawn(100)
    with pytest.raises(SpecError, match=expected):
        fit_auto(z, y, groups=groups)
    with pytest.raises(SpecError, match=expected):
        diagnose(z, y, groups=groups)


@pytest.mark.usefixtures("without_ladder")
def test_a_class_of_which_labels_are_expected_keeps_the_temperature_and_a_rare_one_does_not():
    z, y = drawn(1000, flips=0.35)
    seen = y != 2
    fit = fit_auto(z[seen], y[seen], candidates=OWN)
    assert fit.keeps_temperature
    assert fit.candidates[0].reason == fit.reason
    assert "no label is of class 2" in fit.reason
    assert "no label is of class c" in str(diagnose(z[seen], y[seen], names=list("abcd"), candidates=OWN))
    for expected, missing in ((2.9, []), (3.1, [4])):
        u = z - z.max(axis=1, keepdims=True)
        share = expected / 1000
        beta = auto.finite_beta(np.column_stack([u, np.full(1000, -np.inf)]), y)
        rest = np.log(np.exp(beta * u).sum(axis=1)) + np.log(share / (1 - share))
        assert auto.missing_classes(np.column_stack([u, rest / beta]), y) == missing or abs(expected - 3) < 0.5


def test_a_candidate_that_fails_is_left_out_with_its_reason(monkeypatch):
    fit, failed = trials_module.fit_checked, calibrator.Calibrator(None, np.nan, converged=False, reason="no luck")
    monkeypatch.setattr(
        trials_module, "fit_checked", lambda name, *rest: failed if name == "partner" else fit(name, *rest)
    )
    found = fit_auto(*drawn(200, flips=0.3), candidates=OWN)
    (partner,) = (each for each in found.candidates if each.name == "partner")
    assert partner.reason == "no luck"
    assert np.isnan(partner.value)
    assert found.chosen in (TS, "shrunk", "top_rest")


@pytest.mark.usefixtures("without_ladder")
def test_candidates_that_were_not_tried_are_named(monkeypatch):
    z, y = drawn(200, flips=0.3)
    assert fit_auto(z, y, candidates=()).reason == "no candidate was given"
    assert "no candidate was given" in str(diagnose(z, y, candidates=()))
    monkeypatch.setattr(auto, "WORK", 1.0)
    assert fit_auto(z, y, candidates=("matrix",)).reason == "no candidate could be tried"


@pytest.mark.parametrize("names", [["a", "b"], "abcd", [1], {"a": 0}])
def test_names_of_classes_are_one_per_column(names):
    with pytest.raises(SpecError, match=r"names = .*expected a list of 4 class names"):
        fit_auto(*drawn(50), names=names, candidates=OWN)
