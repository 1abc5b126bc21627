"""Report what a run would take before anything is submitted: jobs, hours, GPU-hours, memory and disk.

Snakemake decides in one dry run which jobs would run; what they take is estimated from records of earlier jobs.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halobench.core.formatting import count, duration, number, size
from halobench.runner import dry_run
from halobench.runner.dry_run import PlannedJob, results_of
from halobench.runner.forecast.estimates import Estimate, Past, amount
from halobench.runner.forecast.explain import NOTHING, rank

UNTIMED = ("manifest", "partial_manifest")  # these record no time, since each takes only a moment
AROUND = 18.0  # seconds that SLURM, its plug-in and their Snakemakes add to a job; see docs/cluster.md
COLUMNS = ("", "jobs", "each", "in all", "GPU time", "memory", "estimated from")


@dataclass(frozen=True)
class Limits:
    """What a run may use at once (None for no cap). Without an executor there is no cap on `jobs`."""

    cores: int
    jobs: int | None = None
    gpus: int | None = None
    remote: bool = False


def limits(arguments: Sequence[str]) -> Limits:
    """Return the caps set by Snakemake's arguments and their profiles, which a dry run doesn't report."""
    from snakemake.cli import parse_args

    with contextlib.redirect_stderr(io.StringIO()):  # it prints the profiles, as the dry run did
        args = parse_args(list(arguments))[1]
    remote = args.executor not in (None, "local")
    cores = (args.local_cores if remote else args.cores or args.jobs) or 1
    jobs = args.jobs if remote and args.jobs and args.jobs < sys.maxsize else None
    return Limits(cores, jobs, args.resources["gpu"].value if "gpu" in args.resources else None, remote)


@dataclass(frozen=True)
class Task:
    """A job that would run, and what it takes."""

    job: PlannedJob
    estimate: Estimate | None

    @property
    def seconds(self) -> float:
        """The seconds that it is estimated to take, or 0 if unknown."""
        return self.estimate.seconds if self.estimate else 0.0

    @property
    def unknown(self) -> bool:
        """Whether it has no estimate although it could have one."""
        return self.estimate is None and self.job.kind not in UNTIMED

    @property
    def gpus(self) -> float:
        """The GPUs that it takes; several jobs may share one, through our slots or SLURM's shards."""
        held = amount(self.job, "gpu") or min(amount(self.job, "shard"), 1)
        return held / (amount(self.job, "slots_per_gpu") or 1)

    @property
    def submitted(self) -> bool:
        """Whether a cluster would run it on a node, according to `runs_here`, since a dry run doesn't show this."""
        return self.job.kind in ("train", "probe") or amount(self.job, "submit") > 0


def by_stage(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    """Return the tasks by stage, in the order in which stages run."""
    stages: dict[str, list[Task]] = {}
    for task in sorted(tasks, key=lambda task: rank(task.job)):
        stages.setdefault(task.job.kind, []).append(task)
    return stages


def wall_seconds(tasks: Sequence[Task], most: Limits) -> float:
    """Return how long a run takes if it always uses everything that it may use and nothing waits in a queue.

    It takes at least as long as the longest jobs of all stages, run one after the other.
    """
    stages = by_stage(tasks)
    around = {stage: AROUND if most.remote and group[0].submitted else 0.0 for stage, group in stages.items()}
    bounds = [sum(max(task.seconds for task in group) + around[stage] for stage, group in stages.items())]
    local = sum(task.seconds * task.job.threads for task in tasks if not around[task.job.kind])
    away = [(task, task.seconds + around[task.job.kind]) for task in tasks]
    bounds.append(local / most.cores)
    if most.gpus:
        bounds.append(sum(seconds * amount(task.job, "gpu") for task, seconds in away) / most.gpus)
    if most.jobs:
        bounds.append(sum(seconds for task, seconds in away if around[task.job.kind]) / most.jobs)
    return max(bounds)


def marked(tasks: Sequence[Task], text: str) -> str:
    """Mark an estimate with ``~`` if it is rough and ``>`` if some jobs have none; return ``?`` if all have none."""
    estimates, missing = [task.estimate for task in tasks if task.estimate], any(task.unknown for task in tasks)
    if not estimates:
        return "?" if missing else "-"
    return f"{'>' if missing else ''}{'~' if any(estimate.rough for estimate in estimates) else ''}{text}"


def table(stages: Mapping[str, Sequence[Task]]) -> list[str]:
    """Return a line for each stage, and one for the total."""
    whole = row("total", [task for group in stages.values() for task in group])
    rows = [COLUMNS, *(row(*item) for item in stages.items()), (*whole[:2], "", *whole[3:5], "", "")]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([first.ljust(widths[0]), *map(str.rjust, cells, widths[1:-1]), last]).rstrip()
        for first, *cells, last in rows
    ]


def row(stage: str, group: Sequence[Task]) -> tuple[str, ...]:
    """Return the cells of a line, in the order of `COLUMNS`."""
    estimated = [task for task in group if task.estimate]
    on_gpu = [task for task in group if task.gpus]
    seconds = sum(task.seconds for task in group)
    memory = max((task.estimate.memory for task in estimated if task.estimate), default=0.0)
    return (
        stage,
        f"{len(group):,}",
        marked(estimated or group, duration(seconds / max(len(estimated), 1))),
        marked(group, duration(seconds)),
        marked(on_gpu, duration(sum(task.seconds * task.gpus for task in on_gpu))),
        marked(estimated or group, size(memory * 2**20)),
        ", ".join(dict.fromkeys(task.estimate.near for task in estimated if task.estimate)),
    )


def totals(tasks: Sequence[Task], most: Limits, folder: Path) -> list[str]:
    """Return the lines about GPU-hours, wall time and disk."""
    on_gpu = [task for task in tasks if task.gpus]
    hours = marked(on_gpu, number(sum(task.seconds * task.gpus for task in on_gpu) / 3600))
    caps = [count(most.gpus, "GPU slot")] if on_gpu and most.gpus else []
    at_once = count(most.jobs, "job") if most.jobs else "any number of jobs"
    queue = f"{at_once} at once, counting {AROUND:.0f} s of overhead for each but no waiting in a queue"
    caps.append(queue if most.remote else count(most.cores, "core"))
    uncapped = "; use --resources gpu=N to see it for N GPUs" if on_gpu and not most.gpus else ""
    return [
        f"GPUs       {f'{hours} GPU-hours' if on_gpu else 'no job needs one'}",
        f"wall time  {marked(tasks, duration(wall_seconds(tasks, most)))} with {' and '.join(caps)}{uncapped}",
        f"disk       {disk(tasks, folder)}",
    ]


def disk(tasks: Sequence[Task], folder: Path) -> str:
    """Return how much the jobs will write, and how much is free where the results are."""
    results = folder / results_of(task.job for task in tasks)
    free = shutil.disk_usage(results if results.exists() else folder).free
    outputs = (os.path.join(folder, path) for task in tasks for path in task.job.outputs)
    old = sum(os.path.getsize(path) for path in outputs if os.path.exists(path))
    sizes = [task.estimate.size if task.estimate else None for task in tasks if task.job.kind not in UNTIMED]
    new, missing = sum(filter(None, sizes)), sizes.count(None)
    without = f" ({count(missing, 'job')} not counted)" if missing else ""
    instead = f", replacing {size(old)} of older files" if old else ""
    room = "" if new - old <= free else ": NOT ENOUGH"
    return f"{marked(tasks, size(new))} to write{without}{instead}; {size(free)} free{room}"


def notes(stages: Mapping[str, Sequence[Task]]) -> list[str]:
    """Say where the records are from, and which estimates to mistrust: rough, missing, or from a CPU for a GPU job."""
    estimated = [(task, task.estimate) for group in stages.values() for task in group if task.estimate]
    places = sorted({place for _, estimate in estimated for place in estimate.places})
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    lines = [f"The records are from {', '.join(places[:3])}{more}."] if places else []
    if any(estimate.rough for _, estimate in estimated):
        lines.append("~ marks rough estimates, taken from another data set or model and scaled by images x epochs.")
    if guessed := sum(task.gpus > 0 and estimate.places[0].startswith("cpu") for task, estimate in estimated):
        lines.append(
            f"{count(guessed, 'GPU job')} estimated from CPU records: on a GPU, small models take about as long and"
            " large ones far less, so the GPU-hours are a rough upper bound."
        )
    unknown = {stage: [task.job.outputs[-1] for task in group if task.unknown] for stage, group in stages.items()}
    if kinds := {stage: outputs for stage, outputs in unknown.items() if outputs}:
        jobs = ", ".join(f"{len(outputs):,} {stage}" for stage, outputs in kinds.items())
        first = " ".join(min(outputs) for outputs in kinds.values())
        lines.append(
            f"Can't be estimated, since no such job has run here: {jobs}. For an estimate, first run one of each"
            f" (with your options): halobench run {first}"
        )
    return lines


def cells(jobs: Sequence[PlannedJob], gathered: Iterable[str] = ()) -> str:
    """Count the cells that have jobs to run, and the other cells whose files jobs read or targets gather."""
    paths = {path for job in jobs for path in (*job.inputs, *job.outputs)}.union(gathered)
    runs = f"{results_of(jobs)}/runs/"
    seen = {path.rpartition("/")[0] for path in paths if path.startswith(runs)}
    busy = {path.rpartition("/")[0] for job in jobs for path in job.outputs[:1] if path.startswith(runs)}
    finished = f", {len(seen - busy):,} already finished" if seen - busy else ""
    return f"{count(len(busy), 'cell') if busy else 'no cells'} to compute{finished}"


def report(jobs: Sequence[PlannedJob], most: Limits, folder: Path, gathered: Iterable[str] = ()) -> list[str]:
    """Return the lines that report what a run would take; `gathered` are the files that targets gather."""
    past = Past(folder, jobs)
    tasks = [Task(job, past.estimate(job)) for job in jobs]
    stages = by_stage(tasks)
    last = notes(stages)
    if past.unreadable:
        last.append(f"{count(past.unreadable, 'unreadable record')} left out; see `halobench verify`.")
    first = f"{count(len(jobs), 'job')} would run: {cells(jobs, gathered)}"
    return [first, "", *table(stages), "", *totals(tasks, most, folder), *([""] if last else []), *last]


def plan(arguments: Sequence[str]) -> int:
    """Print what a run would take; return 0, or print Snakemake's error and return its exit code."""
    events = dry_run.dry_run(arguments)
    if code := dry_run.refuse(events, "listed no jobs"):
        return code
    lines = report(events.jobs, limits(arguments), events.folder, events.gathered) if events.jobs else [NOTHING]
    print("\n".join(lines))
    return 0
