"""Bad arguments of public functions are named in one line; metrics, files and cells have tests of their own."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from halobench import (
    SpecError,
    bootstrap_intervals,
    diagnose,
    ece_floor,
    fit_auto,
    fit_partner,
    fit_temperature,
    repair_ladder,
    scale,
)
from halobench.calibration import calibrator
from halobench.calibration.scores import metric
from unit.calibration.builders import drawn

Z, Y = drawn(60, 3)
P = metric.softmax(Z)
RIGHT = 9 * np.eye(3)[Y]
RULED_OUT = np.where(np.arange(3) == 0, -np.inf, Z)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: fit_partner(P, Y), "logits = .*look like probabilities"),
        (lambda: fit_partner(Z * np.inf, Y), r"logits\[0\] = .*finite numbers"),
        (lambda: fit_partner(Z, np.eye(3)[Y]), "labels: found shape"),
        (lambda: fit_partner(Z, Y + 1), r"labels\[\d+\] = 3.*labels start at 0"),
        (lambda: fit_partner(Z, Y).predict_proba(np.zeros((4, 5))), "logits: found 5 columns, expected 3"),
        (lambda: calibrator.fit("top_rest", Z * np.nan, Y), r"logits\[0\] = nan"),
        (lambda: calibrator.fit("top_rest", Z, Y[:9]), "labels: found shape"),
        (lambda: fit_auto(P, Y), "look like probabilities"),
        (lambda: fit_auto(Z, Y + 1), "labels start at 0"),
        (lambda: fit_auto(Z, Y, seed=-1), "seed = -1"),
        (lambda: fit_auto(Z, Y, candidates=("partner", "partner")), "each name only once"),
        (lambda: fit_auto(Z, Y, candidates=("auto",)), "auto chooses among the candidates"),
        (lambda: fit_auto(Z, Y, candidates=("partnr",)), "did you mean 'partner'"),
        (lambda: repair_ladder(P, Y), "logits = .*look like probabilities"),
        (lambda: repair_ladder(Z, P[:9]), "targets: found shape"),
        (lambda: repair_ladder(Z[:20], Y[:20]), "logits: found 20 rows, expected at least 50"),
        (lambda: repair_ladder(Z, 0 * Y), "targets: found only the label 0"),
        (lambda: repair_ladder(RIGHT, Y), "logits: .*no temperature is optimal"),
        (lambda: repair_ladder(RULED_OUT, Y), r"logits\[0\] = -inf"),
        (lambda: repair_ladder(Z, Y, more=(np.zeros((60, 4)), Y)), r"more: found rows of shape \(4,\)"),
        (lambda: repair_ladder(Z, Y, more=(Z[:20], Y[:20])), "more: found 20 rows"),
        (lambda: repair_ladder(Z, Y, draws=0), "draws = 0"),
        (lambda: metric.ece(P, Y, bins=0), "bins = 0"),
        (lambda: metric.ece(P, Y, bins=1.5), "bins = 1.5"),
        (lambda: metric.ace(P, Y, bins=0, kind="equal_mass"), "bins = 0"),
        (lambda: metric.ace(P, Y, kind="adaptive"), "kind = 'adaptive'"),
        (lambda: metric.kl(Z, Y), r"targets: found shape \(60,\), expected rows of probabilities, which kl needs"),
        (lambda: metric.nll(P, Y), "logits = .*look like probabilities"),
        (lambda: ece_floor(P, 15, 0, RNG), "draws = 0"),
        (lambda: bootstrap_intervals(P, 0, RNG), "draws = 0"),
        (lambda: bootstrap_intervals(P, 5, RNG, level=95), "level = 95"),
        (lambda: bootstrap_intervals(Y, 5, RNG), "values: found shape"),
        (lambda: bootstrap_intervals(P * math.nan, 5, RNG), "values: found NaN"),
        *((lambda beta=beta: scale(Z, beta), f"beta = {beta}") for beta in (-1.0, math.inf, math.nan)),
    ],
)
def test_what_is_wrong_is_named(call, told):
    with pytest.raises(SpecError, match=told) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_two_classes_may_be_labelled_false_and_true():
    logits, labels = drawn(60, 2)
    truth = labels == 1
    for fit in (fit_partner, fit_auto, fit_temperature, functools.partial(calibrator.fit, "top_rest")):
        found, expected = (fit(logits, given).predict_proba(logits) for given in (truth, labels))
        np.testing.assert_array_equal(found, expected)
    assert metric.nll(logits, truth) == metric.nll(logits, labels)
    assert str(diagnose(logits, truth)) == str(diagnose(logits, labels))
    with pytest.raises(SpecError, match=r"labels: found dtype bool, expected whole numbers from 0 to 2 \(use"):
        fit_partner(Z, Y == 1)
    with pytest.raises(SpecError, match=r"labels: found shape \(60, 2\), .*for one-hot rows, use argmax"):
        fit_partner(logits, np.eye(2, dtype=bool)[labels])
    with pytest.raises(
        SpecError, match=r"labels: found shape \(60, 2\), .*calibrate each label on its own, as two classes"
    ):
        fit_partner(logits, np.ones((60, 2)))
