"""Old words of configurations and specs, and what they are called now.

A configuration that was written for an earlier version keeps working: `current_words` translates it once, before
anything else reads it, so that the rest of the project knows one word for one thing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Alias:
    """Old words for a key or a value.

    `places` are dotted paths from the top of a configuration, or of a stage's spec; ``*`` is any key of a mapping, or
    any entry of a list. With `kind` "value" the words are values at these places; with "key" they are keys of the
    mappings there. `words` maps each old word to the one that replaces it.
    """

    kind: Literal["key", "value"]
    places: tuple[str, ...]
    words: Mapping[str, str]


ALIASES = (
    Alias("value", ("datasets.*.noise.kind", "dataset.noise.kind"), {"cycle": "pair_flip", "map": "asymmetric"}),
    Alias("key", ("train", "models.*.recipe", "datasets.*.recipe"), {"shift": "random_crop"}),
    # Specs, records and tables keep the old word, whose columns readers rely on: see `CalibrateSpec`.
    Alias("value", ("calibrators.*",), {"released": "paper"}),
)


def print_note(note: str) -> None:
    """Print a note on standard error."""
    print(f"halobench: note: {note}", file=sys.stderr)


def current_words(plain: Any, note: Callable[[str], None] | None = None) -> Any:
    """Return a configuration, or a stage's spec, with each old word replaced; `plain` itself stays as it is.

    Parameters
    ----------
    plain : object
        Plain data as YAML or JSON gives it. What isn't shaped as a configuration or a spec is returned unchanged.
    note : callable, optional
        Called with a line per replacement, e.g. ``datasets.x.noise.kind: 'cycle' is now called 'pair_flip'``.
    """
    for alias in ALIASES:
        for place in alias.places:
            plain = _replaced(plain, place.split("."), "", alias, note or (lambda line: None))
    return plain


def _replaced(node: Any, path: list[str], place: str, alias: Alias, note: Callable[[str], None]) -> Any:
    """Return `node`, which stands at `place`, with the words replaced that `path` leads to from it."""
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
    """Return the word that replaces `value`, or `value` itself."""
    if not isinstance(value, str) or value not in words:
        return value
    note(f"{place}: {value!r} is now called {words[value]!r}")
    return words[value]


def _rename_keys(mapping: Any, place: str, words: Mapping[str, str], note: Callable[[str], None]) -> Any:
    """Return a mapping with its old keys renamed, but for those whose new word it has as well: these are mistakes."""
    if not isinstance(mapping, Mapping):
        return mapping
    new = {key: words[key] for key in words if key in mapping and words[key] not in mapping}
    for old in new:
        note(f"{place}: {old!r} is now called {new[old]!r}")
    return {new.get(key, key): value for key, value in mapping.items()}
