"""Summarise what an experiment found: one sentence based on its verdicts, and the themes that its tests belong to."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from halobench.core.formatting import count
from halobench.results.names import THEMES, VERDICTS

Rows = Iterable[Mapping[Any, Any]]

# The calibrations whose verdicts the sentence compares, and how it describes them. If neither was tested, the others
# are used instead.
COMPARED = {
    "released": "with the temperature that the paper's code fits",
    "exact": "with the optimal temperature",
}
OTHERS = {"oracle": "with the best temperature on the test data", "none": "without calibration"}
TESTS = " decided tests of the paper's claims"
REPAIRS = " decided tests of further repair"
PLURAL = {name: verdict.label for name, verdict in VERDICTS.items()} | {"holds": "hold", "does_not": "do not hold"}


def theme_of(statistic: str) -> str:
    """Infer a test's theme (a key of `THEMES`) from its one-line statistic.

    Examples
    --------
    >>> theme_of("difference of metrics.value: (loss mixup2) - (loss cross_entropy) where metric nll")
    'mixup'
    """
    if re.search(r"\bcalibrator (partner|top_rest)\b", statistic):
        return "repair"
    if re.search(r"\b(neighbourhood|radii)\.", statistic):
        return "halos"
    if re.match(r"(slope|ratio)\b", statistic):
        return "growth"
    return "mixup" if re.search(r"\bloss \w*mix", statistic) else "temperature_scaling"


def is_check(row: Mapping[Any, Any]) -> bool:
    """Return whether a test is a check and not a claim of the paper. Tests of repair have their own theme."""
    return _is_own(row) and theme_of(str(row["statistic"])) != "repair"


def _is_own(row: Mapping[Any, Any]) -> bool:
    """Return whether a test's place says that it is this project's own rather than a test of a claim of the paper."""
    return "[a check" in str(row["statement"])


def by_theme(rows: Rows) -> dict[str, list[Mapping[Any, Any]]]:
    """Group the tests over all cells (scope ``all``) by theme, in the order of `THEMES`, leaving out empty themes."""
    whole = [row for row in rows if row["scope"] == "all"]
    themes = {theme: [row for row in whole if theme_of(str(row["statistic"])) == theme] for theme in THEMES}
    return {theme: tests for theme, tests in themes.items() if tests}


def counted(rows: Rows) -> str:
    """Say how many tests over all cells have each verdict, e.g. ``29 hold, 7 do not hold``."""
    counts = Counter(row["verdict"] for row in rows if row["scope"] == "all")
    words = {name: PLURAL[name] if counts[name] != 1 else VERDICTS[name].label for name in VERDICTS}
    return ", ".join(f"{counts[name]} {words[name]}" for name in VERDICTS if counts[name])


def counted_of(theme: str, rows: Rows) -> str:
    """Return `counted` for a theme's tests; if none that needs many numbers of classes was run, say how to run them."""
    rows = list(rows)
    untested = theme == "growth" and all(row["verdict"] == "not_tested" for row in rows)
    return counted(rows) + ("; make theory tests them" if untested else "")


def theme_lines(rows: Rows) -> list[str]:
    """Return one line per theme with its verdicts, e.g. ``Halos, 8 tests: 6 hold, 2 undecided``."""
    return [
        f"{THEMES[theme].label}, {count(len(tests), 'test')}: {counted_of(theme, tests)}"
        for theme, tests in by_theme(rows).items()
    ]


def finding(rows: Rows) -> str:
    """Sum up the outcome in a sentence without naming individual tests; add a second one if further repair was tested.

    The text is empty if there are no tests. The first sentence doesn't count checks, which aren't claims of the paper
    (their place begins with ``a check``).

    Parameters
    ----------
    rows : iterable of mapping
        Rows of the table ``claims``, each with its scope, fit, statement and verdict.
    """
    rows = list(rows)
    whole = [row for row in rows if row["scope"] == "all" and not _is_own(row)]
    verdicts = {fit: Counter(row["verdict"] for row in whole if row["fit"] == fit) for fit in (*COMPARED, *OTHERS)}
    decided = {fit: counts for fit, counts in verdicts.items() if counts["holds"] + counts["does_not"]}
    shown = [fit for fit in COMPARED if fit in decided] or [fit for fit in OTHERS if fit in decided][:1]
    if not shown:
        tests = [row for theme, themed in by_theme(rows).items() if theme != "repair" for row in themed]
        checks = sum(row["verdict"] in ("holds", "does_not") for row in tests)
        further = f" ({count(checks, 'further check')} {'is' if checks == 1 else 'are'} decided)" if checks else ""
        return f"This grid decides no test of the paper's claims{further}.{_repaired(rows)}" if whole else ""
    clauses = [
        f"{(COMPARED | OTHERS)[fit]}, {_outcome(decided[fit], TESTS if fit == shown[0] else '')}" for fit in shown
    ]
    sentence = "; ".join(clauses)
    return f"{sentence[0].upper()}{sentence[1:]}.{_repaired(rows)}"


def _repaired(rows: Rows) -> str:
    """Return a sentence on the tests of repair after training, which aren't claims of the paper, or "" if undecided."""
    counts = Counter(row["verdict"] for row in by_theme(rows).get("repair", []) if row["fit"] == "partner")
    if not counts["holds"] + counts["does_not"]:
        return ""
    return f" After partner scaling, a richer map fitted like a temperature, {_outcome(counts, REPAIRS)}."


def _outcome(counts: Mapping[str, int], of_what: str) -> str:
    """Say how many of the decided tests hold and how many fail, e.g. ``3 of 10 hold and 7 fail``."""
    hold, fail = counts["holds"], counts["does_not"]
    if hold and fail:
        verb = "holds" if hold == 1 else "hold"
        return f"{hold} of {hold + fail}{of_what} {verb} and {fail} {'fails' if fail == 1 else 'fail'}"
    alike, total = ("hold" if hold else "fail"), hold + fail
    if total == 1:
        return f"the 1{of_what.replace('tests', 'test')} {alike}s"
    return f"{'both' if total == 2 else f'all {total}'}{of_what} {alike}"


def read_claims(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV table of claims; return an empty list if there is no such table."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError):
        return []
    return rows if rows and {"scope", "fit", "verdict", "statistic", "statement"} <= rows[0].keys() else []
