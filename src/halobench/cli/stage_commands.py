"""A command per stage, usable without the workflow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from halobench.cli.arguments import (
    Command,
    OneOf,
    option,
    path,
    read_checkpoint,
    read_count,
    read_file,
    read_seconds,
    read_seed,
    read_spec,
    required,
)

EXAMPLE_TRAIN = """example:
  halobench source --spec '{"loader": "digits"}' --out results/sources/digits
  halobench train --source results/sources/digits --seed 0 --out results/trial --spec '{
    "dataset": {"source": "digits", "train": 1000, "val": 250, "test": 450, "noise": {"p": 0.5}},
    "model": {"name": "mlp"}, "loss": {"name": "cross_entropy"}, "train": {"lr": 0.003, "epochs": 100}}'"""

EXAMPLE_CONVERT = """With --model, tensors are matched by name, or else by order and shape where only one match is
possible; renamed tensors are listed. Code in the file is never run.

examples:
  halobench weights convert checkpoint.pth mine.safetensors
  halobench weights convert lite0.pth lite0.safetensors --model timm/tf_efficientnet_lite0"""

EXAMPLE_CALIBRATE = """The file holds either val_logits (n, k), val_labels (n,), test_logits and test_labels, or just
logits and labels, which are split at random into one half for fitting and one for scoring.
Probabilities may replace logits (val_probabilities, ...). A posterior (n, k), stored as
val_posterior and test_posterior or as posterior, adds scores in expectation under it.

examples:
  halobench calibrate --logits mine.npz
  halobench calibrate --logits mine.npz --spec '{"calibrators": ["none", "exact", "vector"]}' --out results/mine"""

EXAMPLE_EXPLORER = """examples:
  halobench explorer                          all experiments in results, to results/explorer.html
  halobench explorer demo --out demo.html
  halobench explorer --tables results/partial/tables    finished cells, after `halobench run partial`"""


def _resume(args: argparse.Namespace) -> Any:
    from halobench.pipeline.stage import Resume

    return Resume(args.checkpoint, args.every, args.slots)


def _source(args: argparse.Namespace) -> None:
    from halobench.pipeline.source import run_source

    run_source(args.spec, args.out, args.code)


def _weights(args: argparse.Namespace) -> None:
    from halobench.pipeline.source import run_weights

    run_weights(args.spec, args.out, args.code)


def _convert(args: argparse.Namespace) -> None:
    from halobench.models.weight_conversion import convert

    convert(args.source, args.out, args.model, args.classes)


def _train(args: argparse.Namespace) -> None:
    from halobench.pipeline.train import run_train

    run_train(args.spec, args.source, args.seed, args.out, _resume(args), args.weights, args.code)


def _probe(args: argparse.Namespace) -> None:
    from halobench.pipeline.probe import run_probe

    run_probe(args.spec, args.source, args.seed, args.folder, _resume(args), args.code)


def _calibrate(args: argparse.Namespace) -> None:
    from halobench.core.errors import require
    from halobench.pipeline.calibrate import run_calibrate, run_calibrate_file

    if args.logits is not None:
        run_calibrate_file({} if args.spec is None else args.spec, args.seed or 0, args.logits, args.out, args.code)
        return
    for name, value in (("spec", args.spec), ("seed", args.seed)):
        require(value is not None, f"--{name}", "nothing", f"the {name} of the cell in --run")
    require(args.out is None, "--out", str(args.out), "no --out with --run, which writes to the cell's folder")
    run_calibrate(args.spec, args.seed, args.folder, args.code)


def _repair(args: argparse.Namespace) -> None:
    from halobench.pipeline.repair import run_repair

    run_repair(args.spec, args.seed, args.folder, args.code)


def _reference(args: argparse.Namespace) -> None:
    from halobench.pipeline.calibrate import run_reference

    run_reference(args.spec, args.source, args.seed, args.out, args.code)


def _aggregate(args: argparse.Namespace) -> None:
    from halobench.pipeline.aggregate import run_aggregate

    run_aggregate(args.manifest, args.results, args.out, args.code)


def _claims(args: argparse.Namespace) -> None:
    from halobench.pipeline.aggregate import run_claims

    run_claims(args.claims, args.tables, args.out, args.code)


def _figure(args: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_figure

    run_figure(*_shown(args, "figure"))


def _table(args: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_table

    run_table(*_shown(args, "table"))


def _shown(args: argparse.Namespace, kind: str) -> tuple[Any, ...]:
    """Return what a figure or table for print is made with; its path may be that of its record."""
    from halobench.core.errors import require

    spec = {kind: args.name, "note": args.note} if args.spec is None else args.spec
    require(spec.get(kind), kind, spec.get(kind), f"the name of a {kind}")
    out = args.out.with_suffix("") if args.out.suffix == ".json" else args.out
    return spec[kind], args.tables, out, spec.get("note", ""), args.code


def _explorer(args: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_explorer

    spec = {"experiments": args.experiments, "note": args.note} if args.spec is None else args.spec
    out = args.results / "explorer.html" if args.out is None else args.out
    # A run's page also shows earlier runs' experiments, since a page with only its own would replace theirs.
    run_explorer(args.results, out, spec["experiments"], args.tables, spec["note"], args.code, args.spec is not None)


def _overview(args: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_overview

    run_overview(args.spec, args.tables, args.out, args.figure, args.code)


SPEC = option("--spec", type=read_spec, metavar="JSON", help="what to do, as JSON or @FILE")
CODE = option("--code", metavar="DIGEST", help="the code version that a run requests; other code is refused")
SOURCE = required(path("--source", "a source's folder, as written by `halobench source`"))
SEED = option("--seed", type=read_seed, metavar="N", help="the cell's seed")
OUT = required(path("--out", "where to write (for a figure or table, the path without its suffix)", "PATH"))
RUN = path("--run", "a cell's folder, as written by `halobench train`", dest="folder")
MANIFEST = required(path("--manifest", "the manifest, which lists an experiment's cells", "FILE"))
RESULTS = required(path("--results", "the results folder"))
TABLES = required(path("--tables", "an experiment's tables"))
RESUMED = (
    path(
        "--checkpoint",
        "the stage's checkpoint, NAME.safetensors (default: a hidden file next to its outputs)",
        "FILE",
        type=read_checkpoint,
    ),
    option(
        "--every", type=read_seconds, default=60.0, metavar="SECONDS", help="seconds between checkpoints (default: 60)"
    ),
    option(
        "--slots-per-gpu",
        type=read_count,
        default=1,
        metavar="N",
        dest="slots",
        help="number of processes that may share a GPU (default: 1)",
    ),
)


def note(what: str) -> Any:
    """Return the argument for a note; `what` says where the note appears."""
    return option("--note", default="", metavar="TEXT", help=what)


FETCHED = (required(SPEC), CODE, OUT)

COMMANDS = (
    Command("source", "Write a source's images, labels and metadata.", _source, FETCHED, logged=True),
    Command(
        "weights",
        "Download the weights that timm publishes for a model.",
        _weights,
        FETCHED,
        logged=True,
    ),
    Command(
        "weights convert",
        "Convert weights saved elsewhere (.pth, .pt or .safetensors).",
        _convert,
        (
            path("source", "the file to read", "IN"),
            path("out", "the .safetensors file to write", "OUT"),
            option(
                "--model",
                metavar="NAME",
                help="the model whose names the tensors get, as timm/NAME or torchvision/NAME",
            ),
            option(
                "--classes",
                type=read_count,
                default=1000,
                metavar="N",
                help="number of classes of that model (default: 1000)",
            ),
        ),
        EXAMPLE_CONVERT,
    ),
    Command(
        "train",
        "Train one cell, or resume training from its checkpoint.",
        _train,
        (
            *(required(SPEC), CODE, SOURCE, required(SEED), OUT),
            option(
                "--weights",
                type=read_file,
                metavar="FILE",
                help="the weights of a model that isn't trained (default: the file given in its spec)",
            ),
            *RESUMED,
        ),
        EXAMPLE_TRAIN,
        logged=True,
    ),
    Command(
        "probe",
        "Probe a trained cell's neighbourhoods, or resume probing.",
        _probe,
        (required(SPEC), CODE, SOURCE, required(SEED), required(RUN), *RESUMED),
        logged=True,
    ),
    Command(
        "calibrate",
        "Fit and score calibrators on an .npz file or a cell's logits.",
        _calibrate,
        (
            OneOf((RUN, path("--logits", "an .npz file of logits and labels from any project", "FILE"))),
            SPEC,
            CODE,
            SEED,
            path("--out", "where to write the results of --logits"),
        ),
        EXAMPLE_CALIBRATE,
        logged=True,
    ),
    Command(
        "repair",
        "Split a cell's NLL into parts by what could repair them.",
        _repair,
        (required(SPEC), CODE, required(SEED), required(RUN)),
        logged=True,
    ),
    Command(
        "reference",
        "Score Bayes, uniform and nearest-neighbour predictors.",
        _reference,
        (required(SPEC), CODE, SOURCE, required(SEED), OUT),
        logged=True,
    ),
    Command(
        "aggregate",
        "Join the cells of a manifest into tables.",
        _aggregate,
        (MANIFEST, RESULTS, OUT, CODE),
        logged=True,
    ),
    Command(
        "claims",
        "Test the paper's claims on an experiment's tables.",
        _claims,
        (required(path("--claims", "the claims, e.g. workflow/claims.yaml", "FILE")), TABLES, OUT, CODE),
        logged=True,
    ),
    Command(
        "figure",
        "Draw one figure of an experiment, as PDF and PNG.",
        _figure,
        (
            option("name", nargs="?", help="the name of a file in halobench/reporting/figures, or module:function"),
            *(note("printed in a corner"), SPEC, TABLES, OUT, CODE),
        ),
        logged=True,
    ),
    Command(
        "table",
        "Make one table for print, as CSV, LaTeX and HTML.",
        _table,
        (
            option("name", nargs="?", help="the name of a file in halobench/reporting/tables, or module:function"),
            *(note("printed with the table"), SPEC, TABLES, OUT, CODE),
        ),
        logged=True,
    ),
    Command(
        "explorer",
        "Make a page for exploring the cells of experiments.",
        _explorer,
        (
            option(
                "experiments",
                nargs="*",
                metavar="EXPERIMENT",
                help="experiments to show (default: all that have tables)",
            ),
            path("--results", "the results folder (default: results)", default=Path("results")),
            path("--tables", "the experiments' tables (default: RESULTS/tables)"),
            path("--out", "where to write (default: RESULTS/explorer.html)", "FILE"),
            *(note("shown at the top of the page"), SPEC, CODE),
        ),
        EXAMPLE_EXPLORER,
        logged=True,
    ),
    Command(
        "overview",
        "Write pages on what was run and what came out.",
        _overview,
        (
            *(TABLES, OUT, required(SPEC)),
            option("--figure", type=read_file, metavar="FILE", help="the summary figure, as a PNG"),
            CODE,
        ),
        logged=True,
    ),
)
