"""Commands for inspecting results."""

from __future__ import annotations

import argparse
from pathlib import Path

from halobench.cli.arguments import Command, option, path

EXAMPLE_SHOW = """examples:
  halobench show digits/mlp/mixup2/seed0
  halobench show noise50/mlp/focal          the only cell whose name contains this"""

EXAMPLE_COMPARE = """Two losses are compared over the seeds that both have, with a 95% t interval of the paired change
over seeds. Two cells are compared by their 95% bootstrap intervals over test samples; requiring
that these don't overlap is stricter than a test at 5%. Differences in the specs come first.

examples:
  halobench compare digits/mlp/{cross_entropy,mixup2}
  halobench compare digits/mlp/cross_entropy/seed0 digits/mlp/mixup2/seed0
  halobench compare results ../before/results"""

EXAMPLE_LOGS = """examples:
  halobench logs digits/mlp/mixup2/seed0
  halobench logs mixup2           all cells whose names contain this"""


def _show(args: argparse.Namespace) -> None:
    from halobench.reporting import terminal
    from halobench.results.cell import find_cell, read_cell

    terminal.show(read_cell(args.results, find_cell(args.results, args.cell)))


def _compare(args: argparse.Namespace) -> None:
    from halobench.reporting.compare import compare

    compare(args.first, args.second, args.results, args.all)


def _logs(args: argparse.Namespace) -> int:
    from halobench.runner.logs import describe_logs, find

    jobs = list(find(args.results, args.name))
    print("\n".join(map(describe_logs, jobs)) or f"no logs of jobs named {args.name} in {args.results / 'logs'}")
    return 0 if jobs else 1


def _verify(args: argparse.Namespace) -> int:
    from halobench.storage.verify import remove, verify

    verification = verify(args.results)
    for fault in verification.faults:
        print(fault)
    if args.remove:
        for path in remove(verification.faults):
            print(f"removed {path}")
    bad = len({fault.path for fault in verification.faults})
    state = f"{bad} faulty" if bad else "all checksums match"
    print(f"{verification.files} files in {verification.records} records: {state}")
    return 1 if bad else 0


RESULTS = path("--results", "the results folder (default: results)", default=Path("results"))

COMMANDS = (
    Command(
        "show",
        "Show a cell: its spec, temperatures, metrics and commands.",
        _show,
        (
            option(
                "cell",
                metavar="CELL",
                help="e.g. digits/mlp/mixup2/seed0, or a part that no other cell's name contains",
            ),
            RESULTS,
        ),
        EXAMPLE_SHOW,
    ),
    Command(
        "compare",
        "Compare two losses, two cells, or two results folders.",
        _compare,
        (
            option("first", metavar="A", help="a loss as DATASET/MODEL/LOSS, a cell or a results folder"),
            option("second", metavar="B", help="what to compare it with"),
            option("--all", action="store_true", help="show all metrics, and for cells all splits"),
            RESULTS,
        ),
        EXAMPLE_COMPARE,
    ),
    Command(
        "logs",
        "Show where a cell's logs are and print their last lines.",
        _logs,
        (option("name", metavar="CELL", help="e.g. digits/mlp/mixup2/seed0, or a part of it"), RESULTS),
        EXAMPLE_LOGS,
    ),
    Command(
        "verify",
        "Compare results with the checksums in their records.",
        _verify,
        (
            path("results", "the results folder (default: results)", nargs="?", default=Path("results")),
            option("--remove", action="store_true", help="remove faulty results so they are computed again"),
        ),
    ),
)
