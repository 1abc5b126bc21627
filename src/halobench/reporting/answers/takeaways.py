"""Choose an answer's take-away: a sentence of at most 15 words, by the first rule whose condition the pairs meet.

A take-away is about one population (of `reach`, about all), and about pairs of data set and model with several seeds.
An answer has no take-away if there are fewer than three such pairs, or if no rule's condition is met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd

MOST, FEW = 0.75, 0.25  # of pairs, at least and at most
LEAST_PAIRS = 3
SLIGHT = 0.05  # share of an NLL
MLP = "MLP"
SEVERAL_KINDS = "with uncertain labels"  # how a take-away calls a population of several kinds


def population_in_words(where: str) -> str:
    """Say in a few words what the pairs of a population have in common."""
    return SEVERAL_KINDS if " or " in where else where.replace("either", "uncertain labels")


class Rule(NamedTuple):
    """A sentence, its condition in words, and its condition as a function of a table with a row per pair."""

    says: str
    when: str
    holds: Callable[[pd.DataFrame], bool]


def most(pairs: pd.Series) -> bool:
    """Return whether a condition is true of at least the share `MOST` of the pairs."""
    return bool(len(pairs)) and float(pairs.mean()) >= MOST


def few(pairs: pd.Series) -> bool:
    """Return whether a condition is true of at most the share `FEW` of the pairs."""
    return bool(len(pairs)) and float(pairs.mean()) <= FEW


def harmless(shares: pd.Series) -> bool:
    """Return whether no share is below -`SLIGHT`, so that a sentence on most pairs hides no harm on others."""
    return bool((shares >= -SLIGHT).all())


def except_mlps(table: pd.DataFrame) -> bool:
    """Return whether a loss wins most pairs without MLPs and loses none, but wins few with MLPs, fewer than it loses.

    There must be at least two pairs of each kind, and every model's architecture must be known."""
    mlps, others = (table[(table["architecture"] == MLP) == which] for which in (True, False))
    known = min(len(mlps), len(others)) > 1 and table["architecture"].ne("").all()
    unlike = few(mlps["won"]) and mlps["lost"].sum() > mlps["won"].sum()
    return bool(known and unlike and most(others["won"]) and not others["lost"].any())


# Of each question, in the order in which they are tried. Columns are shares of 1, or whether a pair is won or lost.
RULES: dict[str, tuple[Rule, ...]] = {
    "reach": (
        Rule(
            "certainty ends soon in the worst direction, much later in random ones",
            "on most pairs, certainty ends in the worst direction found within a quarter of the distance to the nearest"
            " other label; in random directions, it reaches at least a quarter, and at least five times as far as in"
            " the worst direction",
            lambda table: (
                "random" in table
                and most((table["worst"] <= 0.25) & (table["random"] >= (5 * table["worst"]).clip(lower=0.25)))
            ),
        ),
        Rule(
            "certainty ends soon in the worst direction",
            "on most pairs, certainty ends in the worst direction found within a quarter of the distance to the nearest"
            " other label, but not at once",
            lambda table: most((table["worst"] > 0) & (table["worst"] <= 0.25)),
        ),
        Rule(
            "even in the worst direction found, certainty reaches halfway to another label",
            "on most pairs, certainty reaches at least half of the distance to the nearest other label in the worst"
            " direction found",
            lambda table: most(table["worst"] >= 0.5),
        ),
    ),
    "temperature": (
        Rule(
            "the paper's fit barely helps; the optimum removes most of the {what}",
            "the optimal temperature removes over half of the excess on most pairs, and adds over a twentieth to it on"
            " none; the paper's temperature changes the excess by under a fifth on all pairs",
            lambda table: (
                "paper" in table
                and most(table["exact"] > 0.5)
                and harmless(table["exact"])
                and bool((table["paper"].abs() < 0.2).all())
            ),
        ),
        Rule(
            "the optimal temperature removes most of the {what}",
            "the optimal temperature removes over half of the excess on most pairs, and adds over a twentieth to it on"
            " none",
            lambda table: most(table["exact"] > 0.5) and harmless(table["exact"]),
        ),
        Rule(
            "the optimal temperature helps, but rarely removes most of the {what}",
            "the optimal temperature removes over a twentieth of the excess on most pairs and over half on few, and"
            " adds over a twentieth to it on none",
            lambda table: most(table["exact"] > SLIGHT) and few(table["exact"] > 0.5) and harmless(table["exact"]),
        ),
        Rule(
            "the optimal temperature changes the {what} little",
            "the optimal temperature changes the excess by at most a twentieth on most pairs, and adds more than that"
            " on none",
            lambda table: most(table["exact"].abs() <= SLIGHT) and harmless(table["exact"]),
        ),
        Rule(
            "the temperature that is optimal on validation samples raises the NLL",
            "the optimal temperature adds over a twentieth to the excess on most pairs",
            lambda table: most(table["exact"] < -SLIGHT),
        ),
    ),
    "mixup": (
        Rule(
            "uncalibrated {loss} beats calibrated {base} on most pairs without MLPs",
            "each network's kind is known, and at least two pairs have MLPs and two don't; without MLPs, the"
            " uncalibrated loss wins on most pairs and loses on none; with MLPs, it wins on few and loses on more",
            except_mlps,
        ),
        Rule(
            "uncalibrated {loss} beats calibrated {base} on most pairs",
            "the uncalibrated loss wins on most pairs",
            lambda table: most(table["won"]),
        ),
        Rule(
            "calibrated {base} beats uncalibrated {loss} on most pairs",
            "the uncalibrated loss loses on most pairs",
            lambda table: most(table["lost"]),
        ),
        Rule(
            "uncalibrated {loss} beats calibrated {base} on some pairs, loses on others",
            "the uncalibrated loss wins on at least two pairs and over a quarter, and loses on at least two pairs and"
            " over a quarter",
            lambda table: all(table[side].sum() > 1 and not few(table[side]) for side in ("won", "lost")),
        ),
        Rule(
            "uncalibrated {loss} hardly ever beats calibrated {base}",
            "the uncalibrated loss wins on few pairs, and loses on at least half",
            lambda table: few(table["won"]) and float(table["lost"].mean()) >= 0.5,
        ),
    ),
    "maps": (
        Rule(
            "{map} removes {portion} of what a temperature leaves",
            "on most pairs, the map lowers the NLL; on most, it removes over a twentieth of what is left",
            lambda table: most(table["won"]) and most(table["share"] > SLIGHT),
        ),
        Rule(
            "{map} lowers the NLL slightly",
            "on most pairs, the map lowers the NLL; on most, it removes at most a twentieth of what is left",
            lambda table: most(table["won"]) and most(table["share"] <= SLIGHT),
        ),
        Rule(
            "{map} lowers the NLL on most pairs",
            "on most pairs, the map lowers the NLL",
            lambda table: most(table["won"]),
        ),
        Rule(
            "{best} raises the NLL on most pairs",
            "on most pairs, the map raises the NLL",
            lambda table: most(table["lost"]),
        ),
        Rule(
            "{best} lowers the NLL clearly on no pair",
            "on no pair does the map lower the NLL; on few, it removes over a twentieth of what is left",
            lambda table: not table["won"].any() and few(table["share"] > SLIGHT),
        ),
        Rule(
            "{best} lowers the NLL clearly on few pairs",
            "on few pairs, the map lowers the NLL; on few, it removes over a twentieth of what is left",
            lambda table: few(table["won"]) and few(table["share"] > SLIGHT),
        ),
    ),
}


def portion(shares: pd.Series, chosen: bool) -> str:
    """Return the median share in words; of data on which a map's form was `chosen`, none is called most."""
    median = float(shares.median())
    words = "about half" if 0.4 <= median <= 0.6 else "part" if median < 0.4 else "" if chosen else "most"
    return f"{words} (median {median:.0%})" if words else f"a median {median:.0%}"


def takeaway(question: str, populations: Mapping[str, pd.DataFrame], chosen: bool = False, **words: str) -> str:
    """Return the take-away of a question for the first population, or "" if no rule applies.

    `populations` maps each population's description ("" if there is only one) to a table with a row per pair; `chosen`
    is whether a map's form was chosen on some of these pairs; `words` has the names of losses and maps in the sentence.
    """
    where, table = next(iter(populations.items()), ("", pd.DataFrame()))
    rule = next((rule for rule in RULES[question] if len(table) >= LEAST_PAIRS and rule.holds(table)), None)
    if rule is None:
        return ""
    where = population_in_words(where)
    if "share" in table:
        words["portion"] = portion(table["share"], chosen)
    said = f"{where and f'{where}, '}{rule.says.format(**words)}."
    return said[:1].upper() + said[1:]
