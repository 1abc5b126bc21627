"""Determine which tables a figure or print table reads, and for which experiments it has something to show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from halobench.core import plugins
from halobench.core.errors import SpecError, one_of, refuse
from halobench.core.plugins import facts as plugin_facts
from halobench.storage.layout import PAGES, TABLES

DISPLAYS = ("figures", "tables")  # the kinds of plug-ins that an experiment may choose from
ALL = "all"  # in a configuration, means all in the package that have something to show
LADDER_DISPLAY = "repair"  # the figure and table of repair ladders; cells get ladders if an experiment lists either
CAPTION = "Made from the experiment's tables in ``results/tables``."  # of figures and tables without a caption
QUESTIONS = ("reach", "temperature", "mixup", "maps")  # the figures that answer the four questions, in order
IMAGES = "any images"  # in a plug-in's SHOWS, means all loaders that aren't distributions


def file_stem(name: str) -> str:
    """Return the stem of a figure's or table's files: its name with a dot in place of the colon.

    Examples
    --------
    >>> file_stem("mylab.figures:draw")
    'mylab.figures.draw'
    """
    return name.replace(":", ".")


def rule_name(kind: str, stem: str) -> str:
    """Return a rule's name without dots, since ``use rule ... as`` and ``--consider-ancient`` take none."""
    return f"{kind}_{stem.replace('.', '__')}"


def display_facts(kind: str, stem: str) -> plugin_facts.Facts:
    """Return the facts about the figure or table whose files have this stem."""
    name = ":".join(stem.rsplit(".", 1))
    try:
        return plugin_facts.facts(kind, name)
    except SpecError:  # its module is missing, for example on another machine
        return plugin_facts.Facts(name)


def caption(kind: str, stem: str) -> str:
    """Return the caption of the figure or table whose files have this stem, as reStructuredText."""
    return display_facts(kind, stem).caption or CAPTION


def captions(shown: Mapping[str, Any]) -> dict[str, str]:
    """Return captions by stem for the figures and tables whose stems `shown` lists."""
    return {stem: caption(kind, stem) for kind in DISPLAYS for stem in shown[kind]}


def tables_read(kind: str, name: str) -> list[str]:
    """Return the tables from which a figure or print table is made, which are its function's parameters."""
    plugin, results = plugins.find(kind, name), (*TABLES, "claims")
    why = f"{name} isn't a function; define one whose parameters name the tables that it reads"
    refuse(plugin.arguments is None, f"{kind}.{name}", why)
    parameters = list(plugin.arguments or ())
    for table in parameters or [""]:
        what = f"{plugin.entry} has the parameter {table!r}" if table else f"{plugin.entry} has no parameters"
        refuse(table not in results, f"{kind}.{name}", f"{what}; each must name a table: {one_of(results, table)}")
    taken = kind == "tables" and name in (*results, "aggregate", "answers", *PAGES)
    refuse(taken, kind, f"the aggregate, claims or overview stage writes a file named {name}; choose another name")
    return parameters


def has_content(kind: str, name: str, shown: Iterable[str], calibrators: Iterable[str], losses: int) -> bool:
    """Return whether a figure or table has something to show for these loaders, probes, calibrators and losses.

    A figure or table always has something to show unless its file defines ``SHOWS``, ``BEYOND`` or ``LOSSES``.
    ``SHOWS`` lists loaders or kinds of probes, at least one of which is needed. With an empty list, the figure or table
    is shown only in experiments that name it. ``BEYOND`` lists calibrators; at least one that isn't in this list is
    needed. ``LOSSES`` is the smallest number of losses that is needed.
    """
    constants = plugins.find(kind, name).constants
    shows, beyond, least = (constants.get(attribute) for attribute in ("SHOWS", "BEYOND", "LOSSES"))
    fits = (shows is None or bool(set(shows) & set(shown))) and losses >= (least or 0)
    return fits and (beyond is None or bool(set(calibrators) - set(beyond)))
