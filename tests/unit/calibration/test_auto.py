"""The choice of a calibrator by cross-fitting: its rule, its stated gain, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from halobench import SpecError, diagnose, fit_auto
from halobench.calibration import calibrator
from halobench.calibration.repair import auto
from halobench.calibration.repair.auto import FOLDS, TS
from halobench.calibration.repair.copies import find_copies
from halobench.calibration.repair.groups import Groups
from halobench.calibration.scores.sample_scores import softmax
from halobench.calibration.temperature.temperature_scaling import finite_beta
from halobench.core.seeding import generator
from unit.calibration.builders import drawn
from unit.calibration.builders import without_ladder as without_ladder  # a fixture

OWN = ("top_rest", "partner")


def plain_choice(gains: np.ndarray, variances: np.ndarray) -> int:
    """The rule for gains (n, m) out of fold, candidate by candidate; -1 for TS."""
    best, chosen = 0.0, -1
    for j in range(gains.shape[1]):
        error = np.sqrt(max(gains[:, j].var(ddof=1), variances[:, j].mean()) / len(gains))
        if gains[:, j].mean() > 1.5 * error and gains[:, j].mean() > best:
            best, chosen = gains[:, j].mean(), j
    return chosen


@pytest.mark.parametrize("flips", [0.0, 0.35])
def test_choice_and_gain_are_those_of_plain_code(flips):
    z, y = drawn(300, flips=flips)
    fold = generator(3, "auto", "folds").permutation(len(y)) % FOLDS
    gains, variances = np.empty((len(y), 2)), np.empty((len(y), 2))
    for number in range(FOLDS):
        out = fold == number
        beta = finite_beta(z[~out], y[~out])
        for j, name in enumerate(OWN):
            q = calibrator.fit(name, z[~out], y[~out]).predict_proba(z[out])
            p = softmax(beta * z[out])
            rows = np.arange(out.sum())
            gains[out, j] = np.log(q[rows, y[out]]) - np.log(p[rows, y[out]])
            ratio = np.log(q) - np.log(p)
            variances[out, j] = [(a * r**2).sum() - (a * r).sum() ** 2 for a, r in zip(p, ratio, strict=True)]
    fit = fit_auto(z, y, candidates=OWN, seed=3)
    chosen = plain_choice(gains, variances)
    assert fit.chosen == (OWN[chosen] if chosen >= 0 else TS)
    assert [each.value for each in fit.candidates] == pytest.approx(gains.mean(axis=0).tolist(), abs=1e-9)
    if chosen < 0:
        assert (fit.gain.value, fit.gain.low, fit.gain.high) == (0, 0, 0)
        return
    error = np.sqrt(max(gains[:, chosen].var(ddof=1), variances[:, chosen].mean()) / len(y))
    mean = gains[:, chosen].mean()
    assert fit.gain.value == pytest.approx(mean - (1.5 * error) ** 2 / mean, abs=1e-9)
    assert fit.gain.value - fit.gain.low == pytest.approx(1.96 * 1.5 * error, rel=1e-9)
    assert fit.gain.high - mean == pytest.approx(1.96 * 1.5 * error, rel=1e-9)
    whole = calibrator.fit(OWN[chosen], z, y)
    np.testing.assert_array_equal(fit.predict_proba(z), whole.predict_proba(z))


def trials(gains: np.ndarray, variances: np.ndarray, groups: np.ndarray | None = None) -> auto._Trials:
    """Trials of one candidate, with the gains (n,) of samples and their variances if TS were the truth."""
    groups = np.arange(len(gains)) if groups is None else groups
    return auto._Trials(("partner",), Groups(groups, "given"), gains[:, None], variances[:, None], {}, {})


def test_rare_labels_that_were_not_drawn_count():
    """A candidate that gains on all samples isn't chosen if its gain would vary widely, were TS the truth."""
    gains = np.where(np.arange(60) < 2, -0.01, 0.1)
    assert trials(gains, np.zeros(60)).choice() == "partner"
    assert trials(gains, np.ones(60)).choice() is None
    z = 3 * np.eye(3)
    p, certain = softmax(z), 20 * z
    ratio = certain - 60 - z + np.log(np.exp(z).sum(axis=1, keepdims=True))
    expected = (p * ratio**2).sum(axis=1) - (p * ratio).sum(axis=1) ** 2
    np.testing.assert_allclose(auto._variance(p, np.log(p), certain), expected, rtol=1e-9)


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
            assert found.low < found.value
    bias, before = np.mean(stated) - np.mean(true), np.mean(raw) - np.mean(true)
    assert before > 0.05
    assert abs(bias) < before / 3


def test_copies_of_samples_leave_the_standard_error_as_it_is():
    """Gains of five copies each have the error of the samples that were copied, in closed form."""
    rng = np.random.default_rng(0)
    gains, variances = rng.normal(size=40), rng.random(40)
    alone = trials(gains, variances).errors
    copied = trials(np.repeat(gains, 5), np.repeat(variances, 5), np.repeat(np.arange(40), 5)).errors
    assert alone**2 == pytest.approx(max(gains.var(ddof=1), variances.mean()) / 40, rel=1e-12)
    np.testing.assert_allclose(copied, alone, rtol=1e-12)
    ignored = trials(np.repeat(gains, 5), np.repeat(variances, 5)).errors
    np.testing.assert_allclose(ignored, alone / np.sqrt(5), rtol=0.02)


def test_folds_keep_groups_together_and_are_the_usual_ones_for_single_samples():
    rng = np.random.default_rng(0)
    groups = rng.integers(30, size=400)
    groups = np.unique(groups, return_inverse=True)[1]
    fold = Groups(groups, "given").folds(FOLDS, np.random.default_rng(1))
    assert all(len(set(fold[groups == group])) == 1 for group in range(30))
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= np.bincount(groups).max()
    single = Groups(np.arange(83), "").folds(FOLDS, np.random.default_rng(1))
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
    assert (few.chosen, few.reason) == (TS, "there are fewer than 20 groups")


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


@pytest.mark.parametrize("k", [3, 40])
@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_copies_are_found_whatever_the_scale_and_constants_of_rows(k, noise):
    z, y = drawn(60, k, flips=0.2)
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(60), 4))
    near = (z + noise * z.std() * np.random.default_rng(1).normal(size=(4, *z.shape)))[np.arange(240) % 4, groups]
    found = find_copies(near, y[groups])
    together = groups[:, None] == groups
    np.testing.assert_array_equal(found[:, None] == found, together)
    moved = 1e4 * (near + np.random.default_rng(2).normal(size=(240, 1)).round())
    again = find_copies(moved, y[groups])
    assert (again[:, None] == again).mean() == pytest.approx(together.mean(), rel=0.05)


@pytest.mark.parametrize("k", [2, 3, 40])
def test_samples_that_are_independent_are_no_copies(k):
    """Neither if logits are distinct, nor if they coincide, as those of nearest neighbours and votes do."""
    z, y = drawn(400, k, flips=0.2)
    one_hot, votes = np.eye(k)[z.argmax(axis=1)], softmax(z / 3).round(1)
    permuted = np.roll(z, 1, axis=1)
    for each in (z, z.round(), one_hot, np.log(votes + 0.01), permuted):
        assert find_copies(each, y) is None


@pytest.mark.usefixtures("without_ladder")
def test_copies_are_grouped_and_widen_the_interval_of_the_temperature():
    z, y = drawn(60, flips=0.35)
    rows = np.repeat(np.arange(60), 5)
    known = fit_auto(z[rows], y[rows], candidates=OWN, groups=rows)
    found, single = (diagnose(*each, candidates=OWN) for each in ((z[rows], y[rows]), (z, y)))
    assert found.auto.groups.kind == "copies"
    assert found.auto.groups.count == known.groups.count == 60
    assert found.answers()[0].warning
    assert "The 300 samples were divided into 60 groups" in " ".join(str(found).split())
    intervals = [each.temperature.high / each.temperature.low for each in (found, single)]
    student = scipy.stats.t.ppf(0.975, 59) * np.sqrt(60 / 59)  # over 60 groups
    assert np.log(intervals[0]) / np.log(intervals[1]) == pytest.approx(student / 1.96, rel=1e-3)


@pytest.mark.usefixtures("without_ladder")
def test_a_class_that_is_missing_keeps_ts_and_a_rare_one_does_not():
    z, y = drawn(1000, flips=0.35)
    seen = y != 2
    fit = fit_auto(z[seen], y[seen], candidates=OWN)
    assert (fit.chosen, fit.candidates[0].reason) == (TS, fit.reason)
    assert "no label is of class 2" in fit.reason
    assert "no label is of class c" in str(diagnose(z[seen], y[seen], names=list("abcd"), candidates=OWN))
    tail = np.column_stack([z, np.full((len(z), 2), z.min() - 9)])
    assert auto.missing_classes(tail, np.where(np.arange(len(y)) < 2, 4, y)) == [], "like the other rare class"
    assert auto.missing_classes(tail, y) == [4, 5], "all other classes have plenty"
    few, plenty = (auto.missing_classes(tail, np.where(np.arange(len(y)) < count, 4, y)) for count in (4, 5))
    assert (few, plenty) == ([], [5]), "plenty begins at five labels"


def test_a_candidate_that_fails_is_left_out_with_its_reason(monkeypatch):
    fit, failed = auto.fit_checked, calibrator.Calibrator(None, np.nan, converged=False, reason="no luck")
    monkeypatch.setattr(auto, "fit_checked", lambda name, *rest: failed if name == "partner" else fit(name, *rest))
    found = fit_auto(*drawn(200, flips=0.3), candidates=OWN)
    (partner,) = (each for each in found.candidates if each.name == "partner")
    assert partner.reason == "no luck"
    assert np.isnan(partner.value)
    assert found.chosen in (TS, "top_rest")


@pytest.mark.usefixtures("without_ladder")
def test_candidates_that_were_not_tried_are_named(monkeypatch):
    z, y = drawn(200, flips=0.3)
    assert fit_auto(z, y, candidates=()).reason == "no candidate was given"
    assert "no candidate was given" in str(diagnose(z, y, candidates=()))
    monkeypatch.setattr(auto, "WORK", 1.0)
    assert fit_auto(z, y, candidates=("matrix",)).reason == "no candidate could be tried"
