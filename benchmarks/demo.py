"""Measure what the workflow adds to the stages' own work, by comparing the demo's wall time with its stages' seconds.

The demo runs on two cores. The time spent in each stage is printed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness import ROOT, Row, main

CORES = 2


def run(folder: Path, *arguments: str) -> float:
    """Return the seconds that a run of the workflow from scratch takes."""
    for part in ("Snakefile", "config.yaml", "workflow", "profiles"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    began = time.perf_counter()
    command = [sys.executable, "-m", "halobench.cli.main", "run", "--cores", str(CORES), "--quiet", "all", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return seconds


def stages(results: Path) -> tuple[Counter, Counter]:
    """Return the total seconds and the number of each stage's jobs, according to their records."""
    seconds, count = Counter(), Counter()
    for path in results.rglob("*.json"):
        record = json.loads(path.read_text())
        if isinstance(record, dict) and {"stage", "seconds", "outputs"} <= record.keys():
            seconds[record["stage"]] += record["seconds"]
            count[record["stage"]] += 1
    return seconds, count


def rows(quick: bool) -> Iterator[Row]:
    """Yield the rows of the table."""
    arguments = ("--configfile", "workflow/experiments/tiny.yaml") if quick else ("--config", "run=[demo]")
    with tempfile.TemporaryDirectory() as name:
        wall = run(Path(name), *arguments)
        seconds, count = stages(Path(name, "results"))
    own = sum(seconds.values())
    each = ", ".join(f"{stage} {value:.0f} s in {count[stage]} jobs" for stage, value in seconds.most_common())
    yield Row(
        f"the demo's workflow, {sum(count.values())} jobs on {CORES} cores",
        f"the sum of its stages' seconds / {CORES}",
        [wall / (own / CORES)],
        most=1.3,
        note=f"{wall:.0f} s; stages {own:.0f} s: {each}",
    )


if __name__ == "__main__":
    main(rows, __doc__)
