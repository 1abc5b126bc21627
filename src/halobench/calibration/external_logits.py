"""Logits of other projects: read from one .npz file, calibrated and scored as a cell's are.

The file holds either what calibrators are fitted to and scored on, apart,

=============================== ===========================================================================
``val_logits``, ``test_logits`` (n, k), finite
``val_labels``, ``test_labels`` (n,), whole numbers from 0 to k - 1
``val_posterior``, ...          optional: (n, k), P(label | x) where it is known, of which the KL divergence is taken
=============================== ===========================================================================

or ``logits``, ``labels`` and perhaps ``posterior`` of one set of points, which is then halved at random. In place of
``logits`` there may be ``probabilities``, whose logarithm is taken: that is the logits but for a constant a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from halobench.calibration.arrays import SUM_TOLERANCE
from halobench.calibration.evaluate import Calibrated, calibrate
from halobench.core.errors import SpecError, one_of, require
from halobench.core.seeding import generator
from halobench.core.specs import CalibrateSpec

SPLITS = ("val", "test")
KINDS = ("logits", "probabilities", "labels", "posterior")
KNOWN = (*KINDS, *(f"{split}_{kind}" for split in SPLITS for kind in KINDS))
ROUNDED, MOST = 0.01, 0.9  # how far from 1 rows may sum that are taken for probabilities, and what share of them
FEWEST = 2  # points that can be halved


def read_logits(path: Path | str, seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a file, named as `evaluate.calibrate` takes them, of the splits ``val`` and ``test``.

    Parameters
    ----------
    path : path of an .npz file
        As this module's text has it.
    seed : int
        Draws which half of the points is fitted to, where the file doesn't tell.

    Returns
    -------
    dict of name to array
        ``{split}.logits``, ``{split}.labels``, ``{split}.clean`` and perhaps ``{split}.posterior``.

    Raises
    ------
    SpecError
        If it is no such file, or holds probabilities in place of logits, or other arrays than these.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "mine.npz")
    >>> np.savez(path, logits=np.eye(4), labels=np.arange(4))
    >>> {name: array.shape for name, array in sorted(read_logits(path).items())}["val.logits"]
    (2, 4)
    """
    return _read(path, seed)[0]


def _read(path: Path | str, seed: int) -> tuple[dict[str, np.ndarray], bool]:
    """`read_logits`, and whether one set of points was halved."""
    found = _load(Path(path))
    for name in found:
        require(name in KNOWN, f"{path}: {name}", f"shape {found[name].shape}", one_of(KNOWN, name))
    split = any(name in found for name in KNOWN[len(KINDS) :])
    mixed = [name for name in KINDS if name in found]
    if split and mixed:
        what = "either arrays whose names begin with val_ and test_, or those of one set of points"
        raise SpecError(f"{path}: {mixed[0]}", f"beside {', '.join(sorted(set(found) - set(mixed)))}", what)
    try:
        if split:
            points = {name: _points(found, f"{name}_") for name in SPLITS}
            widths = [part["logits"].shape[1] for part in points.values()]
            what = f"as many classes as val_logits has, {widths[0]}"
            require(widths[0] == widths[1], "test_logits", f"{widths[1]} classes", what)
            lacking = [f"{name}_posterior" for name in SPLITS if "posterior" not in points[name]]
            require(len(lacking) != 1, "".join(lacking), "no such array", "both posteriors, or none")
            return {f"{name}.{kind}": array for name, part in points.items() for kind, array in part.items()}, False
        return _halved(_points(found, ""), seed), True
    except SpecError as error:
        raise SpecError(f"{path}: {error.key}", error.value, error.expected) from None


def calibrate_file(path: Path | str, spec: CalibrateSpec | None = None, seed: int = 0) -> Calibrated:
    """Fit the calibrators of `spec` to the ``val`` points of a file, and score them on both splits.

    Parameters
    ----------
    path : path of an .npz file
        As this module's text has it.
    spec : CalibrateSpec, optional
        By default the temperature scalings.
    seed : int
        Draws bootstrap resamples and, where the file doesn't tell, the points that are fitted to.

    Raises
    ------
    SpecError
        As `read_logits` and `halobench.calibration.evaluate.calibrate`.
    """
    return calibrate_and_tell(path, spec, seed)[0]


def calibrate_and_tell(path: Path | str, spec: CalibrateSpec | None = None, seed: int = 0) -> tuple[Calibrated, str]:
    """`calibrate_file`, and in words how many points the file has and which of them were fitted to; it is read once."""
    arrays, halved = _read(path, seed)
    (val, k), (test, _) = (arrays[f"{split}.logits"].shape for split in SPLITS)
    said = f"{k} classes; fitted to the {val} points of val, scored on the {test} of test"
    if halved:
        said = f"{val + test} points, {k} classes; fitted to {val}, drawn by seed {seed}, scored on the others"
    try:
        return calibrate(arrays, spec or CalibrateSpec(), seed, SPLITS), said
    except SpecError as error:
        split, _, rest = error.key.partition(".")
        key = f"{split}_{rest}" if split in SPLITS else error.key
        raise SpecError(f"{path}: {key}", error.value, error.expected) from None


def _load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; none is unpickled."""
    what = "an .npz file with arrays of numbers, as numpy.savez writes it (numpy.asarray of each first)"
    if not path.is_file():
        raise SpecError(str(path), "a folder" if path.is_dir() else "no such file", what)
    try:
        found = np.load(path, allow_pickle=False)
        require(isinstance(found, Mapping), str(path), "one array", what)
        with found:
            return {name: found[name] for name in found}
    except SpecError:
        raise
    except Exception as error:  # numpy's and zipfile's are of a dozen kinds, some of which advise to unpickle
        raise SpecError(str(path), f"a file that can't be read so ({type(error).__name__})", what) from None


def _points(found: Mapping[str, np.ndarray], lead: str) -> dict[str, np.ndarray]:
    """Logits, labels and perhaps a posterior, of arrays whose names begin with `lead`."""
    given = [kind for kind in ("logits", "probabilities") if lead + kind in found]
    what = f"one of {lead}logits and {lead}probabilities, beside {lead}labels"
    require(bool(given), f"{lead}logits", "no such array", what)
    require(len(given) == 1, f"{lead}logits", f"beside {lead}probabilities", "one of the two")
    require(f"{lead}labels" in found, f"{lead}labels", "no such array", f"labels of {lead}{given[0]}")
    name = lead + given[0]
    scores = _matrix(name, found[name])
    logits = _log(name, scores) if given == ["probabilities"] else _raw(name, scores, lead)
    labels = _labels(f"{lead}labels", found[f"{lead}labels"], logits.shape)
    made = {"logits": logits, "labels": labels, "clean": labels}
    if f"{lead}posterior" in found:
        made["posterior"] = _distributions(f"{lead}posterior", found[f"{lead}posterior"], logits.shape)
    return made


def _matrix(name: str, array: np.ndarray) -> np.ndarray:
    """An array (n, k) of finite numbers."""
    shaped = array.ndim == 2 and array.shape[0] >= 1 and array.shape[1] >= 2
    single = array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)
    hint = " (of one logit z for two classes: the columns 0 and z)" if single else ""
    require(shaped, name, f"shape {array.shape}", f"an array (n, k): a row a point, of two classes or more{hint}")
    require(array.dtype.kind in "fiu", name, f"dtype {array.dtype}", "real numbers")
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        value = array[row][~np.isfinite(array[row])][0]
        told = f"of {len(array)} rows, {bad.sum()} hold others; for a class of no mass a low finite logit, e.g. -1000"
        raise SpecError(f"{name}[{row}]", float(value), f"finite numbers ({told})")
    return array


def _raw(name: str, logits: np.ndarray, lead: str) -> np.ndarray:
    """Logits that are no probabilities."""
    if _look_like_probabilities(logits):
        what = f"logits, before the softmax; give probabilities as {lead}probabilities, whose logarithm is then taken"
        raise SpecError(name, "rows from 0 to 1 that sum to 1: probabilities", what)
    return logits


def _look_like_probabilities(rows: np.ndarray) -> bool:
    """Whether numbers lie from 0 to 1, and most rows sum to 1 as far as rounding, e.g. to float16, leaves them."""
    inside = rows.min() >= 0 and rows.max() <= 1 + ROUNDED
    return bool(inside and (np.abs(rows.sum(axis=1, dtype=np.float64) - 1) <= ROUNDED).mean() >= MOST)


def _log(name: str, probabilities: np.ndarray) -> np.ndarray:
    """The logarithm of probabilities, all of them above 0."""
    _distributions(name, probabilities, probabilities.shape)
    empty = (probabilities <= 0).any(axis=1)
    what = "probabilities above 0, whose logarithm is finite: keep the logits, or more digits"
    require(not empty.any(), f"{name}[{int(empty.argmax())}]", 0.0, f"{what} ({int(empty.sum())} rows hold a 0)")
    return np.log(probabilities, dtype=np.float64)


def _distributions(name: str, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of probabilities of a shape."""
    require(rows.shape == shape, name, f"shape {rows.shape}", f"shape {shape}, as the logits have")
    rows = _matrix(name, rows)
    outside = (rows < 0).any(axis=1) | (rows > 1).any(axis=1)
    row = int(outside.argmax())
    value = float(rows[row][(rows[row] < 0) | (rows[row] > 1)][0]) if outside.any() else 0.0
    require(not outside.any(), f"{name}[{row}]", value, "numbers from 0 to 1")
    sums = rows.sum(axis=1, dtype=np.float64)
    off = np.abs(sums - 1) > SUM_TOLERANCE
    row = int(off.argmax())
    what = f"a row that sums to 1 within {SUM_TOLERANCE:g}: divide each by its sum, in float32 or float64"
    require(not off.any(), f"{name}[{row}]", f"a sum of {sums[row]:.6g}", f"{what} ({int(off.sum())} rows do not)")
    return rows


def _labels(name: str, labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels as whole numbers in range, one a point."""
    n, k = shape
    what = f"one label a point, shape ({n},)"
    hint = " (of one-hot rows: their argmax(axis=1); soft labels are a posterior)" if labels.shape == (n, k) else ""
    require(labels.shape == (n,), name, f"shape {labels.shape}", what + hint)
    whole = labels.dtype.kind == "b" or (labels.dtype.kind == "f" and np.array_equal(labels, np.round(labels)))
    hint = f": {name}.astype(int)" if whole else ""
    require(labels.dtype.kind in "iu", name, f"dtype {labels.dtype}", f"whole numbers from 0 to {k - 1}{hint}")
    outside = (labels < 0) | (labels >= k)
    row = int(outside.argmax())
    hint = ": labels start at 0" if labels.min() == 1 and labels.max() == k else ""
    what = f"a label from 0 to {k - 1}, the columns of the logits{hint}"
    require(not outside.any(), f"{name}[{row}]", int(labels[row]), what)
    return labels.astype(np.int64)


def _halved(points: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Points, drawn into the two splits, in their order."""
    count = len(points["labels"])
    require(count >= FEWEST, "logits", f"{count} row", "at least two points: one half is fitted to, the other scored")
    order = generator(seed, "halves").permutation(count)
    parts = {"val": np.sort(order[: count // 2]), "test": np.sort(order[count // 2 :])}
    return {f"{split}.{kind}": array[part] for split, part in parts.items() for kind, array in points.items()}
