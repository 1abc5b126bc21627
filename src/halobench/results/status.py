"""Determine the status of results: which are current, and why the others aren't.

Only this module decides whether a result is current. The module compares the job list with the stages' records, so the
status doesn't depend on Snakemake's memory. Files' times only decide which checksums are compared. The module writes
nothing.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from halobench.core import plugins
from halobench.core.errors import RefusedError, SpecError
from halobench.core.formatting import count
from halobench.core.specs.codec import parse, to_json
from halobench.core.specs.data import SourceSpec
from halobench.data.sources import changed_files
from halobench.experiment.code_version import code_digest, code_key
from halobench.experiment.jobs import Job
from halobench.storage.files import checksum, read_json
from halobench.storage.job_logs import SILENT, last_line
from halobench.storage.layout import STAGES
from halobench.storage.manifest import check_entries
from halobench.storage.records import check_seal, read_record
from halobench.storage.request_diff import Request, changes, is_or_are, listed

Name = tuple[str, str]  # a job's stage and key
Inputs = Mapping[Name, Mapping[str, str]]  # checksums, by name, of files that jobs read besides other jobs' outputs
States = Mapping[Name, "State"]
LARGE = 1_000_000_000  # bytes; larger files that are newer than their records are left to the stages that read them
MOST_REASONS = 3  # number of reasons in a line
NOTHING = "nothing would run: all results are current"


@dataclass(frozen=True)
class State:
    """The state of a job's result."""

    # current, missing, failed (there is a log but no result), or changed (the result isn't the requested one)
    kind: str
    reasons: tuple[str, ...] = ()  # why it isn't current, apart from changed inputs
    moved: tuple[str, ...] = ()  # the inputs that changed
    restores: bool = False  # whether a run would only write lost or damaged files again, with the same bytes
    record: Mapping[str, Any] | None = None  # of the existing result

    @property
    def every_reason(self) -> tuple[str, ...]:
        """Return the reasons why the result isn't current, with changed inputs last."""
        inputs = f"its {'input' if len(self.moved) == 1 else 'inputs'} {listed([*self.moved])} changed"
        return (*self.reasons, *([inputs] if self.moved else []))


def state_of(
    job: Job,
    results: Path,
    inputs: Mapping[str, str] | None = None,
    thorough: bool = False,
    codes: Mapping[str, str] | None = None,
) -> State:
    """Return the state of one job: whether its result is current and, if not, why.

    `inputs` are the present checksums of the job's inputs; inputs that the record doesn't list don't count. Of the
    job's outputs, the checksums of files newer than the record are compared and, if `thorough`, those of all others
    except weights and logits. Files above 1 GB aren't compared. A result with the code version that `codes` has under
    its `code_key` counts as one with the current code, which may have been edited since a run began.
    """
    path, fixed = results / job.record, _is_fixed(job)
    if not path.exists():
        if any((results / output).exists() for output in job.paths):
            return State("changed", (f"{path.name} is missing",), restores=fixed)
        log = results / job.log
        if not log.exists():
            return State("missing", restores=fixed)
        last = last_line(log)
        why = "there are no results" if last == SILENT else f"no results; its log ends: {last}"
        return State("failed", (why,), restores=fixed)
    try:
        record = _read(path, job)
    except SpecError:
        return State("changed", ("its record can't be read",), restores=fixed)
    reasons = _manifest_changes(record, job) if job.stage == "manifest" else _request_changes(record, job, codes or {})
    if job.stage == "source" and not fixed and (many := changed_files(parse(SourceSpec, job.spec), path.parent)):
        reasons.append(f"{count(many, 'of its files was', 'of its files were')} added, removed or changed")
    recorded = record.get("inputs", {})
    moved = sorted(name for name, digest in (inputs or {}).items() if recorded.get(name, digest) != digest)
    harm = _harm(path, record, thorough)
    restores = bool(harm) and not reasons and not moved and fixed
    reasons += harm
    return State("changed" if reasons or moved else "current", tuple(reasons), tuple(moved), restores, record)


def _request_changes(record: Mapping[str, Any], job: Job, codes: Mapping[str, str]) -> list[str]:
    """Return the changes of a job's request since its record was written."""
    started = codes.get(code_key(job.stage, job.plugins))
    same = started is not None and code_digest(record["code"]) == started
    return changes(record, Request(job.stage, job.spec, record["code"]) if same else job.request, job.seed)


def _is_fixed(job: Job) -> bool:
    """Return whether a job loads a source that is always the same, unlike files on disk, which may have changed."""
    return job.stage == "source" and not plugins.find("data", job.spec["loader"]).constants.get("FROM_DISK")


def _read(path: Path, job: Job) -> dict[str, Any]:
    """Return a job's record; the manifest is its own record."""
    if job.stage != "manifest":
        return read_record(path, ["spec", "seed", "code"])
    manifest = read_json(path, ["experiment", "cells", "references"])
    check_seal(path, manifest)
    check_entries(path, manifest)
    return manifest


def _manifest_changes(manifest: Mapping[str, Any], job: Job) -> list[str]:
    """Return reasons: which cells and references a manifest gained or lost or, if none, that its list changed."""
    places = {"cells": "runs", "references": "references"}
    before, now = (
        {f"{places[kind]}/{entry['path']}": entry for kind in places for entry in listing[kind]}
        for listing in (manifest, job.spec)
    )
    both = ((sorted(now.keys() - before.keys()), "added"), (sorted(before.keys() - now.keys()), "dropped"))
    reasons = [f"{listed(names)} {'was' if len(names) == 1 else 'were'} {change}" for names, change in both if names]
    kept = [{key: before[name][key] for key in before[name] if key != "outputs"} for name in before if name in now]
    if not reasons and to_json(kept) != to_json(list(now.values())):
        return ["its list of cells changed"]
    return reasons


def _harm(path: Path, record: Mapping[str, Any], thorough: bool) -> list[str]:
    """Return reasons that name the outputs that are gone, or were changed after they were written."""
    outputs = {path.parent / name: digest for name, digest in record.get("outputs", {}).items()}
    declared = {file for file in outputs if file.name not in STAGES["source"].may_write}
    gone = sorted(file.name for file in declared if not file.exists())
    written = path.stat().st_mtime_ns
    looked_at = [
        file
        for file in outputs
        if file.is_file()
        and (file.stat().st_mtime_ns > written or (thorough and file.suffix != ".safetensors"))
        and file.stat().st_size <= LARGE
    ]
    harmed = sorted(file.name for file in looked_at if file_digest(file) != outputs[file])
    missing = [f"{listed(gone)} {is_or_are(gone)} missing"] if gone else []
    return missing + ([f"{listed(harmed)} changed after the stage wrote it"] if harmed else [])


def survey(
    jobs: Sequence[Job],
    results: Path,
    external: Inputs | None = None,
    thorough: bool = False,
    codes: Mapping[str, str] | None = None,
) -> dict[Name, State]:
    """Return the states of the jobs in a list, in an order in which they could run.

    `external` holds the checksums of files that jobs read but no job writes, except for weights named in specs. For
    `thorough` and `codes`, see `state_of`.
    """
    by_name = {job.name: job for job in jobs}
    graph = {job.name: [need for need in job.needs if need in by_name] for job in jobs}
    states: dict[Name, State] = {}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:  # only weights can refer to a job's own results
        circle = " -> ".join("/".join(name) for name in error.args[1])
        raise RefusedError("models", f"the weights of a model are made from themselves: {circle}") from None
    for name in order:
        job = by_name[name]
        inputs = _weights(job) | dict((external or {}).get(name, {}))
        for need in graph[name]:
            inputs |= outputs_of(by_name[need], states[need], results, job.stage)
        states[name] = state_of(job, results, inputs, thorough, codes)
        if job.stage == "manifest" and states[name].kind == "current":
            states[name] = _with_cells(states[name], {need: states[need] for need in graph[name]})
    return states


def require_current(jobs: Sequence[Job], results: Path, codes: Mapping[str, str]) -> None:
    """Raise RefusedError if results are outdated, by the code versions `codes` of the start of the run.

    Sources don't count: what was made from an earlier one is outdated itself.
    """
    states = survey(jobs, results, codes=codes)
    outdated = [name for name, state in states.items() if state.kind != "current" and name[0] != "source"]
    if outdated:
        why = f"{' '.join(outdated[0])}: {_sentence(states[outdated[0]])}"
        what = f"{count(len(outdated), 'result')} {'is' if len(outdated) == 1 else 'are'} outdated ({why})"
        raise RefusedError(str(results), f"{what} and would mix with others; `halobench run` computes them again")


def _weights(job: Job) -> dict[str, str]:
    """Return the checksum of the weights file named in a training job's spec, if any."""
    weights = job.spec.get("model", {}).get("weights") if job.stage == "train" else None
    return {"weights": file_digest(Path(weights))} if weights and Path(weights).is_file() else {}


def outputs_of(job: Job, state: State, results: Path, reader: str) -> dict[str, str]:
    """Return the recorded checksums of a job's outputs, named as in the inputs of the stage that reads them."""
    if state.record is None:
        return {}
    if job.stage == "manifest":
        return {"manifest": file_digest(results / job.record)}
    outputs: dict[str, str] = state.record["outputs"]
    if reader == "train" and job.stage != "source":
        return {"weights": outputs["model.safetensors"]}
    place = f"{job.key}/" if STAGES[reader].of == "run" else ""
    return {f"{place}{name}": digest for name, digest in outputs.items()}


def _with_cells(state: State, needs: Mapping[Name, State]) -> State:
    """Return the state of a manifest, which is current only if it lists the same files as the records that it needs."""
    manifest: Any = state.record
    listed_files = {("runs", cell["path"]): cell["outputs"] for cell in manifest["cells"]}
    listed_files |= {("references", one["path"]): one["outputs"] for one in manifest["references"]}
    outputs: dict[tuple[str, str], dict[str, str]] = {place: {} for place in listed_files}
    for (stage, key), needed in needs.items():
        place = ("references" if stage == "reference" else "runs", key)
        if place in outputs and needed.record is not None:
            outputs[place] |= needed.record["outputs"]
    changed = sorted("/".join(place) for place in outputs if outputs[place] and outputs[place] != listed_files[place])
    reasons = (f"{listed(changed)} changed",) if changed else ()
    return State("changed" if reasons else "current", reasons, record=state.record)


def to_run(jobs: Iterable[Job], states: Mapping[Name, State]) -> dict[Name, Job]:
    """Return the jobs that a run of the whole list would run: jobs that aren't current, and all jobs that need them.

    A job doesn't run only because a source that it needs is restored, since the source's bytes stay the same.
    """
    by_name, chosen = {job.name: job for job in jobs}, {}
    for name, state in states.items():  # in an order in which they could run
        follows = any(need in chosen and not states[need].restores for need in by_name[name].needs)
        if state.kind != "current" or follows:
            chosen[name] = by_name[name]
    return chosen


def needed(jobs: Sequence[Job], names: Iterable[Name]) -> set[Name]:
    """Return `names` and the names of all jobs that these jobs need, directly or indirectly."""
    by_name, left, reached = {job.name: job for job in jobs}, list(names), set[Name]()
    while left:
        name = left.pop()
        if name in by_name and name not in reached:
            reached.add(name)
            left += by_name[name].needs
    return reached


def roots(chosen: Mapping[Name, Job], states: Mapping[Name, State]) -> set[Name]:
    """Return the names of the jobs that have reasons of their own to run, or that need no other job that would run."""

    def follows(name: Name) -> bool:
        return not states[name].reasons and any(need in chosen for need in chosen[name].needs)

    return {name for name in chosen if not follows(name)}


def report(jobs: Sequence[Job], states: Mapping[Name, State]) -> list[str]:
    """Return lines that say what would run: root causes first, each with its jobs, then the totals."""
    chosen = to_run(jobs, states)
    if not chosen:
        return [NOTHING]
    causes = roots(chosen, states)
    groups: dict[tuple[str, str], list[Job]] = {}
    for name in (name for name in chosen if name in causes):
        groups.setdefault((name[0], _sentence(states[name])), []).append(chosen[name])
    stages = Counter(stage for stage, _ in sorted(chosen, key=lambda name: list(STAGES).index(name[0])))
    total = f"{count(len(chosen), 'job')} would run: " + ", ".join(f"{n:,} {stage}" for stage, n in stages.items())
    followers = len(chosen) - len(causes)
    why = [f"and {count(followers, 'job')} downstream"] if followers else []
    return [*(f"{_named(group)}: {sentence}" for (_, sentence), group in groups.items()), *why, total]


def _sentence(state: State) -> str:
    if state.kind == "current":
        return "an earlier job writes its inputs"
    reasons = state.every_reason
    more = [f"and {len(reasons) - MOST_REASONS} more changes"] if len(reasons) > MOST_REASONS + 1 else []
    return "; ".join([*reasons[: MOST_REASONS if more else None], *more]) or "it has never run"


def _named(group: Sequence[Job]) -> str:
    """Return the name of a job or a group of jobs, such as ``train, 480 jobs (clean/cnn/mixup2/seed0, ...)``."""
    first = group[0]
    if len(group) == 1:
        return f"{first.stage} {first.key}"
    few = ", ".join(job.key for job in group) if len(group) == 2 else f"{first.key}, ..."
    return f"{first.stage}, {len(group):,} jobs ({few})"


def file_digest(path: Path) -> str:
    """Return a file's checksum, computing it again only if the file changes; "" if there is no such file."""
    return _digest(path.absolute(), path.stat().st_ctime_ns) if path.is_file() else ""


@functools.cache
def _digest(path: Path, ctime_ns: int) -> str:
    return checksum(path)
