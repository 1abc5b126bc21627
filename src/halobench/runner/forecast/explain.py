"""Explain why each job would run, down to keys, modules and files, in sentences based on a Snakemake dry run's reasons.

Snakemake decides and this module only reports, so the two can't disagree. Changes in a job's request are the
differences between the request and the record of its results.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from halobench.core.errors import SpecError
from halobench.core.formatting import count
from halobench.runner import dry_run
from halobench.runner.dry_run import PlannedJob, request_of
from halobench.storage import files
from halobench.storage.layout import STAGES
from halobench.storage.requests import STALE

ORDER = tuple(STAGES)
NOTHING = "nothing would run: everything is up to date"


def explain(job: PlannedJob, makers: Mapping[str, PlannedJob], folder: Path = Path()) -> str:
    """Say why a job would run, in a sentence without its name, or in Snakemake's words if they aren't understood.

    `makers` holds the job that would make each file again; `folder` is the working directory of the run.
    """
    reasons = dry_run.parse_reason(job.reason)
    if dry_run.MISSING in reasons and not any((folder / path).exists() for path in job.outputs):
        return "it has never run"
    clauses = [clause for kind, paths in reasons.items() for clause in _clauses(job, kind, paths, makers, folder)]
    return "; ".join(dict.fromkeys(clauses)) or job.reason or "Snakemake gives no reason"


def _clauses(job: PlannedJob, kind: str, paths: list[str], makers: Mapping[str, PlannedJob], folder: Path) -> list[str]:
    """Put one of Snakemake's reasons into words, with any files that it mentions; return nothing if it isn't known."""
    match kind:
        case dry_run.FORCED:  # by the user, or by Snakemake because it was left incomplete and has no record yet
            complete = (folder / job.outputs[-1]).exists()
            return request_changes(job, folder) or [
                "it is forced" if complete else "it was left incomplete when it last ran"
            ]
        case dry_run.MISSING:
            gone = sorted(path for path in paths if not (folder / path).exists())
            return [f"{_names(job, gone)} {_be(gone)} missing"]
        case dry_run.INCOMPLETE:
            return [f"it left {_names(job, paths)} incomplete"]
        case dry_run.NEWER:
            changed = _changed_inputs(job, paths, folder)
            newer = [f"{_names(job, changed)} changed after the outputs were made"] if changed else []
            return [*newer, *(request_changes(job, folder) if len(changed) < len(paths) else [])]
        case dry_run.UPSTREAM:
            by = _makers(job, [makers[path] for path in paths if path in makers])
            return [f"{_names(job, sorted(paths), 'inputs')} will be rebuilt{by}"]
        case dry_run.INPUTS:
            return request_changes(job, folder) or ["its list of inputs changed"]
    return [OTHERS[kind].format(job.rule)] if kind in OTHERS else []


OTHERS = {
    dry_run.CODE: "the rule {} itself changed",
    dry_run.PARAMS: "its parameters changed",
    dry_run.SOFTWARE: "its software environment changed",
}


def _changed_inputs(job: PlannedJob, paths: Iterable[str], folder: Path) -> list[str]:
    """Return which inputs on Snakemake's list, except the request, changed after a job's outputs were made.

    Every input is newer than a backdated record; in that case the times of the job's other outputs count.
    """
    changed = sorted(path for path in paths if path != request_of(job))
    times = [(folder / path).stat().st_mtime for path in job.outputs if (folder / path).exists()]
    others = [time for time in times if time != STALE]
    if STALE not in times or not others:
        return changed
    return [path for path in changed if (folder / path).stat().st_mtime > min(others)]


def request_changes(job: PlannedJob, folder: Path = Path()) -> list[str]:
    """List how a job's request differs from the one its record was made with; return nothing if there is no record."""
    try:
        request = files.read_json(folder / request_of(job), ["spec", "code"])
        record = files.read_json(folder / job.outputs[-1])
    except SpecError:
        return []
    if job.kind == "manifest":
        return _cell_changes(record, request["spec"])
    return changes(record, request["spec"], request["code"])


def changes(record: Mapping[str, Any], spec: Mapping[str, Any], code: Mapping[str, str]) -> list[str]:
    """Describe how a spec and a code version differ from those of a record."""
    changed = spec_changes(record.get("spec", {}), spec)
    return [*changed, *_code_changes(record.get("code", {}), code, swapped=bool(changed))]


def _makers(job: PlannedJob, earlier: Iterable[PlannedJob]) -> str:
    """Return the jobs that make a job's inputs, without labels that match the job's own."""
    names = []
    distinct = sorted({maker.name: maker for maker in earlier}.values(), key=rank)
    for kind, group in ((kind, list(group)) for kind, group in groupby(distinct, key=lambda maker: maker.kind)):
        is_same = f"{job.label}/".startswith(f"{group[0].label}/")
        names.append(f"{kind} ({len(group)} jobs)" if len(group) > 1 else kind if is_same else group[0].name)
    return f" by {_and(names)}" if names else ""


def _cell_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the folders of cells and references that were added to a manifest or dropped from it."""
    places = (("cells", "runs"), ("references", "references"))
    old, new = (
        {f"{place}/{entry['path']}" for kind, place in places for entry in listed.get(kind, ())}
        for listed in (before, now)
    )
    both = ((sorted(new - old), "added to"), (sorted(old - new), "dropped from"))
    return [f"{_listed(folders)} {_be(folders, 'was', 'were')} {what} its inputs" for folders, what in both if folders]


def _code_changes(before: Mapping[str, str], now: Mapping[str, str], swapped: bool = False) -> list[str]:
    """List modules that changed, and those added or dropped unless a changed spec (`swapped`) already shows them."""
    both = [([module for module in now if module in before and before[module] != now[module]], "changed")]
    if not swapped and before and now:
        moved = ((now.keys() - before.keys(), "now used"), (before.keys() - now.keys(), "no longer used"))
        both += [(sorted(modules), f"{_be(modules)} {what}") for modules, what in moved]
    return [f"{_listed(list(map(_file, modules)))} {what}" for modules, what in both if modules]


def _file(module: str) -> str:
    """Return a module of a code map as a file in the package, or as the config refers to it."""
    return module if ":" in module or "." in module.rpartition("/")[2] else f"{module}.py"


def spec_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List what changed between two specs, by dotted key; a missing key is at its default."""
    old, new = _flat(before), _flat(now)
    alike: dict[tuple[str, str], list[str]] = {}
    for key in sorted(old.keys() | new.keys()):
        if key not in old or key not in new or old[key] != new[key]:
            alike.setdefault((_value(key, old, new), _value(key, new, old)), []).append(key)
    return [
        f"{_listed(keys)} {_be(keys, 'was', 'were')} {was} and {_be(keys)} now {now}"
        for (was, now), keys in alike.items()
    ]


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a spec's values by dotted key as in the config, where options stand next to the name they belong to."""
    values: dict[str, Any] = {}
    for key, value in spec.items():
        path = prefix if key == "options" else f"{prefix}{key}."
        values |= _flat(value, path) if isinstance(value, Mapping) else {path[:-1]: value}
    return values


def _value(key: str, values: Mapping[str, Any], others: Mapping[str, Any], longest: int = 60) -> str:
    """Format a value as JSON, leaving out its middle if it's long.

    A missing value is either the default or is absent along with everything around it, as with another plug-in's
    options or a whole probe.
    """
    if key in values:
        text = json.dumps(values[key])
        return text if len(text) <= longest else f"{text[: longest - 20]} ... {text[-15:]}"
    part = key.rpartition(".")[0]
    names = [f"{part}.{name}".lstrip(".") for name in ("name", "loader", "kind")]
    return "the default" if all(values.get(name) == others.get(name) for name in names) else "absent"


def _names(job: PlannedJob, paths: Iterable[str], what: str = "") -> str:
    """Shorten files next to a job's outputs to their names, so jobs with the same reason get the same text."""
    folder = PurePosixPath(job.outputs[0]).parent
    short = [path.name if path.parent == folder else str(path) for path in map(PurePosixPath, paths)]
    return _listed(short, what)


def _listed(names: Sequence[str], what: str = "", most: int = 4) -> str:
    """List the first names and say how many more there are, or just give the number if it's clear what they are."""
    if len(names) <= most:
        return _and(names)
    return f"{len(names)} {what}" if what else f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _be(names: Sized, one: str = "is", many: str = "are") -> str:
    return one if len(names) == 1 else many


def rank(job: PlannedJob) -> tuple[int, str, str]:
    """Return a job's sort key in a report: by stage, then by name."""
    return ORDER.index(job.kind) if job.kind in ORDER else len(ORDER), job.kind, job.label


def report(jobs: Sequence[PlannedJob], folder: Path = Path(), each: bool = False) -> list[str]:
    """Return the lines that explain why jobs would run.

    Parameters
    ----------
    jobs : sequence of PlannedJob
        All jobs of a dry run.
    folder : Path
        The working directory of the run.
    each : bool
        Whether to write a line per job; otherwise jobs of a stage with the same sentence share a line, and jobs that
        would run only because another job does are just counted.

    Returns
    -------
    list of str
        Root causes first; the last line has the totals.
    """
    if not jobs:
        return [NOTHING]
    makers = {path: job for job in jobs for path in job.outputs}
    groups: dict[tuple[str, ...], list[PlannedJob]] = {}
    follows = {dry_run.UPSTREAM}  # the only reason for jobs that run just because an earlier one does
    roots = jobs if each else [job for job in jobs if set(dry_run.parse_reason(job.reason)) != follows] or jobs
    for job in sorted(roots, key=rank):
        sentence = explain(job, makers, folder)
        groups.setdefault((job.kind, sentence, *([job.label] if each else [])), []).append(job)
    stages = Counter(job.kind for job in sorted(jobs, key=rank))
    total = f"{count(len(jobs), 'job')} would run: " + ", ".join(f"{n} {stage}" for stage, n in stages.items())
    followers = len(jobs) - len(roots)
    why = f"and {count(followers, 'job')} downstream (`halobench why --each` lists them)"
    return [*(f"{_named(group)}: {key[1]}" for key, group in groups.items()), *([why] if followers else []), total]


def _named(group: Sequence[PlannedJob]) -> str:
    """Return the name of a job or a group, such as ``train, 480 jobs (clean/cnn/mixup2/seed0, ...)``."""
    if len(group) == 1:
        return group[0].name
    few = ", ".join(job.label for job in group) if len(group) == 2 else f"{group[0].label}, ..."
    return f"{group[0].kind}, {len(group):,} jobs ({few})"


def why(arguments: Sequence[str], each: bool = False) -> int:
    """Print why each job would run; return 0, or print Snakemake's error and return its exit code."""
    events = dry_run.dry_run(arguments)
    if code := dry_run.refuse(events, "gave no reasons"):
        return code
    print("\n".join(report(events.jobs, events.folder, each)))
    return 0
