"""Measure how `halobench status` and `halobench run -n` grow with the grid: `python benchmarks/dry_run.py [--quick]`.

Each grid is asked in a folder without results, where every job would run, and in one with the records of all its jobs
and empty files for their other outputs, but without Snakemake's notes, where none would run. The dry run is compared
with Snakemake's own, of the same workflow. Times are CPU seconds, which other programs hardly change.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from harness import ROOT, Row, main

from halobench.experiment import jobs
from halobench.experiment.config_loader import load_config
from halobench.storage import files, records
from halobench.storage.manifest import list_files

STATUS, DRY_RUN, SNAKEMAKE = "halobench status", "halobench run -n", "snakemake -n"
COMMANDS = {
    STATUS: ("halobench.cli.main", "status"),
    DRY_RUN: ("halobench.cli.main", "run", "-n"),
    SNAKEMAKE: ("snakemake", "-n", "--quiet", "rules", "host"),
}
TO_DO, DONE = "all to do", "all there"
SIZES, QUICK = (400, 1200, 3600), (40, 120)
ASKING = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]);"
    " used = resource.getrusage(resource.RUSAGE_CHILDREN);"
    " print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024); sys.exit(done.returncode)"
)


@dataclass(frozen=True)
class Spent:
    """The CPU seconds that a command took, and the bytes of its largest process."""

    seconds: float
    peak: float


def configuration(cells: int) -> dict:
    """Return a configuration of `cells` cells (a multiple of 40): 2 data sets x 5 models x 4 losses x seeds."""
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


def ask(folder: Path, command: str, expected: str) -> Spent:
    """Run a command in `folder`; exit the program if it doesn't say what is expected."""
    arguments = [sys.executable, "-c", ASKING, sys.executable, "-m", *COMMANDS[command]]
    cache = {"XDG_CACHE_HOME": str(folder / ".cache")}  # of checks that passed
    done = subprocess.run(arguments, cwd=folder, env=os.environ | cache, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode or not re.search(expected, said, re.MULTILINE):
        sys.exit(f"{command}: expected {expected!r} in\n{said[-2000:]}")
    seconds, peak = map(float, done.stdout.split()[-2:])
    return Spent(seconds, peak)


def finish(folder: Path, config: dict) -> None:
    """Write the records of all jobs, and empty files for their other outputs."""
    for job in jobs.jobs(load_config(config)):
        record = {"outputs": {}, "spec": job.spec, "seed": job.seed, "code": dict(job.request.code)}
        if job.stage == "manifest":
            record = list_files(job.spec, folder / "results")
        for name in job.paths:
            path = folder / "results" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        files.write_json(folder / "results" / job.record, records.seal(record))
    for path in (folder / "results").rglob("*.*"):
        os.utime(path, (0, 0))  # all the same, so no file is older than its inputs


@functools.cache
def measured(quick: bool) -> dict[tuple[str, str, int], Spent]:
    """Return what each command spent, by command, state and number of cells."""
    found = {}
    for cells in QUICK if quick else SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder, config = Path(name), configuration(cells)
            for part in ("workflow", "profiles"):
                shutil.copytree(ROOT / part, folder / part)
            shutil.copy(ROOT / "Snakefile", folder)
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            ask(folder, STATUS, f"{cells:,} train")  # checks the configuration, which is done only once
            expected = {TO_DO: rf"{cells:,} train|^train +{cells}$", DONE: "nothing would run|Nothing to be done"}
            for state, pattern in expected.items():
                if state == DONE:
                    finish(folder, config)
                for command in COMMANDS:
                    found[command, state, cells] = spent = ask(folder, command, pattern)
                    told = f"{spent.seconds:7.2f} s  {spent.peak / 2**20:6.0f} MiB"
                    print(f"{cells:6,} cells, {state:10}  {command:16} {told}", flush=True)
    return found


def rows(quick: bool) -> Iterator[Row]:
    """Compare the dry run of the largest grid with Snakemake's, and each command with a grid of a third of its size."""
    found = measured(quick)
    *_, small, large = QUICK if quick else SIZES
    for state in (TO_DO, DONE):
        what = f"{large:,} cells, {state}"
        ours, theirs = (found[command, state, large] for command in (DRY_RUN, SNAKEMAKE))
        note = " compared with ".join(f"{one.seconds:.1f} s, {one.peak / 2**20:.0f} MiB" for one in (ours, theirs))
        yield Row(f"{DRY_RUN}, {what}", SNAKEMAKE, [ours.seconds / theirs.seconds], most=1.3, note=note)
        for command in (DRY_RUN, STATUS):
            seconds = [found[command, state, cells].seconds for cells in (small, large)]
            grown = seconds[1] / seconds[0] / (large / small)
            note = f"{seconds[1]:.1f} s compared with {seconds[0]:.1f} s; at most 1: linear"
            yield Row(f"{command}, {what}", f"{large / small:g} x that of {small:,}", [grown], most=1.1, note=note)


def growth(quick: bool) -> list[tuple[str, float, float, float]]:
    """Return what was asked, the cells, the seconds and the peak bytes."""
    return [
        (f"{command}, {state}, by cells", float(cells), spent.seconds, spent.peak)
        for (command, state, cells), spent in measured(quick).items()
        if (command, state) in ((DRY_RUN, TO_DO), (STATUS, DONE))
    ]


if __name__ == "__main__":
    main(rows, __doc__, growth)
