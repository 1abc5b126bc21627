"""Run Snakemake on results that aren't current, or list these results."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from halobench.core.errors import SpecError
from halobench.core.formatting import count
from halobench.experiment.figure_choice import rule_name
from halobench.experiment.jobs import Job
from halobench.results import status
from halobench.runner import end_of_run, fork_server, run_folder
from halobench.runner.arguments import Arguments, check_arguments, read_arguments
from halobench.runner.run_plan import RunPlan, load, set_search_paths
from halobench.storage import files
from halobench.storage.layout import STAGES, TARGETS

LOGGER = "--logger=halobench"  # the plug-in that displays a run
MOST_LINES = 20  # number of lines about trained cells to be replaced
INPUTS = ",".join(["0", *STAGES])  # of all rules: by the stage that writes them, or the position
KEEP = "`halobench run --results FOLDER` keeps them and writes to another folder"


def run(arguments: Sequence[str], results: Path | None = None) -> int:
    """Run Snakemake, and return its exit code; only one run at a time writes to a results folder.

    Snakemake gets a list of the results that aren't current, and the configuration as one file, so that later jobs use
    the same configuration. Jobs that dead runs left in a cluster's queue are cancelled or, if they are running, waited
    for. A dry run changes no results, and reports what would run and why. SlurmError is raised if SLURM doesn't respond
    about jobs of dead runs, RefusedError if another run writes to the results, and OSError if the arguments can't be
    run.
    """
    parsed = read_arguments(arguments, results)
    options = parsed.options
    if options.touch:
        why = "whether a result is current depends on its record, not on its time"
        raise OSError(f"--touch is not supported, since {why}; `halobench status` lists outdated results")
    check_arguments(parsed)
    if parsed.asks or options.unlock or not parsed.is_ours:
        return _pass_on(parsed)
    plan = load(parsed)
    if plan is None:
        return 1
    if not options.dryrun:
        run_folder.take(plan.results)
        run_folder.settle_left_jobs(plan.results)  # may take hours
    jobs, states, chosen, forcing = _choose(plan, parsed)
    if not jobs:  # no finished cell could be drawn, as the workflow will say
        return _pass_on(parsed)
    first = _to_make_first(chosen, states) if forcing else {}
    if options.dryrun:
        print("\n".join(status.report(jobs, states)), flush=True)
        if first and len(chosen) > len(first) and all(states[name].restores for name in first):
            return 0  # Snakemake would list all that reads a restored source
        try:
            files.check_writable(options.directory / ".snakemake")  # Snakemake notes there which files exist
        except SpecError as error:
            print(f"Snakemake can't list the jobs by rule: {error}", file=sys.stderr)
            return 0
        return _snakemake(parsed.with_options("--quiet", "rules", "host", "reason", *forcing))
    if _is_local(options):
        check_devices(chosen.values())
    frozen = ["--config", "--configfile", str(plan.freeze(jobs)), "--nolock"]  # replace the given ones
    if first:
        until = ["--until", "source", *_forcing(parsed, plan.named, jobs, first)]
        if code := _pass_on(parsed, [*frozen, *until]):
            return code
        jobs, states, chosen, forcing = _choose(plan, parsed)
    for line in _replaced(chosen, states):
        end_of_run.say(line)
    return _pass_on(parsed, [*frozen, *forcing])


def print_status(arguments: Sequence[str], results: Path | None = None) -> int:
    """Print which results aren't current, and why; return 1 if the configuration has problems, and otherwise 0."""
    parsed = read_arguments(arguments, results)
    check_arguments(parsed)
    if not parsed.is_ours:
        right = "`snakemake -n` shows its jobs"
        raise OSError(f"{parsed.snakefile} isn't halobench's own Snakefile; {right}")
    plan = load(parsed)
    if plan is None:
        return 1
    print("\n".join(status.report(*plan.survey())))
    return 0


def _pass_on(parsed: Arguments, further: Sequence[str] = ()) -> int:
    """Run Snakemake with further options, and return its exit code."""
    options = parsed.options
    if options.dryrun or parsed.asks:
        return _snakemake(parsed.with_options(*further))
    if parsed.snakefile and _is_local(options):
        set_search_paths(parsed.snakefile.absolute().parent)
        fork_server.start(options.directory)
    return _snakemake(parsed.with_options(*further, *([] if options.logger else [LOGGER])))


def _choose(
    plan: RunPlan, parsed: Arguments
) -> tuple[list[Job], status.States, Mapping[status.Name, Job], Sequence[str]]:
    """Return all jobs with their states, the jobs to run for the targets, and Snakemake's options for running them."""
    jobs, states, needed = _survey(plan, list(parsed.options.targets) or ["all"])
    chosen = {name: job for name, job in status.to_run(jobs, states).items() if not needed or name in needed}
    return jobs, states, chosen, _forcing(parsed, plan.named, jobs, chosen) if needed else []


def _to_make_first(chosen: Mapping[status.Name, Job], states: status.States) -> dict[status.Name, Job]:
    """Return the sources to make before anything else: if they stay the same, results made from them stay current.

    There are no such sources if no result was made from sources yet.
    """
    if not any(state.record for (stage, _), state in states.items() if "source" in STAGES[stage].reads):
        return {}
    return {name: job for name, job in chosen.items() if job.stage == "source"}


def _is_local(options: argparse.Namespace) -> bool:
    """Return whether jobs run on this machine, since no other executor and no workflow profile is requested."""
    return options.executor in (None, "local") and not options.workflow_profile


def check_devices(jobs: Iterable[Job]) -> None:
    """Raise SpecError if a job that would run on this machine requests a GPU that torch doesn't find."""
    devices = {job.spec.get("train", {}).get("device", "auto") for job in jobs}
    for device in sorted(devices - {"auto", "cpu"}):
        from halobench.training.device import resolve_device

        resolve_device(device)


def _forcing(parsed: Arguments, results: str, jobs: Iterable[Job], chosen: Mapping[status.Name, Job]) -> list[str]:
    """Return the options that make Snakemake run the chosen jobs and no others; [] if the user chose rerun triggers.

    Snakemake runs all forced jobs, and jobs with missing outputs anyway. With these options, its only other reason to
    run a job is a newer input, since no rule has a software environment. An input that was written again with the same
    bytes is newer, but changes nothing. Inputs of rules without a chosen job therefore count as ancient, unless the
    user forces jobs or says what is ancient. If no source runs, sources count as ancient for all rules. Snakemake
    doesn't force a job with ancient inputs if it also forces another job that this job needs.
    """
    options = parsed.options
    if options.rerun_triggers:
        return []
    forced = [*sorted(options.forcerun), *(f"{results}/{job.record}" for job in chosen.values())]
    triggers = ["--rerun-triggers", "software-env", *(["--forcerun", *forced] if forced else [])]
    rules = dict.fromkeys(_rule(job) for job in chosen.values())
    others = dict.fromkeys(_rule(job) for job in jobs if job.name not in chosen)
    ancient = [f"{rule}={INPUTS}" for rule in others if rule not in rules]
    if "source" not in rules:
        ancient += [f"{rule}=source" for rule in rules]
    if not ancient or options.forcerun or options.forceall or options.force or options.consider_ancient:
        return triggers
    return [*triggers, "--consider-ancient", *ancient]


def _rule(job: Job) -> str:
    """Return the name of a job's rule."""
    return rule_name(job.stage, Path(job.record).stem) if STAGES[job.stage].each else job.stage


def _survey(plan: RunPlan, targets: Sequence[str]) -> tuple[list[Job], status.States, set[status.Name]]:
    """Return jobs with their states, and the names of the jobs that targets need (none if Snakemake is to decide)."""
    if targets == ["partial"]:
        jobs, states = plan.survey("partial")
        return jobs, states, set(states)
    jobs, states = plan.survey()
    if needed := _needed(targets, jobs, plan.named):
        return jobs, states, needed
    everything, all_states = plan.survey("all")  # a target may belong to another experiment
    if needed := _needed(targets, everything, plan.named):
        return everything, all_states, needed
    return jobs, states, set()


def _needed(targets: Sequence[str], jobs: Sequence[Job], results: str) -> set[status.Name]:
    """Return the names of the jobs that targets need; none if a target is neither known nor an output of a job."""
    makers = {f"{results}/{path}": [job.name] for job in jobs for path in job.paths}
    makers |= {"all": [job.name for job in jobs]}
    makers |= {target: [job.name for job in jobs if job.stage in stages] for target, stages in TARGETS.items()}
    chosen = [makers.get(os.path.normpath(target), []) for target in targets]
    return status.needed(jobs, itertools.chain(*chosen)) if all(chosen) else set()


def _replaced(chosen: Iterable[status.Name], states: Mapping[status.Name, status.State]) -> list[str]:
    """Return lines with the number of trained cells that a run will replace, by reason, and with how to keep them."""
    why = Counter(
        "; ".join(states[name].every_reason) or "an earlier job writes its inputs"
        for name in chosen
        if name[0] == "train" and states[name].record is not None
    )
    lines = [f"{count(n, 'trained cell')} will be replaced: {reason}" for reason, n in why.most_common(MOST_LINES)]
    return [*lines, KEEP] if lines else []


def _snakemake(arguments: Sequence[str]) -> int:
    """Run Snakemake in this process, and return its exit code."""
    from snakemake.cli import main

    sys.argv = ["snakemake", *arguments]
    try:
        main(list(arguments))
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
