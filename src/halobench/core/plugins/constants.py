"""Define the constants that a plug-in may have at the top of its file, and their forms."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from typing import Any

from halobench.core.errors import Found, SpecError

Form = tuple[str, Callable[[Any], bool]]  # a constant's required form, in words and as a test


def _is_texts(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(text, str) for text in value)


def _is_style(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) in (2, 3) and isinstance(value[0], str)


def _is_range(value: Any) -> bool:
    numbers = value if isinstance(value, tuple) and len(value) == 2 else ("",)
    return all(end is None or (isinstance(end, int | float) and not isinstance(end, bool)) for end in numbers)


def _is_variants(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(facts, dict) and all(key in SHOWN and FORMS[key][1](fact) for key, fact in facts.items())
        for facts in value.values()
    )


_TEXT: Form = ("text", lambda value: isinstance(value, str) and bool(value.strip()))
_TEXTS: Form = ("a tuple of strings", _is_texts)
_WHOLE: Form = ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool))
_TRUTH: Form = ("True or False", lambda value: isinstance(value, bool))
FORMS: dict[str, Form] = {
    **dict.fromkeys(
        ("TITLE", "SHORT", "ABOUT", "SOURCE", "UNIT", "FAMILY", "ARCHITECTURE", "CATEGORY", "CAPTION"), _TEXT
    ),
    **dict.fromkeys(("SHOWS", "BEYOND", "PACKAGES", "LIBRARIES"), _TEXTS),
    **dict.fromkeys(("ORDER", "ROWS", "LOSSES"), _WHOLE),
    **dict.fromkeys(("IMAGES", "FROM_DISK", "LOWER_IS_BETTER", "MASKED", "VOTES", "REFITTED"), _TRUTH),
    "ONE_DIRECTION": _TEXT,
    "STYLE": ('a colour, a marker and perhaps dashes, e.g. ("#0072B2", "s", (0, (4, 2)))', _is_style),
    "STAGE": ("a mapping, written out", lambda value: isinstance(value, dict)),
    "RANGE": ("the smallest and the largest value, either of which may be None, e.g. (0, None)", _is_range),
    "OPTIONS": ("a mapping of options to values", lambda value: isinstance(value, dict)),
    "VARIANTS": ("a mapping of names to TITLE, ABOUT, STYLE, ORDER, OPTIONS or ARCHITECTURE", _is_variants),
}
SHOWN = ("TITLE", "ABOUT", "STYLE", "ORDER", "OPTIONS", "ARCHITECTURE")
TOPICS = ("TITLE", "ABOUT", "SOURCE", "ORDER")  # of what is compared, e.g. losses
DISPLAYS = ("TITLE", "SHORT", "CATEGORY", "CAPTION", "SHOWS", "BEYOND", "LOSSES")  # of figures and tables
# Constants that are only for readers, or about files that no result depends on.
WORDS = frozenset(
    {"TITLE", "SHORT", "ABOUT", "SOURCE", "ORDER", "STYLE", "UNIT", "RANGE", "VARIANTS", "REFITTED", "ARCHITECTURE"}
)


def literal(node: ast.expr | None) -> Any:
    """Return the value of a literal, or ``...`` if the node isn't a literal."""
    try:
        return ast.literal_eval(node) if node is not None else ...
    except ValueError:
        return ...


def read_constants(allowed: Collection[str], tree: ast.Module) -> dict[str, Any]:
    """Return the `allowed` constants that are assigned at a file's top level.

    A constant for readers that is assigned an expression (``ORDER = rng.permutation(9)``) is skipped, since the file
    may use that name for a variable. Any other constant of the wrong form raises SpecError with the constant's name as
    the key.
    """
    constants: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names = (target.id for target in node.targets if isinstance(target, ast.Name))
            constants |= {name: literal(node.value) for name in names if name in allowed}
    constants = {name: value for name, value in constants.items() if value is not ... or name not in WORDS}
    for name, value in constants.items():
        words, fits = FORMS[name]
        if not fits(value):
            raise SpecError(name, Found("an expression") if value is ... else value, words)
    return constants


def without_words(tree: ast.Module) -> ast.Module:
    """Return a file's syntax tree without its constants for readers (`WORDS`), except those that its own code uses."""
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    words = WORDS - {node.id for node in names if isinstance(node.ctx, ast.Load)}

    def assigns_words(node: ast.stmt) -> bool:
        return isinstance(node, ast.Assign) and any(getattr(target, "id", None) in words for target in node.targets)

    return ast.Module(body=[node for node in tree.body if not assigns_words(node)], type_ignores=[])
