"""Where commands print: a rich console that is plain when its output is a file."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from halobench.core.errors import shown

PLAIN_WIDTH = 250  # columns where the output is no terminal, whose lines are cut nowhere


class Output(Console):
    """A console that lets who reads only a part of it end the command in peace."""

    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError, of which the command line makes nothing


def console() -> Console:
    """Where text goes; a file or pipe gets lines of at least `PLAIN_WIDTH` columns."""
    found = Output(highlight=False, emoji=False, markup=False)
    return found if found.is_terminal else Output(width=PLAIN_WIDTH, highlight=False, emoji=False, markup=False)


def value_text(value: Any) -> str:
    """Return a spec's value as shown to the user: a dash for None, strings without quotes."""
    return "–" if value is None else value if isinstance(value, str) else shown(value)
