"""Define the parameters that stages' functions may have: as options of `halobench stage`, and what rules give them."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from halobench.core import plugins
from halobench.core.errors import refuse
from halobench.storage.layout import Stage


class RuleJob(NamedTuple):
    """A job as Snakemake knows it."""

    inputs: Any  # the `RuleInputs` of its workflow
    stage: Stage
    name: str  # of the figure or table
    wildcards: Any
    input: Any
    output: Any
    resources: Any

    @property
    def folder(self) -> str:
        return os.path.dirname(self.output.record)

    @property
    def tables(self) -> str:
        scope, experiment = self.wildcards.get("scope", ""), self.wildcards.get("experiment", "")
        return os.path.normpath(f"{self.inputs.results}/{scope}tables/{experiment}")


@dataclass(frozen=True)
class Option:
    """An option of `halobench stage`, which sets a parameter of the stages' functions."""

    value: Callable[[RuleJob], Any]  # what a rule gives it
    settings: Mapping[str, Any]  # the keyword arguments of `ArgumentParser.add_argument`
    name: str = ""  # if it differs from the parameter's


def read_json(text: str) -> Any:
    """Return the value of JSON text, or of the JSON in the file named after an @."""
    try:
        return json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"expected JSON, or @FILE, where FILE contains JSON ({error})") from None


def at_least(least: int, kind: type, what: str) -> Callable[[str], Any]:
    """Return a function that parses a number of type `kind`; the number must be finite and at least `least`."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = -math.inf
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"expected {what} of at least {least}, not {text!r}")
        return value

    return read


def _read_file(text: str) -> Path | None:
    """Return a path, or None for the empty string, which the workflow passes if there is no file."""
    return Path(text) if text else None


def folder(text: str, **settings: Any) -> dict[str, Any]:
    """Return the settings of an option whose value is a folder."""
    return {"type": Path, "metavar": "FOLDER", "help": text} | settings


def file(text: str, **settings: Any) -> dict[str, Any]:
    """Return the settings of an option whose value is a file."""
    return {"type": Path, "metavar": "FILE", "help": text} | settings


def number(least: int, kind: type, what: str, text: str, metavar: str = "N", **settings: Any) -> dict[str, Any]:
    """Return the settings of an option whose value is a number."""
    return {"type": at_least(least, kind, what), "metavar": metavar, "help": text} | settings


OPTIONS: Mapping[str, Option] = {  # by the name of the parameter
    "spec": Option(
        lambda job: job.inputs.spec(job.stage.name, job.name)(job.wildcards),
        {"type": read_json, "metavar": "JSON", "help": "what to do, as JSON or @FILE"},
    ),
    "code": Option(
        lambda job: job.inputs.code(job.stage.name, job.name)(job.wildcards),
        {"metavar": "DIGEST", "help": "the code version that a run requests; other code is refused"},
    ),
    "seed": Option(lambda job: job.wildcards.seed, number(0, int, "a whole number", "the cell's seed")),
    "source": Option(
        lambda job: os.path.dirname(job.input.source), folder("a source's folder, as written by the stage `source`")
    ),
    "folder": Option(lambda job: job.folder, folder("a cell's folder, as written by the stage `train`"), name="run"),
    "out": Option(
        lambda job: job.output.record if job.stage.each else job.folder, folder("where to write", metavar="PATH")
    ),
    "weights": Option(
        lambda job: job.input.weights or "",
        file("the weights of a model that isn't trained (default: as in its spec)", type=_read_file),
    ),
    "manifest": Option(lambda job: job.input.manifest, file("the manifest, which lists an experiment's cells")),
    "results": Option(lambda job: job.inputs.results, folder("the results folder")),
    "claims": Option(lambda job: job.input.claims, file("the claims, e.g. workflow/claims.yaml")),
    "tables": Option(lambda job: job.tables, folder("an experiment's tables")),
    "every": Option(
        lambda job: job.resources.get("checkpoint_seconds", 60),
        number(0, float, "a number of seconds", "seconds between checkpoints (default: 60)", "SECONDS", default=60.0),
    ),
    "slots": Option(
        lambda job: job.resources.get("slots_per_gpu", 1),
        number(1, int, "a whole number", "processes that may share a GPU (default: 1)", default=1),
        name="slots-per-gpu",
    ),
}


def options_of(stage: str) -> dict[str, Option]:
    """Return the options of a stage, by the parameters of its function; SpecError is raised for an unknown parameter.

    Parameters with a default are optional.
    """
    plugin = plugins.find("stages", stage)
    unknown = [each for each in plugin.options or () if each not in OPTIONS]
    what = f"has the parameters {', '.join(unknown)}, which no rule knows; use some of {', '.join(OPTIONS)}"
    refuse(unknown, f"run in {plugin.path.name}", what)
    return {each: OPTIONS[each] for each in plugin.options or ()}


def flag(parameter: str) -> str:
    """Return the option that sets a parameter, such as ``--run``."""
    return f"--{OPTIONS[parameter].name or parameter}"
