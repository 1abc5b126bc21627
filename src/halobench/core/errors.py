"""Errors of bad input: one line with the key, the value and what was expected.

Also the words that such lines are made of: `shown` for values, `one_of` and `hint` for names, `describe_error` for
exceptions of others.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import signal
from collections.abc import Iterable, Iterator

LARGEST = 2**63  # whole numbers stay below this, so that every table can hold them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


class SpecError(ValueError):
    """Bad input, in one line: the key, the value and what would be right.

    Parameters
    ----------
    key : str
        The place of the value, dotted, e.g. ``losses.mixup2.points``.
    value : object
        The value that stands there.
    expected : str
        What would be right, worded to follow "expected".
    """

    def __init__(self, key: str, value: object, expected: str):
        super().__init__(f"{_printable(str(key))} = {shown(value)}: expected {expected}")
        self.key, self.value, self.expected = key, value, expected

    def within(self, prefix: str) -> SpecError:
        """Return the same error with its key below `prefix`, the place of the spec in which it was raised."""
        return SpecError(f"{prefix}.{self.key}" if self.key else prefix, self.value, self.expected)


class DivergedError(RuntimeError):
    """A loss or logit that is not finite; the message says where."""


class Interrupted(RuntimeError):
    """A signal asked the process to stop, and its progress has been saved; `signum` says which."""

    def __init__(self, signum: int, what: str):
        super().__init__(f"stopped by {signal.Signals(signum).name}; {what}")
        self.signum = signum


@contextlib.contextmanager
def naming(prefix: str) -> Iterator[None]:
    """Put errors that are raised in this context below `prefix`, as `SpecError.within` does."""
    try:
        yield
    except SpecError as error:
        raise error.within(prefix) from None


def shown(value: object, most: int = 200) -> str:
    """Return `value` as Python writes it, in one line of at most `most` characters, so that even a table fits."""
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
    """Return `text` in one line, with line ends and control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def require(condition: object, key: str, value: object, expected: str) -> None:
    """Raise SpecError unless `condition` is true."""
    if not condition:
        raise SpecError(key, value, expected)


def one_of(names: Iterable[str], value: object = None) -> str:
    """Return "one of" and the sorted names, followed by a hint at the one that is near to `value`, if any is."""
    names = sorted(names)
    if not names:
        return "a name that is defined, and none is"
    return f"one of {', '.join(names)}{hint(names, value)}"


def hint(names: Iterable[str], value: object) -> str:
    """Return a suggestion in parentheses: the nearest of `names`; empty if none is near, or `value` is one of them."""
    names = list(names)
    # A check words its message before it knows whether it holds, and a comparison with every name takes time.
    needless = value is None or value in names
    near = [] if needless else difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check_name(key: str, value: object) -> str:
    """Return `value` if it can be the name of a folder; raise SpecError otherwise."""
    if not isinstance(value, str) or not NAME.fullmatch(value) or ".." in value:
        raise SpecError(
            key, value, "a name of letters, digits, '_', '-', '+' or single '.', at most 64, a letter or digit first"
        )
    return value
