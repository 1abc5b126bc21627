"""The command line: each stage as a command, usable without the workflow."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DESCRIPTION = """How far does a classifier's certainty reach, and what can calibration still repair?

Every stage of the workflow is a command here; each job's log opens with the command that repeats it."""

EXAMPLE_TRAIN = """example:
  halobench source --spec '{"loader": "digits"}' --out results/sources/digits
  halobench train --source results/sources/digits --seed 0 --out results/trial --spec '{
    "dataset": {"source": "digits", "train": 1000, "val": 250, "test": 450, "noise": {"p": 0.5}},
    "model": {"name": "mlp"}, "loss": {"name": "cross_entropy"}, "train": {"lr": 0.003, "epochs": 100}}'"""

EXAMPLE_CALIBRATE = """A file holds val_logits (n, k), val_labels (n,), test_logits and test_labels; or logits
and labels, of which a random half is fitted to and the other scored. In place of logits
there may be probabilities, and beside them a posterior (n, k).

examples:
  halobench calibrate --logits mine.npz
  halobench calibrate --logits mine.npz --spec '{"calibrators": ["none", "exact", "vector"]}' --out results/mine"""

EXAMPLE_RUN = """All but --orphans is handed on to Snakemake, whose locks are removed first where the run that made them
is dead. Jobs that such a run left in SLURM's queue are ended if they still wait there, and waited for if they run.

examples:
  halobench run                   all that the configuration asks for
  halobench run --cores 4 -n      only say what would run
  halobench run partial           tables and figures of the cells that are there, in results/partial
  halobench run --workflow-profile profiles/slurm      the same on a cluster"""
EXAMPLE_PLAN = """The arguments are handed on to Snakemake, for a dry run.

examples:
  halobench plan
  halobench plan --workflow-profile profiles/slurm --resources gpu=16"""
EXAMPLE_LOGS = """examples:
  halobench logs digits/mlp/mixup2/seed0
  halobench logs mixup2           of all cells whose name holds it"""
EXAMPLE_SHOW = """examples:
  halobench show digits/mlp/mixup2/seed0
  halobench show noise50/mlp/focal          of a cell whose name holds it, if that is one"""
EXAMPLE_COMPARE = """Metrics are those of the test split, each with its own 95% interval over test points. Where the
intervals of two are apart they share no number, which asks for more than a test at 5% does.

examples:
  halobench compare digits/mlp/cross_entropy/seed0 digits/mlp/mixup2/seed0
  halobench compare results ../before/results"""
EXAMPLE_EXPLORER = """examples:
  halobench explorer                          all experiments in results, to results/explorer.html
  halobench explorer demo --out demo.html
  halobench explorer --tables results/partial/tables    of cells that are there, after `halobench run partial`"""
EXAMPLE_WATCH = """Beside a run, in a second terminal; or after one, to see what is there. It reads files, and a
cluster's queue, and touches neither. Without options it shows what the run on this host was started with.
It ends when all is done (exit code 0), or when no run is going on (1 if something failed or is missing).

examples:
  halobench watch
  halobench watch --once          a picture of now
  halobench watch --every 60 > watch.log
  halobench watch --configfile workflow/experiments/tiny.yaml --config 'run=[tiny]'"""
EXAMPLE_CLUSTER = """Needs SLURM's programs and munge, no GPU, and neither root nor /etc.

examples:
  halobench cluster                      a shell in which sbatch, squeue, ... speak to it
  halobench cluster --watch 5 -- halobench run --workflow-profile profiles/slurm --resources gpu=4"""
EXAMPLE_WHY = """All but --each is handed on to Snakemake, for a dry run.

examples:
  halobench why
  halobench why --each --configfile other.yaml
  halobench why results/tables/demo/metrics.csv"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="halobench", description=DESCRIPTION, formatter_class=form)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, summary: str, run: Callable[[argparse.Namespace], int | None], epilog: str = "", **options: Any
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=summary, description=summary, epilog=epilog, formatter_class=form, **options
        )
        added.set_defaults(run=run)
        return added

    def takes(added: argparse.ArgumentParser, *names: str) -> None:
        for name in names:
            added.add_argument(f"--{name}", required=True, **ARGUMENTS[name])

    takes(command("source", "Write a source's images, labels and meta data.", _source), "spec", "out")
    takes(command("weights", "Fetch the weights that timm publishes for a model.", _weights), "spec", "out")
    train = command("train", "Train one cell, or go on where it was stopped.", _train, EXAMPLE_TRAIN)
    takes(train, "spec", "source", "seed", "out")
    train.add_argument(
        "--weights",
        type=_file,
        metavar="FILE",
        help="weights of a model that comes with such (the file its spec names)",
    )
    probe = command("probe", "Probe the neighbourhoods of a trained cell, or go on where it was stopped.", _probe)
    takes(probe, "spec", "source", "seed", "run")
    for stage in (train, probe):
        stage.add_argument(
            "--checkpoint", type=Path, metavar="FILE", help="its resume point (a hidden file beside its outputs)"
        )
        stage.add_argument("--every", type=_seconds, default=60.0, metavar="SECONDS", help="between two savings (60)")
        stage.add_argument(
            "--slots-per-gpu", type=int, default=1, metavar="N", dest="slots", help="processes that may share a GPU (1)"
        )
    calibrate = command(
        "calibrate",
        "Fit temperatures on a cell's logits, or on a file of anyone's, and score them.",
        _calibrate,
        EXAMPLE_CALIBRATE,
    )
    where = calibrate.add_mutually_exclusive_group(required=True)
    where.add_argument("--run", **ARGUMENTS["run"])
    where.add_argument("--logits", type=Path, metavar="FILE", help="an .npz file of logits and labels from any project")
    calibrate.add_argument("--spec", **ARGUMENTS["spec"])
    calibrate.add_argument("--seed", **ARGUMENTS["seed"])
    calibrate.add_argument("--out", type=Path, metavar="FOLDER", help="where to write what was found in --logits")
    takes(
        command("reference", "Score Bayes, uniform and nearest-neighbour predictors.", _reference),
        *("spec", "source", "seed", "out"),
    )
    manifest = command("manifest", "List the files of an experiment's cells with their checksums.", _manifest)
    manifest.add_argument("--missing", type=Path, metavar="FILE", help="where to write a table of what is missing")
    takes(manifest, "cells", "results", "out")
    takes(command("aggregate", "Join the cells of a manifest into tables.", _aggregate), "manifest", "results", "out")
    takes(command("claims", "Judge the paper's claims by an experiment's tables.", _claims), "claims", "tables", "out")
    figure = command("figure", "Draw one figure from an experiment's tables, as PDF and PNG.", _figure)
    figure.add_argument("name", help="a file of halobench/reporting/figures, or module:function")
    figure.add_argument("--note", default="", metavar="TEXT", help="printed in a corner")
    table = command("table", "Make one table for print from an experiment's tables, as CSV, LaTeX and HTML.", _table)
    table.add_argument("name", help="a file of halobench/reporting/tables, or module:function")
    table.add_argument("--note", default="", metavar="TEXT", help="printed with it")
    for made in (figure, table):
        takes(made, "tables", "out")
    explorer = command("explorer", "Make one page that explores the cells of experiments.", _explorer, EXAMPLE_EXPLORER)
    explorer.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="which (all whose tables are there)")
    explorer.add_argument("--results", type=Path, default=Path("results"), help="the results folder (results)")
    explorer.add_argument("--tables", type=Path, metavar="FOLDER", help="the experiments' tables (RESULTS/tables)")
    explorer.add_argument("--out", type=Path, metavar="FILE", help="where to write (RESULTS/explorer.html)")
    explorer.add_argument("--note", default="", metavar="TEXT", help="shown at its top")
    overview = command("overview", "Write pages on what an experiment was and what came out.", _overview)
    takes(overview, "manifest", "results", "tables", "out")
    overview.add_argument("--spec", type=_spec, default={}, metavar="JSON", help="its configuration, to be shown")
    overview.add_argument("--rules", type=_spec, default={}, metavar="JSON", help="the workflow's rules, to be drawn")
    overview.add_argument("--figure", type=_file, metavar="FILE", help="the PNG that sums it up")
    overview.add_argument("--note", default="", metavar="TEXT", help="printed on each page")
    verify = command("verify", "Compare results with the checksums in their records.", _verify)
    verify.add_argument("results", nargs="?", type=Path, default=Path("results"), help="the results folder (results)")
    verify.add_argument("--remove", action="store_true", help="remove what is faulty, so that it is made again")
    run = command("run", "Run Snakemake; goes on after a run that was killed.", _run, EXAMPLE_RUN)
    run.usage = "halobench run [-h] [--orphans {wait,cancel}] [SNAKEMAKE'S ARGUMENTS ...]"
    run.add_argument(
        "--orphans",
        choices=("wait", "cancel"),
        default="wait",
        help="what to do with running jobs of a run that died (wait)",
    )
    plan = command("plan", "Say how many jobs and GPU-hours a run would take.", _plan, EXAMPLE_PLAN)
    plan.usage = "halobench plan [-h] [SNAKEMAKE'S ARGUMENTS ...]"
    show = command("show", "Show all that is known of a cell.", _show, EXAMPLE_SHOW)
    show.add_argument("cell", metavar="CELL", help="e.g. digits/mlp/mixup2/seed0, or a part of it that no other has")
    compare = command("compare", "Say what tells two cells, or two results folders, apart.", _compare, EXAMPLE_COMPARE)
    compare.add_argument("first", metavar="A", help="a cell or a results folder")
    compare.add_argument("second", metavar="B", help="another")
    compare.add_argument("--all", action="store_true", help="metrics that don't differ as well, and all splits")
    for shown in (show, compare):
        shown.add_argument("--results", type=Path, default=Path("results"), help="the results folder (results)")
    logs = command("logs", "Show where a cell's logs are, and their last lines.", _logs, EXAMPLE_LOGS)
    logs.add_argument("name", metavar="CELL", help="e.g. digits/mlp/mixup2/seed0, or a part of it")
    logs.add_argument("--results", type=Path, default=Path("results"), help="the results folder (results)")
    cluster = command("cluster", "Run a command in a SLURM cluster on this host.", _cluster, EXAMPLE_CLUSTER)
    for option, default, what in (
        ("nodes", 2, "nodes"),
        ("gpus", 2, "stand-in GPU slots a node"),
        ("shards", 0, "shares that a node's GPUs are split into"),
    ):
        cluster.add_argument(f"--{option}", type=int, default=default, metavar="N", help=f"{what} ({default})")
    cluster.add_argument(
        "--watch",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="print the queue so often, if it changed",
    )
    cluster.add_argument("rest", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run (a shell)")
    watch = command("watch", "Show how far a run is, and the time left.", _watch, EXAMPLE_WATCH)
    watch.add_argument("--results", type=Path, default=Path("results"), help="the results folder (results)")
    watch.add_argument("--once", action="store_true", help="show it as it is now, and end")
    watch.add_argument("--every", type=_seconds, default=2.0, metavar="SECONDS", help="between two looks at least (2)")
    for option, metavar, what in (
        ("configfile", "FILE", "configurations laid over config.yaml, as for `halobench run`"),
        ("config", "KEY=VALUE", "values laid over these"),
    ):
        watch.add_argument(f"--{option}", nargs="+", action="extend", default=[], metavar=metavar, help=what)
    watch.add_argument("--workflow-profile", metavar="FOLDER", help="what a run may use, where none is going on")
    command("check", "Check what only building can check; a request in JSON on standard input.", _check)
    why = command("why", "Say why each job would run.", _why, EXAMPLE_WHY)
    why.usage = "halobench why [-h] [--each] [SNAKEMAKE'S ARGUMENTS ...]"
    why.add_argument("--each", action="store_true", help="a line for each job, not for each reason")
    return parser


def _spec(text: str) -> Any:
    """JSON given on the command line, or in a file after an @."""
    try:
        return json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"expected JSON, or @FILE that holds JSON ({error})") from None


def _file(text: str) -> Path | None:
    """A path; None for an empty text, which the workflow gives where there is none."""
    return Path(text) if text else None


def _seconds(text: str) -> float:
    """A time in seconds, at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, at least 0, not {text!r}")
    return value


def _seed(text: str) -> int:
    """A seed: a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, not {text!r}")
    return int(text)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "spec": {"type": _spec, "metavar": "JSON", "help": "what to do, as JSON, or @FILE"},
    "source": {"type": Path, "metavar": "FOLDER", "help": "a source's folder, as `halobench source` wrote it"},
    "seed": {"type": _seed, "metavar": "N", "help": "the cell's seed"},
    "out": {"type": Path, "metavar": "PATH", "help": "where to write (for a figure or table: the path without suffix)"},
    "run": {
        "type": Path,
        "metavar": "FOLDER",
        "dest": "folder",
        "help": "a cell's folder, as `halobench train` wrote it",
    },
    "cells": {"type": Path, "metavar": "FILE", "help": "the names and folders of an experiment's cells"},
    "manifest": {"type": Path, "metavar": "FILE", "help": "the cells of an experiment"},
    "results": {"type": Path, "metavar": "FOLDER", "help": "the results folder"},
    "claims": {"type": Path, "metavar": "FILE", "help": "the claims, e.g. workflow/claims.yaml"},
    "tables": {"type": Path, "metavar": "FOLDER", "help": "an experiment's tables"},
}


def _source(given: argparse.Namespace) -> None:
    from halobench.pipeline.source import run_source

    run_source(given.spec, given.out)


def _weights(given: argparse.Namespace) -> None:
    from halobench.pipeline.source import run_weights

    run_weights(given.spec, given.out)


def _train(given: argparse.Namespace) -> None:
    from halobench.pipeline.train import run_train

    run_train(
        given.spec, given.source, given.seed, given.out, given.checkpoint, given.every, given.slots, given.weights
    )


def _probe(given: argparse.Namespace) -> None:
    from halobench.pipeline.probe import run_probe

    run_probe(given.spec, given.source, given.seed, given.folder, given.checkpoint, given.every, given.slots)


def _calibrate(given: argparse.Namespace) -> None:
    from halobench.core.errors import require
    from halobench.pipeline.calibrate import run_calibrate, run_calibrate_file

    if given.logits is not None:
        run_calibrate_file({} if given.spec is None else given.spec, given.seed or 0, given.logits, given.out)
        return
    for option in ("spec", "seed"):
        require(getattr(given, option) is not None, f"--{option}", "nothing", "that of the cell in --run")
    require(given.out is None, "--out", str(given.out), "--logits beside it: what is found of a cell is written there")
    run_calibrate(given.spec, given.seed, given.folder)


def _reference(given: argparse.Namespace) -> None:
    from halobench.pipeline.calibrate import run_reference

    run_reference(given.spec, given.source, given.seed, given.out)


def _manifest(given: argparse.Namespace) -> None:
    from halobench.pipeline.aggregate import run_manifest

    run_manifest(given.cells, given.results, given.out, given.missing)


def _aggregate(given: argparse.Namespace) -> None:
    from halobench.pipeline.aggregate import run_aggregate

    run_aggregate(given.manifest, given.results, given.out)


def _claims(given: argparse.Namespace) -> None:
    from halobench.pipeline.aggregate import run_claims

    run_claims(given.claims, given.tables, given.out)


def _figure(given: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_figure

    run_figure(given.name, given.tables, given.out, given.note)


def _table(given: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_table

    run_table(given.name, given.tables, given.out, given.note)


def _explorer(given: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_explorer

    out = given.results / "explorer.html" if given.out is None else given.out
    run_explorer(given.results, out, given.experiments, given.tables, given.note)


def _overview(given: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_overview

    run_overview(
        given.manifest, given.results, given.tables, given.out, given.spec, given.rules, given.figure, given.note
    )


def _verify(given: argparse.Namespace) -> int:
    from halobench.storage.verify import remove, verify

    found = verify(given.results)
    for fault in found.faults:
        print(fault)
    if given.remove:
        for path in remove(found.faults):
            print(f"removed {path}")
    bad = len({fault.path for fault in found.faults})
    print(f"{found.files} files of {found.records} records: {f'{bad} faulty' if bad else 'all as they were written'}")
    return 1 if bad else 0


def _run(given: argparse.Namespace) -> None:
    from halobench.runner.run import run

    run(given.rest, given.orphans == "cancel")


def _plan(given: argparse.Namespace) -> int:
    from halobench.runner.forecast.plan import plan

    return plan(given.rest)


def _show(given: argparse.Namespace) -> None:
    from halobench.reporting import terminal
    from halobench.results.cell import find_cell, read_cell

    terminal.show(read_cell(given.results, find_cell(given.results, given.cell)))


def _compare(given: argparse.Namespace) -> None:
    from halobench.reporting.compare import compare

    compare(given.first, given.second, given.results, given.all)


def _logs(given: argparse.Namespace) -> int:
    from halobench.runner.logs import find, told

    found = list(find(given.results, given.name))
    print("\n".join(map(told, found)) or f"no log in {given.results / 'logs'} is of a job named {given.name}")
    return 0 if found else 1


def _cluster(given: argparse.Namespace) -> int:
    from halobench.runner.slurm.local_cluster import run

    return run(given.rest[given.rest[:1] == ["--"] :], given.nodes, given.gpus, given.shards, given.watch)


def _check(given: argparse.Namespace) -> int:
    from halobench.experiment.build_checks import run

    problems, report = run(_spec(sys.stdin.read()))
    print(json.dumps([problems, report]))
    return 2 if problems else 0


def _watch(given: argparse.Namespace) -> int:
    from halobench.experiment.config_loader import ConfigError
    from halobench.runner.monitor.monitor import opened, watch
    from halobench.runner.snakemake_args import Selection

    chosen = Selection(tuple(given.configfile), tuple(given.config))
    try:
        found = opened(given.results, chosen, given.workflow_profile)
    except ConfigError as error:
        for problem in error.problems:
            _tell(f"halobench: error: {problem}")
        return 2
    return watch(found, given.once, given.every)


def _why(given: argparse.Namespace) -> int:
    from halobench.runner.forecast.explain import why

    return why(given.rest, given.each)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments. What follows `run`, `why` and `plan` is Snakemake's (``rest``), but for ``OWN``."""
    if not arguments or arguments[0] not in OWN:
        return build_parser().parse_args(arguments)
    own, rest, left = [arguments[0]], [], list(arguments[1:])
    while left:
        argument = left.pop(0)
        if argument.partition("=")[0] not in OWN[arguments[0]]:
            rest.append(argument)
            continue
        own.append(argument)
        if argument == "--orphans" and left:
            own.append(left.pop(0))
    given = build_parser().parse_args(own)
    given.rest = rest
    return given


# Commands that are no stages: what they print is for a person or a program, not for a log.
QUIET = ("check", "cluster", "compare", "logs", "plan", "run", "show", "verify", "watch", "why")

# The options that are not Snakemake's, of the commands that hand on the rest.
OWN = {
    "run": {"-h", "--help", "--orphans"},
    "why": {"-h", "--help", "--each"},
    "plan": {"-h", "--help"},
}


def _tell(line: str) -> None:
    """Print on standard error, if it takes it: a log on a full disk doesn't."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends in one line on standard error and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "HALOBENCH_WARM" in os.environ:
        from halobench.runner import fork_server

        if (code := fork_server.ask(arguments)) is not None:
            return code
    given = parse_arguments(arguments)
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # a log is to show where a job is, and nothing of it to be lost with the job
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # of an encoding without Greek letters
    # Thread pools are sized when numpy and torch load, so this must come first. One thread is the specs' default.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from halobench.core.errors import SpecError

    try:
        if given.command not in QUIET:
            print(f"$ halobench {shlex.join(arguments)}", flush=True)
        return given.run(given) or 0
    except argparse.ArgumentTypeError as error:
        _tell(f"halobench: error: standard input: {error}")
        return 2
    except BrokenPipeError:  # as by `| head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (SpecError, OSError) as error:
        _tell(f"halobench: error: {error}")
        return 2
    except KeyboardInterrupt:
        _tell("halobench: stopped by SIGINT")
        return 130
    except SystemExit as stop:  # of a plug-in: a stage that ends so has not done its work, whatever the code says
        _tell(f"halobench: error: ended by SystemExit({stop.code!r}), raised by a plug-in")
        return stop.code if isinstance(stop.code, int) and stop.code else 1
    except RuntimeError as error:
        # By name: both are defined beside code that imports torch, which most commands do without.
        if type(error).__name__ == "Interrupted":
            _tell(f"halobench: {error}")
            return 128 + vars(error)["signum"]
        if type(error).__name__ != "DivergedError":
            raise
        _tell(f"halobench: error: {error}")
        return 3


if __name__ == "__main__":
    sys.exit(main())
