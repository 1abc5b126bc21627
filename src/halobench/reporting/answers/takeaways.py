"""Choose an answer's take-away: a sentence of at most 15 words, by the first rule whose condition the pairs meet.

A take-away is about one population, and about pairs of data set and model with several seeds. If no rule's condition is
met, the answer has no take-away, and the numbers stand alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd

MOST, FEW = 0.75, 0.25  # of pairs, at least and at most
LEAST_PAIRS = 2
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


def except_mlps(table: pd.DataFrame) -> bool:
    """Return whether a loss wins on most pairs without an MLP, loses on none of them, and wins on few with an MLP."""
    mlps, others = (table[(table["architecture"] == MLP) == which] for which in (True, False))
    known = min(len(mlps), len(others)) >= LEAST_PAIRS and table["architecture"].ne("").all()
    return bool(known and few(mlps["won"]) and most(others["won"]) and not others["lost"].any())


# Of each question, in the order in which they are tried. Columns are shares of 1, or whether a pair is won or lost.
RULES: dict[str, tuple[Rule, ...]] = {
    "reach": (
        Rule(
            "certainty ends soon in the worst direction, much later in random ones",
            "on most pairs, certainty ends within a quarter of the distance to the nearest other label in the worst"
            " direction found, and at least five times farther in random directions",
            lambda table: (
                "random" in table and most((table["worst"] <= 0.25) & (table["random"] >= 5 * table["worst"]))
            ),
        ),
        Rule(
            "certainty ends soon in the worst direction",
            "on most pairs, it ends there within a quarter of the distance to the nearest other label",
            lambda table: most(table["worst"] <= 0.25),
        ),
        Rule(
            "even in the worst direction found, certainty reaches halfway to another label",
            "on most pairs, it reaches half of that distance",
            lambda table: most(table["worst"] >= 0.5),
        ),
    ),
    "temperature": (
        Rule(
            "the paper's fit barely helps; the optimum removes most of the {what}",
            "on most pairs, the optimal temperature removes over half; the paper's removes under a fifth on all",
            lambda table: "paper" in table and most(table["exact"] > 0.5) and bool((table["paper"] < 0.2).all()),
        ),
        Rule(
            "the optimal temperature removes most of the {what}",
            "on most pairs, it removes over half",
            lambda table: most(table["exact"] > 0.5),
        ),
        Rule(
            "the optimal temperature helps, but rarely removes most of the {what}",
            "it removes over a twentieth on most pairs, and over half on few",
            lambda table: most(table["exact"] > 0.05) and few(table["exact"] > 0.5),
        ),
        Rule(
            "the optimal temperature changes the {what} little",
            "on most pairs, by at most a twentieth",
            lambda table: most(table["exact"].abs() <= 0.05),
        ),
        Rule(
            "the temperature that is optimal on validation samples raises the NLL",
            "on most pairs, by over a twentieth",
            lambda table: most(table["exact"] < -0.05),
        ),
    ),
    "mixup": (
        Rule(
            "uncalibrated {loss} beats calibrated {base} on most networks, not MLPs",
            "it wins on most pairs whose model is known not to be an MLP and loses on none; on MLPs, it wins on few",
            except_mlps,
        ),
        Rule(
            "uncalibrated {loss} beats calibrated {base} on most pairs",
            "it wins on most pairs",
            lambda table: most(table["won"]),
        ),
        Rule(
            "calibrated {base} beats uncalibrated {loss} on most pairs",
            "it loses on most pairs",
            lambda table: most(table["lost"]),
        ),
        Rule(
            "uncalibrated {loss} beats calibrated {base} on some pairs, loses on others",
            "it wins on over a quarter of the pairs, and loses on over a quarter",
            lambda table: not (few(table["won"]) or few(table["lost"])),
        ),
        Rule(
            "uncalibrated {loss} hardly ever beats calibrated {base}",
            "it wins on few pairs",
            lambda table: few(table["won"]),
        ),
    ),
    "maps": (
        Rule(
            "{map} removes most of what the optimal temperature leaves",
            "on most pairs, it lowers the NLL and removes over half",
            lambda table: most(table["won"]) and most(table["share"] > 0.5),
        ),
        Rule(
            "{map} removes part of what the optimal temperature leaves",
            "on most pairs, it lowers the NLL and removes over a twentieth",
            lambda table: most(table["won"]) and most(table["share"] > 0.05),
        ),
        Rule(
            "{map} lowers the NLL slightly",
            "it lowers the NLL on most pairs",
            lambda table: most(table["won"]),
        ),
        Rule(
            "the best map, {map}, lowers the NLL on few pairs",
            "it lowers the NLL on few pairs",
            lambda table: few(table["won"]),
        ),
    ),
}


def takeaway(question: str, populations: Mapping[str, pd.DataFrame], **words: str) -> str:
    """Return the take-away of a question for the first population, or "" if no rule's condition is met.

    `populations` maps each population's description ("" if there is only one) to a table with a row per pair; `words`
    has the names of losses and maps in the sentence.
    """
    where, table = next(iter(populations.items()), ("", pd.DataFrame()))
    rule = next((rule for rule in RULES[question] if len(table) >= LEAST_PAIRS and rule.holds(table)), None)
    if rule is None:
        return ""
    where = population_in_words(where)
    said = f"{where and f'{where}, '}{rule.says.format(**words)}."
    return said[:1].upper() + said[1:]
