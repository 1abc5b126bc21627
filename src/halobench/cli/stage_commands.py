"""A command per stage, usable without the workflow."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
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


def _request(args: argparse.Namespace, spec: Any = None) -> tuple[Any, Mapping[str, str] | None]:
    """Return the spec and the code version of a request, or `spec` and None if there is no request."""
    from halobench.storage.requests import read_request

    if args.request is None:
        return spec, None
    request = read_request(args.request, args.command)
    return request.spec, request.code


def _resume(args: argparse.Namespace) -> Any:
    from halobench.pipeline.stage import Resume

    return Resume(args.checkpoint, args.every, args.slots)


def _source(args: argparse.Namespace) -> None:
    from halobench.pipeline.source import run_source

    spec, code = _request(args, args.spec)
    run_source(spec, args.out, code)


def _weights(args: argparse.Namespace) -> None:
    from halobench.pipeline.source import run_weights

    spec, code = _request(args, args.spec)
    run_weights(spec, args.out, code)


def _convert(args: argparse.Namespace) -> None:
    from halobench.models.weight_conversion import convert

    convert(args.source, args.out, args.model, args.classes)


def _train(args: argparse.Namespace) -> None:
    from halobench.pipeline.train import run_train

    spec, code = _request(args, args.spec)
    run_train(spec, args.source, args.seed, args.out, _resume(args), args.weights, code)


def _probe(args: argparse.Namespace) -> None:
    from halobench.pipeline.probe import run_probe

    spec, code = _request(args, args.spec)
    run_probe(spec, args.source, args.seed, args.folder, _resume(args), code)


def _calibrate(args: argparse.Namespace) -> None:
    from halobench.core.errors import require
    from halobench.pipeline.calibrate import run_calibrate, run_calibrate_file

    spec, code = _request(args, args.spec)
    if args.logits is not None:
        run_calibrate_file({} if spec is None else spec, args.seed or 0, args.logits, args.out, code)
        return
    for name, value in (("spec", spec), ("seed", args.seed)):
        require(value is not None, f"--{name}", "nothing", f"the {name} of the cell in --run")
    require(args.out is None, "--out", str(args.out), "no --out with --run, which writes to the cell's folder")
    run_calibrate(spec, args.seed, args.folder, code)


def _repair(args: argparse.Namespace) -> None:
    from halobench.pipeline.repair import run_repair

    spec, code = _request(args, args.spec)
    run_repair(spec, args.seed, args.folder, code)


def _reference(args: argparse.Namespace) -> None:
    from halobench.pipeline.calibrate import run_reference

    spec, code = _request(args, args.spec)
    run_reference(spec, args.source, args.seed, args.out, code)


def _manifest(args: argparse.Namespace) -> None:
    from halobench.pipeline.aggregate import run_manifest

    run_manifest(_request(args, args.spec)[0], args.results, args.out, args.missing)


def _aggregate(args: argparse.Namespace) -> None:
    from halobench.pipeline.aggregate import run_aggregate

    run_aggregate(args.manifest, args.results, args.out, _request(args)[1])


def _claims(args: argparse.Namespace) -> None:
    from halobench.pipeline.aggregate import run_claims

    run_claims(args.claims, args.tables, args.out, _request(args)[1])


def _figure(args: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_figure

    spec, code = _request(args, {"note": args.note})
    run_figure(args.name, args.tables, args.out, spec["note"], code)


def _table(args: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_table

    spec, code = _request(args, {"note": args.note})
    run_table(args.name, args.tables, args.out, spec["note"], code)


def _explorer(args: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_explorer

    out = args.results / "explorer.html" if args.out is None else args.out
    spec, code = _request(args, {"experiments": args.experiments, "note": args.note})
    # A run's page also shows earlier runs' experiments, since a page with only its own would replace theirs.
    run_explorer(args.results, out, spec["experiments"], args.tables, spec["note"], code, args.request is not None)


def _overview(args: argparse.Namespace) -> None:
    from halobench.pipeline.report import run_overview

    spec, code = _request(args, {"config": args.spec, "note": args.note})
    run_overview(spec, args.tables, args.out, args.figure, args.captions, code)


SPEC = option("--spec", type=read_spec, metavar="JSON", help="what to do, as JSON or @FILE")
REQUEST = path("--request", "a file with the spec and code version, as written by a run", "FILE")
SOURCE = required(path("--source", "a source's folder, as written by `halobench source`"))
SEED = option("--seed", type=read_seed, metavar="N", help="the cell's seed")
OUT = required(path("--out", "where to write (for a figure or table, the path without its suffix)", "PATH"))
RUN = path("--run", "a cell's folder, as written by `halobench train`", dest="folder")
MANIFEST = required(path("--manifest", "the manifest, which lists an experiment's cells", "FILE"))
RESULTS = required(path("--results", "the results folder"))
TABLES = required(path("--tables", "an experiment's tables"))
ASKED = OneOf((SPEC, REQUEST))
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


COMMANDS = (
    Command("source", "Write a source's images, labels and metadata.", _source, (ASKED, OUT), logged=True),
    Command("weights", "Download the weights that timm publishes for a model.", _weights, (ASKED, OUT), logged=True),
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
            *(ASKED, SOURCE, required(SEED), OUT),
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
        (ASKED, SOURCE, required(SEED), required(RUN), *RESUMED),
        logged=True,
    ),
    Command(
        "calibrate",
        "Fit and score calibrators on an .npz file or a cell's logits.",
        _calibrate,
        (
            OneOf((RUN, path("--logits", "an .npz file of logits and labels from any project", "FILE"))),
            OneOf((SPEC, REQUEST), required=False),
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
        (ASKED, required(SEED), required(RUN)),
        logged=True,
    ),
    Command(
        "reference",
        "Score Bayes, uniform and nearest-neighbour predictors.",
        _reference,
        (ASKED, SOURCE, required(SEED), OUT),
        logged=True,
    ),
    Command(
        "manifest",
        "List the files of an experiment's cells with their checksums.",
        _manifest,
        (path("--missing", "where to write a table of what is missing", "FILE"), ASKED, RESULTS, OUT),
        logged=True,
    ),
    Command(
        "aggregate",
        "Join the cells of a manifest into tables.",
        _aggregate,
        (MANIFEST, RESULTS, OUT, REQUEST),
        logged=True,
    ),
    Command(
        "claims",
        "Test the paper's claims on an experiment's tables.",
        _claims,
        (required(path("--claims", "the claims, e.g. workflow/claims.yaml", "FILE")), TABLES, OUT, REQUEST),
        logged=True,
    ),
    Command(
        "figure",
        "Draw one figure of an experiment, as PDF and PNG.",
        _figure,
        (
            option("name", help="the name of a file in halobench/reporting/figures, or module:function"),
            *(note("printed in a corner"), TABLES, OUT, REQUEST),
        ),
        logged=True,
    ),
    Command(
        "table",
        "Make one table for print, as CSV, LaTeX and HTML.",
        _table,
        (
            option("name", help="the name of a file in halobench/reporting/tables, or module:function"),
            *(note("printed with the table"), TABLES, OUT, REQUEST),
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
            *(note("shown at the top of the page"), REQUEST),
        ),
        EXAMPLE_EXPLORER,
        logged=True,
    ),
    Command(
        "overview",
        "Write pages on what was run and what came out.",
        _overview,
        (
            *(TABLES, OUT),
            option(
                "--spec", type=read_spec, default={}, metavar="JSON", help="the experiment's configuration, to be shown"
            ),
            option("--figure", type=read_file, metavar="FILE", help="the summary figure, as a PNG"),
            path("--captions", "files of captions, named after figures and tables", "FILE", nargs="*", default=()),
            *(note("printed on each page"), REQUEST),
        ),
        logged=True,
    ),
)
