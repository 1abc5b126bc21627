"""Define the options of stages and of other commands, and parse their values."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from halobench.storage.layout import OPTION_OF


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


def read_file(text: str) -> Path | None:
    """Return a path, or None for the empty string, which the workflow passes if there is no file."""
    return Path(text) if text else None


def folder(text: str, **options: Any) -> dict[str, Any]:
    """Return the settings of an option whose value is a folder."""
    return {"type": Path, "metavar": "FOLDER", "help": text} | options


def file(text: str, **options: Any) -> dict[str, Any]:
    """Return the settings of an option whose value is a file."""
    return {"type": Path, "metavar": "FILE", "help": text} | options


whole, seconds = at_least(0, int, "a whole number"), at_least(0, float, "a number of seconds")
count = at_least(1, int, "a whole number")
# The keyword arguments of `ArgumentParser.add_argument` for each option, by the parameter that it sets.
OPTIONS: dict[str, dict[str, Any]] = {
    "spec": {"type": read_json, "metavar": "JSON", "help": "what to do, as JSON or @FILE"},
    "code": {"metavar": "DIGEST", "help": "the code version that a run requests; other code is refused"},
    "seed": {"type": whole, "metavar": "N", "help": "the cell's seed"},
    "source": folder("a source's folder, as written by the stage `source`"),
    "folder": folder("a cell's folder, as written by the stage `train`"),
    "out": folder("where to write", metavar="PATH"),
    "weights": file("the weights of a model that isn't trained (default: as in its spec)", type=read_file),
    "manifest": file("the manifest, which lists an experiment's cells"),
    "results": folder("the results folder"),
    "claims": file("the claims, e.g. workflow/claims.yaml"),
    "tables": folder("an experiment's tables"),
    "every": {
        "type": seconds,
        "default": 60.0,
        "metavar": "SECONDS",
        "help": "seconds between checkpoints (default: 60)",
    },
    "slots": {
        "type": count,
        "default": 1,
        "metavar": "N",
        "help": "processes that may share a GPU (default: 1)",
    },
}


def add(parser: argparse.ArgumentParser, name: str, **options: Any) -> None:
    """Add an option to a parser, with settings that may differ from those in `OPTIONS`."""
    settings: dict[str, Any] = {"required": True, "dest": name} | OPTIONS[name] | options
    parser.add_argument(f"--{OPTION_OF.get(name, name)}", **settings)


def command(commands: Any, name: str, summary: str, epilog: str = "", **defaults: Any) -> argparse.ArgumentParser:
    """Add a command to the parsers `commands`, and return its parser; its epilog keeps line breaks."""
    form = argparse.RawDescriptionHelpFormatter
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, epilog=epilog, formatter_class=form, allow_abbrev=False
    )
    parser.set_defaults(**defaults)
    return parser
