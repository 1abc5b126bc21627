"""Format quantities for people to read: times, hours, bytes and counts."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Format a time, passed in seconds, in the most readable unit."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{number(seconds / 3600)} h"


def number(value: float) -> str:
    """Format a number with two significant digits, or with all digits before the decimal point if there are more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def size(amount: float) -> str:
    """Format a number of bytes in the most readable unit."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.3g} {units[0]}"


def count(many: int, what: str, plural: str = "") -> str:
    """Format a number with its noun: ``1 job``, ``2 jobs``, or with `plural` if the noun is irregular."""
    return f"{many:,} {what if many == 1 else plural or f'{what}s'}"


def within(label: str) -> str:
    """Return a label as it is written inside a sentence: without its initial capital, unless it is an acronym.

    Examples
    --------
    >>> within("Median radius"), within("NLL (nats)"), within("MNIST images")
    ('median radius', 'NLL (nats)', 'MNIST images')
    """
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]
