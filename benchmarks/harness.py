"""Shared parts of the benchmarks: measuring in turns, the rows of the table, and each file's command line.

A row is a ratio of two times (or counts, or bytes) measured in alternation in one process, so a machine that slows down
slows both. The verdict depends on the median; the least and the largest ratio are shown next to it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
Growth = Callable[[bool], list[tuple[str, float, float, float]]]
TURNS = 7
BF16 = ("avx512_bf16", "amx_bf16")  # processors' names for their instructions for bf16
QUICK_TURNS = 2


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes
    ----------
    what, against : str
        What is measured, and the baseline.
    ratios : list of float
        One per turn: ours over the baseline if `most` is set, and the baseline over ours if `least` is set.
    most, least : float, optional
        The limit that the median must not exceed, or must reach. At most one of them is set; if neither is, the row has
        no verdict.
    note : str
        Absolute figures and whatever limits the ratio, in words.
    """

    what: str
    against: str
    ratios: list[float]
    most: float | None = None
    least: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def reach(self) -> str:
        if self.most is None and self.least is None:
            return "-"
        return f"<= {self.most:g}" if self.least is None else f">= {self.least:g}"

    @property
    def verdict(self) -> str:
        if self.most is None and self.least is None:
            return "-"
        reached = self.median <= self.most if self.least is None else self.median >= self.least
        return "reached" if reached else "MISSED"


def turns(
    *functions: Callable[[], object], count: int = TURNS, warm: int = 1, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Time the functions in turns; return a list of `count` seconds for each, after `warm` turns that don't count.

    Every other turn runs in reverse order, so no function always runs right after the same one. With
    `time.process_time` as the clock, time taken by other programs is left out.
    """
    found: list[list[float]] = [[] for _ in functions]
    for turn in range(-warm, count):
        order = range(len(functions)) if turn % 2 == 0 else reversed(range(len(functions)))
        for index in order:
            began = clock()
            functions[index]()
            seconds = clock() - began
            if turn >= 0:
                found[index].append(seconds)
    return found


def over(ours: Iterable[float], theirs: Iterable[float]) -> list[float]:
    """Return the ratio of each turn."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def processor_facts() -> dict[str, str]:
    """Return what Linux reports about the first processor, by key; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    text = path.read_text().partition("\n\n")[0] if path.exists() else ""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def has_bf16() -> bool:
    """Return whether the processor has instructions for bf16; without them, bf16 is emulated and slow."""
    return not set(BF16).isdisjoint(processor_facts().get("flags", "").split())


def one_thread() -> None:
    """Limit numerical libraries to one thread, as in the workflow's jobs. Call this before they are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def table(rows: Iterable[Row]) -> str:
    """Format rows as a Markdown table."""
    lines = [
        "| what | against | reach | median | least | largest | turns | | notes |",
        "|---|---|---|---:|---:|---:|---:|---|---|",
    ]
    for row in rows:
        numbers = " | ".join(f"{value:.3g}" for value in (row.median, min(row.ratios), max(row.ratios)))
        lines.append(
            f"| {row.what} | {row.against} | {row.reach} | {numbers} | {len(row.ratios)} | {row.verdict} | {row.note} |"
        )
    return "\n".join(lines)


def main(rows: Callable[[bool], Iterator[Row]], description: str, growth: Growth | None = None) -> None:
    """Run a file's command line: call `rows(quick)`, print each row as it comes, and optionally write them as JSON.

    With ``--growth FILE``, also call `growth(quick)`, which returns the stage, size, seconds and peak bytes of each
    point.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few turns: shows that it runs, no more")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="write the rows there, as JSON")
    parser.add_argument("--growth", type=Path, metavar="FILE", help="measure how it grows as well; write that there")
    given = parser.parse_args()
    found = []
    for row in rows(given.quick):
        print(
            f"{row.what} / {row.against}: {row.median:.3g} ({min(row.ratios):.3g} to {max(row.ratios):.3g},"
            f" {len(row.ratios)} turns; {row.reach}, {row.verdict}) {row.note}",
            flush=True,
        )
        found.append(row)
    if given.rows:
        given.rows.write_text(json.dumps([asdict(row) for row in found]))
    if given.growth:
        points = growth(given.quick) if growth else []
        for stage, size, seconds, peak in points:
            print(f"{stage} at {size:,.0f}: {seconds:.3g} s, {peak / 2**20:.1f} MiB", flush=True)
        given.growth.write_text(json.dumps(points))
