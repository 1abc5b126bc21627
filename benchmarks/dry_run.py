"""Compare a dry run with Snakemake alone on the same graph with trivial parameters, as the grid grows.

Each grid is run twice: in an empty folder, where every job would run, and in a folder where every cell is complete and
nothing would run. The latter has records as the stages write them but without outputs, empty files for everything else,
and Snakemake's own notes on all of them. Both sides read the same default profile.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
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
from halobench.storage import layout
from halobench.storage import records as store

QUIET = ("-n", "--quiet", "rules", "host")
CELL_FILES = ("train.json", "history.csv", "calibrate.json", "calibration.json", "metrics.csv", "reliability.csv")
CELL_FILES += ("probe.json", "neighbourhood.parquet", "radii.parquet")
TURNS = {40: 1, 120: 1, 1200: 5, 12000: 3}  # by number of cells; a turn of the largest grid takes three minutes
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


def snakemake(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """Run Snakemake and return its seconds, peak MiB and output."""
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


def lay_out(folder: Path, config: dict) -> None:
    """Copy the workflow, with a configuration, to `folder`."""
    folder.mkdir(exist_ok=True)
    for part in ("Snakefile", "workflow", "profiles"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@dataclass(frozen=True)
class Graph:
    """The files of a configuration with the single experiment ``big``, by the rules that make them."""

    sources: dict[str, str]
    cells: list[str]
    hidden: list[str]
    aggregate: list[str]
    claims: list[str]
    shown: dict[str, list[str]]

    @classmethod
    def of(cls, raw: dict) -> Graph:
        config = load_config(raw)
        folders = [f"results/runs/{cell.path}" for cell in config.cells("big")]
        scored = [f"results/references/{dataset}/seed{seed}" for dataset, seed in config.references("big")]
        made = [f"{folder}/{name}" for folder in folders for name in CELL_FILES]
        made += [f"{folder}/{name}" for folder in scored for name in ("reference.json", "metrics.csv")]
        hidden = [f"{folder}/{name}" for folder in folders for name in ("model.safetensors", "logits.safetensors")]
        hidden += [f"{folder}/calibration.json" for folder in scored]
        hidden += [f"results/sources/{name}/{kind}.json" for name in config.sources for kind in ("meta", "source")]
        tables, figures = "results/tables/big", "results/figures/big"
        shown = {
            f"figure_{n}": [f"{figures}/{n}.{kind}" for kind in ("png", "pdf", "svg", "json")]
            for n in config.figures("big")
        }
        shown |= {
            f"table_{n}": [f"{tables}/{n}.{kind}" for kind in ("csv", "tex", "html", "json")]
            for n in config.tables("big")
        }
        shown["overview"] = [f"{tables}/{name}.html" for name in layout.PAGES] + [f"{tables}/overview.json"]
        shown["explorer"] = [f"results/explorer.{kind}" for kind in ("html", "json")]
        return cls(
            {name: spec.source for name, spec in config.datasets.items()},
            made,
            [*hidden, "results/manifests/big.json"],
            [f"{tables}/{name}.{kind}" for name in layout.TABLES for kind in ("csv", "parquet")]
            + [f"{tables}/{name}.parquet" for name in layout.ORIGINS]
            + [f"{tables}/aggregate.json"],
            [f"{tables}/claims.{kind}" for kind in ("csv", "parquet", "html", "json")],
            shown,
        )

    @property
    def all(self) -> list[str]:
        """Return the names of all files."""
        shown = [path for files in self.shown.values() for path in files]
        return [*self.cells, *self.hidden, *self.aggregate, *self.claims, *shown]


def lay_out_plain(folder: Path, config: dict) -> None:
    """Set up Snakemake alone in `folder`, targeting the files that our workflow makes from a configuration."""
    folder.mkdir()
    shutil.copy(ROOT / "benchmarks/plain/Snakefile", folder / "Snakefile")
    shutil.copytree(ROOT / "profiles/default", folder / "profiles/default")
    (folder / "graph.json").write_text(json.dumps(vars(Graph.of(config))))


def finish(folder: Path, config: dict) -> None:
    """Write files as if every job had run, and have Snakemake note the jobs as finished."""
    listed = jobs.jobs(load_config(config))
    asked = {folder / "results" / job.record: job for job in listed}
    now = time.time()
    empty = {"outputs": {}, "cells": [], "spec": None, "seed": None, "code": {}}
    for name in Graph.of(config).all:
        path = folder / name
        job = asked.get(path)
        known = {"spec": job.spec, "seed": job.seed, "code": dict(job.request.code)} if job else {}
        if job and job.stage == "manifest":
            known = dict(job.spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(store.seal(empty | known)) if path.suffix == ".json" else "")
        os.utime(path, (now, now))  # all the same, so no file is older than its inputs
    note = [sys.executable, ROOT / "benchmarks/as_if_run.py", "--forceall", "--quiet", "all"]
    subprocess.run(note, cwd=folder, check=True, capture_output=True)


@dataclass
class Measured:
    """Seconds and peak MiB of dry runs of one grid, for our workflow and for Snakemake alone."""

    cells: int
    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    ours_mib: float = 0.0
    plain_mib: float = 0.0

    def turn(self, ours: Path, plain: Path, done: bool, number: int) -> None:
        """Run both, one after the other, and check that both find the same number of jobs to run."""
        pair, counted = [(ours, self.ours), (plain, self.plain)], set()
        for folder, times in pair if number % 2 == 0 else reversed(pair):
            seconds, memory, said = snakemake(folder, *QUIET)
            times.append(seconds)
            if folder == ours:
                self.ours_mib = max(memory, self.ours_mib)
            else:
                self.plain_mib = max(memory, self.plain_mib)
            counted.add(NOTHING if NOTHING in said else re.search(r"^total +(\d+)", said, re.M)[1])
        if len(counted) > 1 or done != (counted == {NOTHING}):
            sys.exit(f"expected {'nothing' if done else 'all'} to do, and as many jobs on both sides, but: {counted}")


def measure(cells: int, turns: int) -> tuple[Measured, Measured]:
    """Measure dry runs of a grid of `cells` cells, with everything to do and with nothing to do."""
    fresh, there = Measured(cells), Measured(cells)
    with tempfile.TemporaryDirectory() as name:
        ours, plain = Path(name, "ours"), Path(name, "plain")
        lay_out(ours, big(cells))
        lay_out_plain(plain, big(cells))
        snakemake(ours, *QUIET)  # checks the configuration, which is done only once
        for number in range(turns):
            fresh.turn(ours, plain, False, number)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda folder: finish(folder, big(cells)), (ours, plain)))
        for number in range(turns):
            there.turn(ours, plain, True, number)
    return fresh, there


def rows(quick: bool) -> Iterator[Row]:
    """Yield the rows of the table."""
    sizes = (40, 120) if quick else (1200, 12000)
    found = {}
    for cells in sizes:
        found[cells] = measure(cells, TURNS[cells])
        for one, what in zip(found[cells], ("all to do", "all there"), strict=True):
            seconds = f"{sorted(one.ours)[len(one.ours) // 2]:.1f} s, {one.ours_mib:.0f} MiB"
            theirs = f"{sorted(one.plain)[len(one.plain) // 2]:.1f} s, {one.plain_mib:.0f} MiB"
            note = f"{seconds} compared with {theirs}"
            yield Row(
                f"dry run, {cells:,} cells, {what}",
                "Snakemake alone, same graph",
                over(one.ours, one.plain),
                most=1.5,
                note=note,
            )
    small, large = sizes
    for index, what in enumerate(("all to do", "all there")):
        growth = over(found[large][index].ours, found[small][index].ours[: len(found[large][index].ours)])
        yield Row(
            f"dry run, {large:,} cells, {what}",
            f"{large / small:g} x that of {small:,}",
            [value / (large / small) for value in growth],
            most=1.1,
            note="at most 1: linear",
        )


def growth(quick: bool) -> list[tuple[str, float, float, float]]:
    """Return the stage, cells, seconds and peak bytes of dry runs with everything to do."""
    points = []
    for cells in (40, 80, 120) if quick else (1200, 3600, 12000):
        with tempfile.TemporaryDirectory() as name:
            lay_out(Path(name), big(cells))
            snakemake(Path(name), *QUIET)  # checks the configuration, which is done only once
            seconds, memory, _ = snakemake(Path(name), *QUIET)
            points.append(("dry run, by cells", cells, seconds, memory * 2**20))
    return points


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(rows, __doc__, growth)
