"""Render pages from the templates in `templates/`, and define the parts that make up their tables.

A page is one file that contains its style, script and data and needs no network. Python passes plain data to templates,
and jinja2 escapes whatever it prints. Without scripts, a page shows every row in the initial order.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from halobench.core import formatting
from halobench.core.formatting import number
from halobench.reporting import labels, styles
from halobench.storage import files

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Column:
    """A column: its heading, whether it holds numbers, what its heading means, and the format of its numbers.

    A column with `more` set is hidden until it is requested.
    """

    heading: str
    number: bool = False
    means: str = ""
    form: str = ".3f"
    more: bool = False


@dataclass(frozen=True)
class Entry:
    """A table cell that isn't just a number or text."""

    text: str
    key: float | str | None = None  # the sort key; None comes last
    style: str = ""  # CSS classes for the text
    below: str = ""  # a second line in smaller type
    links: tuple[tuple[str, str], ...] = ()  # shown after the text, each as its text and address


@dataclass(frozen=True)
class Line:
    """A row: its keys for filters, and a number, text or `Entry` for each column, the first of which heads the row.

    `folded` has the entries of the rows folded below this one, which summarises them.
    """

    keys: Mapping[str, str]
    entries: tuple[Any, ...]
    folded: tuple[tuple[Any, ...], ...] = ()


@dataclass(frozen=True)
class Choice:
    """A menu: the key it filters by, its label, and its options, each with a value and a text."""

    key: str
    label: str
    options: tuple[tuple[str, str], ...]


KINDS = {
    "dataset": ("Data set", labels.dataset_label, labels.DATASETS),
    "model": ("Model", labels.model_label, labels.MODELS),
    "loss": ("Loss", labels.loss_label, styles.KNOWN_LOSSES),
}


def choices(items: Iterable[Mapping[str, str]]) -> list[Choice]:
    """Return data set, model and loss menus for items with these keys, skipping menus with a single option."""
    listed = list(items)
    selects = []
    for kind, (label, label_of, order) in KINDS.items():
        names = labels.ordered((keys[kind] for keys in listed if kind in keys), order)
        if len(names) > 1:
            selects.append(Choice(kind, label, tuple((name, label_of(name)) for name in names)))
    return selects


# The pages of the site, as their headers list them.
SITE = {"index": "Start", "overview": "Overview", "claims": "Claims", "leaderboard": "Leaderboard"}
SITE |= {"explorer": "Explorer", "figures": "Figures", "tables": "Tables", "cite": "Cite"}


def site_address(page: str, experiment: str, folder: str = "", top: str = "../../", **choices: str) -> str:
    """Return the address of a page of `SITE`; the explorer's includes `choices` of what it shows.

    `folder` and `top` lead to the experiment's pages and to the pages that all experiments share.
    """
    if page == "index":
        return f"{top}index.html#{experiment}"
    if page == "explorer":
        return f"{top}explorer.html#{urlencode({'experiment': experiment} | choices)}"
    return f"{folder}overview.html#cite" if page == "cite" else f"{folder}{page}.html"


def named(keys: Mapping[str, str]) -> list[str]:
    """Return the names of a data set, model and loss in words."""
    return [label(keys[kind]) for kind, (_, label, _) in KINDS.items()]


# Filters of the templates ---------------------------------------------------------------------------------------------


def entry(value: Any, form: str = ".3f") -> Entry:
    """Convert a number or text to an entry, and return an entry unchanged."""
    if isinstance(value, Entry):
        return value
    return Entry(value, value) if isinstance(value, str) else Entry(number(value, form), value)


def sort_key(value: float | str | None) -> str:
    """Return the sort key for the script: a number in full in JavaScript's notation, or nothing for NaN and None."""
    if value is None or isinstance(value, str):
        return value or ""
    if math.isfinite(value):
        return str(value)
    return "" if math.isnan(value) else f"{value:f}".replace("inf", "Infinity")


def duration(seconds: float) -> str:
    """Return seconds in the most readable unit, or a bare 0 for no time.

    Examples
    --------
    >>> duration(0), duration(9.87), duration(100), duration(3000), duration(86400)
    ('0', '9.9 s', '100 s', '50 min', '24.0 h')
    """
    return formatting.duration(seconds) if seconds else "0"


def inline(name: str) -> Markup:
    """Return a style or script from `templates/`, to be inserted into a page unchanged."""
    return raw((TEMPLATES / name).read_text("utf-8"))


def raw(text: str) -> Markup:
    """Mark a style or script of the package as safe to print, after making sure it can't close its own element."""
    return Markup(text.replace("</script", "<\\/script"))


def verdict_colors() -> Markup:
    """Return the style that gives verdicts the same colours as in figures, lightened on a dark background."""
    return raw(
        "\n".join(
            f".word.{name} {{ color: light-dark({style.color}, color-mix(in srgb, {style.color} 50%, white)); }}"
            f" .verdict.{name} {{ border-left-color: {style.color}; }}"
            for name, style in styles.VERDICT_STYLES.items()
        )
    )


# Pages ----------------------------------------------------------------------------------------------------------------


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": formatting.count, "duration": duration, "entry": entry, "number": number}
    environment.filters |= {"sort_key": sort_key, "capitalize_first": lambda text: text[:1].upper() + text[1:]}
    environment.globals |= {"inline": inline, "verdict_colors": verdict_colors, "SITE": SITE}
    environment.globals |= {"site_address": site_address}
    return environment


def render(template: str, **data: Any) -> str:
    """Return the page rendered from a file in ``templates/`` with its variables."""
    return _environment().get_template(template).render(data)


def write(path: Path, text: str) -> None:
    """Write a page, completely or not at all, in ASCII, which reads the same in any encoding and inside other pages."""
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="ascii", errors="xmlcharrefreplace", newline="\n")
