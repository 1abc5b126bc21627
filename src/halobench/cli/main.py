"""Parse the command line of `halobench`, and run the command."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import halobench
from halobench.core.errors import DivergedError, Interrupted, SpecError, hint

DESCRIPTION = """How far does a classifier's certainty reach, and what can calibration still repair?

A cell is one model, trained with one loss on one data set with one seed. The log of
each job in a run opens with the command that reproduces it."""


class PrintVersion(argparse.Action):
    """Print the version, looking it up only when needed."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        print(f"halobench {halobench.__version__}")
        parser.exit()


class Parser(argparse.ArgumentParser):
    """Suggests the closest command or choice if one is misspelt, as Python 3.14 does."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit with code 2."""
        if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            message += hint(re.findall(r"[\w-]+", found[2]), found[1])
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; SpecError is raised if a stage's declaration is wrong."""
    from halobench.cli import commands

    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="halobench", description=DESCRIPTION, formatter_class=form, allow_abbrev=False)
    parser.add_argument("--version", action=PrintVersion, nargs=0, default=argparse.SUPPRESS, help="print the version")
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    commands.add(parsers)
    return parser


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments; if a command takes Snakemake's arguments, ``rest`` has them."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks how to complete a command
        import argcomplete

        argcomplete.autocomplete(parser)
    args, rest = parser.parse_known_args(arguments)
    if not getattr(args, "passed_on", False):
        if rest:
            parser.error(f"unrecognized arguments: {shlex.join(rest)}")
        return args
    args.rest = rest
    return args


def _print_error(line: str) -> None:
    """Print a line to standard error, ignoring operating-system errors such as a full disk."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)


def _opening(args: argparse.Namespace, arguments: Sequence[str]) -> str:
    """Return the first line of a job's log: the command that reproduces the job.

    A job in a run finds plug-ins outside the package through PYTHONPATH, which the run sets.
    """
    from halobench.storage.request_diff import outside_plugins

    command, path = f"halobench {shlex.join(arguments)}", os.environ.get("PYTHONPATH")
    if path and outside_plugins(getattr(args, "spec", None)):
        return f"$ PYTHONPATH={shlex.quote(path)} {command}"
    return f"$ {command}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default the one in `sys.argv`, and return its exit code."""
    is_program = arguments is None
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    is_job = arguments[0] == "stage"
    if is_job and os.environ.get("HALOBENCH_WARM"):
        from halobench.runner import fork_server

        if (code := fork_server.ask(arguments)) is not None:
            return code
    if is_program and arguments[0] == "run":
        from halobench.runner import supervisor

        if (code := supervisor.supervise()) is not None:
            return code
    try:
        args = parse_arguments(arguments)
    except SpecError as error:  # in the file of a stage
        _print_error(f"halobench: error: {error}")
        return 2
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A log should show a job's progress, and lose no lines if the job dies; some encodings have no Greek
            # letters.
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    # Thread pools are sized when numpy and torch load, so this must come first. The specs' default is one thread.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from halobench.core.extras import MissingExtraError, explained

    try:
        if is_job:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # the fork server blocks it until here
            print(_opening(args, arguments), flush=True)
        with explained(" ".join(arguments[: 2 if is_job else 1])):
            code = args.run(args) or 0
        if is_program:  # a signal that comes too late would report a complete result as failed, or leave a traceback
            for number in (signal.SIGINT, *((signal.SIGTERM, signal.SIGUSR1, signal.SIGURG) if is_job else ())):
                signal.signal(number, signal.SIG_IGN)
        return code
    except BrokenPipeError:  # e.g. from `| head`, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (SpecError, OSError, MissingExtraError) as error:
        _print_error(f"halobench: error: {error}")
        return 2
    except KeyboardInterrupt:
        if is_program:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would interrupt Python's own end
        _print_error("halobench: stopped by SIGINT")
        return 130
    except SystemExit as stop:  # from a plug-in; such a stage hasn't done its work, whatever its exit code
        if hasattr(args, "rest"):  # Snakemake refused the arguments
            raise
        _print_error(f"halobench: error: ended by SystemExit({stop.code!r}), raised by a plug-in")
        return stop.code if isinstance(stop.code, int) and stop.code else 1
    except Interrupted as error:
        _print_error(f"halobench: {error}")
        return 128 + error.signum
    except DivergedError as error:
        _print_error(f"halobench: error: {error}")
        return 3


if __name__ == "__main__":
    sys.exit(main())
