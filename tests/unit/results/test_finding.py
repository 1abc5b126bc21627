"""The sentence on what was found, and the themes of tests, both made from verdicts alone."""

from __future__ import annotations

import random
import re

import pytest

from conftest import ROOT
from halobench.results import finding
from halobench.results.claims import load_claims
from halobench.results.names import THEMES

PAPER, OPTIMAL = "the temperature that the paper's code fits", "the optimal temperature"
TESTS = "decided tests of the paper's claims"


def rows(**verdicts: str) -> list[dict]:
    """Rows by calibration: h holds, f does not, u undecided, n not tested."""
    words = {"h": "holds", "f": "does_not", "u": "undecided", "n": "not_tested"}
    return [
        {"scope": "all", "fit": fit, "verdict": words[v], "statement": "x [Section 4]", "statistic": "level of a.b: c"}
        for fit, each in verdicts.items()
        for v in each
    ]


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        (
            {"released": "hhh", "exact": "hfffuun", "none": "ff"},
            f"With {PAPER}, all 3 {TESTS} hold; with {OPTIMAL}, 1 of 4 holds and 3 fail.",
        ),
        ({"released": "uu", "exact": "hh"}, f"With {OPTIMAL}, both {TESTS} hold."),
        ({"exact": "f", "oracle": "h"}, f"With {OPTIMAL}, the 1 {TESTS.replace('tests', 'test')} fails."),
        ({"none": "hhf"}, f"Without calibration, 2 of 3 {TESTS} hold and 1 fails."),
        ({"exact": "un"}, "This grid decides no test of the paper's claims."),
        ({}, ""),
    ],
)
def test_the_finding_counts_decided_tests_over_all_cells(verdicts, sentence):
    made = rows(**verdicts)
    others = [row | {"scope": "digits/mlp", "verdict": "does_not"} for row in made]
    checks = [row | {"statement": "x [a check on the experiments]", "verdict": "does_not"} for row in made]
    shuffled = [*made, *others, *(checks if sentence.startswith("W") else [])]
    random.Random(0).shuffle(shuffled)
    assert finding.finding(shuffled) == sentence


def test_every_claim_of_the_file_has_the_theme_of_its_section(tmp_path):
    text = (ROOT / "workflow/claims.yaml").read_text()
    _, *parts = re.split(r"^  # --- (\w+).* -+$", text, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert len(sections) == len(THEMES)
    for theme, (heading, section) in zip(THEMES, sections.items(), strict=True):
        (tmp_path / heading).write_text("claims:\n" + section)
        for claim in load_claims(tmp_path / heading):
            # Comparisons of Mixup with TS on distributions belong to the growth that they explain.
            mixed = re.match(r"mixup\d_closer_than_ts", claim.name)
            assert finding.theme_of(claim.formula) == ("mixup" if mixed else theme), claim.name


def test_further_repair_has_a_sentence_of_its_own():
    """Its tests aren't claims of the paper, so they don't count among those."""
    statistic = "difference of metrics.value: (calibrator partner) - (calibrator exact) where metric kl"
    repair = [row | {"statement": "x [a check]", "statistic": statistic} for row in rows(partner="hhfun")]
    paper = f"With {OPTIMAL}, both {TESTS} hold."
    words = " After partner scaling, a richer map fitted like a temperature, 2 of 3 decided tests of further repair"
    assert finding.finding([*rows(exact="hh"), *repair]) == f"{paper}{words} hold and 1 fails."
    assert finding.finding([*rows(exact="hh"), *repair[3:]]) == paper, "none of them is decided"
    assert finding.finding(repair) == "", "a grid of no claim of the paper's has no finding on them"


def test_growth_says_how_it_is_tested_and_checks_are_known():
    growth = [row | {"statistic": "slope of a.b on log k: c"} for row in rows(exact="nn")]
    (line,) = finding.theme_lines(growth)
    assert line.endswith("2 tests: 2 not tested; make theory tests them")
    assert "make theory" not in finding.theme_lines([*growth, growth[0] | {"verdict": "holds"}])[0]
    check = growth[0] | {"statement": "x [a check on the theory]"}
    repair = check | {"statistic": "level of a.b: calibrator partner"}
    assert [finding.is_check(row) for row in (growth[0], check, repair)] == [False, True, False]


def test_a_table_that_cannot_be_read_has_no_rows(tmp_path):
    (tmp_path / "old.csv").write_text("claim,verdict\na,holds\n")
    (tmp_path / "none.csv").write_bytes(b"\xff\xfe")
    for name in ("old", "none", "absent"):
        assert finding.read_claims(tmp_path / f"{name}.csv") == []
