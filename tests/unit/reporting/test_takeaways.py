"""Take-aways: each rule at the edge of its condition, their length, and where there is none."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from halobench.reporting.answers.takeaways import LEAST_PAIRS, RULES, SEVERAL_KINDS, takeaway

WORDS = {"what": "excess", "loss": "5-point Mixup", "base": "cross-entropy", "map": "partner scaling"}
WORDS["portion"] = "about half (median 50%)"
WORDS["best"] = "the best map, partner scaling,"
MOST_WORDS = 15


def said(question: str, **columns: list) -> str:
    """The take-away of one population, without the names that fill it in."""
    return takeaway(question, {"": pd.DataFrame(columns)}, **WORDS).removesuffix(".").lower()


def wins(won: int, lost: int, drawn: int, kind: str = "") -> pd.DataFrame:
    """Pairs that are won, lost and neither, of one kind of model."""
    signs = [(True, False)] * won + [(False, True)] * lost + [(False, False)] * drawn
    return pd.DataFrame(signs, columns=["won", "lost"]).assign(architecture=kind)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        # Three quarters of the pairs are most of them: 3 of 4, but not 3 of 5.
        (
            {"worst": [0.25, 0.25, 0.25, 1.0], "random": [1.25, 1.25, 1.25, 1.0]},
            "ends soon in the worst direction, much",
        ),
        ({"worst": [0.25, 0.25, 0.25, 1.0], "random": [1.25, 1.25, 1.24, 1.0]}, "ends soon in the worst direction"),
        ({"worst": [0.25, 0.25, 0.25, 1.0]}, "ends soon in the worst direction"),
        ({"worst": [0.25, 0.25, 0.26, 0.4]}, ""),
        ({"worst": [0.0, 0.0, 0.1, 0.1], "random": [0.0, 0.0, 1.0, 1.0]}, ""),  # half aren't certain at all
        ({"worst": [0.01, 0.01, 0.01, 0.01], "random": [0.25, 0.25, 0.25, 0.1]}, "much later"),
        ({"worst": [0.01, 0.01, 0.01, 0.01], "random": [0.25, 0.25, 0.24, 0.1]}, "ends soon in the worst direction"),
        ({"worst": [0.5, 0.5, 0.5, 0.1]}, "reaches halfway"),
        ({"worst": [0.5, 0.5, 0.49, 0.1]}, ""),
    ],
)
def test_reach(columns, expected):
    found = said("reach", **columns)
    assert expected in found
    assert bool(expected) == bool(found)
    assert ("much later" in found) == ("much" in expected)


@pytest.mark.parametrize(
    ("exact", "paper", "expected"),
    [
        ([0.51, 0.51, 0.51, 0.1], [0.19] * 4, "the paper's fit barely helps; the optimum removes most of the excess"),
        ([0.51, 0.51, 0.51, 0.1], [0.2, 0.1, 0.1, 0.1], "the optimal temperature removes most of the excess"),
        ([0.51, 0.51, 0.51, 0.1], None, "the optimal temperature removes most of the excess"),
        ([0.51, 0.51, 0.5, 0.1], None, ""),
        ([0.51, 0.06, 0.06, 0.05], None, "the optimal temperature helps, but rarely removes most of the excess"),
        ([0.51, 0.51, 0.06, 0.06], None, ""),
        ([0.05, -0.05, 0.0, 0.4], None, "the optimal temperature changes the excess little"),
        ([0.051, -0.05, 0.0, 0.4], None, ""),
        ([-0.06, -0.06, -0.06, 0.9], None, "the temperature that is optimal on validation samples raises the nll"),
        ([-0.06, -0.06, -0.05, 0.9], None, ""),
        # What is true of most pairs isn't said if a pair is harmed.
        ([0.51, 0.51, 0.51, -0.05], None, "the optimal temperature removes most of the excess"),
        ([0.51, 0.51, 0.51, -0.06], [0.1] * 4, ""),
        ([0.06, 0.06, 0.06, -0.06], None, ""),
        ([0.0, 0.0, 0.0, -2.3], None, ""),
        ([0.51] * 4, [0.1, 0.1, 0.1, -0.2], "the optimal temperature removes most of the excess"),
    ],
)
def test_temperature(exact, paper, expected):
    assert said("temperature", exact=exact, **({"paper": paper} if paper else {})) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            [wins(1, 2, 1, "MLP"), wins(3, 0, 1, "convolutional")],
            "beats calibrated cross-entropy on most pairs without mlps",
        ),
        ([wins(1, 1, 2, "MLP"), wins(3, 0, 1, "convolutional")], ""),  # undecided on MLPs
        ([wins(1, 1, 2, "MLP"), wins(3, 1, 0, "convolutional")], ""),  # loses on one, and wins on half of all
        ([wins(0, 0, 2, "MLP"), wins(1, 0, 0, "convolutional")], ""),  # a single one that isn't an MLP
        ([wins(2, 0, 2, "MLP"), wins(3, 0, 1, "attention")], ""),  # wins on half of the MLPs, and on 5 of 8
        ([wins(1, 1, 2, "MLP"), wins(3, 0, 1, "")], ""),  # 4 of 8, of unknown kinds
        ([wins(3, 0, 1)], "uncalibrated 5-point mixup beats calibrated cross-entropy on most pairs"),
        ([wins(0, 3, 1)], "calibrated cross-entropy beats uncalibrated 5-point mixup on most pairs"),
        ([wins(2, 2, 3)], "on some pairs, loses on others"),
        ([wins(1, 2, 1)], "hardly ever beats"),
        ([wins(1, 1, 2)], ""),  # mostly undecided
        ([wins(1, 1, 1)], ""),  # one pair each
        ([wins(2, 1, 1)], ""),  # loses on a quarter, wins on half
    ],
)
def test_mixup(parts, expected):
    table = pd.concat(parts, ignore_index=True)
    found = said("mixup", **{name: [*table[name]] for name in table})
    assert expected in found
    assert bool(expected) == bool(found)


@pytest.mark.parametrize(
    ("won", "share", "expected"),
    [
        # The other pairs are lost.
        (3, [0.61, 0.61, 0.61, 0.0], "partner scaling removes most (median 61%) of what a temperature leaves"),
        (3, [0.6, 0.6, 0.6, 0.0], "partner scaling removes about half (median 60%) of what a temperature leaves"),
        (3, [0.06, 0.06, 0.39, 0.0], "partner scaling removes part (median 6%) of what a temperature leaves"),
        (3, [0.05, 0.06, 0.06, 0.0], "partner scaling lowers the nll on most pairs"),
        (3, [0.05, 0.05, 0.06, 0.0], "partner scaling lowers the nll slightly"),
        (2, [0.9] * 4, ""),
        (1, [0.06, 0.05, 0.0, -0.1], "the best map, partner scaling, raises the nll on most pairs"),
    ],
)
def test_maps(won, share, expected):
    lowered = [True] * won + [False] * (4 - won)
    assert said("maps", won=lowered, lost=[not each for each in lowered], share=share) == expected


@pytest.mark.parametrize(
    ("won", "share", "expected"),
    [
        (1, [0.06, 0.05, 0.0, -0.1], "the best map, partner scaling, lowers the nll clearly on few pairs"),
        (0, [0.06, 0.05, 0.0, -0.1], "the best map, partner scaling, lowers the nll clearly on no pair"),
        (1, [0.06, 0.06, 0.0, -0.1], ""),  # too few seeds to see what it removes on half of them
    ],
)
def test_maps_if_no_pair_is_lost(won, share, expected):
    assert said("maps", won=[True] * won + [False] * (4 - won), lost=[False] * 4, share=share) == expected


def test_a_take_away_has_at_most_15_words_and_names_its_population():
    for rule in itertools.chain.from_iterable(RULES.values()):
        for where in ("with label noise", SEVERAL_KINDS, "on synthetic classes"):
            words = f"{where}, {rule.says.format(**WORDS)}".split()
            assert len(words) <= MOST_WORDS, " ".join(words)
    table = pd.DataFrame({"exact": [0.6] * LEAST_PAIRS})
    first = {"with label noise or planted overlap": table, "without either": -table}
    assert takeaway("temperature", first, **WORDS).startswith("With uncertain labels, the optimal temperature removes")
    assert takeaway("temperature", {"": table}, **WORDS).startswith("The optimal temperature removes")


def test_too_few_pairs_have_none():
    assert takeaway("temperature", {}, **WORDS) == ""
    table = pd.DataFrame({"exact": [0.6] * LEAST_PAIRS})
    assert takeaway("temperature", {"": table}, **WORDS)
    assert takeaway("temperature", {"": table.iloc[1:]}, **WORDS) == ""
