"""Define the command `stage`, which runs one stage, and the table of stages with their options."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.cli import options

EXAMPLE_TRAIN = """example:
  halobench stage source --spec '{"loader": "digits"}' --out trial/digits
  halobench stage train --source trial/digits --seed 0 --out trial/cell --spec '{
    "dataset": {"source": "digits", "train": 1000, "val": 250, "test": 450, "noise": {"p": 0.5}},
    "model": {"name": "mlp"}, "loss": {"name": "cross_entropy"}, "train": {"lr": 0.003, "epochs": 100}}'"""


@dataclass(frozen=True)
class Stage:
    """A stage: its line of help, its MODULE:FUNCTION in the wing `pipeline`, and the options of that function."""

    summary: str
    function: str
    options: str
    examples: str = ""


WITHIN_CELL, RESUMED, DISPLAYED = "spec code seed run", "every slots-per-gpu", "spec tables out code"
STAGES = {
    "source": Stage("Write a source's images, labels and metadata.", "source:run_source", "spec code out"),
    "weights": Stage("Download the weights of a timm model.", "source:run_weights", "spec code out"),
    "train": Stage(
        "Train one cell, or resume training from its checkpoint.",
        "train:run_train",
        f"spec code source seed out weights {RESUMED}",
        EXAMPLE_TRAIN,
    ),
    "probe": Stage(
        "Probe a trained cell's neighbourhoods, or resume probing.",
        "probe:run_probe",
        f"source {WITHIN_CELL} {RESUMED}",
    ),
    "calibrate": Stage("Fit and score calibrators on a cell's logits.", "calibrate:run_calibrate", WITHIN_CELL),
    "repair": Stage("Split a cell's NLL by what could repair it.", "repair:run_repair", WITHIN_CELL),
    "reference": Stage(
        "Score Bayes, uniform and nearest-neighbour predictors.",
        "calibrate:run_reference",
        "spec code source seed out",
    ),
    "aggregate": Stage(
        "Join the cells of a manifest into tables.", "aggregate:run_aggregate", "manifest results out code"
    ),
    "claims": Stage("Test claims on an experiment's tables.", "aggregate:run_claims", "claims tables out code"),
    "table": Stage("Make a table for print: CSV, LaTeX, HTML.", "report:run_table", DISPLAYED),
    "figure": Stage("Draw a figure: PDF, SVG, PNG.", "report:run_figure", DISPLAYED),
    "overview": Stage("Write the pages of an experiment.", "report:run_overview", DISPLAYED),
    "explorer": Stage("Make the explorer of cells, and the entrance to all pages.", "report:run_explorer", DISPLAYED),
}


def add(commands: Any) -> None:
    """Add the command to the parsers of all commands."""
    summary = "Run one stage without the workflow, as the first line of a job's log does."
    parser = commands.add_parser("stage", help="run one stage", description=summary)
    names = parser.add_subparsers(dest="stage", required=True, metavar="STAGE", title="stages")
    for name, stage in STAGES.items():
        each = options.command(names, name, stage.summary, stage.examples, run=_run)
        for option in stage.options.split():
            options.add(each, option)


def _run(args: argparse.Namespace) -> None:
    """Run a stage with its parsed options."""
    arguments = {key: value for key, value in vars(args).items() if key not in ("command", "stage", "run")}
    if args.stage in ("table", "figure"):
        arguments = _displayed(args.stage, **arguments)
    if args.stage == "explorer":  # otherwise, the page would lose other experiments
        arguments |= {"results": args.tables.parent, "spec": {"experiments": (), **args.spec}, "others": True}
    module, _, function = STAGES[args.stage].function.partition(":")
    getattr(importlib.import_module(f"halobench.pipeline.{module}"), function)(**arguments)


def _displayed(kind: str, spec: Any, tables: Path, out: Path, code: str | None) -> dict[str, Any]:
    """Return the arguments of a figure's or table's stage; files are `out` with suffixes, or next to a record `out`."""
    from halobench.core.errors import require

    is_spec = isinstance(spec, Mapping) and isinstance(spec.get(kind), str)
    require(is_spec, "spec", spec, f"a mapping with the name of a {kind} under {kind!r}")
    stem = out.with_suffix("") if out.suffix == ".json" else out
    return {"name": spec[kind], "tables": tables, "out": stem, "note": spec.get("note", ""), "code": code}
