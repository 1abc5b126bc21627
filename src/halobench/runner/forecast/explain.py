"""Why each job would run: a dry run of Snakemake, whose reasons are told by key, module and file.

Snakemake decides and this module only retells, so the two can't disagree. What its text lacks (whether a missing file
was ever made, what a job's inputs were) is read from its records under ``.snakemake``.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from pathlib import PurePosixPath
from typing import Any

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
    Job,
    Records,
    dry_run,
    parse_params,
    parse_reason,
)

ORDER = (
    *("source", "train", "probe", "calibrate", "reference", "manifest", "aggregate", "claims", "table", "figure"),
    *("overview", "explorer"),
)
NOTHING = "nothing would run: everything is up to date"


def explain(job: Job, makers: Mapping[str, Job], records: Records) -> str:
    """Why one job would run, as one sentence without its name.

    Parameters
    ----------
    job : Job
    makers : mapping
        The job that would make each file anew.
    records : Records

    Returns
    -------
    str
        What Snakemake says, where that isn't understood.
    """
    tell: dict[str, Callable[[str], list[str]]] = {
        FORCED: lambda _: _forced(job, records),
        MISSING: lambda files: _missing(job, files.split(", "), records),
        INCOMPLETE: lambda files: [f"{_listed(_short(job, files.split(', ')))} was left incomplete"],
        NEWER: lambda files: [f"{_listed(_short(job, files.split(', ')))} changed after the outputs were made"],
        ANEW: lambda files: _anew(job, files.split(", "), makers),
        INPUTS: lambda _: input_changes(records.inputs(job.outputs[0]), job.inputs),
        CODE: lambda _: [f"the rule {job.rule} itself changed"],
        PARAMS: lambda text: param_changes(*parse_params(text)),
        SOFTWARE: lambda _: ["its software environment changed"],
    }
    reasons = parse_reason(job.reason)
    if MISSING in reasons and not any(map(records.made, job.outputs)):
        reasons.pop(ANEW, None)  # that its inputs will be made is no reason worth telling of a job that never ran
    told = [clause for kind, detail in reasons.items() for clause in tell[kind](detail)]
    return "; ".join(dict.fromkeys(told)) or job.reason or "Snakemake gives no reason"


def _forced(job: Job, records: Records) -> list[str]:
    """Snakemake forces what was left incomplete, and what the user asked to be forced."""
    cut = [path for path in job.outputs if records.incomplete(path)]
    return ["it was left incomplete when it last ran" if cut else "it is forced"]


def _missing(job: Job, paths: Sequence[str], records: Records) -> list[str]:
    """Outputs that are gone, and those that never were."""
    if not any(map(records.made, job.outputs)):
        return ["it has never run"]
    gone = [path for path in paths if records.made(path)]
    never = [path for path in paths if not records.made(path)]
    clauses = [(gone, "missing"), (never, "not made yet")]
    return [f"{_listed(_short(job, sorted(files)))} {_be(files)} {what}" for files, what in clauses if files]


def _anew(job: Job, paths: Sequence[str], makers: Mapping[str, Job]) -> list[str]:
    """Inputs that earlier jobs will make."""
    earlier = {makers[path].name: makers[path] for path in paths if path in makers}
    kinds: dict[str, list[Job]] = {}
    for maker in sorted(earlier.values(), key=_rank):
        kinds.setdefault(maker.kind, []).append(maker)
    by = [_makers(job, kind, group) for kind, group in kinds.items()]
    return [f"{_listed(_short(job, sorted(paths)), 'inputs')} will be made anew" + (f" by {_and(by)}" if by else "")]


def _makers(job: Job, kind: str, group: Sequence[Job]) -> str:
    """Jobs of one kind that make a job's inputs; no label where it is the job's own."""
    if len(group) > 1:
        return f"{kind} ({len(group)} jobs)"
    return kind if f"{job.label}/".startswith(f"{group[0].label}/") else group[0].name


def input_changes(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """What was added to a job's inputs and what was dropped, by folder."""
    before, now = set(before), set(now)
    if not before:
        return ["its list of inputs changed"]
    clauses = []
    for files, what in ((now - before, "added to"), (before - now, "dropped from")):
        folders = sorted({str(PurePosixPath(path).parent).removeprefix("results/") for path in files})
        if folders:
            clauses.append(f"{_listed(folders)} {_be(folders, 'was', 'were')} {what} its inputs")
    return clauses


def param_changes(before: Sequence[Any], now: Sequence[Any]) -> list[str]:
    """What changed between a job's params: keys of its spec, or modules of its code."""
    neither = "" in map(_sort_of, [*before, *now])
    others = ["its list of cells changed"] if neither else []  # the only such param is a digest of them
    (old_spec, old_code), (new_spec, new_code) = map(_spec_and_code, (before, now))
    spec = spec_changes(old_spec, new_spec)
    code = code_changes(old_code, new_code, swapped=bool(spec))
    return [*spec, *code, *others] or ["its parameters changed"]


SORTS = ("spec", "code")


def _spec_and_code(params: Sequence[Any]) -> tuple[Any, Any]:
    """The first of a job's params of each sort; an empty one where it has none."""
    found: list[Any] = [next((p for p in params if _sort_of(p) == sort), {}) for sort in SORTS]
    return found[0], found[1]


def _sort_of(param: Any) -> str:
    """Whether a param is a spec, a code map or something else."""
    if not isinstance(param, Mapping):
        return ""
    digests = param and all(isinstance(v, str) and re.fullmatch("[0-9a-f]{16}", v) for v in param.values())
    return "code" if digests else "spec"


def code_changes(before: Mapping[str, str], now: Mapping[str, str], swapped: bool = False) -> list[str]:
    """Modules that changed; and those that came or went, unless a changed spec (`swapped`) tells of them already."""
    changed = [module for module in now if module in before and before[module] != now[module]]
    clauses = [f"{_listed([_file(module) for module in changed])} changed"] if changed else []
    if not swapped and before and now:
        moved = ((set(now) - set(before), "used now"), (set(before) - set(now), "no longer used"))
        clauses += [f"{_listed(sorted(map(_file, names)))} {_be(names)} {what}" for names, what in moved if names]
    return clauses


def _file(module: str) -> str:
    """A module of a code map as a file of the package, or as the config names it."""
    return module if ":" in module or "." in module.rpartition("/")[2] else f"{module}.py"


def spec_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed between two specs, by dotted key; a key that isn't there is at its default."""
    old, new = flat(before), flat(now)
    alike: dict[tuple[str, ...], list[str]] = {}
    for key in sorted(set(old) | set(new)):
        if key not in old or key not in new or old[key] != new[key]:
            alike.setdefault(_phrases(key, old, new), []).append(key)
    return [f"{_listed(keys)} {phrase[len(keys) > 1]}" for phrase, keys in alike.items()]


def flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A spec's values by dotted key, as the config has it: options stand beside the name that they belong to."""
    found: dict[str, Any] = {}
    for key, value in spec.items():
        path = prefix if key == "options" else f"{prefix}{key}."
        found |= flat(value, path) if isinstance(value, Mapping) else {path[:-1]: value}
    return found


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
    """A value as JSON, its middle left out where it's long."""
    text = json.dumps(value)
    return text if len(text) <= longest else f"{text[: longest - 20]} ... {text[-15:]}"


def _short(job: Job, paths: Iterable[str]) -> list[str]:
    """Files by name where they lie beside a job's outputs, so that jobs with the same reason read the same."""
    folder = PurePosixPath(job.outputs[0]).parent
    return [path.name if path.parent == folder else str(path) for path in map(PurePosixPath, paths)]


def _listed(names: Sequence[str], what: str = "", most: int = 4) -> str:
    """The first names, and how many more; only how many where it's clear what they are."""
    if len(names) <= most:
        return _and(names)
    return f"{len(names)} {what}" if what else f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _be(names: Sized, one: str = "is", many: str = "are") -> str:
    return one if len(names) == 1 else many


def _rank(job: Job) -> tuple[int, str, str]:
    """Where a job stands in a report: by stage, then by name."""
    return ORDER.index(job.kind) if job.kind in ORDER else len(ORDER), job.kind, job.label


def report(jobs: Sequence[Job], records: Records, each: bool = False) -> list[str]:
    """The lines that say why jobs would run.

    Parameters
    ----------
    jobs : sequence of Job
        All that a dry run told.
    records : Records
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
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in sorted(jobs, key=_rank):
        sentence = explain(job, makers, records)
        groups.setdefault((job.kind, sentence, *([job.label] if each else [])), []).append(job)
    lines = [f"{_named(group)}: {key[1]}" for key, group in groups.items()]
    return [*lines, totals(jobs)]


def _named(group: Sequence[Job]) -> str:
    """A job's name, or a group's: ``train, 480 jobs (clean/cnn/mixup2/seed0, ...)``."""
    if len(group) == 1:
        return group[0].name
    labels = [job.label for job in group]
    few = ", ".join(labels) if len(labels) <= 2 else f"{labels[0]}, ..."
    return f"{group[0].kind}, {len(group)} jobs ({few})"


def totals(jobs: Sequence[Job]) -> str:
    """How many jobs would run, in all and by kind."""
    counts = Counter(job.kind for job in sorted(jobs, key=_rank))
    return f"{len(jobs)} {_be(jobs, 'job', 'jobs')} would run: " + ", ".join(
        f"{n} {kind}" for kind, n in counts.items()
    )


def why(arguments: Sequence[str], each: bool = False) -> int:
    """Print why each job would run; return 0, or Snakemake's exit code after its own message."""
    events = dry_run(arguments)
    if events.code:
        print(events.errors, file=sys.stderr)
        return events.code
    if events.silenced:
        print("halobench: error: Snakemake gave no reasons: leave out --quiet", file=sys.stderr)
        return 2
    print("\n".join(report(events.jobs, Records(events.folder), each)))
    return 0
