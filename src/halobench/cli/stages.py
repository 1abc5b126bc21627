"""Define the command `stage`, which runs one stage; a stage's options are the parameters of its function."""

from __future__ import annotations

import argparse
from typing import Any

from halobench.cli import options
from halobench.core import plugins
from halobench.runner.stage_options import options_of
from halobench.storage.layout import STAGES

EXAMPLES = {
    "train": """example:
  halobench stage source --spec '{"loader": "digits"}' --out trial/digits
  halobench stage train --source trial/digits --seed 0 --out trial/cell --spec '{
    "dataset": {"source": "digits", "train": 1000, "val": 250, "test": 450, "noise": {"p": 0.5}},
    "model": {"name": "mlp"}, "loss": {"name": "cross_entropy"}, "train": {"lr": 0.003, "epochs": 100}}'"""
}


def add(commands: Any) -> None:
    """Add the command to the parsers of all commands."""
    summary = "Run one stage without the workflow, as the first line of a job's log does."
    parser = commands.add_parser("stage", help="run one stage", description=summary)
    names = parser.add_subparsers(dest="stage", required=True, metavar="STAGE", title="stages")
    for name in sorted(plugins.names("stages"), key=[*STAGES].index):
        stage = plugins.find("stages", name)
        command = options.command(names, name, stage.summary, EXAMPLES.get(name, ""), run=_run)
        for parameter in options_of(name):
            options.add(command, parameter, required=(stage.options or {})[parameter] is ...)


def _run(args: argparse.Namespace) -> None:
    """Run a stage with its parsed options."""
    arguments = {key: value for key, value in vars(args).items() if key not in ("command", "stage", "run")}
    plugins.load("stages", args.stage)(**arguments)
