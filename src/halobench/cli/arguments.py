"""Define commands as data: which arguments each takes, and how these are parsed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Argument:
    """An argument of a command: its flag or name, and its options for `argparse.ArgumentParser.add_argument`."""

    flag: str
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class OneOf:
    """Mutually exclusive arguments: a command takes exactly one if `required`, and otherwise at most one."""

    arguments: tuple[Argument, ...]
    required: bool = True


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes
    ----------
    name : str
    summary : str
        One line of help.
    run : callable
        Called with the parsed arguments; returns an exit code, or None for 0.
    arguments : tuple of Argument or OneOf
    examples : str
        Printed below the command's help.
    logged : bool
        Whether the output is a job's log, which starts with the command itself.
    passed_on : bool
        Whether arguments that the command doesn't define are passed on to Snakemake, as ``rest``.
    """

    name: str
    summary: str
    run: Callable[[argparse.Namespace], int | None]
    arguments: tuple[Argument | OneOf, ...] = ()
    examples: str = ""
    logged: bool = False
    passed_on: bool = False

    @property
    def flags(self) -> set[str]:
        """The command's own flags, including those for help."""
        return {"-h", "--help", *(each.flag for each in self.arguments if isinstance(each, Argument))}

    def add_to(self, commands: Any) -> None:
        """Add the command's parser to `commands`, which holds the parsers of all commands."""
        form = argparse.RawDescriptionHelpFormatter
        parser = commands.add_parser(self.name, description=self.summary, epilog=self.examples, formatter_class=form)
        parser.set_defaults(run=self.run)
        for argument in self.arguments:
            if isinstance(argument, Argument):
                parser.add_argument(argument.flag, **argument.options)
                continue
            group = parser.add_mutually_exclusive_group(required=argument.required)
            for member in argument.arguments:
                group.add_argument(member.flag, **member.options)
        if self.passed_on:
            usage = parser.format_usage().removeprefix("usage: ").strip()
            parser.usage = f"{usage} [SNAKEMAKE'S ARGUMENTS ...]"


def option(flag: str, **options: Any) -> Argument:
    """Return an argument with this flag and these options."""
    return Argument(flag, options)


def path(flag: str, what: str, metavar: str = "FOLDER", **options: Any) -> Argument:
    """Return an argument that is a path."""
    return Argument(flag, {"type": Path, "metavar": metavar, "help": what, **options})


def required(argument: Argument) -> Argument:
    """Return a mandatory copy of the argument."""
    return Argument(argument.flag, {**argument.options, "required": True})


def read_spec(text: str) -> Any:
    """Parse JSON from the command line, or from the file given after an @."""
    try:
        return json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"expected JSON, or @FILE, where FILE contains JSON ({error})") from None


def read_file(text: str) -> Path | None:
    """Return a path, or None for an empty string, which the workflow passes if there is no file."""
    return Path(text) if text else None


def read_seconds(text: str) -> float:
    """Parse a time in seconds, which must be at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, at least 0, not {text!r}")
    return value


def read_count(text: str) -> int:
    """Parse a whole number, which must be at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def read_checkpoint(text: str) -> Path:
    """Return the path of a checkpoint after checking its suffix, since the stage will delete the file."""
    if not text.endswith(".safetensors"):
        raise argparse.ArgumentTypeError(f"expected a file whose name ends in .safetensors, not {text!r}")
    return Path(text)


def read_seed(text: str) -> int:
    """Parse a seed, which must be a whole number and at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, not {text!r}")
    return int(text)
