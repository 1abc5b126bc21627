"""Define the commands of `halobench`; the options of a stage are the parameters of its function."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from halobench.core import plugins
from halobench.runner.stage_options import OPTIONS, file, flag, folder, number, options_of, read_json
from halobench.storage.layout import STAGES

RUN = """Accepts all Snakemake arguments and resumes an interrupted run. Of the jobs that a dead run left in
SLURM's queue, it cancels those that are pending and waits for those that are running.

examples:
  halobench run                   everything in the configuration
  halobench run --cores 4 -n      only list what would run
  halobench run --results other   write to the folder other, leaving results as it is
  halobench run partial           tables and figures of the finished cells, in results/partial
  halobench run --workflow-profile profiles/slurm      the same on a cluster"""

STATUS = """Says which results aren't current, and why, without asking Snakemake: root causes first.
Takes the same --configfile, --config, --directory and --snakefile as `halobench run`.

examples:
  halobench status
  halobench status --configfile other.yaml"""

SHOW = """examples:
  halobench show digits/mlp/mixup2/seed0
  halobench show noise50/mlp/focal          the only cell whose name contains this"""

COMPARE = """One row per metric after optimal temperature scaling, with the side that is better, if the change is
clear: over seeds, the 95% t interval of the paired change, widened as in claims if seeds share
samples, leaves out 0. For two results folders, changes are averaged over the cells of each seed.
Two names of losses are compared on each data set and model, never by a mean over these.
Two single cells are compared by their 95% bootstrap intervals over test samples, which must not
overlap. A metric's file says by LOWER_IS_BETTER which side is better.

examples:
  halobench compare digits/mlp/{cross_entropy,mixup2}
  halobench compare cross_entropy mixup2 --format latex
  halobench compare digits/mlp/cross_entropy/seed0 digits/mlp/mixup2/seed0
  halobench compare results ../before/results"""

DIAGNOSE = """Says if the temperature is optimal, what is left and what could remove it, which calibrator to use, which
classes are confused, if there are enough samples, and if test samples look like validation samples.

The file (.npz) holds val_logits (n, k), val_labels (n,) and, if there are any, test_logits and
test_labels; or just logits and labels, which are all used for validation. Probabilities may replace
logits (val_probabilities, ...). The known posterior (n, k) of validation samples, val_posterior or
posterior, shows noise apart. In place of labels, val_votes and test_votes (n, k) count several labels
per sample. val_groups (n,) has equal entries for samples that belong together, and names (k,) the
columns' classes. The arrays may also be in a .pt file or in .npy files in a folder. A table (.csv,
.parquet) has the columns label, split (val or test), group and logit_NAME or probability_NAME (and
vote_NAME in place of label) for each class, where NAME is its label. A file in CalArena's layout (.h5)
gives a table with a row per pair.

examples:
  halobench diagnose mine.npz
  halobench diagnose mine.csv --out mine    also writes a page and calibrated probabilities"""

APPLY = """Writes calibrated probabilities of new samples, block by block, so files may be larger than memory. The
file holds logits or probabilities as for `halobench diagnose`; labels aren't needed. The columns of
tables may have any order; other columns are kept.

examples:
  halobench apply mine/calibrator.npz new.npz --out calibrated.npz
  halobench apply mine/calibrator.npz new.csv --out calibrated.csv"""

DOCTOR = """Lists versions, cores, memory, GPUs with their free memory and slots, and SLURM, in about ten lines.
The exit code is 1 if something keeps jobs from using the GPUs.

examples:
  halobench doctor
  srun --gres=gpu:1 halobench doctor      the same of a node of a cluster"""

CHECK = """Tries a plug-in on small data: what it returns, whether it changes its arguments, and whether
the same input gives the same result. The plug-in is a file of the package, or KIND and a name or
module:object, where KIND is losses, models, data, calibrators, metrics, probes, figures or tables.

examples:
  halobench check src/halobench/losses/poly1.py
  halobench check losses mine.losses:Poly1 --options '{"epsilon": 2}'
  halobench check figures mine.figures:medians --tables results/tables/digits"""

STAGE_EXAMPLES = {
    "train": """example:
  halobench stage source --spec '{"loader": "digits"}' --out trial/digits
  halobench stage train --source trial/digits --seed 0 --out trial/cell --spec '{
    "dataset": {"source": "digits", "train": 1000, "val": 250, "test": 450, "noise": {"p": 0.5}},
    "model": {"name": "mlp"}, "loss": {"name": "cross_entropy"}, "train": {"lr": 0.003, "epochs": 100}}'"""
}

RESULTS = Path("results")


def _run(args: argparse.Namespace) -> int:
    from halobench.runner.run import run

    return run(args.rest, args.results)


def _status(args: argparse.Namespace) -> int:
    from halobench.runner.run import print_status

    return print_status(args.rest, args.results)


def _show(args: argparse.Namespace) -> None:
    from halobench.reporting import terminal
    from halobench.results.cell_results import find_cell, name_below_runs, read_cell
    from halobench.runner.logs import describe_logs

    name = name_below_runs(args.cell)
    untrained = not (args.results / "runs" / name / "train.json").exists()
    if not (untrained and describe_logs(args.results, name)):  # a failed cell has nothing else to show
        name = find_cell(args.results, name)
        terminal.show(read_cell(args.results, name))
    print("\n".join(describe_logs(args.results, name)))


def _compare(args: argparse.Namespace) -> None:
    from halobench.reporting.compare import compare

    compare(args.first, args.second, args.results, args.all, args.format)


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


def _diagnose(args: argparse.Namespace) -> None:
    from halobench.desk.diagnose import run_diagnose

    run_diagnose(args.file, args.seed, args.out, args.floor, args.calibrator, args.independent)


def _apply(args: argparse.Namespace) -> None:
    from halobench.desk.apply import run_apply

    run_apply(args.calibrator, args.file, args.out, args.trust)


def _doctor(args: argparse.Namespace) -> int:
    from halobench.pipeline.doctor import print_report

    return print_report()


def _check(args: argparse.Namespace) -> int:
    from halobench.core.errors import SpecError, describe_error
    from halobench.testing import plugin_checks

    sys.path.insert(0, str(Path.cwd()))
    kind, name = (args.what, args.name) if args.name else plugin_checks.plugin_of(Path(args.what))
    try:
        plugin_checks.check(kind, name, args.options, args.tables)
    except SpecError:
        raise
    except AssertionError as error:
        print(f"halobench: {kind} {name}: {error}", file=sys.stderr)
        return 1
    except (Exception, SystemExit) as error:  # a plug-in may raise anything
        print(f"halobench: {kind} {name}: raised {describe_error(error)}", file=sys.stderr)
        return 1
    print(f"{kind} {name}: all checks passed")
    return 0


def _stage(args: argparse.Namespace) -> None:
    """Run a stage with its parsed options."""
    arguments = {key: value for key, value in vars(args).items() if key not in ("command", "stage", "run")}
    plugins.load("stages", args.stage)(**arguments)


def _cells(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the names of trained cells, with which shells complete an argument."""
    from halobench.results.cell_results import cell_names

    return cell_names(parsed_args.results)


def _add(parser: argparse.ArgumentParser, name: str, **options: Any) -> None:
    """Add an option to a parser, with settings that may differ from those of stages."""
    settings: dict[str, Any] = {"required": True, "dest": name, **OPTIONS[name].settings, **options}
    parser.add_argument(flag(name), **settings)


def _command(commands: Any, name: str, summary: str, epilog: str = "", **defaults: Any) -> argparse.ArgumentParser:
    """Add a command to the parsers `commands`, and return its parser; its epilog keeps line breaks."""
    form = argparse.RawDescriptionHelpFormatter
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, epilog=epilog, formatter_class=form, allow_abbrev=False
    )
    parser.set_defaults(**defaults)
    return parser


def add(commands: Any) -> None:
    """Add the commands to the parsers of all commands; those with `passed_on` also take Snakemake's arguments."""

    command = functools.partial(_command, commands)
    run = command("run", "Run Snakemake, resuming an interrupted run.", RUN, run=_run, passed_on=True)
    status = command("status", "Say which results aren't current, and why.", STATUS, run=_status, passed_on=True)
    for name, parser in (("run", run), ("status", status)):
        parser.usage = f"halobench {name} [-h] [OPTIONS] [SNAKEMAKE'S ARGUMENTS ...]"
        _add(parser, "results", required=False, help="the results folder (default: as configured, else results)")

    show = command("show", "Show a cell: its spec, temperatures, metrics, commands and logs.", SHOW, run=_show)
    what = "e.g. digits/mlp/mixup2/seed0, or a part that no other cell's name contains"
    cell: Any = show.add_argument("cell", metavar="CELL", help=what)
    cell.completer = _cells
    compare = command("compare", "Say which of two losses, cells or results folders is better.", COMPARE, run=_compare)
    compare.add_argument(
        "first", metavar="A", help="a loss, alone or as DATASET/MODEL/LOSS, a cell or a results folder"
    )
    compare.add_argument("second", metavar="B", help="what to compare it with")
    compare.add_argument("--all", action="store_true", help="show all test metrics of all calibrators")
    forms = ("text", "csv", "json", "latex")
    compare.add_argument("--format", choices=forms, default="text", help="how to print the rows (default: text)")
    for parser in (show, compare):
        what = "the results folder (default: results)"
        _add(parser, "results", required=False, default=RESULTS, help=what)
    verify = command("verify", "Compare results with the checksums in their records.", run=_verify)
    what = "the results folder (default: results)"
    verify.add_argument("results", nargs="?", **folder(what, default=RESULTS))
    verify.add_argument("--remove", action="store_true", help="remove faulty results, so that they are computed again")

    check = command("check", "Try a plug-in on small data, in seconds.", CHECK, run=_check)
    check.add_argument("what", metavar="FILE or KIND", help="a plug-in's file in the package, or a kind of plug-in")
    check.add_argument("name", metavar="NAME", nargs="?", help="the name or module:object of a plug-in of that kind")
    what = "its options, as JSON or @FILE"
    check.add_argument("--options", type=read_json, default={}, metavar="JSON", help=what)
    _add(check, "tables", required=False, help="an experiment's tables, which figures and tables need")

    command("doctor", "Say what a run on this machine would use, and what stands in its way.", DOCTOR, run=_doctor)

    diagnose = command("diagnose", "Diagnose and calibrate logits from any project.", DIAGNOSE, run=_diagnose)
    diagnose.add_argument("file", **file("logits and labels: an .npz, .pt, .csv or .parquet file"))
    _add(diagnose, "seed", required=False, default=0, help="the seed of folds and resamples (default: 0)")
    _add(diagnose, "out", required=False, help="a folder for the page, the numbers and calibrated probabilities")
    what = "a number to add to probabilities if some are 0 (default: fitted); 0 rules such classes out"
    diagnose.add_argument("--floor", **number(0, float, "a number", what, "P"))
    what = "fit and save this calibrator (such as none, exact or partner), whatever is recommended"
    diagnose.add_argument("--calibrator", metavar="NAME", help=what)
    what = "the validation samples are independent draws: don't suspect that some are copies or belong together"
    diagnose.add_argument("--independent", action="store_true", help=what)

    apply = command("apply", "Calibrate new logits by a saved calibrator.", APPLY, run=_apply)
    apply.add_argument("calibrator", **file("a calibrator, such as calibrator.npz of `halobench diagnose`"))
    apply.add_argument("file", **file("logits or probabilities: an .npz, .npy, .csv or .parquet file"))
    apply.add_argument("--out", required=True, **file("where to write; the suffix is that of the input"))
    apply.add_argument("--trust", action="store_true", help="run the plug-in that the calibrator names")
    _add_stages(commands)


def _add_stages(commands: Any) -> None:
    """Add the command `stage`, with a command of its own for each stage."""
    summary = "Run one stage without the workflow, as the first line of a job's log does."
    parser = commands.add_parser("stage", help="run one stage", description=summary)
    names = parser.add_subparsers(dest="stage", required=True, metavar="STAGE", title="stages")
    for name in sorted(plugins.names("stages"), key=[*STAGES].index):
        stage = plugins.find("stages", name)
        command = _command(names, name, stage.summary, STAGE_EXAMPLES.get(name, ""), run=_stage)
        for parameter in options_of(name):
            _add(command, parameter, required=(stage.options or {})[parameter] is ...)
