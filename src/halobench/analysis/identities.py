"""Find what the names of models and losses stand for: plug-ins with options, which define their titles and styles.

A configuration may name a loss as it likes (``poly: {name: poly1}``). The table of runs keeps the plug-in and its
options as recorded when a cell was trained; titles and styles are read from the plug-in's file when figures are drawn.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.plugins.facts import facts, named, owners, stem
from halobench.core.specs.codec import to_json

COLUMNS = {"model": "model_plugin", "loss": "loss_plugin"}  # of `runs`: with a name, and with what it stands for
KIND_OF = {"model": "models", "loss": "losses"}  # of plug-ins, by the column


@dataclass(frozen=True)
class Identity:
    """The plug-in and options that a name in a configuration stands for, and the title and style to show."""

    kind: str  # "losses" or "models"
    key: str  # the name
    plugin: str
    options: Mapping[str, Any]  # without defaults
    title: str
    style: tuple[Any, ...] = ()  # its colour, marker and optional dashes, if the plug-in's file states them


def plugin_text(part: Mapping[str, Any]) -> str:
    """Return a model's or loss's plug-in and options as JSON, from its part of a spec.

    Examples
    --------
    >>> plugin_text({"name": "mixup", "options": {"points": 2}})
    '{"name":"mixup","points":2}'
    """
    return to_json({"name": part["name"], **part.get("options", {})})


def identity(kind: str, key: str, plugin: str, options: Mapping[str, Any]) -> Identity:
    """Return the identity of a name, with the title and style of the plug-in or of its variant with these options.

    If no variant has the options, the title lists them. A plug-in that states no title, such as a model of timm, goes
    by the name itself, and so does one whose file is missing.
    """
    try:
        said, found = facts(kind, plugin), plugins.find(kind, plugin)
    except SpecError:  # its module is missing, for example on another machine
        return Identity(kind, key, plugin, options, key)
    options = found.without_defaults(options)
    # A variant without options is a title for its name alone, whatever else the plug-in is called.
    variants = {to_json(found.without_defaults(one.options)): one for one in said.variants.values() if one.options}
    if variant := variants.get(to_json(options)):
        return Identity(kind, key, plugin, options, variant.title, variant.style)
    if "TITLE" not in found.constants:
        return Identity(kind, key, plugin, options, key)
    if not options:
        return Identity(kind, key, plugin, options, said.title, said.style)
    words = ", ".join(f"{name} = {value}" for name, value in options.items())
    return Identity(kind, key, plugin, options, f"{said.title} ({words})")


def identities(runs: pd.DataFrame) -> dict[str, dict[str, Identity]]:
    """Return the identities of the models and losses in a table of runs, by kind and name.

    If several names stand for the same plug-in and options, their titles end with the names. There are no entries for
    names with several meanings, as in runs of several configurations, or for runs without columns of plug-ins.
    """
    found: dict[str, dict[str, Identity]] = {}
    for column, stands_for in COLUMNS.items():
        kind = KIND_OF[column]
        known = runs[[column, stands_for]].dropna().drop_duplicates() if stands_for in runs else runs.iloc[:0]
        once = known.drop_duplicates(column, keep=False) if len(known) else known
        made = [_read(kind, key, text) for key, text in zip(once[column], once.get(stands_for, ()), strict=True)]
        titles = Counter(each.title for each in made)
        found[kind] = {
            each.key: each if titles[each.title] == 1 else replace(each, title=f"{each.title} ({each.key})", style=())
            for each in made
        }
    return found


@functools.cache
def _owners() -> Mapping[str, str]:
    """Return, for each name of a model in the package, the plug-in that it names; "" for a library's model."""
    owned = {name: plugin for name, (plugin, _) in owners("models").items()}
    return dict.fromkeys(named("models"), "") | owned


def agrees(known: str, plugin: str | None) -> bool:
    """Return whether a model that the package knows as `known` can be `plugin`; None stands for an unknown plug-in.

    Examples
    --------
    >>> agrees("mlp", "mlp"), agrees("mlp", "timm/resnet50"), agrees("resnet", "timm/resnet50")
    (True, False, True)
    """
    owner = _owners().get(known)
    if owner is None or plugin is None:
        return True
    return plugin == owner if owner else "/" in plugin


def architectures(runs: pd.DataFrame) -> dict[str, str]:
    """Return the architecture of each model in a table of runs, e.g. MLP, or "" if its plug-in doesn't state any."""
    known, own = named("models"), {key: each.plugin for key, each in identities(runs)["models"].items()}

    def architecture(model: str) -> str:
        plugin, beginning = own.get(model), stem(model, known)
        name = plugin if plugin in known else beginning if agrees(beginning, plugin) else ""
        return known[name].architecture if name in known else ""

    return {model: architecture(model) for model in runs["model"].unique()}


def _read(kind: str, key: str, text: str) -> Identity:
    options = json.loads(text)
    return identity(kind, key, options.pop("name"), options)
