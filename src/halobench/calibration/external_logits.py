"""Read logits from other projects from a file, and calibrate and score them in the same way as a cell's.

An .npz file contains either two sets of samples, one for fitting calibrators and one for scoring them,

=============================== ===========================================================================
``val_logits``, ``test_logits`` (n, k), finite; or -inf for a class that the model rules out
``val_labels``, ``test_labels`` (n,), whole numbers from 0 to k - 1
``val_posterior``,              optional: (n, k), P(label | x) if it is known. Scores are then also expectations
``test_posterior``              under it; calibrators except ``oracle`` are still fitted to ``val_labels``
=============================== ===========================================================================

or one set of samples (``logits``, ``labels`` and optionally ``posterior``), which `calibrate_file` halves at random.
`diagnose_file` needs no test samples, and if there are any, no labels for them.
``logits`` may be replaced by ``probabilities``, whose logarithm equals the logits up to a constant per row. A
probability of 0, as random forests can output, or a logit of -inf means that the class is ruled out. Temperature
scaling can still be fitted as long as no ``val`` label is a class that is ruled out for its sample. The paper's fit is
NaN if a class is ruled out, and calibrators other than temperatures reject such logits.

A table (.csv or .parquet) has one row per sample. Its columns, in any order, are ``label``, optionally ``split``
(``val`` or ``test``), and ``logit_NAME``, ``probability_NAME`` or ``posterior_NAME`` for each class, where NAME is the
class's label. If no label is such a name, labels are the positions of classes, from 0 on, among the columns. Other
columns are ignored.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from halobench.calibration.arrays import (
    as_rows,
    check_labels,
    check_logits,
    check_matrix,
    check_rows,
    look_like_probabilities,
)
from halobench.core.errors import SpecError, one_of, require
from halobench.core.extras import explained
from halobench.core.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

    from halobench.calibration.evaluate import Calibrated
    from halobench.core.specs import CalibrateSpec

SPLITS = ("val", "test")
KINDS = ("logits", "probabilities", "labels", "posterior")
NAMES = (*KINDS, *(f"{split}_{kind}" for split in SPLITS for kind in KINDS))
FEWEST = 2  # the smallest number of samples that can be halved
COLUMN = re.compile(r"(logit|probability|posterior)_(.+)")
WANTED = "logit_NAME or probability_NAME for each class"
PLURALS = {"logit": "logits", "probability": "probabilities", "posterior": "posterior"}

# The logits, labels and perhaps the posterior of a set of samples; test samples may have no labels.
Samples = dict[str, np.ndarray]


def read_logits(path: Path | str, seed: int = 0) -> dict[str, np.ndarray]:
    """Read a file's arrays for the splits ``val`` and ``test``, named as `evaluate.calibrate` expects.

    Parameters
    ----------
    path : path of an .npz, .csv or .parquet file
        As described at the top of this module.
    seed : int
        Determines which half of the samples is used for fitting if the file doesn't specify it.

    Returns
    -------
    dict of name to array
        ``{split}.logits``, ``{split}.labels``, ``{split}.clean`` and optionally ``{split}.posterior``.

    Raises
    ------
    SpecError
        If the file isn't of this kind, or it contains probabilities in place of logits or arrays with other names.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "mine.npz")
    >>> np.savez(path, logits=3 * np.eye(4), labels=np.arange(4))
    >>> {name: array.shape for name, array in sorted(read_logits(path).items())}["val.logits"]
    (2, 4)
    """
    with _in_file(path):
        sets = _sets(_load(Path(path))[0])
        sets = _halve(sets[""], seed) if "" in sets else sets
        require("test" in sets, "test_logits", "no such array", "samples to be scored")
        require("labels" in sets["test"], "test_labels", "no such array", "labels for the test samples")
        # Calibrators are fitted to drawn labels, so a missing validation posterior affects only the validation scores.
        alone = "posterior" in sets["val"] and "posterior" not in sets["test"]
        require(
            not alone, "val_posterior", "without test_posterior", "test_posterior too, since test samples are scored"
        )
    arrays = {f"{split}.{kind}": array for split, samples in sets.items() for kind, array in samples.items()}
    return arrays | {f"{split}.clean": samples["labels"] for split, samples in sets.items()}


def read_sets(path: Path | str) -> tuple[Samples, Samples | None, tuple[str, ...] | None]:
    """Read a file's validation samples, its test samples if it has any, and the names of classes if it has any.

    All samples are validation samples if the file has one set. Raises the same errors as `read_logits`.
    """
    with _in_file(path):
        return as_sets(*_load(Path(path)))


def as_sets(
    arrays: Mapping[str, np.ndarray], classes: tuple[str, ...] | None
) -> tuple[Samples, Samples | None, tuple[str, ...] | None]:
    """Check arrays that are named as in an .npz file, and return what `read_sets` does."""
    sets = _sets(arrays)
    return sets.get("", sets.get("val", {})), sets.get("test"), classes


def calibrate_file(path: Path | str, spec: CalibrateSpec | Sequence[Any] | None = None, seed: int = 0) -> Calibrated:
    """Fit calibrators to the ``val`` samples of a file and score them on both splits.

    Parameters
    ----------
    path : path of an .npz, .csv or .parquet file
        As described at the top of this module.
    spec : CalibrateSpec or list of calibrators, optional
        Defaults to the temperature scalings.
    seed : int
        Used to draw bootstrap resamples and, if the file contains only one set of samples, to halve it.

    Raises
    ------
    SpecError
        As in `read_logits` and `halobench.calibration.evaluate.calibrate`.
    """
    from halobench.calibration.evaluate import calibrate
    from halobench.core.spec_codec import parse
    from halobench.core.specs import CalibrateSpec

    if not isinstance(spec, CalibrateSpec):
        spec = CalibrateSpec() if spec is None else parse(CalibrateSpec, {"calibrators": spec})
    arrays = read_logits(path, seed)
    with _in_file(path):
        return calibrate(arrays, spec, seed, SPLITS)


@contextlib.contextmanager
def _in_file(path: Path | str) -> Iterator[None]:
    """Name the file, and its array instead of a split's, in errors raised in this context."""
    try:
        yield
    except SpecError as error:
        if error.key == str(path):
            raise
        split, _, rest = error.key.partition(".")
        key = f"{split}_{rest}" if split in SPLITS else error.key
        raise SpecError(f"{path}: {key}", error.value, error.expected) from None


def _sets(arrays: Mapping[str, np.ndarray]) -> dict[str, Samples]:
    """Check arrays and return the samples of the splits ``val`` and ``test``, or of a single set with the name ""."""
    for name in arrays:
        require(name in NAMES, name, f"shape {np.shape(arrays[name])}", one_of(NAMES, name))
    is_split = any(name in arrays for name in NAMES[len(KINDS) :])
    mixed = [name for name in KINDS if name in arrays]
    if is_split and mixed:
        expected = "either arrays whose names begin with val_ or test_, or a single set without these prefixes"
        raise SpecError(mixed[0], f"alongside {', '.join(sorted(set(arrays) - set(mixed)))}", expected)
    if not is_split:
        return {"": read_samples(arrays, "")}
    kinds = [next((f"{split}_{kind}" for kind in KINDS[:2] if f"{split}_{kind}" in arrays), "") for split in SPLITS]
    if all(kinds) and all(np.ndim(arrays[kind]) == 2 for kind in kinds):  # before labels, which would be blamed instead
        widths = [np.shape(arrays[kind])[1] for kind in kinds]
        fits = widths[1] in (1, widths[0])  # a single one has an error of its own
        require(fits, kinds[1], f"{widths[1]} classes", f"{widths[0]} classes, as in {kinds[0]}")
    present = [split for split in SPLITS if split == "val" or any(name.startswith("test_") for name in arrays)]
    return {split: read_samples(arrays, f"{split}_") for split in present}


def _load(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Load all arrays of a file without unpickling any, and the names of classes if it has any."""
    expected = "an .npz file of numeric arrays, as written by numpy.savez (convert each with numpy.asarray first)"
    if not path.is_file():
        raise SpecError(str(path), "a folder" if path.is_dir() else "no such file", expected)
    reader = {".csv": _read_csv, ".parquet": _read_parquet}.get(path.suffix.lower())
    if reader is not None:
        expected = f"a table with a header, as written by pandas to {path.suffix.lower()}"
    try:
        if reader is not None:
            return table_arrays(reader(path))
        archive = np.load(path, allow_pickle=False)
        require(isinstance(archive, Mapping), str(path), "a single array", expected)
        with archive:
            return {name: archive[name] for name in archive}, None
    except (SpecError, ImportError):
        raise
    except Exception as error:  # numpy, zipfile and pandas raise a dozen types, and some messages suggest unpickling
        raise SpecError(str(path), f"an unreadable file ({type(error).__name__})", expected) from None


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path, float_precision="round_trip")


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    with explained(str(path)):
        import pyarrow  # noqa: F401 (if it is missing, pandas doesn't say that this is why)
    return pd.read_parquet(path)


def table_arrays(table: pd.DataFrame) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Return the arrays of a table, named as in an .npz file, and the names of its classes if they aren't 0, 1, ..."""
    columns, order = _class_columns(table)
    require("label" in table, "columns", _shown(table), f"a column label, and {WANTED}")
    require(len(table) > 0, "rows", 0, "at least one row")
    parts = {"": table}
    if "split" in table:
        parts = {f"{split}_": table[table["split"] == split] for split in SPLITS}
        others = sorted(set(map(str, table["split"].unique())) - set(SPLITS))
        require(not others, "split", ", ".join(others), one_of(SPLITS))
        parts = {prefix: rows for prefix, rows in parts.items() if len(rows)}
        require("val_" in parts, "split", "no val", "rows with the split val")
        parts = {"": parts["val_"]} if len(parts) == 1 else parts
    numbers = _numbers(table["label"].dropna(), order)
    arrays = {}
    for prefix, rows in parts.items():
        for kind, named in columns.items():
            arrays[prefix + kind] = as_rows(rows[[named[name] for name in order]])
        labels, missing = rows["label"], rows["label"].isna().to_numpy()
        if not (prefix == "test_" and missing.all()):
            row = labels.index[int(missing.argmax())]
            require(not missing.any(), f"label[{row}]", "missing", "a label (or no label for any test sample)")
            arrays[f"{prefix}labels"] = np.array([numbers[label] for label in labels.tolist()])
    return arrays, None if _are_indices(order) else tuple(order)


def table_logits(table: pd.DataFrame, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return a table's logits or probabilities, as `table_arrays` does; the classes are in the order of `names`."""
    columns, order = _class_columns(table)
    order = list(names) if set(names) == set(order) else order
    return {kind: as_rows(table[[named[name] for name in order]]) for kind, named in columns.items()}


def has_classes(table: Any) -> bool:
    """Return True if this is a table with a column logit_NAME or probability_NAME."""
    return any(COLUMN.fullmatch(str(name)) for name in getattr(table, "columns", ()))


def _class_columns(table: pd.DataFrame) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return a table's columns by kind and class, and the classes, in the order of their numbers or columns."""
    columns: dict[str, dict[str, Any]] = {}
    for column in table.columns:
        if match := COLUMN.fullmatch(str(column)):
            columns.setdefault(PLURALS[match[1]], {})[match[2]] = column
    require(bool(set(columns) - {"posterior"}), "columns", _shown(table), f"a column label, and {WANTED}")
    order = list(next(iter(columns.values())))
    if all(name.isdecimal() for name in order):
        order.sort(key=int)
    for kind, named in columns.items():
        require(set(named) == set(order), kind, ", ".join(named), f"the classes {', '.join(order)}, as in the others")
    return columns, order


def _shown(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns[:8])) + (", ..." if len(table.columns) > 8 else "")


def _are_indices(names: Sequence[str]) -> bool:
    return list(names) == [str(number) for number in range(len(names))]


def _numbers(labels: pd.Series, order: Sequence[str]) -> dict[Any, Any]:
    """Return the number of the class of each label that occurs: of its name, or if none is a name, the label itself."""
    by_name = {name: number for number, name in enumerate(order)}
    by_value = {_value(name): number for name, number in by_name.items()} | {None: None}
    for row, label in zip(labels.index, labels.tolist(), strict=True):
        require(isinstance(label, Hashable), f"label[{row}]", label, "a single number or name")
    found = {label: by_name.get(str(label), by_value.get(_value(label))) for label in dict.fromkeys(labels.tolist())}
    whole = {label: int(label) if isinstance(label, float) and label.is_integer() else label for label in found}
    unknown = [label for label, number in found.items() if number is None]
    if _are_indices(order):
        return whole if unknown else found
    numeric = all(isinstance(label, int) and not isinstance(label, bool) for label in whole.values())
    if len(unknown) < len(found) or not numeric:
        for row, label in zip(labels.index, labels.tolist(), strict=True):
            require(found[label] is not None, f"label[{row}]", label, f"{one_of(order, label)}, as in the columns")
    odd = [name for name in order if not name.isdecimal()]
    if len(odd) == 1 and _are_indices(sorted(set(order) - set(odd), key=int)) and by_name[odd[0]] not in found.values():
        expected = "the number of a class, as in the other columns' names (rename the column if it isn't a class's)"
        raise SpecError("columns", odd[0], expected)
    return whole if unknown else found


def _value(label: Any) -> float | None:
    """Return the number that a label or name is, if any."""
    try:
        return float(str(label))
    except ValueError:
        return None


def read_samples(arrays: Mapping[str, np.ndarray], prefix: str) -> Samples:
    """Check and return the logits, labels and any posterior among the arrays whose names begin with `prefix`."""
    kinds = [kind for kind in ("logits", "probabilities") if prefix + kind in arrays]
    expected = f"either {prefix}logits or {prefix}probabilities, along with {prefix}labels"
    require(bool(kinds), f"{prefix}logits", "no such array", expected)
    require(len(kinds) == 1, f"{prefix}logits", f"alongside {prefix}probabilities", "only one of the two")
    name = prefix + kinds[0]
    logits = _logarithm(name, arrays[name]) if kinds == ["probabilities"] else _check_logits(name, arrays[name], prefix)
    samples = {"logits": logits}
    if f"{prefix}labels" in arrays:
        labels = check_labels(np.asarray(arrays[f"{prefix}labels"]), logits.shape, f"{prefix}labels")
        samples["labels"] = labels.astype(np.int64)
    require("labels" in samples or prefix == "test_", f"{prefix}labels", "no such array", f"labels for {name}")
    if f"{prefix}posterior" in arrays:
        name, rows = f"{prefix}posterior", arrays[f"{prefix}posterior"]
        require(rows.shape == logits.shape, name, f"shape {rows.shape}", f"the shape of the logits, {logits.shape}")
        samples["posterior"] = check_rows(rows, name)
    return samples


def _check_logits(name: str, logits: np.ndarray, prefix: str) -> np.ndarray:
    """Return logits, finite or -inf, as float32 or float64; raise SpecError if they look like probabilities."""
    logits = check_logits(logits, masked=True, key=name)
    if look_like_probabilities(logits):
        expected = "pre-softmax logits (if these are probabilities, rename the array "
        expected += f"{prefix}probabilities; its logarithm is then taken)"
        raise SpecError(name, "rows that look like probabilities (between 0 and 1, summing to 1)", expected)
    return logits if logits.dtype in (np.float32, np.float64) else logits.astype(np.float64)


def _logarithm(name: str, probabilities: np.ndarray) -> np.ndarray:
    """Check probabilities and return their logarithm, with -inf for 0."""
    check_rows(check_matrix(probabilities, name), name)
    with np.errstate(divide="ignore"):
        return np.log(probabilities, dtype=np.float64)


def _halve(samples: Samples, seed: int) -> dict[str, Samples]:
    """Divide samples randomly into the two splits, keeping their order."""
    count = len(samples["labels"])
    expected = "at least two rows, since half are used for fitting and the rest for scoring"
    require(count >= FEWEST, "logits", f"{count} row", expected)
    order = generator(seed, "halves").permutation(count)
    parts = {"val": np.sort(order[: count // 2]), "test": np.sort(order[count // 2 :])}
    return {split: {kind: array[part] for kind, array in samples.items()} for split, part in parts.items()}
