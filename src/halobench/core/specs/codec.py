"""Turn classes into specs, read specs from plain data, and write them in canonical form.

pydantic checks the values, and the problems that it finds are reported in the project's own words, as a `SpecError`
with the key, the value and what was expected.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, dataclass_transform

import pydantic
import pydantic.dataclasses
from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictStr

from halobench.core.errors import LARGEST, RefusedError, SpecError, hint, one_of, require

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


# --- Values of keys --------------------------------------------------------------------------------------------------


def convert_number(kind: type, key: str, value: Any) -> Any:
    value = read_exponent(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(key, value, "a whole number" if kind is int else "a number")
    require(isinstance(value, int) or math.isfinite(value), key, value, "a finite number")
    # An integer beyond the range of floats would overflow in float() below.
    require(isinstance(value, float) or abs(value) < LARGEST, key, value, "a number above -2**63 and below 2**63")
    if kind is int:
        require(
            float(value).is_integer() and abs(value) < LARGEST,
            key,
            value,
            "a whole number above -2**63 and below 2**63",
        )
    return kind(value)


def read_exponent(value: Any) -> Any:
    """Convert text such as 1e-3, which YAML 1.1 reads as a string, to a number; return any other `value` as is."""
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


def check_distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return `values`; raise SpecError if one of them is repeated, which is probably a mistake."""
    for i, value in enumerate(values):
        require(value not in values[:i], "", value, "each value only once")
    return values


# The types of keys. Other types aren't converted: neither text to numbers, nor numbers to true or false.
Text = StrictStr
Flag = StrictBool
_whole = BeforeValidator(functools.partial(convert_number, int, ""))
_number = BeforeValidator(functools.partial(convert_number, float, ""))
Whole = Annotated[int, _whole]
NotNegative = Annotated[int, Field(ge=0), _whole]
Count = Annotated[int, Field(ge=1), _whole]
Number = Annotated[float, _number]
Distance = Annotated[float, Field(ge=0), _number]
Positive = Annotated[float, Field(gt=0), _number]
Several = Annotated[tuple[T, ...], Field(min_length=1)]
Distinct = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(check_distinct)]


# --- Specs -----------------------------------------------------------------------------------------------------------


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def spec(cls: type[T]) -> type[T]:
    """Turn a class into a frozen dataclass whose values are checked, whether it is built in Python or read by `parse`.

    Every field is a key, described by ``Field(default=..., description=...)``, which can also limit its values. Checks
    that involve several keys belong in `__post_init__`, which raises SpecError.
    """
    checked: Any = pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))(cls)
    build = checked.__init__
    names = [field.name for field in dataclasses.fields(checked) if not field.kw_only]

    @functools.wraps(build)
    def __init__(self: Any, *values: Any, **keys: Any) -> None:
        try:
            build(self, *values[len(names) :], **dict(zip(names, values, strict=False)), **keys)
        except pydantic.ValidationError as error:
            raise spec_errors(checked, error)[0] from None

    checked.__init__ = __init__
    return checked


def adapter(cls: type) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(cls)


def parse(cls: type[T], mapping: Any) -> T:
    """Build the spec `cls` from a mapping, checking keys and types; integers are accepted as floats."""
    try:
        return adapter(cls).validate_python(mapping)
    except pydantic.ValidationError as error:
        raise spec_errors(cls, error)[0] from None


def canonical(spec: Any) -> dict[str, Any]:
    """Return a spec, or each spec in a mapping, as a plain dict without values that equal their keys' defaults."""
    if isinstance(spec, Mapping):
        return {key: canonical(part) for key, part in spec.items()}
    return adapter(type(spec)).dump_python(spec, mode="json", exclude_defaults=True)


def to_json(value: Any) -> str:
    """Return a value, or a spec's canonical form, as compact JSON with sorted keys.

    ValueError is raised for NaN or infinity.
    """
    plain = canonical(value) if dataclasses.is_dataclass(value) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def checked(build: F) -> F:
    """Make a function check its keyword-only arguments, the options of a plug-in, against their annotations.

    For example, ``gamma: Annotated[Number, Field(ge=0)] = 3.0`` accepts numbers, as YAML and JSON write them, of at
    least 0. Any other value raises SpecError with the option as its key.
    """

    @functools.cache
    def adapters() -> dict[str, pydantic.TypeAdapter[Any]]:
        hints = typing.get_type_hints(build, include_extras=True)  # now that the whole module has been read
        parameters = inspect.signature(build).parameters.values()
        return {p.name: pydantic.TypeAdapter(hints[p.name]) for p in parameters if p.kind is p.KEYWORD_ONLY}

    @functools.wraps(build)
    def call(*arguments: Any, **options: Any) -> Any:
        for key in options.keys() & adapters().keys():
            try:
                options[key] = adapters()[key].validate_python(options[key])
            except pydantic.ValidationError as error:
                problem = spec_errors(object, error)[0]
                raise problem.within(key) if problem.key else SpecError(key, options[key], problem.expected) from None
        return build(*arguments, **options)

    return typing.cast("F", call)


# --- Problems in the project's words ---------------------------------------------------------------------------------

WORDS = {
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "a number above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "a number below {lt:g}",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "string_too_short": "at least {min_length} character",
}


def spec_errors(cls: type, error: pydantic.ValidationError) -> list[SpecError]:
    """Return the problems that pydantic found in a value for the spec `cls`, with keys relative to that spec."""
    # Missing keys come last, since a misspelt key says more. pydantic also reports lists of bad entries as too short.
    listed: list[Any] = error.errors(include_url=False)
    problems = sorted(listed, key=lambda each: each["type"] == "missing")
    return [_spec_error(cls, **each) for each in problems if each["type"] != "too_short" or not each["input"]]


def _spec_error(cls: Any, type: str, loc: tuple[Any, ...], input: Any, msg: str, ctx: Any = None) -> SpecError:
    """Translate one of pydantic's problems into the project's words."""
    context, place = ctx or {}, _dotted(loc, type)
    if type == "missing":
        return RefusedError(place, "missing; set it, since it has no default")
    if isinstance(context.get("error"), SpecError):
        return context["error"].within(place) if place else context["error"]
    if type in ("unexpected_keyword_argument", "invalid_key"):
        keys = _keys_at(cls, loc[:-1])
        expected = f"one of the keys {', '.join(keys)}{hint(keys, loc[-1])}"
    elif type == "dataclass_type":
        expected = f"a mapping with the keys {', '.join(_keys_at(cls, loc))}"
    elif type == "too_short":
        expected = "a mapping with at least one named entry" if isinstance(input, Mapping) else "at least one entry"
    elif type == "literal_error":
        expected = one_of(re.findall("'([^']*)'", context["expected"]), input)
    else:
        bounds = {key: bound.strip("^$()") if key == "pattern" else bound for key, bound in context.items()}
        expected = WORDS[type].format(**bounds) if type in WORDS else msg
    return SpecError(place, input, expected)


def _dotted(loc: tuple[Any, ...], type: str) -> str:
    """Return the location of a problem as a user of the configuration would write it: ``grid[0].seeds``."""
    keys = [step for step in loc if step != "[key]"]
    last = len(keys) - 1 if "[key]" in loc or type == "invalid_key" else None  # this is a key, even if it is a number
    steps = [f"[{key}]" if isinstance(key, int) and i != last else f".{key}" for i, key in enumerate(keys)]
    return "".join(steps).removeprefix(".")


def _keys_at(cls: Any, loc: tuple[Any, ...]) -> list[str]:
    """Return the keys of the spec at a location below the spec `cls`."""
    for step in (*loc, None):
        while typing.get_origin(cls) in (Annotated, types.UnionType, typing.Union):
            cls = typing.get_args(cls)[0]
        if step is None:
            break
        if fields := getattr(cls, "__pydantic_fields__", None):
            cls = fields[step].annotation
        else:
            cls = typing.get_args(cls)[0 if typing.get_origin(cls) is tuple else -1]
    return [field.name for field in dataclasses.fields(cls)]
