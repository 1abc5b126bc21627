"""Define requests (what a job should do, and with which code), and compare them with records."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from halobench.core.specs.codec import to_json
from halobench.core.specs.training import TrainSpec

RECIPE = TrainSpec()
NAMED = ("sources", "datasets", "models", "losses", "probes", "experiments")  # sections whose keys are names
OUTSIDE = re.compile(r'"[A-Za-z_][\w.]*:[A-Za-z_]\w*"')  # a plug-in outside the package, in JSON


@dataclass(frozen=True)
class Request:
    """The task of a job and its code version."""

    stage: str
    spec: Mapping[str, Any]  # as plain data; jobs that differ only in their seeds share it
    code: Mapping[str, str]  # the modules that the result depends on, with their digests


def outside_plugins(spec: Any) -> bool:
    """Return whether a spec uses a plug-in outside the package, ``module:object``."""
    return OUTSIDE.search(to_json(spec)) is not None


def changes(record: Mapping[str, Any], request: Request, seed: int | None = None) -> list[str]:
    """List the differences between a request and the request in a record, by key, value and module.

    If the list is empty, the result was computed as requested.
    """
    if record.get("seed") != seed:
        return [f"seed was {record.get('seed')} and is now {seed}"]
    changed = spec_changes(record.get("spec", {}), request.spec)
    return [*changed, *_code_changes(record.get("code", {}), request.code, swapped=bool(changed))]


def spec_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the changes between two specs in words, by dotted key."""
    old, new = _flat(before), _flat(now)
    alike: dict[tuple[str, str], list[str]] = {}
    for key in sorted(old.keys() | new.keys()):
        if key not in old or key not in new or old[key] != new[key]:
            alike.setdefault((_value(key, old, new), _value(key, new, old)), []).append(key)
    return [
        f"{listed(keys)} {'was' if len(keys) == 1 else 'were'} {was} and {is_or_are(keys)} now {now}"
        for (was, now), keys in alike.items()
    ]


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a spec's values by dotted keys as in a configuration, in which options stand next to a plug-in's name."""
    values: dict[str, Any] = {}
    for key, value in spec.items():
        path = prefix if key == "options" else f"{prefix}{key}."
        values |= _flat(value, path) if isinstance(value, Mapping) else {path[:-1]: value}
    return values


def _value(key: str, values: Mapping[str, Any], others: Mapping[str, Any], longest: int = 60) -> str:
    """Return the value of a key as JSON, without its middle if it is long.

    A missing value is described as the default or, if its whole section is missing or belongs to another plug-in or
    probe, as absent.
    """
    if key in values:
        text = json.dumps(values[key])
        return text if len(text) <= longest else f"{text[: longest - 20]} ... {text[-15:]}"
    part, _, last = key.rpartition(".")
    if part == "train" and hasattr(RECIPE, last):
        return f"{json.dumps(getattr(RECIPE, last))}, the default"
    names = [f"{part}.{name}".lstrip(".") for name in ("name", "loader", "kind")]
    same = all(values.get(name) == others.get(name) for name in names)
    entry = ".".join(key.split(".")[:2])  # e.g. datasets.digits, in the configuration that an overview shows
    known = key.split(".")[0] not in NAMED or any(other.startswith(f"{entry}.") for other in values)
    return "the default" if same and known else "absent"


def _code_changes(before: Mapping[str, str], now: Mapping[str, str], swapped: bool = False) -> list[str]:
    """List changed modules and, unless a changed spec (`swapped`) explains them, added and dropped modules."""
    both = [([module for module in now if module in before and before[module] != now[module]], "changed")]
    if not swapped:
        moved = (
            (sorted(now.keys() - before.keys()), "now used"),
            (sorted(before.keys() - now.keys()), "no longer used"),
        )
        both += [(modules, f"{is_or_are(modules)} {what}") for modules, what in moved]
    return [f"{listed(list(map(_file, modules)))} {what}" for modules, what in both if modules]


def _file(module: str) -> str:
    """Return a module of a code map as a file name in the package or, for other modules, unchanged."""
    return module if any(sign in module for sign in ": ") or "." in module.rpartition("/")[2] else f"{module}.py"


def listed(names: list[str], most: int = 4) -> str:
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def is_or_are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
