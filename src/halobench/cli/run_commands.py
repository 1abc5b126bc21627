"""Commands for running the workflow."""

from __future__ import annotations

import argparse
import json
import sys

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

EXAMPLE_STATUS = """Says which results aren't current, and why, without asking Snakemake: root causes first.
Takes the same --configfile, --config, --directory and --snakefile as `halobench run`.

examples:
  halobench status
  halobench status --each --configfile other.yaml"""


def _run(args: argparse.Namespace) -> int:
    from halobench.runner.run import run

    return run(args.rest, args.results, args.orphans == "cancel")


def _status(args: argparse.Namespace) -> int:
    from halobench.runner.run import print_status

    return print_status(args.rest, args.results, args.each)


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
    Command(
        "status",
        "Say which results aren't current, and why.",
        _status,
        (option("--each", action="store_true", help="print one line per job, including downstream jobs"), RESULTS),
        EXAMPLE_STATUS,
        passed_on=True,
    ),
    Command(
        "check", "Run the checks that require building, for a JSON request on standard input. For the workflow.", _check
    ),
)
