"""Measure aggregation and figures for a grid of 10,000 cells.

Each stage that follows the cells runs as in the workflow on two cores, with one process per command and two figures at
a time. `grid_files` writes the input, which is 10 data sets x 10 models x 10 losses x 10 seeds, and two smaller grids
with fewer pairs of data set and model. A process's peak is the largest resident size that the system reports for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from grid_files import Shape, write_grid
from harness import ROOT, Row, main, over

from halobench.experiment.figure_choice import QUESTIONS
from halobench.storage import files

SECONDS, BYTES = 120, 2 * 2**30
FIGURES = ("summary", *QUESTIONS)  # with the next line, all the figures that a grid on images has
FIGURES += ("calibration", "neighbourhood", "radii", "reliability", "training")
PRINTED = ("scores",)
SIZES = {1000: Shape(5, 2), 3000: Shape(6, 5), 10_000: Shape(10, 10)}
QUICK = {20: Shape(1, 1, 5, 4), 40: Shape(2, 1, 5, 4)}
QUICK_FIGURES = ("reach", "radii")
LONGEST = ("reliability", "radii", "neighbourhood")  # drawn first, so the cores finish together
CORES, TURNS = 2, 3  # number of turns for the smallest grid; the others are run once
ALL = "aggregate and figures"


@dataclass(frozen=True)
class Spent:
    """The time that a command took, in seconds, and its largest resident size in bytes."""

    seconds: float
    peak: int


def run(*arguments: str | Path) -> Spent:
    """Run a stage in a separate process."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "halobench.cli.main", "stage", *map(str, arguments)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Spent(seconds, usage.ru_maxrss * 1024)


class Results:
    """A folder that holds the files of a grid's cells."""

    def __init__(self, shape: Shape) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="halobench-grid-")
        self.folder = Path(self._kept.name)
        files.write_json(self.folder / "manifest.json", write_grid(self.folder, shape))
        self.cells = len(shape.cells)

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.cleanup()

    def turn(self, figures: tuple[str, ...], printed: tuple[str, ...] = PRINTED) -> dict[str, Spent]:
        """Run each stage once, in the order of the workflow; return what each took, by name."""
        manifest, tables, drawn = (self.folder / name for name in ("manifest.json", "tables", "figures"))
        found = {"aggregate": run("aggregate", "--manifest", manifest, "--results", self.folder, "--out", tables)}
        claims = ROOT / "workflow/claims.yaml"
        found["verdicts"] = run("claims", "--claims", claims, "--tables", tables, "--out", tables)
        began = time.perf_counter()
        with ThreadPoolExecutor(CORES) as pool:
            drawing = {
                name: pool.submit(
                    run, "figure", "--spec", f'{{"figure": "{name}"}}', "--tables", tables, "--out", drawn / name
                )
                for name in sorted(figures, key=lambda name: name not in LONGEST)
            }
            found |= {name: drawing[name].result() for name in figures}
        both = time.perf_counter() - began + found["aggregate"].seconds
        found[ALL] = Spent(both, max(spent.peak for spent in found.values()))
        for name in printed:
            found[name] = run("table", "--spec", f'{{"table": "{name}"}}', "--tables", tables, "--out", tables / name)
        return found


def measured(quick: bool) -> dict[int, list[dict[str, Spent]]]:
    """Return what each stage took, by number of cells, as one mapping per turn."""
    if not _kept:
        sizes, figures = (QUICK, QUICK_FIGURES) if quick else (SIZES, FIGURES)
        for cells, shape in sizes.items():
            count = TURNS if not quick and cells == min(sizes) else 1
            with Results(shape) as results:
                _kept[cells] = [results.turn(figures, () if quick else PRINTED) for _ in range(count)]
            for name, spent in _kept[cells][-1].items():
                print(f"{cells:6,} cells  {name:24} {spent.seconds:7.2f} s  {spent.peak / 2**20:6.0f} MiB", flush=True)
    return _kept


_kept: dict[int, list[dict[str, Spent]]] = {}  # rows and growth use the same turns


def goal(turn: dict[str, Spent]) -> float:
    """Return the seconds that aggregation and then all figures took."""
    return turn[ALL].seconds


def rows(quick: bool) -> Iterator[Row]:
    """Compare the time and memory of the largest grid with their limits, and check how they grow."""
    found = measured(quick)
    least, most = min(found), max(found)
    largest, once = found[most], "one turn" if len(found[most]) == 1 else f"{len(found[most])} turns"
    parts = {name: spent for name, spent in largest[-1].items() if name == "aggregate" or name in FIGURES}
    told = ", ".join(f"{name} {spent.seconds:.1f}" for name, spent in parts.items())
    rest = ", ".join(f"{n} {s.seconds:.1f}" for n, s in largest[-1].items() if n not in parts and n != ALL)
    alone = sum(spent.seconds for spent in parts.values())
    yield Row(
        f"aggregate and {len(parts) - 1} figures of {most:,} cells",
        f"{SECONDS} s",
        [goal(turn) / SECONDS for turn in largest],
        most=1,
        note=f"{goal(largest[-1]):.0f} s on {CORES} cores, {once}; by process {alone:.0f} s: {told}; besides: {rest}",
    )
    peaks = [max(turn.items(), key=lambda item: item[1].peak) for turn in largest]
    yield Row(
        f"largest process of {most:,} cells",
        "2 GiB",
        [spent.peak / BYTES for _, spent in peaks],
        most=1,
        note=f"{peaks[-1][0]}, {peaks[-1][1].peak / 2**20:.0f} MiB, {once}",
    )
    each = [goal(largest[-1]) / most] * len(found[least])
    yield Row(
        f"a cell's seconds among {most:,}",
        f"among {least:,}",
        over(each, [goal(turn) / least for turn in found[least]]),
        most=1.5,
        note=f"{1000 * each[0]:.1f} ms per cell; {once} of the larger grid",
    )


def growth(quick: bool = False) -> list[tuple[str, float, float, float]]:
    """Return the stage, cells, median seconds and largest peak in bytes of whole processes, at each size."""
    told = []
    for cells, turns in measured(quick).items():
        for name in (ALL, "verdicts"):
            seconds = sorted(turn[name].seconds for turn in turns)[len(turns) // 2]
            told.append((f"{name}, by cells", float(cells), seconds, float(max(turn[name].peak for turn in turns))))
    return told


if __name__ == "__main__":
    main(rows, __doc__, growth)
