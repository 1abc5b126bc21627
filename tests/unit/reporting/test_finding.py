"""The sentences on what was found, made from verdicts alone."""

from __future__ import annotations

import random

import pytest

from halobench.reporting import finding
from synthetic import CLAIM_ROW

PAPER, OPTIMAL = "the temperature that the paper's code fits", "the optimal temperature"
TESTS = "decided tests of the paper's claims"


def rows(**verdicts: str) -> list[dict]:
    """Rows by calibration: h holds, f does not, m mixed, p supported by no pair, u undecided, n not tested."""
    words = {"h": "holds", "f": "does_not", "m": "mixed", "p": "no_pair", "u": "undecided", "n": "not_tested"}
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
    made = rows(exact="hhhmfup", none="n")
    made[0] |= {"adjusted": "undecided"}
    made[4] |= {"kind": "check"}
    line = "Of 7 tests, 2 hold, 1 does not hold, 2 undecided after Holm's correction for their number;"
    line += " 1 is mixed, since pairs of data set and model disagree; 1 is supported by no pair."
    assert finding.adjusted_line(made) == line
    assert (
        finding.finding(made)
        == f"With {OPTIMAL}, 2 of 4 {TESTS} hold, 1 is mixed and 1 is supported by no pair. {line}"
    )
    text = [{key: str(value) for key, value in row.items()} for row in made]  # as read from a CSV file
    assert finding.finding(text) == finding.finding(made)
    assert finding.adjusted_line(rows(exact="un")) == ""
    assert (
        finding.counted(made) == "2 hold, 1 does not hold, 1 mixed, 1 supported by no pair, 2 undecided, 1 not tested"
    )


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


def test_each_claim_of_ones_own_has_its_verdict_after_holms_correction_and_its_estimate():
    numbers = {"kind": "own", "estimate": -0.2, "low": -0.3, "high": -0.1, "pairs": 1, "hold": 1, "fail": 0}
    held, lost, mixed, untested = (row | numbers for row in rows(none="hhmn"))
    lost |= {"adjusted": "undecided", "hold": 0}
    mixed |= {"pairs": 3, "hold": 1, "fail": 2}
    untested |= {"estimate": float("nan"), "pairs": 0, "hold": 0}
    others = [row | {"scope": "digits/mlp"} for row in (held, mixed)] + rows(exact="h")
    found = finding.own_claims([held, lost, mixed, untested, *others])
    assert [each["found"] for each in found] == [
        "holds (−0.200 [−0.300, −0.100])",
        "undecided (−0.200 [−0.300, −0.100])",
        "mixed; of 3 pairs: for 1, not for 2",
        "not tested",
    ]
    assert {each["statement"] for each in found} == {CLAIM_ROW["statement"]}


def test_checks_are_known():
    kinds = ("paper", "check", "repair")
    assert [finding.is_check(CLAIM_ROW | {"kind": kind}) for kind in kinds] == [False, True, False]
