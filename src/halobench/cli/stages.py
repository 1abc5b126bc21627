"""The command `stage`, which runs one stage, and the table of stages with their options."""

from __future__ import annotations

import argparse
import functools
import importlib
from collections.abc import Callable, Mapping
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
    """A stage: one line of help, its function, which gets the options by name, and the names of its options."""

    summary: str
    run: Callable[..., None]
    options: str
    examples: str = ""


def _function(place: str) -> Callable[..., None]:
    """Return a function of the wing `pipeline`, MODULE:FUNCTION, that is imported when it is called."""
    module, _, name = place.partition(":")

    def run(**arguments: Any) -> None:
        getattr(importlib.import_module(f"halobench.pipeline.{module}"), name)(**arguments)

    return run


def _displayed(kind: str, spec: Any, tables: Path, out: Path, code: str | None) -> None:
    """Make a figure or a table for print, to files named `out` with their suffixes, or next to the record `out`."""
    from halobench.core.errors import require

    is_spec = isinstance(spec, Mapping) and isinstance(spec.get(kind), str)
    require(is_spec, "spec", spec, f"a mapping with the name of a {kind} under {kind!r}")
    stem = out.with_suffix("") if out.suffix == ".json" else out
    _function(f"report:run_{kind}")(name=spec[kind], tables=tables, out=stem, note=spec.get("note", ""), code=code)


def _explorer(spec: Any, tables: Path, out: Path, code: str | None) -> None:
    """Make the explorer, also of other experiments that have tables, since a page without them would replace theirs."""
    shown = {"experiments": (), **spec}
    _function("report:run_explorer")(results=tables.parent, out=out, spec=shown, tables=tables, code=code, others=True)


WITHIN_CELL, RESUMED = "spec code seed run", "every slots-per-gpu"
STAGES = {
    "source": Stage("Write a source's images, labels and metadata.", _function("source:run_source"), "spec code out"),
    "weights": Stage("Download the weights of a timm model.", _function("source:run_weights"), "spec code out"),
    "train": Stage(
        "Train one cell, or resume training from its checkpoint.",
        _function("train:run_train"),
        f"spec code source seed out weights {RESUMED}",
        EXAMPLE_TRAIN,
    ),
    "probe": Stage(
        "Probe a trained cell's neighbourhoods, or resume probing.",
        _function("probe:run_probe"),
        f"source {WITHIN_CELL} {RESUMED}",
    ),
    "calibrate": Stage(
        "Fit and score calibrators on a cell's logits.", _function("calibrate:run_calibrate"), WITHIN_CELL
    ),
    "repair": Stage("Split a cell's NLL by what could repair it.", _function("repair:run_repair"), WITHIN_CELL),
    "reference": Stage(
        "Score Bayes, uniform and nearest-neighbour predictors.",
        _function("calibrate:run_reference"),
        "spec code source seed out",
    ),
    "aggregate": Stage(
        "Join the cells of a manifest into tables.", _function("aggregate:run_aggregate"), "manifest results out code"
    ),
    "claims": Stage(
        "Test claims on an experiment's tables.",
        _function("aggregate:run_claims"),
        "claims tables out code",
    ),
    "table": Stage(
        "Make a table for print: CSV, LaTeX, HTML.", functools.partial(_displayed, "table"), "spec tables out code"
    ),
    "figure": Stage("Draw a figure: PDF, SVG, PNG.", functools.partial(_displayed, "figure"), "spec tables out code"),
    "overview": Stage("Write the pages of an experiment.", _function("report:run_overview"), "spec tables out code"),
    "explorer": Stage("Make the explorer of cells, and the entrance to all pages.", _explorer, "spec tables out code"),
}


def add(commands: Any) -> None:
    """Add the command to the parsers of all commands."""
    summary = "Run one stage without the workflow, as the first line of a job's log does."
    parser = commands.add_parser("stage", help="run one stage", description=summary)
    names = parser.add_subparsers(dest="stage", required=True, metavar="STAGE", title="stages")
    form = argparse.RawDescriptionHelpFormatter
    for name, stage in STAGES.items():
        each = names.add_parser(
            name,
            help=stage.summary,
            description=stage.summary,
            epilog=stage.examples,
            formatter_class=form,
            allow_abbrev=False,
        )
        for option in stage.options.split():
            options.add(each, option)
        each.set_defaults(run=functools.partial(_run, stage))


def _run(stage: Stage, args: argparse.Namespace) -> None:
    """Run a stage with its parsed options."""
    arguments = {key: value for key, value in vars(args).items() if key not in ("command", "stage", "run")}
    stage.run(**arguments)
