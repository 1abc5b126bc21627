"""Old words in configurations and specs, and the words that replaced them.

A configuration written for an earlier version keeps working, because `current_words` translates it once, before
anything else reads it. The rest of the project needs only one word for each thing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Alias:
    """Old words for a key or a value.

    `places` are dotted paths from the top of a configuration or a stage's spec, where ``*`` stands for any key of a
    mapping or any entry of a list. If `kind` is "value", the words are values at these places; if it is "key", they are
    keys of the mappings there. `words` maps each old word to its replacement.
    """

    kind: Literal["key", "value"]
    places: tuple[str, ...]
    words: Mapping[str, str]


ALIASES = (
    Alias("value", ("datasets.*.noise.kind", "dataset.noise.kind"), {"cycle": "pair_flip", "map": "asymmetric"}),
    Alias("key", ("train", "models.*.recipe", "datasets.*.recipe"), {"shift": "random_crop"}),
    # Specs, records and tables keep the old word because readers rely on the columns; see `CalibrateSpec`.
    Alias("value", ("calibrators.*",), {"released": "paper"}),
)


def print_note(note: str) -> None:
    """Print a note on standard error."""
    print(f"halobench: note: {note}", file=sys.stderr)


def current_words(plain: Any, note: Callable[[str], None] | None = None) -> Any:
    """Return a configuration or a stage's spec with each old word replaced; `plain` itself is left unchanged.

    Parameters
    ----------
    plain : object
        Plain data as loaded from YAML or JSON. Anything not shaped like a configuration or a spec is returned
        unchanged.
    note : callable, optional
        Called with one line per replacement, e.g. ``datasets.x.noise.kind: 'cycle' is now called 'pair_flip'``.
    """
    for alias in ALIASES:
        for place in alias.places:
            plain = _replaced(plain, place.split("."), "", alias, note or (lambda line: None))
    return plain


def _replaced(node: Any, path: list[str], place: str, alias: Alias, note: Callable[[str], None]) -> Any:
    """Return `node`, located at `place`, after replacing the words that `path` leads to from there."""
    if not path:
        rename = _rename_keys if alias.kind == "key" else _rename_value
        return rename(node, place, alias.words, note)
    step, *rest = path
    if isinstance(node, list) and step == "*":
        return [_replaced(entry, rest, f"{place}[{i}]", alias, note) for i, entry in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    return {
        key: _replaced(value, rest, f"{place}.{key}" if place else key, alias, note) if step in ("*", key) else value
        for key, value in node.items()
    }


def _rename_value(value: Any, place: str, words: Mapping[str, str], note: Callable[[str], None]) -> Any:
    """Return the replacement for `value`, or `value` itself."""
    if not isinstance(value, str) or value not in words:
        return value
    note(f"{place}: {value!r} is now called {words[value]!r}")
    return words[value]


def _rename_keys(mapping: Any, place: str, words: Mapping[str, str], note: Callable[[str], None]) -> Any:
    """Return a mapping with its old keys renamed, except those whose new word is a key as well, which are mistakes."""
    if not isinstance(mapping, Mapping):
        return mapping
    new = {key: words[key] for key in words if key in mapping and words[key] not in mapping}
    for old in new:
        note(f"{place}: {old!r} is now called {new[old]!r}")
    return {new.get(key, key): value for key, value in mapping.items()}
