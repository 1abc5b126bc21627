"""Render pages from the templates in `templates/`, and define the parts that make up their tables.

A page contains its style, script and data, and needs no network. Templates escape all data except text that is marked
as safe. Without scripts, a page shows all rows of its tables in the initial order.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from halobench.analysis.names import THEMES
from halobench.core import formatting
from halobench.core.formatting import number
from halobench.reporting import labels, styles
from halobench.storage import files

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Column:
    """A column: its heading, whether it holds numbers, an explanation of the heading, and the format of numbers.

    A column with `more` is hidden until it is requested.
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
    """A row: its keys for filters, and a number, text or `Entry` for each column; the first is the row's heading.

    `folded` has the entries of the rows that are folded below this row, which summarises them.
    """

    keys: Mapping[str, str]
    entries: tuple[Any, ...]
    folded: tuple[tuple[Any, ...], ...] = ()


# The filters for rows: the heading, the function that labels a name, and the order of names.
FILTERS: dict[str, tuple[str, Callable[[str], str], Iterable[str]]] = {
    "dataset": ("Data set", labels.dataset_label, labels.DATASETS),
    "model": ("Model", labels.model_label, labels.MODELS),
    "loss": ("Loss", labels.loss_label, styles.KNOWN_LOSSES),
    "theme": ("Theme", lambda name: THEMES[name].label, THEMES),
    "fit": ("Calibration", labels.calibrator_label, labels.CALIBRATORS),
    "calibrator": ("Calibration", labels.calibrator_label, labels.CALIBRATORS),
    "verdict": ("Verdict", lambda name: labels.VERDICTS[name], labels.VERDICTS),
}


def choices(items: Iterable[Mapping[str, str]]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return the menus by which items with these keys can be filtered: key, heading, and options as value and label.

    Menus with a single option are omitted.
    """
    values: dict[str, set[str]] = {}
    for kind, value in itertools.chain.from_iterable(keys.items() for keys in items):
        values.setdefault(kind, set()).add(value)
    return [
        (kind, heading, [(name, label(name)) for name in labels.ordered(values[kind], order)])
        for kind, (heading, label, order) in FILTERS.items()
        if len(values.get(kind, ())) > 1
    ]


# The pages of the site, as listed in their headers.
SITE = {"index": "Start", "overview": "Overview", "claims": "Claims", "leaderboard": "Leaderboard"}
SITE |= {"explorer": "Explorer", "figures": "Figures", "tables": "Tables", "cite": "Cite"}


def site_address(page: str, experiment: str, folder: str = "", top: str = "../../", **choices: str) -> str:
    """Return the address of a page of `SITE`; the explorer's address includes the `choices` in its menus.

    `folder` leads to the experiment's pages, and `top` to the pages that all experiments share.
    """
    if page == "index":
        return f"{top}index.html#{experiment}"
    if page == "explorer":
        return f"{top}explorer.html#{urlencode({'experiment': experiment} | choices)}"
    return f"{folder}overview.html#cite" if page == "cite" else f"{folder}{page}.html"


# Filters of the templates ---------------------------------------------------------------------------------------------


def entry(value: Any, form: str = ".3f") -> Entry:
    """Convert a number or text to an `Entry`; return an `Entry` unchanged."""
    if isinstance(value, Entry):
        return value
    return Entry(value, value) if isinstance(value, str) else Entry(number(value, form), value)


def sort_key(value: float | str | None) -> str:
    """Return the key by which the script sorts: a number in JavaScript's notation, a text, or "" for NaN and None."""
    if value is None or isinstance(value, str):
        return value or ""
    if math.isfinite(value):
        return str(value)
    return "" if math.isnan(value) else f"{value:f}".replace("inf", "Infinity")


def inline(name: str) -> Markup:
    """Return a style or script from `templates/`, to be inserted unchanged into a page."""
    return raw((TEMPLATES / name).read_text("utf-8"))


def raw(text: str) -> Markup:
    """Return a style or script of the package marked as safe to print, with closing script tags escaped."""
    return Markup(text.replace("</script", "<\\/script"))


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
    environment.filters |= {"count": formatting.count, "duration": formatting.duration, "number": number}
    environment.filters |= {"entry": entry, "sort_key": sort_key}
    environment.filters |= {"capitalize_first": lambda text: text[:1].upper() + text[1:]}
    environment.globals |= {"inline": inline, "SITE": SITE, "site_address": site_address}
    environment.globals |= {"verdicts": styles.VERDICT_STYLES}
    return environment


def render(template: str, **data: Any) -> str:
    """Return the page that a file in ``templates/`` yields with the variables in `data`."""
    return _environment().get_template(template).render(data)


def write(path: Path, text: str) -> None:
    """Write a page in ASCII, with other characters as references; the file is written completely or not at all."""
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="ascii", errors="xmlcharrefreplace", newline="\n")
