"""The sentence on what was found, and the themes of tests, both made from verdicts alone."""

from __future__ import annotations

import random

import pytest

from halobench.results import finding
from synthetic import CLAIM_ROW

PAPER, OPTIMAL = "the temperature that the paper's code fits", "the optimal temperature"
TESTS = "decided tests of the paper's claims"


def rows(**verdicts: str) -> list[dict]:
    """Rows by calibration: h holds, f does not, m mixed, u undecided, n not tested."""
    words = {"h": "holds", "f": "does_not", "m": "mixed", "u": "undecided", "n": "not_tested"}
    return [
        CLAIM_ROW | {"fit": fit, "verdict": words[v], "adjusted": words[v]}
        for fit, each in verdicts.items()
        for v in each
    ]


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        (
            {"paper": "hhh", "exact": "hfffuun", "none": "ff"},
            f"With {PAPER}, all 3 {TESTS} hold; with {OPTIMAL}, 1 of 4 holds and 3 fail.",
        ),
        ({"paper": "uu", "exact": "hh"}, f"With {OPTIMAL}, both {TESTS} hold."),
        ({"exact": "f", "oracle": "h"}, f"With {OPTIMAL}, the 1 {TESTS.replace('tests', 'test')} fails."),
        ({"none": "hhf"}, f"Without calibration, 2 of 3 {TESTS} hold and 1 fails."),
        (
            {"exact": "un"},
            "This grid decides no test of the paper's claims; the leaderboard compares its losses and calibrators.",
        ),
        ({}, ""),
    ],
)
def test_the_finding_counts_decided_tests_over_all_cells(verdicts, sentence):
    made = rows(**verdicts)
    others = [row | {"scope": "digits/mlp", "verdict": "does_not"} for row in made]
    checks = [row | {"kind": "check", "verdict": "does_not"} for row in made]
    shuffled = [*made, *others, *(checks if sentence.startswith("W") else [])]
    random.Random(0).shuffle(shuffled)
    assert finding.finding(shuffled).partition(" Of ")[0] == sentence


def test_verdicts_are_counted_after_holms_correction():
    made = rows(exact="hhhmfu", none="n")
    made[0] |= {"adjusted": "undecided"}
    made[4] |= {"kind": "check"}
    line = "Of 6 tests, 2 hold, 1 does not hold, 2 undecided after Holm's correction for their number;"
    line += " 1 is mixed, since pairs of data set and model disagree."
    assert finding.adjusted_line(made) == line
    assert finding.finding(made) == f"With {OPTIMAL}, 2 of 3 {TESTS} hold and 1 is mixed. {line}"
    text = [{key: str(value) for key, value in row.items()} for row in made]  # as read from a CSV file
    assert finding.finding(text) == finding.finding(made)
    assert finding.adjusted_line(rows(exact="un")) == ""
    assert finding.effects(made) == {
        "Mixup against TS": f"{finding.effect('mixup', made)} 7 tests:"
        " 2 hold, 1 does not hold, 1 mixed, 2 undecided, 1 not tested."
    }


def test_a_theme_states_an_effect_by_fit_with_its_unit_and_what_it_was_measured_on():
    """Of the theme's first test, as numbers or as read from a CSV file."""
    made = rows(paper="h", exact="f", oracle="f", none="n")
    for row in made:
        row |= {"label": "B", "claim": f"b_{row['fit']}"}
    pair = made[0] | {"scope": "digits/mlp"}
    given = [*made, CLAIM_ROW, pair, made[0] | {"scope": "digits/cnn"}]
    each = "0.300 [0.200, 0.400] nats with TS ({}), claimed above 0.1: {}"
    said = "; ".join([each.format("paper's code", "holds"), each.format("optimal", "does not hold")])
    assert finding.effect("mixup", given) == f"B: {said} (3 seeds of digits with cnn, mlp)."
    text = [{key: str(value) for key, value in row.items()} for row in given]
    assert finding.effect("mixup", text) == finding.effect("mixup", given)
    zero = [CLAIM_ROW | {"estimate": 0.0, "low": 0.0}]
    assert finding.effect("mixup", zero).startswith("A: 0.000 [0.000, 0.400] nats")
    several = CLAIM_ROW | {"pairs": 3, "least": -0.1, "most": 0.5}
    ends = "claimed above 0.1: {} (3 seeds)."
    spread = "A: 0.300 [0.200, 0.400] nats with TS (optimal) (−0.100 to 0.500 for 3 pairs), "
    assert finding.effect("mixup", [several]) == spread + ends.format("holds")
    mixed = several | {"verdict": "mixed", "adjusted": "mixed"}
    alone = "A: −0.100 to 0.500 nats with TS (optimal) for 3 pairs, " + ends.format("mixed")
    assert finding.effect("mixup", [mixed]) == alone, "a mean over opposite verdicts isn't stated"
    slope = finding.effect("mixup", [CLAIM_ROW | {"statistic": "slope"}])
    assert slope.startswith("A: 0.300 [0.200, 0.400] nats per unit of log k")
    assert finding.effect("mixup", rows(exact="n")) == finding.effect("halos", made) == ""


def test_registrations_are_counted_by_when_they_were_made():
    made = rows(exact="hhhfu")
    for row in made[1:]:
        row["registered"] = "after a pilot: three seeds"
    made[1]["registered"] = "with the first runs"
    told = "Of 5 tests, 1 was registered before any run, 1 with the first runs, 3 after results had been seen."
    assert finding.registration_line(made) == told
    assert finding.registration_line([]) == ""


def test_further_repair_has_a_sentence_of_its_own():
    """Its tests aren't claims of the paper, so they don't count among those."""
    repair = [row | {"kind": "repair", "theme": "repair"} for row in rows(partner="hhfun")]
    paper = f"With {OPTIMAL}, both {TESTS} hold."
    words = " After partner scaling, which uses counts of confused classes, 2 of 3"
    whole = finding.finding([*rows(exact="hh"), *repair])
    assert whole.startswith(f"{paper}{words} decided tests of its repair hold and 1 fails. Of 6 tests")
    assert finding.finding([*rows(exact="hh"), *repair[3:]]).startswith(f"{paper} Of 3 tests"), "none is decided"
    assert finding.finding(repair) == "", "a grid of no claim of the paper's has no finding on them"


def test_a_study_with_claims_of_its_own_is_summed_up_by_them():
    own = [row | {"kind": "own"} for row in rows(none="hhf")]
    assert finding.finding(own).startswith(
        "Without calibration, 2 of 3 decided tests of the claims hold and 1 fails. Of"
    )
    assert finding.finding([*own, *rows(exact="hh")]).startswith(f"With {OPTIMAL}, both {TESTS} hold. Of 5 tests")
    undecided = [row | {"kind": "own"} for row in rows(none="u")]
    assert finding.finding(undecided).startswith("This grid decides no test of the claims; the leaderboard")


def test_growth_says_how_it_is_tested_and_checks_are_known():
    growth = [row | {"theme": "growth"} for row in rows(exact="nn")]
    said = "2 tests: 2 not tested; make theory tests them."
    assert finding.effects(growth) == {"Growth with classes": said}
    (decided,) = finding.effects([*growth, growth[0] | {"verdict": "holds", "adjusted": "holds"}]).values()
    assert "make theory" not in decided
    check = growth[0] | {"kind": "check"}
    assert [finding.is_check(row) for row in (growth[0], check, check | {"kind": "repair"})] == [False, True, False]


def test_a_table_that_cannot_be_read_has_no_rows(tmp_path):
    (tmp_path / "old.csv").write_text("claim,verdict\na,holds\n")
    (tmp_path / "none.csv").write_bytes(b"\xff\xfe")
    for name in ("old", "none", "absent"):
        assert finding.read_claims(tmp_path / f"{name}.csv") == []
