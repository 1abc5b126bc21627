"""What a run would take, told before anything is submitted: jobs, hours, GPU-hours, memory and disk.

Which jobs would run, and what each is asked, is Snakemake's word, from one dry run. What they take is the mean of what
the most alike jobs took that have run here, as their records tell. Of a job without such a record nothing is made up.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import fmean as mean

from halobench.core.formatting import count, duration, number, size
from halobench.runner import dry_run
from halobench.runner.dry_run import PlannedJob
from halobench.runner.forecast.estimates import LIKE, MIB, Estimate, Made, Past, amount, gpus, record_path
from halobench.runner.forecast.explain import NOTHING, ORDER

UNTOLD = ("manifest", "partial_manifest")  # leave no record: a moment each
HIGH = 0.8  # a peak above this part of the memory that jobs ask for is worth a line
AROUND = 18.0  # seconds that SLURM, the plugin and its Snakemakes add to a job: docs/cluster.md


@dataclass(frozen=True)
class Limits:
    """What a run may use at once; None where there is no cap. Without an executor there is none on `jobs`."""

    cores: int
    jobs: int | None = None
    gpus: int | None = None
    remote: bool = False


def limits(arguments: Sequence[str]) -> Limits:
    """Return the caps in Snakemake's arguments and in their profiles: a dry run doesn't print them."""
    from snakemake.cli import parse_args

    with contextlib.redirect_stderr(io.StringIO()):  # it names the profiles, as the dry run did
        args = parse_args(list(arguments))[1]
    caps = {name: args.resources[name].value for name in args.resources}
    remote = args.executor not in (None, "local")
    cores = (args.local_cores if remote else args.cores or args.jobs) or 1
    jobs = args.jobs if remote and args.jobs and args.jobs < sys.maxsize else None
    return Limits(cores, jobs, caps.get("gpu"), remote)


@dataclass(frozen=True)
class Task:
    """A job that would run, and what it takes."""

    job: PlannedJob
    estimate: Estimate | None

    @property
    def seconds(self) -> float:
        """Its seconds as far as they are known."""
        return self.estimate.seconds if self.estimate else 0.0

    @property
    def unknown(self) -> bool:
        """Whether a like record is missing that there could be."""
        return self.estimate is None and self.job.kind not in UNTOLD


def gpu_seconds(tasks: Iterable[Task]) -> float:
    """Seconds x GPU slots."""
    return sum(task.seconds * gpus(task.job) for task in tasks)


def core_seconds(tasks: Iterable[Task]) -> float:
    """Seconds x threads."""
    return sum(task.seconds * task.job.threads for task in tasks)


def longest(tasks: Sequence[Task]) -> float:
    """Seconds of the longest chain of jobs that wait for each other."""
    makers = {path: task for task in tasks for path in task.job.outputs}
    ends: dict[str, float] = {}

    def end(task: Task) -> float:
        name = task.job.outputs[0]
        if name not in ends:
            before = {makers[path].job.outputs[0]: makers[path] for path in task.job.inputs if path in makers}
            ends[name] = task.seconds + max(map(end, before.values()), default=0.0)
        return ends[name]

    return max(map(end, tasks), default=0.0)


def runs_here(job: PlannedJob) -> bool:
    """Whether a job runs beside the master on a cluster too, by the workflow's `runs_here`: a dry run does not tell."""
    return job.kind not in ("train", "probe") and not amount(job, "submit")


def wall_seconds(tasks: Sequence[Task], most: Limits) -> float:
    """Seconds that a run takes at least, however well it fills what it may use at once; no wait in a queue counts."""
    here = [task for task in tasks if runs_here(task.job) or not most.remote]
    away = [task for task in tasks if not runs_here(task.job) and most.remote]
    around = AROUND if away else 0.0
    bounds = [longest(tasks) + around * len({task.job.kind for task in away}), core_seconds(here) / most.cores]
    if most.gpus:
        bounds.append(sum((task.seconds + around) * gpus(task.job) for task in tasks) / most.gpus)
    if most.jobs:
        bounds.append(sum(task.seconds + around for task in away) / most.jobs)
    return max(bounds)


COLUMNS = ("", "jobs", "no record", "each", "in all", "on GPUs", "peak memory", "asked for")


def grouped(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    """Jobs by kind, in the order in which the stages run."""
    kinds: dict[str, list[Task]] = {}
    for task in tasks:
        kinds.setdefault(task.job.kind, []).append(task)
    ranked = sorted(kinds, key=lambda kind: (ORDER.index(kind) if kind in ORDER else len(ORDER), kind))
    return {kind: kinds[kind] for kind in ranked}


def table(tasks: Sequence[Task]) -> list[str]:
    """Return a line for each kind of job, and one for all."""
    kinds = grouped(tasks)
    rows = [COLUMNS, *(_row(kind, group) for kind, group in kinds.items())]
    whole = _row("total", tasks)
    rows.append((*whole[:3], "", *whole[4:6], "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def _row(kind: str, group: Sequence[Task]) -> tuple[str, ...]:
    """Return the cells of a line, as `COLUMNS` names them."""
    seconds = [task.seconds for task in group if task.estimate]
    on_gpu = [task for task in group if gpus(task.job)]
    missing = sum(task.unknown for task in group)
    unknown = "?" if missing else "-"
    peak, requested = peak_memory(group), asked_memory(group)
    return (
        kind,
        f"{len(group):,}",
        f"{missing:,}" if missing else "-",
        duration(mean(seconds)) if seconds else unknown,
        _sum(group, sum(seconds)),
        _sum(on_gpu, gpu_seconds(on_gpu)),
        size(peak * MIB) if peak else unknown,
        size(requested * MIB) if requested else "-",
    )


def _sum(tasks: Sequence[Task], seconds: float) -> str:
    """Seconds of some jobs in a table: more than is known, where some have no record."""
    missing = any(task.unknown for task in tasks)
    if not any(task.estimate for task in tasks):
        return "?" if missing else "-"
    return f"{'>' if missing else ''}{duration(seconds)}"


def peak_memory(group: Iterable[Task]) -> float:
    """Return the largest peak in the records that count, MiB; 0 if there is none."""
    return max((task.estimate.memory for task in group if task.estimate), default=0.0)


def asked_memory(group: Iterable[Task]) -> float:
    """Return the least memory that one of these jobs asks for, MiB; 0 if none does."""
    requested = [amount(task.job, "mem_mib") or amount(task.job, "mem_mb") * 1e6 / MIB for task in group]
    return min(filter(None, requested), default=0.0)


def totals(tasks: Sequence[Task], most: Limits, folder: Path) -> list[str]:
    """Return the lines of GPU-hours, core-hours, wall time and disk."""
    on_gpu = [task for task in tasks if gpus(task.job)]
    others = [task for task in tasks if not gpus(task.job)]
    rows = [
        ("GPUs", _gpu_hours(tasks)),
        ("CPUs", _hours(others, core_seconds(others), f"core-hours{' of the other jobs' if on_gpu else ''}")),
        ("wall time", wall(tasks, most)),
        ("disk", disk(tasks, folder)),
    ]
    return [f"{name:9}  {text}" for name, text in rows]


def _gpu_hours(tasks: Sequence[Task]) -> str:
    """GPU-hours, or hours of shards where jobs ask for shards of GPUs."""
    on_gpu = [task for task in tasks if gpus(task.job)]
    on_shards = [task for task in tasks if amount(task.job, "shard")]
    parts = [_hours(on_gpu, gpu_seconds(on_gpu), "GPU-hours")] if on_gpu else []
    if on_shards:
        seconds = sum(task.seconds * amount(task.job, "shard") for task in on_shards)
        parts.append(_hours(on_shards, seconds, "hours of shards of GPUs"))
    return ", ".join(parts) or "no job asks for one"


def _at_least(tasks: Iterable[Task]) -> str:
    return "at least " if any(task.unknown for task in tasks) else ""


def _hours(tasks: Sequence[Task], seconds: float, unit: str) -> str:
    """Hours of some jobs, and of how many they aren't known."""
    missing = sum(task.unknown for task in tasks)
    if missing and not any(task.estimate for task in tasks):
        return f"unknown {unit}: none has a record of a like one"
    without = f" ({count(missing, 'job')} without a record not counted)" if missing else ""
    return f"{_at_least(tasks)}{number(seconds / 3600)} {unit}{without}"


def wall(tasks: Sequence[Task], most: Limits) -> str:
    """How long a run takes, and with what at once."""
    if not any(task.estimate for task in tasks):
        return "unknown"
    on_gpu = any(gpus(task.job) for task in tasks)
    caps = [count(most.gpus, "GPU slot")] if on_gpu and most.gpus else []
    if most.remote:
        jobs = count(most.jobs, "job") if most.jobs else "any number of jobs"
        caps += [f"{jobs} at once, {AROUND:.0f} s around each counted, but no waits in a queue"]
    else:
        caps += [count(most.cores, "core")]
    uncapped = "; --resources gpu=N tells it for N GPUs" if on_gpu and not most.gpus else ""
    time = f"{_at_least(tasks) or 'about '}{duration(wall_seconds(tasks, most))}"
    return f"{time} with {' and '.join(caps)}{uncapped}"


def disk(tasks: Sequence[Task], folder: Path) -> str:
    """Bytes that the jobs will write, and what is free where results lie."""
    results = folder / "results"
    free = shutil.disk_usage(results if results.exists() else folder).free
    sizes = [task.estimate.size if task.estimate else None for task in tasks if task.job.kind not in UNTOLD]
    estimated = [bytes_ for bytes_ in sizes if bytes_ is not None]
    if not estimated:
        return f"unknown; {size(free)} are free"
    old = sum(_size_of(folder / path) for task in tasks for path in task.job.outputs)
    missing = len(sizes) - len(estimated)
    least = (
        f"at least {size(sum(estimated))} ({count(missing, 'job')} not counted)" if missing else size(sum(estimated))
    )
    instead = f", in place of {size(old)} of older files" if old else ""
    room = "" if sum(estimated) - old <= free else ": NOT ENOUGH"
    return f"{least} to write{instead}; {size(free)} are free{room}"


def _size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def origins(tasks: Iterable[Task]) -> list[str]:
    """Return the lines that say which records the estimates are taken from."""
    rows = []
    for kind, group in grouped(tasks).items():
        for like in LIKE.get(kind, ()):
            estimates_alike = [task.estimate for task in group if task.estimate and task.estimate.like == like]
            if estimates_alike:
                origins_by_path = {one.path: one for estimate in set(estimates_alike) for one in estimate.origins}
                records = f"{count(len(origins_by_path), 'record')} {like.words}{' (rough)' if like.rough else ''}"
                rows.append((kind, count(len(estimates_alike), "job"), records, places(origins_by_path.values())))
    if not rows:
        return []
    shared = rows[0][3] if len({row[3] for row in rows}) == 1 else ""
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return [
        f"Estimated by the mean of the most alike records{f', all on {shared}' if shared else ''}:",
        *(
            f"  {kind:{widths[0]}}  {jobs:>{widths[1]}} by {records}{'' if shared else f', on {where}'}"
            for kind, jobs, records, where in rows
        ),
    ]


def places(origins: Iterable[Made], most: int = 3) -> str:
    """Where jobs ran, the most frequent first: ``cpu (AMD EPYC, host vm)``."""
    origins = list(origins)
    texts = []
    for (device, chip), _ in Counter((one.device, one.chip) for one in origins).most_common():
        hosts = {one.host for one in origins if (one.device, one.chip) == (device, chip)}
        texts.append(f"{device} ({chip}, {f'host {min(hosts)}' if len(hosts) == 1 else f'{len(hosts)} hosts'})")
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def unknowns(tasks: Iterable[Task], most: int = 4) -> list[str]:
    """Return the lines that say which jobs have no like record, and what to run to have one."""
    groups: dict[tuple[str, str], list[PlannedJob]] = {}
    for kind, group in grouped(tasks).items():
        for job in (task.job for task in group if task.unknown):
            model = job.wildcards.get("model", "") if kind in ("train", "probe") else ""
            groups.setdefault((kind, model), []).append(job)
    if not groups:
        return []
    kinds = [f"{kind}{f' of model {model}' if model else ''}: {len(jobs):,}" for (kind, model), jobs in groups.items()]
    kinds = kinds if len(kinds) <= most else [*kinds[: most - 1], f"{len(kinds) - most + 1} more"]
    jobs = sum(map(len, groups.values()))
    lines = [f"{count(jobs, 'job')} {'has' if jobs == 1 else 'have'} no record of a like one ({', '.join(kinds)})."]
    # Probes stand last, and a cell's needs its training: of a model that lacks both, its probe is asked for.
    first = {model: min(str(record_path(job)) for job in jobs) for (_, model), jobs in groups.items() if model}
    if first:
        paths = [*list(first.values())[:most], *(["..."] if len(first) > most else [])]
        each = "one" if len(first) == 1 else "one of each model"
        lines.append(f"To know what they take, first run {each} (with your options): halobench run {' '.join(paths)}")
    return lines


def warnings(tasks: Sequence[Task]) -> list[str]:
    """Return lines on what to mistrust: GPU hours from CPU records, slots that share a GPU, scarce memory."""
    lines = []
    if guessed := sum(task.estimate is not None and task.estimate.of_cpu and gpus(task.job) > 0 for task in tasks):
        asking = "1 job that asks" if guessed == 1 else f"{guessed:,} jobs that ask"
        lines.append(
            f"The {asking} for a GPU {'is' if guessed == 1 else 'are'} estimated from records of a CPU: on a GPU small"
            " models take about as long and large ones far less, so that their GPU-hours are a guess from above."
        )
    shared = max((amount(task.job, "slots_per_gpu") for task in tasks if gpus(task.job)), default=0)
    if shared > 1:
        lines.append(f"{shared} jobs share a GPU (slots_per_gpu): GPU-hours here are of slots, {shared} of each GPU.")
    for kind, group in grouped(tasks).items():
        peak, requested = peak_memory(group), asked_memory(group)
        if requested and peak > HIGH * requested:
            twice = f"--set-resources {group[0].job.rule}:mem_mb={2 * peak * MIB / 1e6:.0f}"
            lines.append(
                f"{kind}: like jobs took up to {size(peak * MIB)} of memory, and {size(requested * MIB)} is asked for;"
                f" {twice} asks for twice what they took."
            )
    return lines


def cells(jobs: Iterable[PlannedJob], gathered: Iterable[str] = ()) -> str:
    """Count the cells that have jobs to run, and the others among the files that jobs read or targets gather."""
    jobs = list(jobs)
    files = {path for job in jobs for path in (*job.inputs, *job.outputs)}.union(gathered)
    cells_read = {str(PurePosixPath(path).parent) for path in files if path.startswith(RUNS)}
    busy = {str(PurePosixPath(path).parent) for job in jobs for path in job.outputs[:1] if path.startswith(RUNS)}
    finished = len(cells_read - busy)
    computed = count(len(busy), "cell") if busy else "no cell"
    return f"{computed} to compute" + (f", {finished:,} finished already" if finished else "")


RUNS = "results/runs/"


def report(jobs: Sequence[PlannedJob], most: Limits, folder: Path, gathered: Iterable[str] = ()) -> list[str]:
    """Return the lines that say what a run would take.

    Parameters
    ----------
    jobs : sequence of PlannedJob
        All that would run.
    most : Limits
    folder : Path
        The working directory.
    gathered : iterable of str
        The files that targets gather.

    Returns
    -------
    list of str
    """
    past = Past(folder, dict.fromkeys(job.kind for job in jobs))
    tasks = [Task(job, past.estimate(job)) for job in jobs]
    notes = [*unknowns(tasks), *warnings(tasks)]
    if past.unreadable:
        were = "was" if past.unreadable == 1 else "were"
        notes.append(f"{count(past.unreadable, 'record')} can't be read and {were} left out: see `halobench verify`.")
    parts = [
        [f"{count(len(jobs), 'job')} would run: {cells(jobs, gathered)}"],
        table(tasks),
        totals(tasks, most, folder),
        origins(tasks),
        notes,
    ]
    return "\n\n".join("\n".join(part) for part in parts if part).splitlines()


def plan(arguments: Sequence[str]) -> int:
    """Print what a run would take; return 0, or Snakemake's exit code after its own message."""
    events = dry_run.dry_run(arguments)
    if code := dry_run.refuse(events, "named no jobs"):
        return code
    if events.jobs:
        print("\n".join(report(events.jobs, limits(arguments), events.folder, events.gathered)))
    else:
        print(NOTHING)
    return 0
