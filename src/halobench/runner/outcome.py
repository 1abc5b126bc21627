"""Say at the end of a run where its results are, and which command comes next."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

EXPLORER, REPORT = "explorer.html", "report.html"
# In the order in which they are named. Verdicts on parts of the data are counted by the page of claims alone.
VERDICTS = {"holds": "hold", "does_not": "don't", "undecided": "are undecided", "not_tested": "aren't tested"}
_place = [Path("results")]  # the results folder of the run in this process


def note_place(results: Path) -> None:
    """Note the results folder of the run in this process."""
    _place[:] = [results]


left_out: list[str] = []  # lines on jobs that the run in this process can't do
at_end_of_dry_run: list[Callable[[], None]] = []  # Snakemake has handlers for the jobs of other runs alone


def note_left_out(line: str) -> None:
    """Say that jobs are left out of the run in this process, and keep it for its end."""
    left_out.append(line)
    say(line)


def say(line: str) -> None:
    """Print a line of the suite's own among those of Snakemake."""
    print(f"halobench: {line}", file=sys.stderr, flush=True)


def summary(outputs: Iterable[str]) -> list[str]:
    """Return the lines that name what a run wrote, and the next command.

    Parameters
    ----------
    outputs : iterable of str
        The files that its jobs wrote, relative to the working directory. If there are none, the pages are named that
        lie there.
    """
    paths = sorted(map(PurePosixPath, outputs))
    if not paths:
        pages = [path for path in (_place[0] / REPORT, _place[0] / EXPLORER) if path.exists()]
        return [f"See {' and '.join(map(str, pages))}."] if pages else []
    lines = [line for path in paths if path.name == "claims.csv" for line in _claims(path)]
    drawn = [path for path in paths if "figures" in path.parts and path.suffix == ".png"]
    for folder in dict.fromkeys(path.parent for path in drawn):
        first = folder / "summary.png"
        lines.append(f"Figures: {first if first in drawn else folder}")
    lines += [f"Explorer: {path}" for path in paths if path.name == EXPLORER]
    if any("partial" not in path.parts for path in drawn):
        lines.append("Next, for the report: halobench report")
    return lines


def _claims(path: PurePosixPath) -> Iterator[str]:
    """Yield the line that counts the verdicts on the claims of an experiment; none if they can't be read."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            counts = Counter(row["verdict"] for row in csv.DictReader(file) if row["scope"] == "all")
    except (OSError, KeyError):
        return
    if counts:
        verdicts = ", ".join(f"{counts[verdict]} {words}" for verdict, words in VERDICTS.items() if counts[verdict])
        yield f"Claims of {path.parent.name}: {verdicts} ({path.with_suffix('.html')})"
