"""A dry run beside Snakemake alone on the same graph with trivial parameters, as the grid grows.

Each grid is run twice: on an empty folder, where every job would run, and where every cell is there and nothing would
(records as the stages write them but without outputs, else empty files of the right names, and Snakemake's notes of
them, made by ``snakemake --touch``). Both read the same default profile.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from harness import ROOT, Row, main, over

from halobench import checks, grid, store
from halobench.config import load_config

QUIET = ("-n", "--quiet", "rules", "host", "progress")
TURNS = {40: 1, 400: 1, 1200: 5, 12000: 3}  # of grids of so many cells: a turn of the largest takes three minutes
NOTHING = "Nothing to be done"


def big(cells: int) -> dict:
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


def lay_out(folder: Path, config: dict) -> None:
    """The workflow with a configuration, in `folder`."""
    folder.mkdir(exist_ok=True)
    for part in ("Snakefile", "workflow", "profiles", "environment.yml"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def lay_out_plain(folder: Path, ours: Path, config: dict) -> None:
    """Snakemake alone, in `folder`, asked for the files that our workflow makes of a configuration."""
    folder.mkdir()
    shutil.copy(ROOT / "benchmarks/plain/Snakefile", folder / "Snakefile")
    shutil.copytree(ROOT / "profiles/default", folder / "profiles/default")
    wanted = [line.partition("\t")[0] for line in snakemake(ours, "--summary")[2].splitlines()]
    wanted = [path for path in wanted if path.startswith("results/")]
    tables, figures = ("results/tables/big/", "results/figures/big/")
    drawn = [path for path in wanted if path.startswith((tables, figures))]
    claims = [path for path in drawn if path.startswith(f"{tables}claims")]
    made = {
        *(f"{tables}{name}.{kind}" for name in grid.TABLES for kind in ("csv", "parquet")),
        f"{tables}aggregate.json",
    }
    shown: dict[str, list[str]] = {}
    for path in sorted({*drawn} - made - {*claims}):
        shown.setdefault(f"{Path(path).parts[1]}_{Path(path).stem}", []).append(path)
    read = ("train.json", "history.csv", "calibrate.json", "calibration.json", "metrics.csv", "reliability.csv")
    read += ("probe.json", "neighbourhood.parquet", "radii.parquet", "reference.json")
    cells = [path for path in wanted if "/runs/" in path or "/references/" in path]
    graph = {
        "sources": {name: spec["source"] for name, spec in config["datasets"].items()},
        "cell_files": [path for path in cells if path.endswith(read)],
        "drawn": drawn,
        "aggregate": sorted(made),
        "claims": claims,
        "shown": shown,
    }
    (folder / "graph.json").write_text(json.dumps(graph))


def finish(folder: Path, config: dict) -> None:
    """Files as if every job had run."""
    asked = checks.expected_records(load_config(config), folder / "results")
    empty = {"outputs": {}, "cells": [], "spec": None, "seed": None, "code": {}}
    for line in snakemake(folder, "--summary")[2].splitlines():
        path = folder / line.partition("\t")[0]
        if line.startswith("results/"):
            known = dict(zip(("spec", "seed", "code"), asked.get(path, ()), strict=False))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(store.seal(empty | known)) if path.suffix == ".json" else "")
    snakemake(folder, "--touch", "--quiet", "rules", "host", "progress")


@dataclass
class Measured:
    """Seconds and peak MiB of dry runs of one grid: ours, and Snakemake alone."""

    cells: int
    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    ours_mib: float = 0.0
    plain_mib: float = 0.0

    def turn(self, ours: Path, plain: Path, done: bool, number: int) -> None:
        """Run both, in turn, and check that both find the same to do."""
        pair = [(ours, self.ours), (plain, self.plain)]
        for folder, times in pair if number % 2 == 0 else reversed(pair):
            seconds, memory, said = snakemake(folder, *QUIET)
            times.append(seconds)
            if folder == ours:
                self.ours_mib = max(memory, self.ours_mib)
            else:
                self.plain_mib = max(memory, self.plain_mib)
            if done != (NOTHING in said):
                sys.exit(f"expected {'nothing' if done else 'all'} to do, but: {said[-2000:]}")


def jobs(folder: Path) -> str:
    """How many jobs a dry run finds."""
    return next(
        line.split()[-1] for line in snakemake(folder, "-n", "--quiet", "rules")[2].splitlines() if "total" in line
    )


def measure(cells: int, turns: int) -> tuple[Measured, Measured]:
    """Dry runs of a grid of `cells` cells, with all to do and with nothing."""
    fresh, there = Measured(cells), Measured(cells)
    with tempfile.TemporaryDirectory() as name:
        ours, plain = Path(name, "ours"), Path(name, "plain")
        lay_out(ours, big(cells))
        lay_out_plain(plain, ours, big(cells))
        if jobs(ours) != jobs(plain):
            sys.exit(f"graphs of {jobs(ours)} and {jobs(plain)} jobs are not the same")
        for number in range(turns):
            fresh.turn(ours, plain, False, number)
        finish(ours, big(cells))
        for line in snakemake(plain, "--summary")[2].splitlines():
            if line.startswith("results/"):
                path = plain / line.partition("\t")[0]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        snakemake(plain, "--touch", "--forceall", "--quiet", "rules", "host", "progress")
        for number in range(turns if turns < 3 else 3):
            there.turn(ours, plain, True, number)
    return fresh, there


def rows(quick: bool) -> Iterator[Row]:
    """Rows of the table."""
    sizes = (40, 400) if quick else (1200, 12000)
    found = {}
    for cells in sizes:
        found[cells] = measure(cells, TURNS[cells])
        for one, what in zip(found[cells], ("all to do", "all there"), strict=True):
            seconds = f"{sorted(one.ours)[len(one.ours) // 2]:.1f} s, {one.ours_mib:.0f} MiB"
            theirs = f"{sorted(one.plain)[len(one.plain) // 2]:.1f} s, {one.plain_mib:.0f} MiB"
            note = f"{seconds} against {theirs}"
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
    """Stage, cells, seconds and peak bytes of dry runs with all to do."""
    points = []
    for cells in (40, 120, 400) if quick else (1200, 3600, 12000):
        with tempfile.TemporaryDirectory() as name:
            lay_out(Path(name), big(cells))
            seconds, memory, _ = snakemake(Path(name), *QUIET)
            points.append(("dry run", cells, seconds, memory * 2**20))
    return points


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(rows, __doc__, growth)
