"""Commands for running the workflow."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from halobench.cli.arguments import Command, option, path, read_spec

EXAMPLE_RUN = """Accepts all Snakemake arguments and resumes an interrupted run, removing the locks of a dead one.
Of the jobs that a dead run left in SLURM's queue, it cancels those that are pending and waits for
those that are running.

examples:
  halobench run                   everything in the configuration
  halobench run --cores 4 -n      only list what would run
  halobench run --results other   write to the folder other, leaving results as it is
  halobench run partial           tables and figures of the finished cells, in results/partial
  halobench run --workflow-profile profiles/slurm      the same on a cluster"""

EXAMPLE_PLAN = """Accepts all Snakemake arguments and makes a dry run.

examples:
  halobench plan
  halobench plan --workflow-profile profiles/slurm --resources gpu=16"""

EXAMPLE_WHY = """Accepts all Snakemake arguments and makes a dry run.

examples:
  halobench why
  halobench why --each --configfile other.yaml
  halobench why results/tables/demo/metrics.csv"""


EXAMPLE_REPORT = """Takes the names of experiments, and all Snakemake arguments. Without --configfile, --config,
--snakefile or --directory, it uses the configuration of the last run in this folder, with that
run's experiments and any other configured experiments whose results are complete.

examples:
  halobench report                write results/report.html
  halobench report demo           cover only one experiment
  halobench report partial        cover the finished cells, after `halobench run partial`
  halobench report --configfile mine.yaml --report mine.zip"""


def with_results(arguments: Sequence[str], folder: Path | None) -> list[str]:
    """Add a results folder, if one is given, to Snakemake's arguments."""
    from halobench.runner.dry_run import with_config

    return list(arguments) if folder is None else with_config(arguments, f"results={folder}")


def _run(args: argparse.Namespace) -> int:
    from halobench.runner.run import run

    return run(with_results(args.rest, args.results), args.orphans == "cancel")


def _plan(args: argparse.Namespace) -> int:
    from halobench.runner.forecast.plan import plan

    return plan(with_results(args.rest, args.results))


def _why(args: argparse.Namespace) -> int:
    from halobench.runner.forecast.explain import why

    return why(with_results(args.rest, args.results), args.each)


def _report(args: argparse.Namespace) -> int:
    from halobench.runner.report import report

    return report(args.rest)


def _check(args: argparse.Namespace) -> int:
    from halobench.experiment.build_checks import run

    problems, report = run(read_spec(sys.stdin.read()))
    print(json.dumps([problems, report]))
    return 2 if problems else 0


RESULTS = path("--results", "the results folder (default: as configured, else results)")

COMMANDS = (
    Command(
        "run",
        "Run Snakemake, resuming an interrupted run.",
        _run,
        (
            option(
                "--orphans",
                choices=("wait", "cancel"),
                default="wait",
                help="what to do with the running jobs of a run that died (default: wait)",
            ),
            RESULTS,
        ),
        EXAMPLE_RUN,
        passed_on=True,
    ),
    Command("plan", "Estimate the jobs and GPU-hours of a run.", _plan, (RESULTS,), EXAMPLE_PLAN, passed_on=True),
    Command(
        "why",
        "Explain why jobs would run, root causes first.",
        _why,
        (option("--each", action="store_true", help="print one line per job, including downstream jobs"), RESULTS),
        EXAMPLE_WHY,
        passed_on=True,
    ),
    Command("report", "Make the report, and say what was found.", _report, (), EXAMPLE_REPORT, passed_on=True),
    Command(
        "check", "Run the checks that require building, for a JSON request on standard input. For the workflow.", _check
    ),
)
