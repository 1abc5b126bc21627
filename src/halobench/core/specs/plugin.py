"""Define the form of a list of plug-ins, and the spec of a plug-in, in which keys that aren't fields are options."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import model_validator

from halobench.core.errors import check_name, naming, require
from halobench.core.plugins import Plugin, check_known, find, names
from halobench.core.plugins.kinds import kinds
from halobench.core.specs.codec import parse, read_exponent, spec

S = TypeVar("S", bound="PluginSpec")
_recorded = ContextVar("recorded", default=False)


def suggested(kind: str, *others: str) -> Any:
    """Return a function that adds built-in names and the names of a kind's plug-ins to a key's schema as examples."""
    return lambda schema: schema.update(examples=[*others, *names(kind)])


@spec
class PluginSpec:
    """A plug-in and its `options`: all keys that aren't fields, plus those under the key ``options``.

    The plug-in must exist and have these options; options that equal their defaults are left out.
    """

    KIND: ClassVar[str]

    @property
    def plugin(self) -> Plugin:
        """Return the plug-in, as its file describes it."""
        return find(self.KIND, getattr(self, kinds()[self.KIND].key))

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, keys: Any) -> Any:
        """Return the keys with all options moved under ``options``."""
        if not isinstance(keys, dict):
            return keys
        fields = {field.name for field in dataclasses.fields(cls)}
        options, others = keys.get("options", {}), {str(key): keys[key] for key in keys if key not in fields}
        gathered = options | others if isinstance(options, dict) else options  # rejected later if it isn't a mapping
        return {key: value for key, value in keys.items() if key in fields} | {"options": gathered}

    def __post_init__(self):
        options = {key: _plain_option(key, value) for key, value in vars(self)["options"].items()}
        outside = ":" in getattr(self, kinds()[self.KIND].key)
        kept = options if outside and _recorded.get() else self.plugin.without_defaults(options)
        object.__setattr__(self, "options", kept)


@contextlib.contextmanager
def as_recorded() -> Iterator[None]:
    """Leave options of plug-ins outside the package as they are, since results may have come from another machine."""
    token = _recorded.set(True)
    try:
        yield
    finally:
        _recorded.reset(token)


def _plain_option(key: str, value: Any) -> Any:
    """Return a plug-in's option if JSON can represent it (no dates, no infinities); raise SpecError otherwise."""
    if isinstance(value, dict):
        return {str(inner): _plain_option(f"{key}.{inner}", v) for inner, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_option(f"{key}[{i}]", v) for i, v in enumerate(value)]
    value = read_exponent(value)
    plain = value is None or isinstance(value, str | bool | int | float)
    require(plain, key, value, "a number, a string, true, false, null, or a list or mapping of these")
    require(not isinstance(value, float) or math.isfinite(value), key, value, "a finite number")
    return value


class Entries(Generic[S]):
    """The form of a list of plug-ins, whose entries are names or {NAME: {name: PLUG-IN, OPTION: VALUE}}.

    Parameters
    ----------
    spec : type
        The spec of one plug-in, with the key ``name``.
    reserved : collection of str
        Names that no entry may give to a plug-in with options.
    computed : bool
        Whether the package's plug-ins are always used, so that only other plug-ins may be listed by their names.
    """

    def __init__(self, spec: type[S], reserved: Collection[str], computed: bool = False):
        self.spec, self.reserved, self.computed = spec, reserved, computed

    def read(self, entry: Any) -> Any:
        """Return an entry as a name or as {NAME: spec}; raise SpecError if it is neither."""
        kind, form = kinds()[self.spec.KIND], "NAME: {name: PLUG-IN, OPTION: VALUE}"
        if isinstance(entry, str):
            check_known(kind.name, "", entry, kind.built_in)
            self.by_name([entry])
            why = f"since {kind.name} of the package are always computed"
            require(":" in entry or not self.computed, "", entry, f"module:object or {form}, {why}")
            return entry
        require(isinstance(entry, dict) and len(entry) == 1, "", entry, f"a name, or {form}")
        ((name, keys),) = entry.items()
        taken = check_name("", name) in self.reserved
        require(not taken, "", name, "a different name, since this one is built in")
        with naming(name):
            plug_in = keys if isinstance(keys, self.spec) else parse(self.spec, keys)
        # Otherwise, figures and claims would mistake it for the plug-in of that name.
        taken = name in names(kind.name) and (self.computed or name != plug_in.plugin.name)
        require(not taken, "", name, "a different name, since another plug-in has this one")
        return {name: plug_in}

    def by_name(self, entries: Iterable[Any]) -> dict[str, S]:
        """Return the plug-ins in a list by their names in tables, without names that are built in."""
        built_in = kinds()[self.spec.KIND].built_in
        found: dict[str, S] = {}
        for entry in entries:
            if not isinstance(entry, str):
                found |= entry
            elif entry not in built_in:
                found[entry] = parse(self.spec, {"name": entry})
        return found
