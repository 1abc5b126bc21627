"""Read specs from plain data, with a check of keys and types, and write them in canonical form."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from halobench.core.errors import LARGEST, SpecError, hint, require


def parse(cls: type, mapping: Mapping[str, Any]) -> Any:
    """Build the spec `cls` from a mapping, with a check of keys and types; integers are taken for floats.

    A field named ``options`` takes every key that is not a field's name (and a key ``options`` itself).

    Raises
    ------
    SpecError
        On an unknown key, a missing one, or a value of another type or out of its range.
    """
    if not isinstance(mapping, Mapping):
        raise SpecError("", mapping, f"a mapping with the keys {', '.join(f.name for f in dataclasses.fields(cls))}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    options = _options(mapping) if "options" in fields else {}
    for key, value in mapping.items():
        if key == "options" and "options" in fields:
            continue
        if key not in fields:
            if "options" not in fields:
                raise SpecError(str(key), value, f"a key among {', '.join(fields)}{hint(fields, key)}")
            options[str(key)] = value
            continue
        values[key] = _convert(hints[key], key, value)
    if "options" in fields:
        values["options"] = {key: _plain_option(key, value) for key, value in options.items()}
    for name, f in fields.items():
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise SpecError(name, None, "a value: it has no default")
    return cls(**values)


def _options(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping under the key ``options``; raise SpecError if something else is there."""
    options = mapping.get("options", {})
    require(isinstance(options, Mapping), "options", options, "a mapping of keys")
    return {str(key): value for key, value in options.items()}


def _plain_option(key: str, value: Any) -> Any:
    """Return a plug-in's option if JSON can hold it (no dates, no infinities); raise SpecError otherwise."""
    if isinstance(value, Mapping):
        return {str(inner): _plain_option(f"{key}.{inner}", v) for inner, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_option(f"{key}[{i}]", v) for i, v in enumerate(value)]
    plain = value is None or isinstance(value, str | bool | int | float)
    require(plain, key, value, "a number, a string, true, false, null, or a list or mapping of such")
    require(not isinstance(value, float) or math.isfinite(value), key, value, "a finite number")
    return value


def _convert(hint: Any, key: str, value: Any) -> Any:
    """Return `value` as the type `hint`; raise a SpecError that says which type is meant if it is of another."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        try:
            return parse(hint, value)
        except SpecError as error:
            raise error.within(key) from None
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return None if value is None else _convert(inner[0], key, value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise SpecError(key, value, "a list")
        return tuple(_convert(typing.get_args(hint)[0], f"{key}[{i}]", v) for i, v in enumerate(value))
    if hint is bool:
        require(isinstance(value, bool), key, value, "true or false")
        return value
    if hint in (int, float):
        return convert_number(hint, key, value)
    if hint is str:
        require(isinstance(value, str), key, value, "a string")
    return value


def convert_number(kind: type, key: str, value: Any) -> Any:
    """Return `value` as `kind` (int or float).

    Raises
    ------
    SpecError
        If it is no finite number, or not a whole one below 2**63 for int. For a string that looks like a number, such
        as YAML's 1e-3, the error says how to write it.
    """
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            raise SpecError(key, value, "a number") from None
        require(math.isfinite(number), key, value, "a finite number")
        written = str(int(number)) if kind is int and number.is_integer() else f"{_plain(number)} (with a dot)"
        raise SpecError(key, value, f"a number, but YAML read a string: write {written}, unquoted")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(key, value, "a whole number" if kind is int else "a number")
    require(isinstance(value, int) or math.isfinite(value), key, value, "a finite number")
    # A whole number beyond every float's range would overflow in float() below.
    require(isinstance(value, float) or abs(value) < LARGEST, key, value, "a number below 2**63")
    if kind is int:
        require(float(value).is_integer() and abs(value) < LARGEST, key, value, "a whole number below 2**63")
    return kind(value)


def _plain(number: float) -> str:
    """Return a number as YAML 1.1 reads it back: with a dot in the mantissa and a sign in the exponent."""
    text = repr(number)
    mantissa, e, exponent = text.partition("e")
    return text if not e else f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent}"


def canonical(spec: Any) -> dict[str, Any]:
    """Return a spec as a plain dict without the values that equal their defaults; options of plug-ins are kept."""
    out: dict[str, Any] = {}
    for f in dataclasses.fields(spec):
        value = getattr(spec, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if value == default:
            continue
        out[f.name] = canonical(value) if dataclasses.is_dataclass(value) else _listed(value)
    return out


def _listed(value: Any) -> Any:
    """Turn tuples into lists, at every depth, so that a value equals its own JSON round trip."""
    if isinstance(value, tuple | list):
        return [_listed(v) for v in value]
    if isinstance(value, Mapping):
        return {key: _listed(v) for key, v in value.items()}
    return value


def to_json(value: Any) -> str:
    """Return canonical JSON: sorted keys, no spaces, no NaN. A dataclass is made canonical first."""
    plain = canonical(value) if dataclasses.is_dataclass(value) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
