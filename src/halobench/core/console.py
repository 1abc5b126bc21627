"""Provide the console that commands print to: rich text in a terminal, plain text in a file."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console

from halobench.core.errors import shown

PLAIN_WIDTH = 250  # columns if the output isn't a terminal, so that no line wraps


class Output(Console):
    """A console that raises BrokenPipeError if a pipe is closed (as by ``| head``), so that commands exit quietly."""

    def on_broken_pipe(self) -> None:
        raise  # otherwise, rich would print a traceback and exit


def console() -> Console:
    """Return a console on standard output.

    Lines in files and pipes have up to $COLUMNS characters or, if that isn't set, up to `PLAIN_WIDTH`.
    """
    terminal = Output(highlight=False, emoji=False, markup=False)
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() else PLAIN_WIDTH
    return terminal if terminal.is_terminal else Output(width=width, highlight=False, emoji=False, markup=False)


def value_text(value: Any) -> str:
    """Format a spec's value for users, with a dash for None and without quotes around strings."""
    return "–" if value is None else value if isinstance(value, str) else shown(value)
