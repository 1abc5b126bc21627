"""The constants that a plug-in may define at the top of its file, and the form that each must have."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, NamedTuple

from halobench.core.errors import SpecError


class _Form(NamedTuple):
    """What a constant must be, and the words for it."""

    fits: Callable[[Any], bool]
    words: str


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(text, str) for text in value)


def _is_style(value: Any) -> bool:
    """Return whether a value is a colour, a marker and perhaps dashes."""
    return isinstance(value, tuple) and len(value) in (2, 3) and isinstance(value[0], str)


def _is_variants(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(facts, dict) and all(key in SHOWN and FORMS[key].fits(fact) for key, fact in facts.items())
        for facts in value.values()
    )


_TEXT = _Form(_is_text, "text")
_TEXTS = _Form(_is_texts, "a tuple of strings")
_WHOLE = _Form(lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number")
_TRUTH = _Form(lambda value: isinstance(value, bool), "True or False")
FORMS = {
    "TITLE": _TEXT,
    "SHORT": _TEXT,
    "ABOUT": _TEXT,
    "SOURCE": _TEXT,
    "ORDER": _WHOLE,
    "STYLE": _Form(_is_style, 'a colour, a marker and perhaps dashes, e.g. ("#0072B2", "s", (0, (4, 2)))'),
    "UNIT": _TEXT,
    "FAMILY": _TEXT,
    "CATEGORY": _TEXT,
    "CAPTION": _TEXT,
    "VARIANTS": _Form(_is_variants, "a mapping of names to TITLE, ABOUT, STYLE or ORDER"),
    "SHOWS": _TEXTS,
    "BEYOND": _TEXTS,
    "PACKAGES": _TEXTS,
    "LIBRARIES": _TEXTS,
    "ROWS": _WHOLE,
    "IMAGES": _TRUTH,
    "FROM_DISK": _TRUTH,
    "ONE_DIRECTION": _TEXT,
    "LOWER_IS_BETTER": _TRUTH,
}
SHOWN = ("TITLE", "ABOUT", "STYLE", "ORDER")
_EVERY = ("TITLE", "ABOUT", "SOURCE", "ORDER")
_DISPLAY = ("TITLE", "SHORT", "CATEGORY", "CAPTION", "SHOWS", "BEYOND")
# The constants that plug-ins of each kind may define.
OF_KIND: dict[str, tuple[str, ...]] = {
    "losses": (*_EVERY, "STYLE", "FAMILY", "ROWS", "VARIANTS"),
    "models": (*_EVERY, "IMAGES", "VARIANTS"),
    "data": (*_EVERY, "FROM_DISK", "VARIANTS"),
    "calibrators": (*_EVERY, "STYLE", "PACKAGES", "LIBRARIES"),
    "metrics": (*_EVERY, "UNIT", "LOWER_IS_BETTER"),
    "probes": (*_EVERY, "STYLE", "ONE_DIRECTION"),
    "searches": (*_EVERY, "STYLE"),
    "figures": _DISPLAY,
    "tables": _DISPLAY,
}
# Constants that only readers see, so results don't depend on them.
WORDS = frozenset({"TITLE", "SHORT", "ABOUT", "SOURCE", "ORDER", "STYLE", "UNIT", "VARIANTS"})


def literal(node: ast.expr | None) -> Any:
    """Return the value of a literal, or ``...``."""
    try:
        return ast.literal_eval(node) if node is not None else ...
    except ValueError:
        return ...


def read_constants(kind: str, tree: ast.Module) -> dict[str, Any]:
    """Return the constants of a kind of plug-in that a file assigns at its top level.

    An expression under the name of one that only readers see (``ORDER = rng.permutation(9)``) is the file's own.

    Raises
    ------
    SpecError
        If one of them isn't a literal of its form; the key is the constant.
    """
    constants: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names = (target.id for target in node.targets if isinstance(target, ast.Name))
            constants |= {name: literal(node.value) for name in names if name in OF_KIND[kind]}
    constants = {name: value for name, value in constants.items() if value is not ... or name not in WORDS}
    for name, value in constants.items():
        if not FORMS[name].fits(value):
            given = "an expression" if value is ... else value
            raise SpecError(name, given, f"{FORMS[name].words}")
    return constants
