"""Make Snakemake's report on the last run, whatever it was, or on what the arguments specify."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from halobench.core.errors import NAME, one_of, require
from halobench.experiment import jobs
from halobench.experiment.config_file import read_file
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.experiment.grid import Config
from halobench.runner import outcome
from halobench.runner.arguments import Arguments, check_arguments, read_arguments
from halobench.runner.loaded import FROZEN
from halobench.runner.run import LAST
from halobench.storage import files

PARTIAL = "partial"  # the target for finished cells
NEWS = re.compile(r"warning|missing|No files found|halobench:", re.IGNORECASE)  # what matters in Snakemake's output


def report(arguments: Sequence[str]) -> int:
    """Run Snakemake to make a report, and print what its experiments found; return Snakemake's exit code.

    Parameters
    ----------
    arguments : sequence of str
        Experiment names and Snakemake arguments. Unless they set a configuration, a Snakefile or a directory, the last
        run's configuration is used; if no experiments are named, the report then covers that run's experiments and all
        others whose results are complete.
    """
    names = list(itertools.takewhile(lambda argument: NAME.fullmatch(argument) is not None, arguments))
    asked = read_arguments(arguments[len(names) :])
    partial, named = PARTIAL in names, [name for name in dict.fromkeys(names) if name != PARTIAL]
    asked = dataclasses.replace(asked, rest=(*([PARTIAL] if partial else []), *asked.rest))
    is_chosen = asked.files or asked.entries or asked.options.snakefile or asked.options.directory != Path()
    if is_chosen or not LAST.exists():
        check_arguments(asked)
        return _snakemake(*command(_only(asked, named), asked.snakefile or Path("Snakefile"), Path("results")))
    last = files.read_json(LAST, ["snakefile", "configuration", "results"])
    try:
        config = load_config({key: value for key, value in read_file(last["configuration"]).items() if key != FROZEN})
    except ConfigError as error:
        print("The configuration of the last run has problems:", *error.problems, sep="\n", file=sys.stderr)
        return 2
    for name in named:
        expected = f"an experiment in the last run's configuration: {one_of(config.experiments, name)}"
        require(name in config.experiments, "report", name, expected)
    snakefile, results = Path(last["snakefile"]), Path(last["results"])
    shown = named or [*config.run, *(() if partial else complete(config, results))]
    asked = dataclasses.replace(
        asked, files=(last["configuration"],), rest=(*asked.rest, "--snakefile", str(snakefile))
    )
    asked = asked if shown == [*config.run] else _only(asked, shown)
    if code := _snakemake(*command(asked, snakefile, results)):
        return code
    tables = results / ("partial" if partial else "") / "tables"
    for line in [line for name in shown for line in outcome.finding_lines(tables / name / "claims.csv")]:
        outcome.say(line)
    for path in () if named else sorted(tables.glob("*/overview.html")):
        if path.parent.name not in shown:
            outcome.say(f"not in the report, because it is incomplete or from another configuration: {path}")
    return 0


def _only(asked: Arguments, experiments: Sequence[str]) -> Arguments:
    """Return the arguments for a report on these experiments, or on those of the configuration if there are none."""
    entry = (f"run={json.dumps(list(experiments))}",) if experiments else ()
    return dataclasses.replace(asked, entries=(*asked.entries, *entry))


def command(asked: Arguments, snakefile: Path, results: Path) -> tuple[list[str], str]:
    """Return Snakemake's arguments for a report, and the path of that report."""
    target = asked.options.report or str(results / "report.html")
    styles = [folder / "report/style.css" for folder in (snakefile.parent / "workflow", snakefile.parent)]
    style = [f"--report-stylesheet={path}" for path in styles if path.exists()][:1]
    arguments = asked.with_options(*([] if asked.options.report else [f"--report={target}"]), *style)
    return [each for each in arguments if each != "--report" or asked.options.report], target


def _snakemake(arguments: Sequence[str], target: str) -> int:
    """Run Snakemake for a report; print its path or, if it failed, Snakemake's output; return the exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    if done.returncode:
        print(done.stderr, end="", file=sys.stderr)
        return done.returncode
    for line in filter(NEWS.search, done.stderr.splitlines()):
        print(line, file=sys.stderr)
    print(f"Report: {target}")
    return 0


def complete(config: Config, results: Path) -> list[str]:
    """Return the experiments, other than the run's own, whose tables, figures and pages all exist."""
    others = [name for name in config.experiments if name not in config.run]
    return [
        name
        for name in others
        if all((results / path).exists() for job in jobs.drawn_jobs(config, name) for path in job.paths)
    ]
