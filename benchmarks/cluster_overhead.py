"""Measure what Snakemake and its executor plugin add to a job on a cluster: `python benchmarks/cluster_overhead.py`.

The first part times the start of the Snakemake that runs inside each submitted job (there are two, one inside the
other) as the grid grows. The second part runs a grid of 8 cells on a cluster on this host. For each job, it measures
how long the job waited, how long it took in addition to the stage itself, and how long its end went unnoticed.
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


def measure_jobs() -> list[tuple[float, float, float, float]]:
    """Return each cluster job's seconds: waiting, in the stage, on anything else, and until its end was noticed."""
    with tempfile.TemporaryDirectory() as name, OneHost(settings={"MinJobAge": "3600"}) as cluster:
        folder = Path(name)
        lay_out(folder, yaml.safe_load((ROOT / "config.yaml").read_text()))
        began = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "halobench.cli.main",
            "run",
            "--workflow-profile",
            "profiles/slurm",
            "--quiet",
            "host",
        ]
        command += ["--configfile", "workflow/experiments/tiny.yaml", "--resources", "gpu=2"]
        done = subprocess.run(command, cwd=folder, env=cluster.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        print(f"  the whole run: {time.perf_counter() - began:.0f} s")
        return rows(folder, cluster.ask("scontrol", "-o", "show", "job"))


def rows(folder: Path, text: str) -> list[tuple[float, float, float, float]]:
    """Compute the result of `measure_jobs` from SLURM's output, the records and when Snakemake noted its jobs' ends."""
    found = []
    jobs = [dict(pair.split("=", 1) for pair in line.split() if "=" in pair) for line in text.splitlines()]
    times = {job["JobId"]: [stamp(job[key]) for key in ("SubmitTime", "StartTime", "EndTime")] for job in jobs}
    for path in folder.glob("results/runs/*/*/*/*/*.json"):
        record = json.loads(path.read_text())
        if path.stem not in ("train", "probe"):
            continue
        submitted, started, ended = times[record["hardware"]["slurm"]["job"]]
        noticed = noticed_at(folder, path)
        found.append((started - submitted, record["seconds"], ended - started - record["seconds"], noticed - ended))
    return found


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
    print("the Snakemake in a job, seconds to start")
    for cells in parser.parse_args().cells:
        print(f"{cells:8} cells  {measure_start(cells):7.2f}", flush=True)
    print("16 jobs, 2 at a time, looks at the queue every 20 s", flush=True)
    waited, stage, besides, unnoticed = (statistics.fmean(column) for column in zip(*measure_jobs(), strict=True))
    told = f"waited {waited:.1f}, stage {stage:.1f}, besides {besides:.1f}, unnoticed {unnoticed:.1f}"
    print(f"  mean seconds a job: {told}")


if __name__ == "__main__":
    main()
