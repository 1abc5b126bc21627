"""Collect the problems of a configuration, so that all of them are reported together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from halobench.core.errors import SpecError


class Problems:
    """A line for each problem, in the order in which they came up.

    Attributes
    ----------
    lines : list of str
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, key: str, value: object, expected: str) -> None:
        """Note that `value` stands at `key`, where something else is expected."""
        self.lines.append(str(SpecError(key, value, expected)))

    def guard(self, place: str, build: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `build` returns; if it raises SpecError, note that and return None.

        The keys of its errors are relative to `place`, a dotted path; empty for the top of the configuration.
        """
        try:
            return build(*arguments)
        except SpecError as error:
            self.lines.append(str(error.within(place) if place else error))
            return None
