"""Old words in configurations and specs, and the words that replaced them.

A configuration written for an earlier version keeps working, because `current_words` translates it once, before
anything else reads it. The rest of the project needs only one word for each thing.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

Note = Callable[[str], None]


def print_note(note: str) -> None:
    """Print a note on standard error."""
    print(f"halobench: note: {note}", file=sys.stderr)


def current_words(plain: Any, note: Note = lambda line: None) -> Any:
    """Return a configuration or a stage's spec with each old word replaced; `plain` itself is left unchanged.

    Parameters
    ----------
    plain : object
        Plain data as loaded from YAML or JSON. Anything not shaped like a configuration or a spec is returned
        unchanged.
    note : callable, optional
        Called with one line per replacement, e.g. ``datasets.x.noise.kind: 'cycle' is now called 'pair_flip'``.
    """
    for rename, places, words in ALIASES:
        for place in places:
            plain = _replaced(plain, place.split("."), "", functools.partial(rename, words=words, note=note))
    return plain


def _replaced(node: Any, path: list[str], place: str, rename: Callable[[Any, str], Any]) -> Any:
    """Return `node`, located at `place`, after renaming whatever `path` leads to from there."""
    if not path:
        return rename(node, place)
    step, *rest = path
    if isinstance(node, list) and step == "*":
        return [_replaced(entry, rest, f"{place}[{i}]", rename) for i, entry in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    return {
        key: _replaced(value, rest, f"{place}.{key}" if place else key, rename) if step in ("*", key) else value
        for key, value in node.items()
    }


def _rename_value(value: Any, place: str, words: Mapping[str, str], note: Note) -> Any:
    """Return the replacement for `value`, or `value` itself."""
    if not isinstance(value, str) or value not in words:
        return value
    note(f"{place}: {value!r} is now called {words[value]!r}")
    return words[value]


def _rename_keys(mapping: Any, place: str, words: Mapping[str, str], note: Note) -> Any:
    """Return a mapping with its old keys renamed, except where the new word is also a key, which is a mistake."""
    if not isinstance(mapping, Mapping):
        return mapping
    new = {key: words[key] for key in words if key in mapping and words[key] not in mapping}
    for old in new:
        note(f"{place}: {old!r} is now called {new[old]!r}")
    return {new.get(key, key): value for key, value in mapping.items()}


# Each entry has the function that renames values or keys, the dotted paths where it applies (from the top of a
# configuration or a stage's spec), and each old word with its replacement. In a path, ``*`` stands for any key of a
# mapping or any entry of a list.
ALIASES = (
    (_rename_value, ("datasets.*.noise.kind", "dataset.noise.kind"), {"cycle": "pair_flip", "map": "asymmetric"}),
    (_rename_keys, ("train", "models.*.recipe", "datasets.*.recipe"), {"shift": "random_crop"}),
    # Specs, records and tables keep the old word because readers rely on the columns; see `CalibrateSpec`.
    (_rename_value, ("calibrators.*",), {"released": "paper"}),
)
