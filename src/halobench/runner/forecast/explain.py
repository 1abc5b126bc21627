"""Why each job would run: a dry run of Snakemake, whose reasons are told by key, module and file.

Snakemake decides and this module only retells, so the two can't disagree. What changed in a job's request is the
difference between the request and the record of its results.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from pathlib import Path, PurePosixPath
from typing import Any

from halobench.core.errors import SpecError
from halobench.runner.dry_run import (
    ANEW,
    CODE,
    FORCED,
    INCOMPLETE,
    INPUTS,
    MISSING,
    NEWER,
    PARAMS,
    SOFTWARE,
    PlannedJob,
    dry_run,
    parse_reason,
    refuse,
    request_of,
)
from halobench.storage import files
from halobench.storage.layout import STAGES
from halobench.storage.requests import STALE

ORDER = tuple(STAGES)
NOTHING = "nothing would run: everything is up to date"


def explain(job: PlannedJob, makers: Mapping[str, PlannedJob], folder: Path = Path()) -> str:
    """Return why one job would run, as one sentence without its name.

    Parameters
    ----------
    job : PlannedJob
    makers : mapping
        The job that would make each file again.
    folder : Path
        The working directory of the run.

    Returns
    -------
    str
        What Snakemake says, if that isn't understood.
    """
    clauses: dict[str, Callable[[str], list[str]]] = {
        FORCED: lambda _: _forced(job, folder),
        MISSING: lambda files: _missing(job, files.split(", "), folder),
        INCOMPLETE: lambda files: [f"{_listed(_short(job, files.split(', ')))} was left incomplete"],
        NEWER: lambda files: _newer(job, files.split(", "), folder),
        ANEW: lambda files: _anew(job, files.split(", "), makers),
        INPUTS: lambda _: request_changes(job, folder) or ["its list of inputs changed"],
        CODE: lambda _: [f"the rule {job.rule} itself changed"],
        PARAMS: lambda _: ["its parameters changed"],
        SOFTWARE: lambda _: ["its software environment changed"],
    }
    reasons = parse_reason(job.reason)
    if MISSING in reasons and not _has_run(job, folder):
        reasons = {MISSING: reasons[MISSING]}  # what its inputs do is no reason worth telling of a job that never ran
    sentence = [clause for kind, detail in reasons.items() for clause in clauses[kind](detail)]
    return "; ".join(dict.fromkeys(sentence)) or job.reason or "Snakemake gives no reason"


def _has_run(job: PlannedJob, folder: Path) -> bool:
    """Return whether any of a job's outputs is there."""
    return any((folder / path).exists() for path in job.outputs)


def _forced(job: PlannedJob, folder: Path) -> list[str]:
    """Snakemake forces what was left incomplete, which has no record yet, and what the user asked to be forced."""
    if changes := request_changes(job, folder):
        return changes
    complete = (folder / job.outputs[-1]).exists()
    return ["it is forced" if complete else "it was left incomplete when it last ran"]


def _missing(job: PlannedJob, paths: Sequence[str], folder: Path) -> list[str]:
    """Return which outputs are gone; for a job without any, that it has never run."""
    if not _has_run(job, folder):
        return ["it has never run"]
    files = sorted(path for path in paths if not (folder / path).exists())
    return [f"{_listed(_short(job, files))} {_be(files)} missing"]


def _newer(job: PlannedJob, paths: Sequence[str], folder: Path) -> list[str]:
    """Return which inputs changed after the outputs were made."""
    files = sorted(path for path in paths if path != request_of(job))
    if times := _times_beside_a_record_set_back(job, folder):
        files = [path for path in files if (folder / path).stat().st_mtime > min(times)]
    changed = [f"{_listed(_short(job, files))} changed after the outputs were made"] if files else []
    return [*changed, *(request_changes(job, folder) if len(files) < len(paths) else [])]


def _times_beside_a_record_set_back(job: PlannedJob, folder: Path) -> list[float]:
    """Return the times of a job's other outputs if its record was set back: every input is newer than such a record."""
    outputs = [folder / path for path in job.outputs]
    times = [path.stat().st_mtime for path in outputs if path.exists()]
    return [time for time in times if time != STALE] if STALE in times else []


def request_changes(job: PlannedJob, folder: Path = Path()) -> list[str]:
    """Return what a job is asked for that its record wasn't made with; nothing if there is no record to compare with.

    Parameters
    ----------
    job : PlannedJob
    folder : Path
        The working directory of the run.
    """
    try:
        request = files.read_json(folder / request_of(job), ["spec", "code"])
        record = files.read_json(folder / job.outputs[-1 if job.kind != "manifest" else 0])
    except SpecError:
        return []
    if job.kind == "manifest":
        return input_changes(_folders(record), _folders(request["spec"]))
    spec = spec_changes(record.get("spec", {}), request["spec"])
    return [*spec, *code_changes(record.get("code", {}), request["code"], swapped=bool(spec))]


def _folders(listed: Mapping[str, Any]) -> list[str]:
    """Return the folders of a list of cells and references."""
    places = (("cells", "runs"), ("references", "references"))
    return [f"{place}/{entry['path']}" for kind, place in places for entry in listed.get(kind, ())]


def _anew(job: PlannedJob, paths: Sequence[str], makers: Mapping[str, PlannedJob]) -> list[str]:
    """Return which inputs earlier jobs will make."""
    earlier = {makers[path].name: makers[path] for path in paths if path in makers}
    kinds: dict[str, list[PlannedJob]] = {}
    for maker in sorted(earlier.values(), key=_rank):
        kinds.setdefault(maker.kind, []).append(maker)
    by = [_makers(job, kind, group) for kind, group in kinds.items()]
    return [f"{_listed(_short(job, sorted(paths)), 'inputs')} will be made anew" + (f" by {_and(by)}" if by else "")]


def _makers(job: PlannedJob, kind: str, group: Sequence[PlannedJob]) -> str:
    """Jobs of one kind that make a job's inputs; no label where it is the job's own."""
    if len(group) > 1:
        return f"{kind} ({len(group)} jobs)"
    return kind if f"{job.label}/".startswith(f"{group[0].label}/") else group[0].name


def input_changes(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """Return which folders were added to a job's inputs and which were dropped."""
    before, now = set(before), set(now)
    clauses = []
    for folders, what in ((sorted(now - before), "added to"), (sorted(before - now), "dropped from")):
        if folders:
            clauses.append(f"{_listed(folders)} {_be(folders, 'was', 'were')} {what} its inputs")
    return clauses


def code_changes(before: Mapping[str, str], now: Mapping[str, str], swapped: bool = False) -> list[str]:
    """Modules that changed; and those that came or went, unless a changed spec (`swapped`) tells of them already."""
    changed = [module for module in now if module in before and before[module] != now[module]]
    clauses = [f"{_listed([_file(module) for module in changed])} changed"] if changed else []
    if not swapped and before and now:
        moved = ((set(now) - set(before), "used now"), (set(before) - set(now), "no longer used"))
        clauses += [f"{_listed(sorted(map(_file, names)))} {_be(names)} {what}" for names, what in moved if names]
    return clauses


def _file(module: str) -> str:
    """Return a module of a code map as a file of the package, or as the config names it."""
    return module if ":" in module or "." in module.rpartition("/")[2] else f"{module}.py"


def spec_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what changed between two specs, by dotted key; a missing key is at its default."""
    old, new = flat(before), flat(now)
    alike: dict[tuple[str, ...], list[str]] = {}
    for key in sorted(set(old) | set(new)):
        if key not in old or key not in new or old[key] != new[key]:
            alike.setdefault(_phrases(key, old, new), []).append(key)
    return [f"{_listed(keys)} {phrase[len(keys) > 1]}" for phrase, keys in alike.items()]


def flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a spec's values by dotted key, as the config has it: options next to the name that they belong to."""
    values: dict[str, Any] = {}
    for key, value in spec.items():
        path = prefix if key == "options" else f"{prefix}{key}."
        values |= flat(value, path) if isinstance(value, Mapping) else {path[:-1]: value}
    return values


def _phrases(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """How one key changed, in the singular and in the plural."""
    if key in old and key in new:
        return tuple(f"{was} {_value(old[key])} and {be} {_value(new[key])}" for was, be in WORDS)
    whole = _whole(key, old, new)
    if key in new:
        return tuple(
            f"{be} {_value(new[key])}" + ("" if whole else f" instead of {default}")
            for (_, be), default in zip(WORDS, DEFAULTS, strict=True)
        )
    return tuple(
        f"{was} {_value(old[key])} and {be} " + ("gone" if whole else f"{default} again")
        for (was, be), default in zip(WORDS, DEFAULTS, strict=True)
    )


WORDS = (("was", "is"), ("were", "are"))
DEFAULTS = ("its default", "their default")


def _whole(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a key came or went with all that surrounds it: another plug-in's options, or a whole probe."""
    part = key.rpartition(".")[0]
    names = [f"{part}.{name}".lstrip(".") for name in ("name", "loader", "kind")]
    return any(old.get(name) != new.get(name) for name in names)


def _value(value: Any, longest: int = 60) -> str:
    """Return a value as JSON, its middle left out if it's long."""
    text = json.dumps(value)
    return text if len(text) <= longest else f"{text[: longest - 20]} ... {text[-15:]}"


def _short(job: PlannedJob, paths: Iterable[str]) -> list[str]:
    """Files by name where they lie beside a job's outputs, so that jobs with the same reason read the same."""
    folder = PurePosixPath(job.outputs[0]).parent
    return [path.name if path.parent == folder else str(path) for path in map(PurePosixPath, paths)]


def _listed(names: Sequence[str], what: str = "", most: int = 4) -> str:
    """Return the first names, and how many more; only how many if it's clear what they are."""
    if len(names) <= most:
        return _and(names)
    return f"{len(names)} {what}" if what else f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _be(names: Sized, one: str = "is", many: str = "are") -> str:
    return one if len(names) == 1 else many


def _rank(job: PlannedJob) -> tuple[int, str, str]:
    """Where a job stands in a report: by stage, then by name."""
    return ORDER.index(job.kind) if job.kind in ORDER else len(ORDER), job.kind, job.label


def report(jobs: Sequence[PlannedJob], folder: Path = Path(), each: bool = False) -> list[str]:
    """Return the lines that say why jobs would run.

    Parameters
    ----------
    jobs : sequence of PlannedJob
        All of a dry run.
    folder : Path
        The working directory of the run.
    each : bool
        A line a job; otherwise jobs of a kind with the same sentence share one.

    Returns
    -------
    list of str
        The last has the totals.
    """
    if not jobs:
        return [NOTHING]
    makers = {path: job for job in jobs for path in job.outputs}
    groups: dict[tuple[str, ...], list[PlannedJob]] = {}
    for job in sorted(jobs, key=_rank):
        sentence = explain(job, makers, folder)
        groups.setdefault((job.kind, sentence, *([job.label] if each else [])), []).append(job)
    lines = [f"{_named(group)}: {key[1]}" for key, group in groups.items()]
    return [*lines, totals(jobs)]


def _named(group: Sequence[PlannedJob]) -> str:
    """Return a job's name, or a group's: ``train, 480 jobs (clean/cnn/mixup2/seed0, ...)``."""
    if len(group) == 1:
        return group[0].name
    labels = [job.label for job in group]
    few = ", ".join(labels) if len(labels) <= 2 else f"{labels[0]}, ..."
    return f"{group[0].kind}, {len(group)} jobs ({few})"


def totals(jobs: Sequence[PlannedJob]) -> str:
    """How many jobs would run, in all and by kind."""
    counts = Counter(job.kind for job in sorted(jobs, key=_rank))
    return f"{len(jobs)} {_be(jobs, 'job', 'jobs')} would run: " + ", ".join(
        f"{n} {kind}" for kind, n in counts.items()
    )


def why(arguments: Sequence[str], each: bool = False) -> int:
    """Print why each job would run; return 0, or Snakemake's exit code after its own message."""
    events = dry_run(arguments)
    if code := refuse(events, "gave no reasons"):
        return code
    print("\n".join(report(events.jobs, events.folder, each)))
    return 0
