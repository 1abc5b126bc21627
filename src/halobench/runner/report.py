"""Make Snakemake's report on the last run, whatever it was, or on what the arguments specify."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from halobench.core.errors import NAME, one_of, require
from halobench.experiment import jobs
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.experiment.grid import Config
from halobench.runner import dry_run, outcome
from halobench.runner.run import STATE
from halobench.storage import files

LAST, CONFIGURED = STATE / "last-run.json", STATE / "last-run.yaml"  # the last run's place, and its configuration
PARTIAL = "partial"  # the target for finished cells
STYLE = "workflow/report/style.css"  # next to the Snakefile
NEWS = re.compile(r"warning|missing|No files found|halobench:", re.IGNORECASE)  # what matters in Snakemake's output
# Arguments that select what is reported; without any of them, the last run is reported.
CHOOSING = ("--configfile", "--configfiles", "--config", "-C", "--snakefile", "-s", "--directory", "-d")


def note_run(workflow: Any, config: Mapping[str, Any], results: Path) -> None:
    """Record a run, with its merged configuration, for its report."""
    with files.replacing(CONFIGURED) as temporary:
        temporary.write_text(yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False), encoding="utf-8")
    files.write_json(LAST, {"snakefile": os.path.abspath(workflow.main_snakefile), "results": str(results)})


def report(arguments: Sequence[str]) -> int:
    """Run Snakemake to make a report, and print what its experiments found; return Snakemake's exit code.

    Parameters
    ----------
    arguments : sequence of str
        Experiment names and Snakemake arguments. Unless they include one of `CHOOSING`, the last run's configuration is
        used; if no experiments are named, the report then covers that run's experiments and all others whose results
        are complete.
    """
    if not LAST.exists():
        dry_run.check_snakefile(dry_run.read_options(arguments))
    if not LAST.exists() or any(argument.partition("=")[0] in CHOOSING for argument in arguments):
        names = list(itertools.takewhile(_is_name, arguments))
        rest = [*(name for name in names if name == PARTIAL), *arguments[len(names) :]]
        named = [name for name in dict.fromkeys(names) if name != PARTIAL]
        return _snakemake(command(_with_run(rest, named) if named else rest))
    last = files.read_json(LAST, ["snakefile", "results"])
    try:
        config = load_config(yaml.safe_load(CONFIGURED.read_text(encoding="utf-8")))
    except ConfigError as error:
        print("The configuration of the last run has problems:", *error.problems, sep="\n", file=sys.stderr)
        return 2
    for name in itertools.takewhile(_is_name, arguments):
        expected = f"an experiment in the last run's configuration: {one_of(config.experiments, name)}"
        require(name == PARTIAL or name in config.experiments, "report", name, expected)
    named = list(dict.fromkeys(argument for argument in arguments if argument in config.experiments))
    partial = PARTIAL in arguments
    experiments = named or [*config.run, *(() if partial else complete(config, Path(last["results"])))]
    rest = [argument for argument in arguments if argument not in named]
    if code := _snakemake(command(rest if experiments == [*config.run] else _with_run(rest, experiments), last)):
        return code
    tables = Path(last["results"], "partial" if partial else "", "tables")
    for line in [line for name in experiments for line in outcome.finding_lines(tables / name / "claims.csv")]:
        outcome.say(line)
    for path in () if named else sorted(tables.glob("*/overview.html")):
        if path.parent.name not in experiments:
            outcome.say(f"not in the report, because it is incomplete or from another configuration: {path}")
    return 0


def _with_run(arguments: Sequence[str], experiments: Sequence[str]) -> list[str]:
    """Add the experiments to report to Snakemake's arguments."""
    return dry_run.with_config(arguments, f"run={json.dumps(experiments)}")


def _is_name(argument: str) -> bool:
    """Return whether an argument may be the name of an experiment or the target `partial`, unlike options and paths."""
    return NAME.fullmatch(argument) is not None


def _snakemake(arguments: Sequence[str]) -> int:
    """Run Snakemake for a report; print its path or, if it failed, Snakemake's output; return the exit code."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="backslashreplace", check=False)
    if done.returncode:
        print(done.stderr, end="", file=sys.stderr)
        return done.returncode
    for line in filter(NEWS.search, done.stderr.splitlines()):
        print(line, file=sys.stderr)
    print(f"Report: {dry_run.read_options(arguments).report}")
    return 0


def complete(config: Config, results: Path) -> list[str]:
    """Return the experiments, other than the run's own, whose tables, figures and pages all exist."""
    others = [name for name in config.experiments if name not in config.run]
    return [
        name
        for name in others
        if all((results / path).exists() for job in jobs.drawn_jobs(config, name) for path in job.paths)
    ]


def command(arguments: Sequence[str], last: Mapping[str, str] | None = None) -> list[str]:
    """Return the Snakemake arguments for generating a report (on the run `last`, if given)."""
    options = dry_run.read_options(arguments)
    arguments = [argument for argument in arguments if argument != "--report" or options.report is not None]
    added, results, snakefile = [], Path("results"), options.snakefile or Path("Snakefile")
    if last is not None:
        results, snakefile = Path(last["results"]), Path(last["snakefile"])
        added += ["--snakefile", str(snakefile), "--configfile", str(CONFIGURED)]
    if options.report is None:
        added += ["--report", str(results / "report.html")]
    style = snakefile.parent / STYLE
    return [*arguments, *added, *(["--report-stylesheet", str(style)] if style.exists() else [])]
