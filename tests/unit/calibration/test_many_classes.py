"""Diagnoses with many classes: no answer rests on one sample, and no time is spent on what can't be learned."""

from __future__ import annotations

import re

import numpy as np
import pytest

from halobench import diagnose, fit_auto, fit_partner
from halobench.calibration import ladder
from halobench.calibration.calibrators import auto
from halobench.calibration.diagnosis.parts import confusions
from halobench.calibration.repair import newton
from halobench.core.errors import SpecError
from halobench.desk import diagnose as command
from unit.calibration.builders import drawn
from unit.calibration.builders import without_ladder as without_ladder  # a fixture


def test_the_fit_is_the_same_by_the_schur_complement(monkeypatch):
    z, y = drawn(300, 12, flips=0.3)
    dense = fit_partner(z, y)
    monkeypatch.setattr(newton, "MANY", 5)
    by_parts = fit_partner(z, y)
    assert dense.converged
    assert by_parts.converged
    np.testing.assert_allclose(by_parts.predict_proba(z), dense.predict_proba(z), atol=1e-9)


def spread_evenly(k: int, errors: int, planted: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels with errors in pairs at random, and `planted` more of 3 for 7."""
    rng = np.random.default_rng(0)
    labels = rng.integers(k, size=errors)
    top = (labels + rng.integers(1, k, size=errors)) % k
    return np.r_[top, np.full(planted, 3)], np.r_[labels, np.full(planted, 7)]


@pytest.mark.parametrize(("planted", "clear"), [(0, False), (1, False), (8, True)])
def test_a_confusion_stands_out_only_from_errors_spread_evenly(planted, clear):
    top, labels = spread_evenly(100, 600, planted)
    first = confusions(np.full((len(top), 100), 0.01), top, np.eye(100)[labels])[0]
    assert (first.chance < 0.05) == clear
    if clear:
        assert (first.predicted, first.label) == (3, 7)
    evens = [confusions(np.full((600, 40), 1 / 40), *draw)[0].chance for draw in evenly_spread(40, 100)]
    assert np.mean(np.array(evens) < 0.05) <= 0.08, "Bonferroni's correction is conservative"


def evenly_spread(k: int, draws: int):
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        labels = rng.integers(k, size=600)
        yield (labels + rng.integers(1, k, size=600)) % k, np.eye(k)[labels]


def many(n: int = 1000, k: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(k, size=n)
    z = rng.normal(size=(n, k))
    z[np.arange(n), labels] += 5 * (rng.random(n) < 0.8)
    return 2 * z, labels


def test_the_answers_say_what_few_samples_a_class_cant():
    told = " ".join(str(diagnose(*many(), candidates=("top_rest",))).split())
    assert "No pair of classes stands out." in told
    assert "it needs 3 samples a class on average, of at most 2,000, not 2.5." in told
    assert "Enough for a temperature, too few for maps that distinguish classes." in told


def test_candidates_are_compared_on_some_samples_and_fitted_to_all(monkeypatch, without_ladder):
    z, y = drawn(1200, 4, flips=0.35)
    monkeypatch.setattr(auto, "LARGEST", 2000)
    groups = np.arange(1200) // 2
    found = fit_auto(z, y, candidates=("partner",), groups=groups)
    assert found.compared == 500
    assert found.chosen == "partner"
    np.testing.assert_allclose(found.predict_proba(z), fit_partner(z, y).predict_proba(z), rtol=0, atol=1e-12)
    told = " ".join(str(diagnose(z, y, candidates=("partner",))).split())
    assert "They were compared on 500 samples, drawn at random, which favours simple maps." in told


def test_too_many_classes_are_one_line():
    labels = np.arange(40)
    with pytest.raises(
        SpecError, match=r"logits: 20,000 classes, whose tables .* 26 GB; diagnose at most 5,000"
    ) as caught:
        diagnose(np.zeros((40, 20_000), np.float32), labels)
    assert "\n" not in str(caught.value)


def test_the_rate_of_hundreds_of_classes_doesnt_overflow():
    assert ladder._rate(many(800, 420)[0]) == 0.0


def test_progress_is_printed_if_it_takes_long(tmp_path, monkeypatch, capsys, without_ladder):
    np.savez(tmp_path / "mine.npz", **dict(zip(("logits", "labels"), drawn(200), strict=True)))
    monkeypatch.setattr(auto, "default_candidates", lambda: ("top_rest",))
    command.run_diagnose(tmp_path / "mine.npz", 0)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(command, "PATIENCE", -1.0)
    command.run_diagnose(tmp_path / "mine.npz", 0)
    lines = capsys.readouterr().err.splitlines()
    assert "0 s: fold 1 of 5: fitting top_rest" in lines
    assert all(re.match(r"\d+ s: ", line) for line in lines)
