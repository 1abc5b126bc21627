"""How long a dry run takes, and how much memory, as the grid grows: `python benchmarks/dry_run.py [CELLS ...]`.

`--workflow-profile profiles/slurm` does the same as for a cluster.

Each grid is run twice: on an empty folder, where every job would run, and where every cell is there and nothing would
(records as the stages write them but without outputs, else empty files of the right names, and Snakemake's notes of
them, made by ``snakemake --touch``).
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from halobench import checks, store
from halobench.config import load_config

ROOT = Path(__file__).parents[1]


def grid(cells: int) -> dict:
    """A configuration of `cells` cells (a multiple of 40): 2 data sets x 5 models x 4 losses x seeds."""
    widths = {f"mlp{width}": {"name": "mlp", "width": width} for width in (16, 32, 64, 128, 256)}
    losses = {f"mixup{points}": {"name": "mixup", "points": points} for points in (2, 3, 5)}
    losses["cross_entropy"] = {"name": "cross_entropy"}
    sizes = {"source": "digits", "train": 1000, "val": 250, "test": 450}
    datasets = {"clean": sizes, "noisy": {**sizes, "noise": {"p": 0.5}}}
    names = {"datasets": list(datasets), "models": list(widths), "losses": list(losses)}
    return {
        "run": ["big"],
        "sources": {"digits": {"loader": "digits"}},
        "datasets": datasets,
        "models": widths,
        "losses": losses,
        "train": {"epochs": 50},
        "probes": {"sphere": {}},
        "experiments": {"big": {"grid": [{**names, "seeds": list(range(cells // 40))}]}},
    }


def snakemake(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """Seconds, peak MiB and output of a run of Snakemake."""
    script = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]);"
        " print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024); sys.exit(done.returncode)"
    )
    command = [sys.executable, "-c", script, sys.executable, "-m", "snakemake", *arguments]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    lines = done.stdout.strip().splitlines()
    return seconds, float(lines[-1]), "\n".join(lines[:-1]) + done.stderr


def measure(cells: int, profile: str | None = None) -> list[tuple[str, float, float]]:
    """A row for each of the runs: what, seconds, MiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("Snakefile", "workflow", "profiles", "environment.yml"):
            source = ROOT / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
        (folder / "config.yaml").write_text(yaml.safe_dump(grid(cells)))
        quiet = ("-n", *(("--workflow-profile", profile) if profile else ()), "--quiet", "rules", "host", "progress")
        snakemake(folder, *quiet)  # the check of the configuration, done once
        rows = [(f"{cells} cells, all to do", *snakemake(folder, *quiet)[:2])]
        asked = checks.expected_records(load_config(grid(cells)), folder / "results")
        empty = {"outputs": {}, "cells": [], "spec": None, "seed": None, "code": {}}
        for line in snakemake(folder, "--summary")[2].splitlines():
            path = folder / line.partition("\t")[0]
            if line.startswith("results/"):
                known = dict(zip(("spec", "seed", "code"), asked.get(path, ()), strict=False))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(store.seal(empty | known)) if path.suffix == ".json" else "")
        snakemake(folder, "--touch", "--quiet", "rules", "host", "progress")
        seconds, memory, said = snakemake(folder, *quiet)
        if "Nothing to be done" not in said:
            sys.exit(f"expected nothing to do, but: {said[-2000:]}")
        return [*rows, (f"{cells} cells, all there", seconds, memory)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", type=int, default=[1000, 10000])
    parser.add_argument("--workflow-profile", help="e.g. profiles/slurm; else profiles/default")
    given = parser.parse_args()
    print(f"{'dry run':28} {'seconds':>8} {'MiB':>6}")
    for cells in given.cells:
        for what, seconds, memory in measure(cells, given.workflow_profile):
            print(f"{what:28} {seconds:8.1f} {memory:6.0f}", flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
