"""Measure how each stage's peak memory compares with the size of its data, and how it grows.

Each stage runs in a separate process, on Gaussians drawn in memory at three sizes. The peaks are read from its records.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import Row, main

MEBI = 2**20
PIXELS = 3 * 10 * 10
SIZES, QUICK = (10_000, 40_000, 160_000), (500, 1000, 2000)
HELD_OUT = 1000


def halobench(*arguments: object) -> None:
    """Run a stage in a separate process."""
    command = [sys.executable, "-m", "halobench.cli.main", "stage", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])


def peaks(points: int, folder: Path) -> dict[str, tuple[float, float]]:
    """Return the seconds and peak MiB of each stage with `points` training points."""
    source, cell = folder / "source", folder / "cell"
    halobench("source", "--spec", json.dumps({"loader": "gaussians", "options": {"mu": 0.1}}), "--out", source)
    dataset = {"source": "gaussians", "train": points, "val": HELD_OUT, "test": HELD_OUT}
    spec = {"dataset": dataset, "model": {"name": "mlp"}}
    recipe = {"epochs": 1, "warmup": 0, "batch": 500}
    trained = json.dumps(spec | {"loss": {"name": "cross_entropy"}, "train": recipe})
    halobench("train", "--source", source, "--seed", 0, "--out", cell, "--spec", trained)
    probes = {"sphere": {"kind": "sphere"}, "nearest_other": {"kind": "nearest_other"}}
    probed = json.dumps(spec | {"train": {}, "probes": probes})
    halobench("probe", "--source", source, "--seed", 0, "--run", cell, "--spec", probed)
    halobench("calibrate", "--seed", 0, "--run", cell, "--spec", "{}")
    found = {}
    for stage in ("train", "probe", "calibrate"):
        record = json.loads((cell / f"{stage}.json").read_text())
        found[stage] = (record["seconds"], record["peak_memory_mib"])
    return found


def measured(quick: bool) -> dict[int, dict[str, tuple[float, float]]]:
    """Return `peaks` at three sizes."""
    found = {}
    for points in QUICK if quick else SIZES:
        with tempfile.TemporaryDirectory() as name:
            found[points] = peaks(points, Path(name))
    return found


def rows(quick: bool) -> Iterator[Row]:
    """Yield rows with what the largest data set adds to a stage's peak, in units of its own size in float32."""
    found = measured(quick)
    least, *_, most = found
    data = (most - least) * PIXELS * 4 / MEBI
    for stage in found[most]:
        told = ", ".join(f"{found[points][stage][1]:.0f} MiB at {points:,}" for points in found)
        grown = (found[most][stage][1] - found[least][stage][1]) / data
        yield Row(
            f"{stage}, peak of the whole process: what more points add",
            "their size as float32",
            [grown],
            note=f"{told} points of {PIXELS} pixels ({most * PIXELS * 4 / MEBI:.0f} MiB at most)",
        )


if __name__ == "__main__":
    main(rows, __doc__)
