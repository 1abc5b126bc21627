"""Format numbers, times, bytes and counts for human readers.

What computes numbers imports nothing from here, so that an edit redraws tables, figures and pages alone.
"""

from __future__ import annotations

import math

CHANGES_NUMBERS = True  # see `halobench.experiment.code_version`


def number(value: float | None, form: str = ".3f", missing: str = "–") -> str:
    """Format a number, by default with three decimals or, if its size is 10,000 or more, in scientific notation.

    Examples
    --------
    >>> number(-0.25), number(-0.0001), number(12345.6), number(float("inf")), number(float("nan"), missing="none")
    ('−0.250', '0.000', '1.23e+04', '∞', 'none')
    """
    if value is None or math.isnan(value):
        return missing
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if form == ".3f" and abs(value) >= 1e4:
        form = ".2e"
    return format(value, form if form.endswith("d") else f"z{form}").replace("-", "−")


def duration(seconds: float) -> str:
    """Format a number of seconds as seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.{0 if seconds >= 360_000 else 1}f} h"


def size(amount: float) -> str:
    """Format a number of bytes, in units from bytes to TiB."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while round(amount) >= 1000 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.3g} {units[0]}"


def interval(low: float, high: float, form: str = ".3f") -> str:
    """Format the ends of an interval as ``[low, high]``."""
    return f"[{number(low, form)}, {number(high, form)}]"


def count(many: int, what: str, plural: str = "") -> str:
    """Format a number with its noun, as in ``1 job`` and ``2 jobs``; pass `plural` if the plural is irregular."""
    return f"{many:,} {what if many == 1 else plural or f'{what}s'}"


def within(label: str) -> str:
    """Format a label for use within a sentence: lower its initial capital, unless the first word has other capitals.

    Examples
    --------
    >>> within("Median radius"), within("NLL (nats)"), within("ResNet")
    ('median radius', 'NLL (nats)', 'ResNet')
    """
    first = label.split(" ")[0][1:]
    return label if first != first.lower() else label[:1].lower() + label[1:]
