"""The study of few errors: harm, strata and draws, by closed forms and made-up logits."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from studies.few_errors import compare
from studies.few_errors.compare import AUTO, LOOSER, NONE, SHRUNK, SIMPLE, TS, Predictions

FROM_7, FROM_16 = SIMPLE


def predictions(n: int, errors: int, gap: float = 3.0) -> Predictions:
    """Two classes with the same gap on every sample, of which some, evenly spread, are errors."""
    labels = (np.arange(n) * errors // n != (np.arange(n) + 1) * errors // n).astype(int)
    return Predictions("made up", "a", np.tile([gap, 0.0], (n, 1)), labels)


def test_ts_is_the_log_odds_and_simple_rules_keep_1_below_their_number_of_errors():
    for errors, simple in ((6, (False, False)), (7, (True, False)), (16, (True, True))):
        _, _, logits, labels = predictions(100, errors)
        betas = compare.betas_of(logits, labels, errors)
        best = math.log((100 - errors) / errors) / 3
        assert betas[TS] == pytest.approx(best)
        assert [betas[rule] for rule in (FROM_7, FROM_16)] == pytest.approx([best if used else 1 for used in simple])


def test_the_looser_rule_has_t_1_up_to_one_standard_error_and_ts_from_two_and_a_half_on():
    """All samples have one gap, so z is that of the number of errors; in between, targets are mixed."""
    weights = []
    for errors in (15, 18, 40):
        _, _, logits, labels = predictions(100, errors, 2.0)
        betas, z = compare.betas_of(logits, labels, errors), compare.fit_shrunk(logits, labels).z
        q, p = errors / 100, 1 / (1 + math.exp(2.0))
        weights.append(min(1.0, max(0.0, (2.5 - abs(z)) / (1.5 * abs(z)))))
        mixed = (1 - weights[-1]) * q + weights[-1] * p
        assert betas[LOOSER] == pytest.approx(math.log((1 - mixed) / mixed) / 2)
    assert weights[0] == 1 > weights[1] > weights[2] == 0


def test_a_draw_is_scored_on_the_other_samples():
    """Of one gap, errors of the draw and of the rest add up, and the NLL of no calibration is that of the rest."""
    some = predictions(60, 12)
    for row in compare.drawn(some, {20: 5, 40: 5}):
        rest, errors = 60 - row["size"], 12 - row["errors"]
        assert row[NONE] == pytest.approx(np.logaddexp(0, -3) + 3 * errors / rest)
        if row["errors"]:
            beta = math.log((row["size"] - row["errors"]) / row["errors"])
            assert row[TS] == pytest.approx(np.logaddexp(0, -beta) + beta * errors / rest)
        assert math.isnan(row[AUTO])


def test_draws_are_the_same_again_and_differ_from_each_other():
    some = predictions(300, 30, 1.0)
    first, again = (pd.DataFrame(compare.drawn(some, {50: 4}, of_auto=2)) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert first[NONE].nunique() > 1
    assert first[AUTO].notna().tolist() == [True, True, False, False]


def test_strata_hold_their_numbers_of_errors():
    assert [compare.stratum(errors) for errors in (0, 1, 2, 3, 4, 7, 8, 15, 16, 900)] == [
        "0", "1", "2-3", "2-3", "4-7", "4-7", "8-15", "8-15", "16+", "16+",
    ]  # fmt: skip


def made_up() -> pd.DataFrame:
    """Two networks with 20 draws each: TS gains .1 but is worse than none by .01 in the first `bad` draws."""
    rows = []
    for network, bad, errors in (("a", 10, 3), ("b", 1, 5)):
        for draw in range(20):
            ts = 1.01 if draw < bad else 0.9
            row = {"data": "made up", "network": network, "size": 50, "errors": errors, NONE: 1.0, TS: ts}
            rows.append(row | {SHRUNK: 1.0, LOOSER: 1.0, FROM_7: 0.95, FROM_16: 1.004, AUTO: math.nan})
    return pd.DataFrame(rows)


def test_harm_is_the_share_of_draws_that_are_worse_by_more_than_a_margin_and_networks_weigh_the_same():
    found = compare.table(made_up()).set_index(["data", "network", "by", "value", "rule"]).sort_index()
    a, b, mean = (found.loc["made up", each, "samples", "50"] for each in ("a", "b", compare.MEAN))
    assert (a["harm"][TS], b["harm"][TS], mean["harm"][TS]) == pytest.approx((0.5, 0.05, 0.275))
    assert a["harm"][FROM_16] == 0
    assert a["worse_than_ts"][SHRUNK] == 0.5
    assert a["gain"][TS] == pytest.approx(0.045)
    assert a["kept"][FROM_7] == pytest.approx(0.05 / 0.045)
    assert mean["kept"][FROM_7] == pytest.approx(0.05 / ((0.045 + 0.0945) / 2))
    assert AUTO not in a.index
    assert found.loc["made up", "a", "errors", "2-3"]["draws"][TS] == 20


def test_the_smallest_number_of_errors_is_pooled_or_in_every_classifier():
    """With 4 errors or more, 2 of 49 draws do harm, but 1 of 10 of c's, all of which have 9 errors."""
    draws = made_up()
    b = draws[draws["network"] == "b"]
    assert compare.fewest_errors(draws) == {FROM_7: 4, FROM_16: 4}
    more = [b[:10].assign(network="c", errors=9), b[1:].assign(network="d")]
    assert compare.fewest_errors(pd.concat([draws, *more])) == {FROM_7: 4, FROM_16: 10}


def test_goals_are_judged_on_tested_networks_only():
    found = compare.table(pd.concat([made_up(), made_up().assign(data=compare.DIGITS, network="d")]))
    first, *_ = compare.judged(found).splitlines()
    assert first == "TS: harm in more than 5% of draws in 1 of 2 rows (surely in 1); keeps less than 90% in 0 of 2"
