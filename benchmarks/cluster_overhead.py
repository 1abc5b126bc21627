"""Measure what Snakemake and its executor plugin add to a job on a cluster: `python benchmarks/cluster_overhead.py`.

The first part times the start of the Snakemake that runs inside each submitted job (there are two, one inside the
other) as the grid grows. The second part runs a grid of 8 cells on a cluster on this host: with a job per stage, with a
job per cell, and in one allocation. It prints how long jobs took in addition to their stages, and how long their ends
went unnoticed. `benchmarks/short_jobs.py` computes from that what large grids of short jobs take.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from datetime import datetime
from pathlib import Path

import yaml
from dry_run import big, lay_out
from harness import ROOT

sys.path.insert(0, str(ROOT / "tests/cluster"))

from one_host import OneHost

GROUPED = ("train", "probe", "calibrate")
QUIET = ("--quiet", "rules", "host", "progress")
# The options passed to the Snakemake inside a job that matter for its start.
NESTED = ("--allowed-rules", "train", "--force", "--nolock", "--no-hooks", "--mode", "remote", "-n", *QUIET)


def seconds(command: list[str], folder: Path, repeats: int = 5) -> float:
    """Return the median time that a command takes, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure_start(cells: int) -> float:
    """Return the seconds that the Snakemake in a job takes to start."""
    with tempfile.TemporaryDirectory() as name:
        lay_out(Path(name), big(cells))
        job = "train:dataset=clean,model=mlp16,loss=mixup2,seed=0"
        return seconds([sys.executable, "-m", "snakemake", "--target-jobs", job, *NESTED], Path(name))


def measure_jobs(*submit: str) -> dict[str, float]:
    """Run the tiny grid, 2 jobs at a time, with this command; return mean seconds per job."""
    with tempfile.TemporaryDirectory() as name, OneHost(settings={"MinJobAge": "3600"}) as cluster:
        folder = Path(name)
        lay_out(folder, yaml.safe_load((ROOT / "config.yaml").read_text()))
        began = time.perf_counter()
        command = [*submit, "--configfile", "workflow/experiments/tiny.yaml", "--resources", "gpu=2", "--quiet", "host"]
        done = subprocess.run(command, cwd=folder, env=cluster.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        found = measured(folder, cluster.ask("scontrol", "-o", "show", "job"))
        return found | {"run": time.perf_counter() - began}


def measured(folder: Path, text: str) -> dict[str, float]:
    """Compute the result of `measure_jobs` from SLURM's output, the records and when Snakemake noted its jobs' ends."""
    jobs = [dict(pair.split("=", 1) for pair in line.split() if "=" in pair) for line in text.splitlines()]
    times = {job["JobId"]: [stamp(job[key]) for key in ("SubmitTime", "StartTime", "EndTime")] for job in jobs}
    stages: dict[str, list[float]] = {}  # of each job
    noticed: dict[str, float] = {}
    for path in folder.glob("results/runs/*/*/*/*/*.json"):
        record = json.loads(path.read_text()) if path.stem in GROUPED else {"hardware": {}}
        if number := record["hardware"].get("slurm", {}).get("job"):
            stages.setdefault(number, []).append(record["seconds"])
            noticed[number] = max(noticed.get(number, 0.0), noticed_at(folder, path))
    rows = []
    for job, spent in stages.items():
        submitted, started, ended = times[job]
        rows.append((started - submitted, sum(spent), ended - started - sum(spent), noticed[job] - ended))
    means = map(statistics.fmean, zip(*rows, strict=True))
    found = dict(zip(("waited", "stages", "besides", "unnoticed"), means, strict=True))
    return found | {"jobs": len(stages), "stages in a job": statistics.fmean(map(len, stages.values()))}


def noticed_at(folder: Path, path: Path) -> float:
    """Return when the main Snakemake noted that a job had ended, according to its metadata of an output."""
    output = path.with_name("model.safetensors") if path.stem == "train" else path
    name = urlsafe_b64encode(str(output.relative_to(folder)).encode()).decode()
    return (folder / ".snakemake/metadata" / name).stat().st_mtime


def stamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", type=int, default=[40, 1000, 10000])
    for cells in parser.parse_args().cells:
        print(f"the Snakemake in a job of {cells} cells starts in {measure_start(cells):.2f} s", flush=True)
    print("two jobs at a time, one in the allocation; a look every 20 s; mean seconds per submitted job")
    run = [sys.executable, "-m", "halobench.cli.main", "run", "--workflow-profile", "profiles/slurm"]
    grouped = [*run, "--config", "submit=[calibrate]", "--groups", *(f"{s}=cell" for s in GROUPED)]
    allocated = ["sbatch", "--wait", "--gpus=2", "--cpus-per-task=1", "--mem=8000", "profiles/slurm/one-allocation.sh"]
    allocated += ["--until", "probe", "calibrate"]  # one job at a time
    ways = {"a job per stage": run, "a job per cell": grouped, "one allocation": allocated}
    for way, command in ways.items():
        told = ", ".join(f"{what} {value:.1f}" for what, value in measure_jobs(*command).items())
        print(f"{way}: {told}", flush=True)


if __name__ == "__main__":
    main()
