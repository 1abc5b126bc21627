"""Run all benchmarks, put their rows in one table, and plot how time and memory grow (`make bench`).

The measurements are written to benchmarks/measured.json, from which README.md and growth.png are made. `--quick` runs
each file with small sizes, only to show that it runs, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from harness import BF16, ROOT, Row, processor_facts, table

HERE = ROOT / "benchmarks"
# Each file with its heading, in the order of the table.
TOPICS = {
    "probe": "Probe: forward passes",
    "training": "Training",
    "temperature": "Temperature scaling",
    "metrics": "Calibration metrics",
    "demo": "Workflow",
    "dry_run": "Status and dry run",
}
PACKAGES = ["torch", "numpy", "scipy", "pandas", "snakemake"]
PACKAGES += ["scikit-learn", "probmetrics", "netcal", "torch-uncertainty"]  # peers
ACROSS = 5  # panels side by side
MEASURED, README, PICTURE = HERE / "measured.json", HERE / "README.md", HERE / "growth.png"


def processor() -> str:
    """Return the name that the processor reports, and the number of its cores."""
    facts = processor_facts()
    name, flags = facts.get("model name", platform.processor()), facts.get("flags", "").split()
    units = [flag for flag in ("avx2", "avx512f", *BF16) if flag in flags]
    return f"{name or platform.machine()}, {os.cpu_count()} cores{' with ' if units else ''}{', '.join(units)}"


def circumstances() -> dict[str, str]:
    """Return where and when the benchmarks run: the machine, versions and the date."""
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": processor(),
        "python": platform.python_version(),
    }
    return found | {name: version(name) for name in PACKAGES}


def measure(topic: str, quick: bool) -> dict:
    """Run a topic's file in a separate process and return what it measures; exit if it fails."""
    found: dict = {"circumstances": circumstances()}
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: Path(folder, f"{kind}.json") for kind in ("rows", "growth")}
        options = [part for kind, path in paths.items() for part in (f"--{kind}", path)]
        command = [sys.executable, HERE / f"{topic}.py", *options, *(["--quick"] if quick else [])]
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"{topic}.py failed")
        return found | {kind: json.loads(path.read_text()) for kind, path in paths.items()}


def readme(measured: dict[str, dict]) -> str:
    """Return the content of README.md."""
    parts = [INTRODUCTION]
    for topic, heading in TOPICS.items():
        if topic not in measured:
            continue
        where = measured[topic]["circumstances"]
        versions = ", ".join(f"{name} {where[name]}" for name in ("python", *PACKAGES))
        rows = [Row(**row) for row in measured[topic]["rows"]]
        parts += [f"## {heading}", f"`{topic}.py`, {where['date']}; {where['machine']}; {versions}.", table(rows)]
    return "\n\n".join([*parts, GROWTH]) + "\n"


INTRODUCTION = """# How fast it is

`make bench` fills in these tables. Each file here can also be run on its own, e.g. `python benchmarks/metrics.py`. To
install the libraries used as baselines, run `pip install --editable '.[bench]'`. Where a row compares times, both were
measured in alternation within one run, in a single thread unless the row says otherwise, so a slow machine slows both.
The verdict depends on the median ratio; the least and the largest are shown next to it. Rows with "<=" divide ours by
the baseline, and rows with ">=" divide the baseline by ours. Rows without a target under "reach" have no verdict,
as does bf16 against the paper's way on processors without instructions for bf16.
`temperature.py` and `metrics.py` exit with an error if the two sides' values differ, as does `dry_run.py` if a command
finds another number of jobs. The tests in tests/unit/training check that training and probes give the same results as
plain code.

All of these numbers are for CPUs. `python benchmarks/gpu.py` takes some minutes on a machine with a GPU and doesn't
need Snakemake. It checks whether results agree with the CPU's, and compares images per second with a plain PyTorch
loop.

`make conformance` isn't about speed: it compares public implementations of temperature scaling by whether they find the
optimum; its results are in `docs/conformance.md`. What else isn't about speed is in [studies](../studies/README.md).

Two results are older than the files here; commit 767de5ac has their scripts. With `channels_last`, a forward pass of
our CNN in float32 is 2.1 times as fast, and that of a ResNeXt-50 takes 1.2 times as long (`layouts.py`). A job that was
submitted to SLURM took about 6 s besides its stage (`cluster_overhead.py`), so [short
jobs](../docs/cluster.md#many-short-jobs) are best run in one allocation."""

GROWTH = """## How time and memory grow

![time and memory by size](growth.png)

Each line shows one stage at three sizes, on logarithmic axes; grey lines show linear growth. Memory is the peak above
what was in use before; for `halobench status` and dry runs, it is that of their largest process."""


def draw(measured: dict[str, dict], path: Path) -> None:
    """Plot each stage's time and memory against size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator

    points = [point for topic in measured.values() for point in topic["growth"]]
    stages = list(dict.fromkeys(point[0] for point in points))
    if not stages:
        return
    across = min(ACROSS, len(stages))
    bands = -(-len(stages) // across)
    figure, axes = plt.subplots(
        2 * bands, across, figsize=(2.6 * across, 4.8 * bands), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for number, stage in enumerate(stages):
        column = axes[2 * (number // across) : 2 * (number // across) + 2, number % across]
        size, seconds, peak = zip(*sorted(point[1:] for point in points if point[0] == stage), strict=True)
        for axis, values in zip(column, (seconds, [value / 2**20 for value in peak]), strict=True):
            axis.set_axis_on()
            axis.loglog(size, [values[-1] * one / size[-1] for one in size], color="0.75", linewidth=1, zorder=1)
            axis.loglog(size, values, marker="o", color="#2a6f97", zorder=2)
            axis.set_xticks(size, [f"{one:,.0f}" for one in size], fontsize=8)
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
            axis.minorticks_off()
            axis.margins(0.12)
        column[0].set_title("\n".join(textwrap.wrap(stage, 24)), fontsize=9)
        if number % across == 0:
            column[0].set_ylabel("seconds")
            column[1].set_ylabel("MiB more than before")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)} (all)")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes nothing")
    given = parser.parse_args()
    if unknown := [topic for topic in given.topics if topic not in TOPICS]:
        parser.error(f"no such topic: {', '.join(unknown)}")
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() and not given.quick else {}
    for topic in given.topics or TOPICS:
        print(f"\n== {TOPICS[topic]} ({topic}.py)", flush=True)
        measured[topic] = measure(topic, given.quick)
        if not given.quick:  # after each topic, so an interrupted run keeps what it has
            MEASURED.write_text(json.dumps(measured, indent=1) + "\n")
            README.write_text(readme(measured))
            draw(measured, PICTURE)
    rows = [Row(**row) for topic in given.topics or TOPICS for row in measured[topic]["rows"]]
    print(f"\n{table(rows)}")
    judged = [row.verdict for row in rows if row.verdict != "-"]
    print(f"\n{judged.count('reached')} of {len(judged)} rows reached")


if __name__ == "__main__":
    main()
