"""Define the spec of a plug-in, in which any key that isn't a field is an option, and entries in lists of plug-ins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container
from typing import Any, TypeVar

from pydantic import model_validator

from halobench.core.errors import check_name, naming, require
from halobench.core.plugins import names
from halobench.core.specs.codec import parse, read_exponent, spec

S = TypeVar("S", bound="PluginSpec")


def suggested(kind: str, *others: str) -> Any:
    """Return a function that adds built-in names and the names of a kind's plug-ins to a key's schema as examples."""
    return lambda schema: schema.update(examples=[*others, *names(kind)])


@spec
class PluginSpec:
    """A plug-in and its `options`: all keys that aren't fields, plus those under the key ``options``."""

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
        object.__setattr__(self, "options", options)


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


def named_entry(cls: type[S], entry: Any, form: str, taken: Container[str], why: str) -> tuple[str, S]:
    """Return the name and spec of an entry {NAME: keys} in a list; raise SpecError, saying `why`, for `taken` names."""
    require(isinstance(entry, dict) and len(entry) == 1, "", entry, form)
    ((name, keys),) = entry.items()
    require(check_name("", name) not in taken, "", name, f"a different name, since this one is {why}")
    with naming(name):
        return name, keys if isinstance(keys, cls) else parse(cls, keys)
