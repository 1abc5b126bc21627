"""Read logits from data frames, which have one row per sample and a column for each class.

The columns are ``label``, optionally ``split`` (``val`` or ``test``) and ``group`` (equal for samples that belong
together), and ``logit_NAME`` or ``probability_NAME`` for each class, where NAME is the class's label. There may also be
a column ``posterior_NAME`` for each class. In place of ``label``, there may be a column ``vote_NAME`` for each class,
with its numbers of votes. If labels are whole numbers and none equals a NAME, they are positions, from 0, among the
classes: in order of NAME if every NAME is a whole number, otherwise in column order. All other columns of the data
frame are ignored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from halobench.calibration.arrays import as_rows
from halobench.core.errors import Found, RefusedError, SpecError, one_of, refuse, require

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("val", "test")
COLUMN = re.compile(r"(logit|probability|posterior|vote)_(.+)")
EXPECTED = "a column label (or vote_NAME for each class), and logit_NAME or probability_NAME for each class"
PLURALS = {"logit": "logits", "probability": "probabilities", "posterior": "posterior", "vote": "votes"}


def table_arrays(table: pd.DataFrame) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Return a table's arrays, named as in .npz files, and the classes' names, or None if these are 0, 1, ..."""
    columns, names = class_columns(table)
    voted = "votes" in columns
    require("label" in table or voted, "columns", Found(_shown(table)), EXPECTED)
    refuse("label" in table and voted, "columns", "there are both label and vote_NAME; keep one of the two")
    refuse(len(table) == 0, "", "the table has no rows; add one per sample")
    numbers = {} if voted else _class_numbers(table["label"], names)
    arrays: dict[str, np.ndarray] = {}
    for prefix, rows in _parts(table).items():
        if "group" in table and prefix != "test_":
            arrays[f"{prefix}groups"] = rows["group"].to_numpy()
        arrays |= {prefix + kind: as_rows(rows[[by_name[name] for name in names]]) for kind, by_name in columns.items()}
        if voted:
            if prefix == "test_" and rows[list(columns["votes"].values())].isna().to_numpy().all():
                del arrays["test_votes"]
            continue
        labels, missing = rows["label"], rows["label"].isna().to_numpy()
        if not (prefix == "test_" and missing.all()):
            row = labels.index[int(missing.argmax())]
            refuse(missing.any(), f"label[{row}]", "missing; label all samples, or none of the test samples")
            arrays[f"{prefix}labels"] = np.array([numbers[label] for label in labels.tolist()])
    return arrays, None if _are_indices(names) else tuple(names)


def numbered(labels: Any, names: Sequence[str] | None, k: int, key: str) -> tuple[Any, Sequence[str] | None]:
    """Return text labels as the numbers of their columns, with the names of all k classes.

    Without `names`, text labels must include all classes, which are then sorted, as in scikit-learn. Labels that aren't
    text are returned as they are, with `names`.
    """
    array = as_rows(labels)
    if array.dtype.kind not in "OUST" or array.ndim != 1:
        return labels, names
    entries = [entry if isinstance(entry, str) else str(entry) for entry in array.tolist()]
    if names is None:
        seen = sorted(set(entries))
        found, advice = Found(f"names of {len(seen)} classes"), "pass names, the class of each column in order"
        require(len(seen) == k, key, found, f"names of {k}, one per column of logits; {advice}")
        names = seen
    places = {str(name): place for place, name in enumerate(names)}
    require(len(places) == len(names), "names", list(names), "a different name for each class, since labels are names")
    for row, entry in enumerate(entries):
        if entry not in places:
            raise SpecError(f"{key}[{row}]", array.tolist()[row], one_of(places, entry))
    return np.array([places[entry] for entry in entries]), names


def aligned(rows: Any, like: Any) -> Any:
    """Return `rows`, with columns in the order of `like` if both are data frames with the same columns."""
    if not (hasattr(rows, "columns") and hasattr(like, "columns")):
        return rows
    columns = list(like.columns)
    same = len(set(columns)) == len(columns) == len(rows.columns) and set(columns) == set(rows.columns)
    return rows[columns] if same else rows


def check_names(names: Any, k: int) -> None:
    """Raise SpecError unless names of classes are None, or a list or array with one name for each of k columns."""
    listed = isinstance(names, list | tuple) or hasattr(names, "tolist")  # arrays and pandas indices have it
    expected = f"a list of {k} class names, one for each column of the logits"
    require(names is None or (listed and len(names) == k), "names", names, expected)


def named_columns(logits: Any, labels: Any, names: Any) -> Any:
    """Return `names` or, if None, the columns of the data frame `logits` if all `labels` are names of columns."""
    columns = getattr(logits, "columns", None)
    if names is not None or columns is None or labels is None:
        return names
    texts = [column for column in columns if isinstance(column, str)]
    labelled = as_rows(labels)
    is_text = labelled.dtype.kind in "OUST" and labelled.ndim == 1
    known = len(texts) == len(columns) and is_text and set(map(str, labelled.tolist())) <= set(texts)
    return texts if known else names


def is_table(logits: Any) -> bool:
    """Return whether `logits` is a data frame with columns of classes, such as logit_NAME."""
    return any(COLUMN.fullmatch(str(column)) for column in getattr(logits, "columns", ()))


def ordered(classes: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return a table's classes in the order of a fit's `names`.

    If the table has other classes, SpecError is raised or, if `names` are empty or 0, 1, ..., the table's own order is
    returned.
    """
    if set(names) == set(classes):
        return list(names)
    known = bool(names) and not _are_indices(names)
    require(not known, "columns", Found(f"the classes {', '.join(classes)}"), f"those of the fit, {', '.join(names)}")
    return list(classes)


def rows_of(logits: Any, names: Sequence[str], probabilities: bool = False) -> dict[str, np.ndarray]:
    """Return an array as ``logits``, or a table's logits or probabilities with the classes ordered as in `names`.

    If `probabilities` is true, an array, or a table's columns logit_NAME, is returned as ``probabilities``.
    If the table's classes aren't those in `names`, SpecError is raised, unless `names` are empty or 0, 1, ...
    """
    if not is_table(logits):
        return {"probabilities" if probabilities else "logits": as_rows(logits)}
    columns, order = class_columns(logits)
    order = ordered(order, names)
    columns = {kind: by_name for kind, by_name in columns.items() if kind in ("logits", "probabilities")}
    rows = {kind: as_rows(logits[[by_name[name] for name in order]]) for kind, by_name in columns.items()}
    return {"probabilities": rows["logits"]} if probabilities and "logits" in rows else rows


def _parts(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each split by the prefix of its arrays, which is empty if there are no test samples."""
    if "split" not in table:
        return {"": table}
    others = sorted(set(map(str, table["split"].unique())) - set(SPLITS))
    require(not others, "split", Found(", ".join(others)), f"only {' and '.join(SPLITS)}")
    val, test = (table[table["split"] == split] for split in SPLITS)
    refuse(len(val) == 0, "split", "no row has the split val; add rows, to which maps are fitted")
    return {"val_": val, "test_": test} if len(test) else {"": val}


def class_columns(table: pd.DataFrame) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return a table's columns by kind and class, and the classes: sorted if all are numbers, else in column order."""
    columns: dict[str, dict[str, Any]] = {}
    check_columns(table.columns)
    for column in table.columns:
        if match := COLUMN.fullmatch(str(column)):
            columns.setdefault(PLURALS[match[1]], {})[match[2]] = column
    require(bool(set(columns) - {"posterior", "votes"}), "columns", Found(_shown(table)), EXPECTED)
    names = list(next(by_name for kind, by_name in columns.items() if kind != "votes"))
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    for kind, by_name in columns.items():
        expected = f"the classes {', '.join(names)}, as in the other columns"
        require(set(by_name) == set(names), kind, Found(f"the classes {', '.join(by_name)}"), expected)
    return columns, names


def check_columns(names: Iterable[Any]) -> None:
    """Raise SpecError if two columns have the same name."""
    twice = next((name for name, uses in Counter(map(str, names)).items() if uses > 1), "")
    refuse(twice, f"columns.{twice}", "there are several columns with this name; keep one, or rename the others")


def _shown(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns[:8])) + (", ..." if len(table.columns) > 8 else "")


def _are_indices(names: Sequence[str]) -> bool:
    return list(names) == [str(number) for number in range(len(names))]


def _class_numbers(column: pd.Series, names: Sequence[str]) -> dict[Any, Any]:
    """Map each label that occurs to the number of the class with that name, or to itself if no class has the name."""
    labels = column.dropna()
    for row, label in labels.items():
        require(isinstance(label, Hashable), f"label[{row}]", label, "a single number or name")
    distinct = list(dict.fromkeys(labels.tolist()))
    by_name = {_value(name): number for number, name in enumerate(names)}
    by_name |= {name: number for number, name in enumerate(names)}
    numbers = {label: by_name.get(str(label), by_name.get(_value(label))) for label in distinct}
    whole = {label: int(label) if isinstance(label, float) and label.is_integer() else label for label in distinct}
    if not _are_indices(names):
        unknown = [label for label, number in numbers.items() if number is None]
        positions = len(unknown) == len(numbers) and all(type(label) is int for label in whole.values())
        if unknown and not positions:
            row = labels.index[labels.tolist().index(unknown[0])]
            raise SpecError(f"label[{row}]", unknown[0], f"{one_of(names, unknown[0])}, as in the columns")
        odd = [name for name in names if not name.isdecimal()]
        others = sorted(set(names) - set(odd), key=int)
        if len(odd) == 1 and _are_indices(others) and by_name[odd[0]] not in numbers.values():
            sentence = f"all classes but {odd[0]!r} are numbered; number it too, or rename the column if it isn't one"
            raise RefusedError("columns", sentence)
    return {label: whole[label] if number is None else number for label, number in numbers.items()}


def _value(text: Any) -> float | str:
    """Return a label or name as a number if it is one, and otherwise as text."""
    try:
        return float(str(text))
    except ValueError:
        return str(text)
