"""Summarise an experiment's verdicts in a few sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from halobench.analysis.claims.rules import REGISTERED
from halobench.analysis.names import VERDICTS
from halobench.core.formatting import count, interval, number

Rows = Iterable[Mapping[Any, Any]]

# The calibrations whose verdicts the sentence compares, and their descriptions. If neither was tested, the others are
# used instead.
COMPARED = {
    "paper": "with the temperature that the paper's code fits",
    "exact": "with the optimal temperature",
}
OTHERS = {"oracle": "with the best temperature on the test data", "none": "without calibration"}
TESTS = {"paper": " decided tests of the paper's claims", "own": " decided tests of the claims"}
REPAIR_TESTS = " decided tests of its repair"
BY_PAIRS = {"mixed": "mixed, since pairs of data set and model disagree", "no_pair": "supported by no pair"}
DECIDED = ("holds", "does_not", *BY_PAIRS)
# The phrases for tests whose registration begins so.
WHEN = {start: start if start != "after " else "after results had been seen" for start in REGISTERED}
PLURAL = {name: verdict.label for name, verdict in VERDICTS.items()} | {"holds": "hold", "does_not": "do not hold"}
UNMADE = ("not_tested", "not_testable")


def is_check(row: Mapping[Any, Any]) -> bool:
    """Return whether a test checks an assumption of the paper rather than one of the paper's claims."""
    return str(row["kind"]) == "check"


def _whole(rows: Rows) -> list[Mapping[Any, Any]]:
    """Return the tests over all cells."""
    return [row for row in rows if row["scope"] == "all"]


def counted(rows: Rows) -> str:
    """Say how many tests over all cells have each verdict after Holm's correction, e.g. ``2 hold, 1 mixed``."""
    counts = Counter(row["adjusted"] for row in _whole(rows))
    words = {name: PLURAL[name] if counts[name] != 1 else VERDICTS[name].label for name in VERDICTS}
    return ", ".join(f"{counts[name]} {words[name]}" for name in VERDICTS if counts[name])


def _units(row: Mapping[Any, Any]) -> str:
    """Return, as text, the number of pairs of data set and model of a test or, for a slope, the number of models."""
    return count(int(float(row["pairs"])), "model" if row["statistic"] == "slope" else "pair")


def adjusted_line(rows: Rows) -> str:
    """Say how many of the tests made have each verdict after Holm's correction; return "" if none is decided."""
    tested = [row for row in _whole(rows) if row["verdict"] not in UNMADE]
    if not any(row["adjusted"] in DECIDED for row in tested):
        return ""
    others = counted(row for row in tested if row["adjusted"] not in BY_PAIRS)
    whole = f"Of {count(len(tested), 'test')}, {others or 'none is decided'} after Holm's correction for their number"
    counts = Counter(row["adjusted"] for row in tested)
    by_pairs = [f"{n} {'is' if n == 1 else 'are'} {what}" for name, what in BY_PAIRS.items() if (n := counts[name])]
    return f"{'; '.join([whole, *by_pairs])}."


def registration_line(rows: Rows) -> str:
    """Say how many tests were registered before, with or after the first runs that they judged."""
    whole = _whole(rows)
    when = Counter(start for row in whole for start in REGISTERED if str(row["registered"]).startswith(start))
    parts = [f"{when[start]} {WHEN[start]}" for start in REGISTERED if when[start]]
    number, _, rest = ", ".join(parts).partition(" ")
    verb = "was" if number == "1" else "were"
    return f"Of {count(len(whole), 'test')}, {number} {verb} registered {rest}." if parts else ""


def in_words(row: Mapping[Any, Any]) -> str:
    """Return a verdict in words with the counts of `pairs_in_words`, e.g. ``mixed; of 3 pairs: for 1, not for 2``."""
    return "; ".join(filter(None, (VERDICTS[row["verdict"]].label, pairs_in_words(row))))


def pairs_in_words(row: Mapping[Any, Any]) -> str:
    """Say for how many pairs a claim holds, fails or is undecided, each pair judged by its own interval.

    The text is empty if the claim holds for all pairs or fails for all, or if it has a single pair or wasn't tested.
    """
    pairs, hold, fail = (int(float(row[key])) for key in ("pairs", "hold", "fail"))
    if row["verdict"] in UNMADE or pairs < 2 or pairs in (hold, fail):
        return ""
    parts = ((hold, "for"), (fail, "not for"), (pairs - hold - fail, "undecided for"))
    return f"of {_units(row)}: {', '.join(f'{how} {number}' for number, how in parts if number)}"


def adjusted_words(row: Mapping[Any, Any]) -> str:
    """Return `in_words` of the verdict after Holm's correction or, if there is none, of the uncorrected verdict."""
    return in_words(dict(row) | {"verdict": row["adjusted"] or row["verdict"]})


def own_claims(rows: Rows) -> list[dict[str, str]]:
    """Return a study's own claims, each with its `statement` and, as `found`, its outcome over all cells in words.

    The outcome includes the estimate and its interval unless the verdict is mixed or the estimate isn't finite.
    """
    outcomes = []
    for row in (row for row in _whole(rows) if row["kind"] == "own"):
        words = adjusted_words(row)
        estimate, low, high = (float(row[key]) for key in ("estimate", "low", "high"))
        if row["verdict"] != "mixed" and math.isfinite(estimate):
            words += f" ({number(estimate)} {interval(low, high)})"
        outcomes.append({"statement": str(row["statement"]), "found": words})
    return outcomes


def finding(rows: Rows) -> str:
    """Summarise the outcomes of claims, of repair and of all tests, without naming individual tests.

    The text is empty if no row is about a claim of the paper or of a study. The first sentence counts only tests of the
    paper's claims or, if there are none, of a study's own claims. The last sentence counts all tests that were made.
    """
    rows = list(rows)
    if not any(row["kind"] in TESTS for row in _whole(rows)):
        return ""
    return " ".join(filter(None, (_counts(rows), _repaired(rows), adjusted_line(rows))))


def _counts(rows: Rows) -> str:
    """Return the sentence that counts the decided tests of the paper's claims, or of a study's own claims."""
    rows = list(rows)
    whose = next(kind for kind in TESTS if any(row["kind"] == kind for row in _whole(rows)))
    whole = [row for row in _whole(rows) if row["kind"] == whose]
    verdicts = {fit: Counter(row["adjusted"] for row in whole if row["fit"] == fit) for fit in (*COMPARED, *OTHERS)}
    decided = {fit: counts for fit, counts in verdicts.items() if any(counts[name] for name in DECIDED)}
    shown = [fit for fit in COMPARED if fit in decided] or [fit for fit in OTHERS if fit in decided][:1]
    if not shown:
        checks = sum(row["adjusted"] in DECIDED for row in _whole(rows) if row["kind"] == "check")
        further = f" ({count(checks, 'further check')} {'is' if checks == 1 else 'are'} decided)" if checks else ""
        claims = TESTS[whose].partition(" of ")[2]
        return f"This grid decides no test of {claims}{further}; the leaderboard compares its losses and calibrators."
    clauses = [
        f"{(COMPARED | OTHERS)[fit]}, {_outcome(decided[fit], TESTS[whose] if fit == shown[0] else '')}"
        for fit in shown
    ]
    sentence = "; ".join(clauses)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _repaired(rows: Rows) -> str:
    """Return a sentence on tests of partner scaling, which aren't claims of the paper; "" if none is decided."""
    counts = Counter(row["adjusted"] for row in _whole(rows) if row["kind"] == "repair" and row["fit"] == "partner")
    if not any(counts[name] for name in DECIDED):
        return ""
    return f"After partner scaling, which uses counts of confused classes, {_outcome(counts, REPAIR_TESTS)}."


def _outcome(counts: Mapping[str, int], of_what: str) -> str:
    """Say how many of the decided tests have each verdict, e.g. ``3 of 10 hold, 6 fail and 1 is mixed``."""
    verbs = {"holds": ("holds", "hold"), "does_not": ("fails", "fail")}
    verbs |= {name: (f"is {PLURAL[name]}", f"are {PLURAL[name]}") for name in BY_PAIRS}
    present, total = [name for name in DECIDED if counts[name]], sum(counts[name] for name in DECIDED)
    first, *others = present
    if others:
        said = [f"{counts[name]} {verbs[name][counts[name] != 1]}" for name in others]
        start = f"{counts[first]} of {total}{of_what} {verbs[first][counts[first] != 1]}"
        return f"{', '.join([start, *said[:-1]])} and {said[-1]}"
    if total == 1:
        return f"the 1{of_what.replace('tests', 'test')} {verbs[first][0]}"
    return f"{'both' if total == 2 else f'all {total}'}{of_what} {verbs[first][1]}"
