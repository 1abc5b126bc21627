"""Errors of bad input: one line with the key, the value and what was expected."""

from __future__ import annotations

import difflib
import re
import signal
from collections.abc import Iterable

LARGEST = 2**63  # whole numbers stay below this, so that every table can hold them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


class SpecError(ValueError):
    """Bad input, told in one line: the key, the value and what would be right.

    Parameters
    ----------
    key : str
        Where the value stands, dotted, e.g. ``losses.mixup2.points``.
    value : object
        What was found there.
    expected : str
        What would be right, worded to follow "expected".
    """

    def __init__(self, key: str, value: object, expected: str):
        super().__init__(f"{_printable(str(key))} = {shown(value)}: expected {expected}")
        self.key, self.value, self.expected = key, value, expected

    def within(self, prefix: str) -> SpecError:
        """The same error, its key prefixed by the place of the spec that it speaks of."""
        return SpecError(f"{prefix}.{self.key}" if self.key else prefix, self.value, self.expected)


class DivergedError(RuntimeError):
    """A loss or logit that is not finite; the message says where."""


class Interrupted(RuntimeError):
    """A signal asked the process to stop, and its progress has been saved; `signum` says which."""

    def __init__(self, signum: int, what: str):
        super().__init__(f"stopped by {signal.Signals(signum).name}; {what}")
        self.signum = signum


def shown(value: object, most: int = 200) -> str:
    """`value` as Python writes it, cut to `most` characters: a whole table given by mistake still fits in a line."""
    try:
        text = _printable(repr(value))
    except ValueError:  # Python refuses to write a whole number of more than 4,300 digits
        text = f"a {type(value).__name__} too long to write"
    return text if len(text) <= most else f"{text[:most]}..."


def describe_error(error: BaseException) -> str:
    """Return an exception's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _printable(text: str) -> str:
    """`text` in one line: line ends and control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def require(condition: object, key: str, value: object, expected: str) -> None:
    """Raise SpecError unless `condition` is true."""
    if not condition:
        raise SpecError(key, value, expected)


def one_of(names: Iterable[str], value: object = None) -> str:
    """A wording of "one of these names", led by the nearest to `value` where one is near."""
    names = sorted(names)
    if not names:
        return "a name that is defined, and none is"
    return f"one of {', '.join(names)}{hint(names, value)}"


def hint(names: Iterable[str], value: object) -> str:
    """In parentheses, the nearest of `names` to `value`; nothing where none is near, or it is one of them."""
    names = list(names)
    # A check words its message before it knows whether it holds, and a comparison with every name takes time.
    needless = value is None or value in names
    near = [] if needless else difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check_name(key: str, value: object) -> str:
    """`value` if it can be a folder's name without leaving its parent; SpecError otherwise."""
    if not isinstance(value, str) or not NAME.fullmatch(value) or ".." in value:
        raise SpecError(
            key, value, "a name of letters, digits, '_', '-', '+' or single '.', at most 64, a letter or digit first"
        )
    return value
