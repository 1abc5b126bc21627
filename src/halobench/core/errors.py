"""Define errors for bad input, whose messages state the key, the value and what was expected, or are a sentence.

The module also has functions that build parts of such messages: `shown` for values, `one_of` and `hint` for names, and
`describe_error` for exceptions raised by other code.
"""

from __future__ import annotations

import contextlib
import copyreg
import difflib
import re
import signal
from collections.abc import Iterable, Iterator
from typing import Any

LARGEST = 2**63  # whole numbers must be below this, so that every table can store them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


class Found(str):
    """A description of bad input, such as its shape, which messages state instead of the value."""


class SpecError(ValueError):
    """Bad input, reported on one line with the key, the value and what was expected.

    The line is "KEY = VALUE: expected EXPECTED" or, if the value is a description (`Found`), "KEY: found DESCRIPTION,
    expected EXPECTED".

    Parameters
    ----------
    key : str
        The location of the value as a dotted path, e.g. ``losses.mixup2.points``.
    value : object
        The value found there, or its description.
    expected : str
        A valid input in words, phrased to follow "expected".
    """

    def __init__(self, key: str, value: object, expected: str):
        found = f": found {value}, expected" if isinstance(value, Found) else f" = {shown(value)}: expected"
        super().__init__(_printable(f"{key}{found} {expected}"))
        self.key, self.value, self.expected = key, value, expected

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the error pass from a worker process to its parent."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    @property
    def sentence(self) -> str:
        """Return the message without the key, or the whole message if it begins with "KEY = VALUE"."""
        return str(self).removeprefix(f"{_printable(self.key)}: ")

    def at(self, key: str, more: str = "") -> SpecError:
        """Return a copy of the error with another key and with `more`, e.g. a remedy, at its end."""
        return SpecError(key, self.value, self.expected + more)

    def within(self, prefix: str) -> SpecError:
        """Return a copy of the error with `prefix`, the location of the spec that raised it, prepended to its key."""
        return self.at(f"{prefix}.{self.key}" if self.key else prefix)


class RefusedError(SpecError):
    """Bad input for which no single value is at fault, reported as a sentence that says what happened and what to do.

    The sentence has no full stop and follows the location `key`, which is "" if the whole input is at fault.
    """

    def __init__(self, key: str, sentence: str):
        ValueError.__init__(self, _printable(f"{key}: {sentence}" if key else sentence))
        self.key, self.value, self.expected = key, None, sentence

    def at(self, key: str, more: str = "") -> RefusedError:
        """Return a copy of the error with another key and with `more` at its end."""
        return RefusedError(key, self.expected + more)


class DivergedError(RuntimeError):
    """Raised if a loss or logit isn't finite; the message says where."""


class Interrupted(RuntimeError):
    """Raised once progress has been saved because a signal (`signum`) asked the process to stop."""

    def __init__(self, signum: int, what: str):
        super().__init__(f"stopped by {signal.Signals(signum).name}; {what}")
        self.signum = signum


@contextlib.contextmanager
def naming(prefix: str) -> Iterator[None]:
    """Prepend `prefix` to the keys of SpecErrors raised in this context, as `SpecError.within` does."""
    try:
        yield
    except SpecError as error:
        raise error.within(prefix) from None


def shown(value: object, most: int = 200) -> str:
    """Format `value` as Python prints it, on one line that is cut after `most` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers with more than 4,300 digits
        text = f"<{type(value).__name__} too long to print>"
    line = _printable(text[: most + 1])
    return line if len(line) <= most else f"{line[:most]}..."


def describe_error(error: BaseException) -> str:
    """Return an exception's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _printable(text: str) -> str:
    """Return `text` on one line, with line breaks and control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def require(condition: object, key: str, value: object, expected: str) -> None:
    """Raise SpecError unless `condition` is true."""
    if not condition:
        raise SpecError(key, value, expected)


def refuse(condition: object, key: str, sentence: str) -> None:
    """Raise RefusedError if `condition` is true."""
    if condition:
        raise RefusedError(key, sentence)


def one_of(names: Iterable[str], value: object = None) -> str:
    """Return "one of" and the sorted names, with a hint if one is close to `value`; if there are no names, say so."""
    names = sorted(names)
    if not names:
        return "a defined name, but none are defined"
    return f"one of {', '.join(names)}{hint(names, value)}"


def hint(names: Iterable[str], value: object) -> str:
    """Suggest the closest of `names`, in parentheses; return "" if none is close or `value` is among them."""
    names = list(names)
    # Messages are built before it is known whether a check passes, and comparing with every name takes time.
    needless = value is None or value in names
    near = [] if needless else difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check_name(key: str, value: object) -> str:
    """Return `value` if it matches `NAME` and has no "..", so a folder can have this name; else, raise SpecError."""
    if not isinstance(value, str) or not NAME.fullmatch(value) or ".." in value:
        raise SpecError(
            key,
            value,
            "a name of up to 64 letters, digits, '_', '-', '+' or single '.', starting with a letter or digit",
        )
    return value
