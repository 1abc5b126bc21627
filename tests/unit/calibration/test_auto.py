"""The choice of a calibrator by cross-fitting: its rule, its stated gain, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from halobench import diagnose, fit_auto
from halobench.calibration import auto, calibrator
from halobench.calibration.auto import FOLDS, TS
from halobench.calibration.sample_scores import softmax
from halobench.calibration.temperature_scaling import finite_beta
from halobench.core.seeding import generator
from unit.calibration.builders import drawn

OWN = ("top_rest", "partner")


def plain_choice(gains: np.ndarray, variances: np.ndarray) -> int:
    """The rule for gains (n, m) out of fold, candidate by candidate; -1 for TS."""
    best, chosen = 0.0, -1
    for j in range(gains.shape[1]):
        error = np.sqrt(max(gains[:, j].var(ddof=1), variances[:, j].mean()) / len(gains))
        if gains[:, j].mean() > 1.5 * error and gains[:, j].mean() > best:
            best, chosen = gains[:, j].mean(), j
    return chosen


@pytest.mark.parametrize("flips", [0.0, 0.1, 0.35])
def test_choice_and_gain_are_those_of_plain_code(flips):
    z, y = drawn(300, flips=flips)
    fold = generator(3, "auto", "folds").permutation(len(y)) % FOLDS
    gains, variances = np.empty((len(y), 2)), np.empty((len(y), 2))
    for number in range(FOLDS):
        out = fold == number
        beta = finite_beta(z[~out], y[~out])
        for j, name in enumerate(OWN):
            q = calibrator.fit(name, z[~out], y[~out]).probabilities(z[out])
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
    picks = [gains[fold != number].mean(axis=0).argmax() for number in range(FOLDS)]
    values = np.array([gains[i, picks[f]] for i, f in enumerate(fold)])
    assert fit.gain.value == pytest.approx(values.mean(), abs=1e-9)
    error = np.sqrt(max(values.var(ddof=1), gains[:, chosen].var(ddof=1), variances[:, chosen].mean()) / len(y))
    assert fit.gain.value - fit.gain.low == pytest.approx(1.96 * 1.5 * error, rel=1e-9)
    assert fit.gain.high - fit.gain.value == pytest.approx(1.96 * 1.5 * error, rel=1e-9)
    whole = calibrator.fit(OWN[chosen], z, y)
    np.testing.assert_array_equal(fit.predict_proba(z), whole.probabilities(z))


def test_a_choice_that_would_state_a_loss_is_not_made(monkeypatch):
    """The first candidate gains clearly on all samples, but whichever is best on four folds loses on the fifth."""
    fold = np.arange(100) % FOLDS
    gains = np.array([[0.2, -0.1]] * 4 + [[-0.5, 0.6]])[fold]
    trials = auto._Trials(OWN, fold, gains, np.zeros_like(gains), {})
    assert trials.choice() == OWN[0]
    assert trials.of_choice(OWN[0]).value == pytest.approx(-0.18)
    monkeypatch.setattr(auto, "_cross_fitted", lambda *_: trials)
    fit = fit_auto(*drawn(100), candidates=OWN)
    assert (fit.chosen, fit.reason) == (TS, "no candidate gains clearly")
    np.testing.assert_allclose([each.value for each in fit.candidates], [0.06, 0.04])


def test_rare_labels_that_were_not_drawn_count():
    """A candidate that gains on all samples isn't chosen if its gain would vary widely, were TS the truth."""
    fold, gains = np.arange(60) % FOLDS, np.where(np.arange(60) < 2, -0.01, 0.1)[:, None]
    for variance, choice in ((0.0, "partner"), (1.0, None)):
        trials = auto._Trials(("partner",), fold, gains, np.full_like(gains, variance), {})
        assert trials.choice() == choice
    z = 3 * np.eye(3)
    p, certain = softmax(z), 20 * z
    ratio = certain - 60 - z + np.log(np.exp(z).sum(axis=1, keepdims=True))
    expected = (p * ratio**2).sum(axis=1) - (p * ratio).sum(axis=1) ** 2
    np.testing.assert_allclose(auto._variance(p, np.log(p), certain), expected, rtol=1e-9)


def test_it_does_not_depend_on_shifts():
    z, y = drawn(200, flips=0.3)
    first = fit_auto(z, y, candidates=OWN)
    shifted = z + np.random.default_rng(0).normal(size=(len(z), 1))
    np.testing.assert_allclose(
        fit_auto(shifted, y, candidates=OWN).predict_proba(shifted), first.predict_proba(z), atol=1e-7
    )
    p = calibrator.fit("auto", z, y, candidates=OWN).probabilities(z)
    np.testing.assert_array_equal(p, first.predict_proba(z))


def test_a_candidate_that_fails_is_left_out_with_its_reason(monkeypatch):
    fit_checked = auto.fit_checked

    def failing(name, logits, labels, options):
        if name == "partner":
            return calibrator.Calibrator(None, np.nan, converged=False, reason="no luck")
        return fit_checked(name, logits, labels, options)

    monkeypatch.setattr(auto, "fit_checked", failing)
    z, y = drawn(200, flips=0.3)
    fit = fit_auto(z, y, candidates=OWN)
    (partner,) = (each for each in fit.candidates if each.name == "partner")
    assert partner.reason == "no luck"
    assert np.isnan(partner.value)
    assert fit.chosen in (TS, "top_rest")


def test_candidates_that_were_not_tried_are_named(monkeypatch):
    z, y = drawn(200, flips=0.3)
    assert fit_auto(z, y, candidates=()).reason == "no candidate was given"
    assert "no candidate was given" in str(diagnose(z, y, candidates=()))
    monkeypatch.setattr(auto, "WORK", 1.0)
    assert fit_auto(z, y, candidates=("matrix",)).reason == "no candidate could be tried"
