"""Read the facts about plug-ins from constants at the top of their files, without importing them.

Everything that shows a plug-in (figures, pages, tables, documentation) takes its title, colour, order and source from
these constants, so a new plug-in changes none of the code that shows it. A plug-in without such constants is shown by
its name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.plugins.kinds import kinds

LAST = 1000  # the order of plug-ins that don't define it


@dataclass(frozen=True)
class Facts:
    """The facts that a plug-in states about itself."""

    title: str
    short: str = ""
    about: str = ""  # a phrase that describes it
    source: str = ""  # its source, as Markdown
    order: int = LAST  # its position in legends and lists
    style: tuple[Any, ...] = ()  # its colour, marker and optional dashes
    unit: str = ""
    lower_is_better: bool | None = None  # of metrics; None if the file doesn't say
    range: tuple[float | None, float | None] = (None, None)  # of metrics
    architecture: str = ""  # of models: MLP, convolutional, attention, or another word
    family: str = ""  # of losses; a claim can compare with all losses that have no family
    category: str = ""  # the report's heading for a figure or table
    caption: str = ""  # how to read it
    options: Mapping[str, Any] = field(default_factory=dict)  # of a variant
    variants: Mapping[str, Facts] = field(default_factory=dict)  # names for the plug-in with certain options

    @property
    def label(self) -> str:
        """Return the short title or, if there is none, the title."""
        return self.short or self.title

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the smallest and the largest value of a metric, infinite if the file states none."""
        low, high = self.range
        return -math.inf if low is None else low, math.inf if high is None else high


def facts(kind: str, name: str) -> Facts:
    """Return the facts about a plug-in; if it doesn't state a title, the title is made from its name."""
    built_in = kinds()[kind].built_in
    if name in built_in:
        return _shown(name, built_in[name])
    constants = plugins.find(kind, name).constants
    plain = last_part(name)
    if kind in ("figures", "tables"):
        plain = plain[:1].upper() + plain[1:].replace("_", " ")
    own = _shown(plain, constants, LAST)
    variants = {variant: _shown(variant, more, own.order) for variant, more in constants.get("VARIANTS", {}).items()}
    return replace(own, variants=variants)


def _shown(name: str, constants: Mapping[str, Any], order: int = 0) -> Facts:
    """Return the facts in a plug-in's constants; `name` is the default title, and `order` the default order."""
    fields = {each.name for each in dataclasses.fields(Facts)} - {"variants"}
    said: dict[str, Any] = {"title": name, "order": order}
    return Facts(**said | {key.lower(): value for key, value in constants.items() if key.lower() in fields})


def title(kind: str, name: str) -> str:
    """Return a plug-in's title, or the `last_part` of the name if no readable plug-in has it."""
    try:
        return facts(kind, name).title
    except SpecError:
        return last_part(name)


def of_metric(name: str) -> Facts:
    """Return the facts about a metric; if its file can't be found or read, the facts contain only its name."""
    try:
        return facts("metrics", name)
    except SpecError:
        return Facts(name)


def last_part(name: str) -> str:
    """Return the part of ``module:object`` or ``library/NAME`` that names the plug-in itself."""
    return re.split("[:/]", name)[-1]


def named(kind: str) -> dict[str, Facts]:
    """Return the facts of the package's plug-ins of a kind, and of their variants, by name and in order.

    A plug-in with invalid constants is shown by its name; the error is reported where it is used.
    """
    declared = kinds()[kind]
    listed: dict[str, Facts] = {}
    for name in (*declared.built_in, *plugins.names(kind)):
        try:
            listed[name] = facts(kind, name)
        except SpecError:
            listed[name] = Facts(name)
        listed |= listed[name].variants
    for library in declared.libraries:
        if not library.modules:  # any name will do
            listed |= facts(kind, f"{library.name}/").variants
    return dict(sorted(listed.items(), key=lambda item: item[1].order))


def owners(kind: str) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return, for each plug-in's and variant's name, the plug-in's name and the options that the name stands for."""
    owned: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name in plugins.names(kind):
        owned[name] = name, {}
        with contextlib.suppress(SpecError):  # reported where it is used
            owned |= {variant: (name, said.options) for variant, said in facts(kind, name).variants.items()}
    return owned


def stem(name: str, known: Container[str]) -> str:
    """Return the longest known beginning of a name, up to a hyphen or its end, or else the name itself."""
    beginning = name
    while beginning not in known and "-" in beginning:
        beginning = beginning.rpartition("-")[0]
    return beginning if beginning in known else name


def shown_text() -> str:
    """Return a text that changes whenever a title that figures and pages show changes.

    A new plug-in without constants is shown by its name, so it doesn't change the text.
    """
    kinds = ("losses", "models", "data", "calibrators", "metrics", "probes", "searches")
    return repr([(kind, {name: each for name, each in named(kind).items() if each != Facts(name)}) for kind in kinds])
