"""The command line: a command for each stage, commands for runs, and commands for inspecting results."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import halobench
from halobench.cli import inspect_commands, run_commands, stage_commands
from halobench.core.errors import hint

USAGE = "halobench [--version] COMMAND ...\n       halobench COMMAND --help"
DESCRIPTION = """How far does a classifier's certainty reach, and what can calibration still repair?

A cell is one model, trained with one loss on one data set from one seed. Each
stage of the workflow is a command. A job's log opens with the command that
reproduces it."""

COMMANDS = {
    command.name: command for command in (*run_commands.COMMANDS, *inspect_commands.COMMANDS, *stage_commands.COMMANDS)
}
# The groups of commands in the help; commands in no group are for other programs.
GROUPS = {
    "Run": ("run", "status"),
    "Look at results": ("show", "compare", "explorer", "logs", "verify"),
    "Your own logits and weights": ("calibrate", "weights convert"),
    "Stages, run without the workflow": ("source", "weights", "train", "probe", "repair", "reference"),
    "Stages that present results": ("aggregate", "claims", "table", "figure", "overview"),
}


class PrintVersion(argparse.Action):
    """Print the version, looking it up only when needed."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        print(f"halobench {halobench.__version__}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="halobench", usage=USAGE, description=f"{DESCRIPTION}\n\n{command_list()}", formatter_class=form
    )
    parser.add_argument("--version", action=PrintVersion, nargs=0, help="print the version")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog="halobench", help=argparse.SUPPRESS
    )
    for command in COMMANDS.values():
        command.add_to(commands)
    return parser


def command_list() -> str:
    """Return the commands in groups, one per line."""
    blocks = [
        "\n".join([f"{heading}:", *(f"  {name:<16} {COMMANDS[name].summary}" for name in names)])
        for heading, names in GROUPS.items()
    ]
    return "\n\n".join(blocks)


def joined(arguments: Sequence[str]) -> list[str]:
    """Join the two words of a command such as ``weights convert`` into one argument."""
    words = " ".join(arguments[:2])
    return [words, *arguments[2:]] if words in COMMANDS and len(arguments) > 1 else list(arguments)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse arguments, putting those that a command passes on to Snakemake in ``rest``."""
    arguments = joined(arguments)
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None and arguments and not arguments[0].startswith("-"):
        shown = [name for names in GROUPS.values() for name in names]
        what = f"no such command: {arguments[0]!r}{hint(shown, arguments[0])}; `halobench --help` lists all commands"
        build_parser().exit(2, f"halobench: error: {what}\n")
    if command is None or not command.passed_on:
        return build_parser().parse_args(arguments)
    ours, rest, left = [arguments[0]], [], list(arguments[1:])
    while left:
        argument = left.pop(0)
        if argument.partition("=")[0] not in command.flags:
            rest.append(argument)
            continue
        ours.append(argument)
        if argument in ("--orphans", "--results") and left:
            ours.append(left.pop(0))
    args = build_parser().parse_args(ours)
    args.rest = rest
    return args


def _print_error(line: str) -> None:
    """Print to standard error, ignoring failures such as a log on a full disk."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)


def _opening(args: argparse.Namespace, arguments: Sequence[str]) -> str:
    """Return the first line of a job's log, which is the command that reproduces the job.

    A job in a run finds plug-ins outside the package through PYTHONPATH, which the run sets.
    """
    from halobench.storage.requests import outside_plugins

    command, path = f"halobench {shlex.join(arguments)}", os.environ.get("PYTHONPATH")
    if path and outside_plugins(getattr(args, "spec", None)):
        return f"$ PYTHONPATH={shlex.quote(path)} {command}"
    return f"$ {command}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; bad input results in one line on standard error and exit code 2."""
    arguments = joined(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    stage = COMMANDS[arguments[0]].logged if arguments and arguments[0] in COMMANDS else False
    if stage and os.environ.get("HALOBENCH_WARM"):
        from halobench.runner import fork_server

        if (code := fork_server.ask(arguments)) is not None:
            return code
    args = parse_arguments(arguments)
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # a log should show how far a job is, and lose no lines if the job dies
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # some encodings have no Greek
    # Thread pools are sized when numpy and torch load, so this must come first. One thread is the specs' default.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from halobench.core.errors import SpecError

    try:
        if COMMANDS[args.command].logged:
            print(_opening(args, arguments), flush=True)
        return args.run(args) or 0
    except argparse.ArgumentTypeError as error:
        _print_error(f"halobench: error: standard input: {error}")
        return 2
    except BrokenPipeError:  # e.g. from `| head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (SpecError, OSError) as error:
        _print_error(f"halobench: error: {error}")
        return 2
    except KeyboardInterrupt:
        _print_error("halobench: stopped by SIGINT")
        return 130
    except SystemExit as stop:  # from a plug-in; a stage that ends this way hasn't done its work, whatever its code
        if COMMANDS[args.command].passed_on:  # Snakemake refused the arguments
            raise
        _print_error(f"halobench: error: ended by SystemExit({stop.code!r}), raised by a plug-in")
        return stop.code if isinstance(stop.code, int) and stop.code else 1
    except RuntimeError as error:
        # Checked by name, since both are defined next to code that imports torch, which most commands don't need.
        if type(error).__name__ == "Interrupted":
            _print_error(f"halobench: {error}")
            return 128 + vars(error)["signum"]
        if type(error).__name__ != "DivergedError":
            raise
        _print_error(f"halobench: error: {error}")
        return 3


if __name__ == "__main__":
    sys.exit(main())
