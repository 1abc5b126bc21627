"""Compare `halobench run -n` with Snakemake's own dry run, as the grid grows.

The latter is measured twice: on the same workflow, and on a graph of the same jobs whose parameters are constants. Each
grid is dry-run in an empty folder, where every job would run, and in one where nothing would run. The latter has
records as the stages write them but without outputs, empty files for everything else, and Snakemake's own notes on all
of them. All sides read the same default profile. Times are CPU seconds, which other programs hardly change.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from harness import ROOT, Row, main, over

from halobench.experiment import jobs
from halobench.experiment.config_loader import load_config
from halobench.experiment.grid import Config
from halobench.storage import records
from halobench.storage.manifest import list_files

OURS = ("halobench.cli.main", "run", "-n")
SNAKEMAKE = ("snakemake", "-n", "--quiet", "rules", "host")
BASELINES = ("same workflow", "same graph, constant parameters")
STATES = ("all to do", "all there")
TURNS = {40: 1, 120: 1, 1200: 3, 3600: 1}  # by number of cells; a turn of the largest grid takes three minutes
NOTHING = "Nothing to be done"


def big(cells: int) -> dict:
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


def timed(folder: Path, *command: str) -> tuple[float, float, str]:
    """Run a Python module with arguments in `folder`; return its CPU seconds, peak MiB and output."""
    script = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]);"
        " used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        " print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024); sys.exit(done.returncode)"
    )
    command = [sys.executable, "-c", script, sys.executable, "-m", *command]
    cache = {"XDG_CACHE_HOME": str(folder / ".cache")}  # of checks that passed
    done = subprocess.run(command, cwd=folder, env=os.environ | cache, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    *lines, figures = done.stdout.strip().splitlines()
    seconds, mib = map(float, figures.split())
    return seconds, mib, "\n".join(lines) + done.stderr


def lay_out(folder: Path, config: dict) -> None:
    """Copy the workflow, with a configuration, to `folder`."""
    folder.mkdir(exist_ok=True)
    for part in ("Snakefile", "workflow", "profiles"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def graph(config: Config) -> dict:
    """Return the files of a configuration with the single experiment ``big``, by the rules that make them."""
    files = {job.name: [f"results/{path}" for path in job.paths] for job in jobs.jobs(config)}
    return {
        "sources": {name: spec.source for name, spec in config.datasets.items()},
        "cells": [
            path
            for (stage, _), paths in files.items()
            if stage in ("train", "probe", "calibrate", "reference")
            for path in paths
            if not path.endswith(".safetensors")
        ],
        "aggregate": files["aggregate", "big"],
        "claims": files["claims", "big"],
        "shown": {
            f"{stage}_{key.rpartition('/')[2]}": paths
            for (stage, key), paths in files.items()
            if stage in ("figure", "table", "overview", "explorer")
        },
    }


def lay_out_plain(folder: Path, config: dict) -> None:
    """Set up Snakemake alone in `folder`, targeting the files that our workflow makes from a configuration."""
    folder.mkdir()
    shutil.copy(ROOT / "benchmarks/plain/Snakefile", folder / "Snakefile")
    shutil.copytree(ROOT / "profiles/default", folder / "profiles/default")
    (folder / "graph.json").write_text(json.dumps(graph(load_config(config))))


def finish(folder: Path, config: dict) -> None:
    """Write files as if every job had run, and have Snakemake note the jobs as finished."""
    now = time.time()
    for job in jobs.jobs(load_config(config)):
        record = {"outputs": {}, "spec": job.spec, "seed": job.seed, "code": dict(job.request.code)}
        if job.stage == "manifest":
            record = list_files(job.spec, folder / "results")
        content = json.dumps(records.seal(record))
        for path in (folder / "results" / name for name in job.paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if path == folder / "results" / job.record else "")
            os.utime(path, (now, now))  # all the same, so no file is older than its inputs
    note = [sys.executable, ROOT / "benchmarks/as_if_run.py", "--forceall", "--quiet", "all"]
    subprocess.run(note, cwd=folder, check=True, capture_output=True)


@dataclass
class Side:
    """One way to ask what would run: its command, and the CPU seconds and peak MiB that it took."""

    folder: Path
    command: tuple[str, ...]
    seconds: list[float] = field(default_factory=list)
    mib: float = 0.0

    def ask(self) -> str:
        """Run the command and return the number of jobs that would run, or that there is nothing to do."""
        seconds, mib, said = timed(self.folder, *self.command)
        self.seconds.append(seconds)
        self.mib = max(mib, self.mib)
        return NOTHING if NOTHING in said else re.search(r"^total +(\d+)", said, re.M)[1]

    @property
    def told(self) -> str:
        return f"{statistics.median(self.seconds):.1f} s, {self.mib:.0f} MiB"


def measure(cells: int, turns: int) -> list[list[Side]]:
    """Measure the three kinds of dry run of a grid of `cells` cells, with everything and with nothing to do."""
    with tempfile.TemporaryDirectory() as name:
        ours, plain = Path(name, "ours"), Path(name, "plain")
        lay_out(ours, big(cells))
        lay_out_plain(plain, big(cells))
        timed(ours, *OURS)  # checks the configuration, which is done only once
        found = []
        for done in (False, True):
            if done:
                with ThreadPoolExecutor() as pool:
                    list(pool.map(lambda folder: finish(folder, big(cells)), (ours, plain)))
            compared = [Side(ours, OURS), Side(ours, SNAKEMAKE), Side(plain, SNAKEMAKE)]
            for number in range(turns):
                counted = {side.ask() for side in compared[:: -1 if number % 2 else 1]}
                if len(counted) > 1 or done != (counted == {NOTHING}):
                    what = "nothing" if done else "all"
                    sys.exit(f"expected {what} to do, and as many jobs on all sides, but: {counted}")
            found.append(compared)
    return found


def rows(quick: bool) -> Iterator[Row]:
    """Yield the rows of the table."""
    sizes = (40, 120) if quick else (1200, 3600)
    found = {}
    for cells in sizes:
        found[cells] = measure(cells, TURNS[cells])
        for (ours, *others), what in zip(found[cells], STATES, strict=True):
            for other, which, most in zip(others, BASELINES, (1.3, 1.5), strict=True):
                yield Row(
                    f"halobench run -n, {cells:,} cells, {what}",
                    f"snakemake -n, {which}",
                    over(ours.seconds, other.seconds),
                    most=most,
                    note=f"{ours.told} compared with {other.told}",
                )
    small, large = sizes
    for index, what in enumerate(STATES):
        ours = [found[cells][index][0].seconds for cells in sizes]
        yield Row(
            f"halobench run -n, {large:,} cells, {what}",
            f"{large / small:g} x that of {small:,}",
            [value / (large / small) for value in over(ours[1], ours[0][: len(ours[1])])],
            most=1.1,
            note="at most 1: linear",
        )


def growth(quick: bool) -> list[tuple[str, float, float, float]]:
    """Return the stage, cells, seconds and peak bytes of dry runs with everything to do."""
    points = []
    for cells in (40, 80, 120) if quick else (400, 1200, 3600):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lay_out(folder, big(cells))
            timed(folder, *OURS)  # checks the configuration, which is done only once
            seconds, memory, _ = timed(folder, *OURS)
            points.append(("dry run, by cells", cells, seconds, memory * 2**20))
    return points


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(rows, __doc__, growth)
