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

from halobench import store
from halobench.calibration import Calibrated, calibrate
from halobench.seeding import generator
from halobench.specs import CalibrateSpec, SpecError, one_of, require
from halobench.temperature import SUM_TOLERANCE

SPLITS = ("val", "test")
KINDS = ("logits", "probabilities", "labels", "posterior")
KNOWN = (*KINDS, *(f"{split}_{kind}" for split in SPLITS for kind in KINDS))
FEWEST = 2  # points that can be halved


def read_logits(path: Path | str, seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a file, named as `halobench.calibration.calibrate` takes them, of the splits ``val`` and ``test``.

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
            return {f"{name}.{kind}": array for name, part in points.items() for kind, array in part.items()}
        return _halved(_points(found, ""), seed)
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
        As `read_logits` and `halobench.calibration.calibrate`.
    """
    try:
        return calibrate(read_logits(path, seed), spec or CalibrateSpec(), seed, SPLITS)
    except SpecError as error:
        if error.key.startswith(str(path)):
            raise
        raise SpecError(f"{path}: {error.key.replace('.', '_', 1)}", error.value, error.expected) from None


def _load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; none is unpickled."""
    what = "an .npz file with arrays of numbers, as numpy.savez writes it (numpy.asarray of each first)"
    with store.reading(path, what):
        found = np.load(path, allow_pickle=False)
        require(isinstance(found, Mapping), str(path), "one array", what)
        with found:
            return {name: found[name] for name in found}


def _points(found: Mapping[str, np.ndarray], lead: str) -> dict[str, np.ndarray]:
    """Logits, labels and perhaps a posterior, of arrays whose names begin with `lead`."""
    given = [kind for kind in ("logits", "probabilities") if lead + kind in found]
    what = f"one of {lead}logits and {lead}probabilities, beside {lead}labels"
    require(len(given) == 1, f"{lead}logits", given or "no such array", what)
    require(f"{lead}labels" in found, f"{lead}labels", "no such array", what)
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
    require(shaped, name, f"shape {array.shape}", "an array (n, k): a row a point, of two classes or more")
    require(array.dtype.kind in "fiu", name, f"dtype {array.dtype}", "real numbers")
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        value = array[row][~np.isfinite(array[row])][0]
        raise SpecError(
            f"{name}[{row}]", float(value), f"finite numbers (of {len(array)} rows, {bad.sum()} hold others)"
        )
    return array


def _raw(name: str, logits: np.ndarray, lead: str) -> np.ndarray:
    """Logits that are no probabilities."""
    if _sum_to_one(logits):
        what = f"logits, before the softmax; give probabilities as {lead}probabilities, whose logarithm is then taken"
        raise SpecError(name, "rows from 0 to 1 that sum to 1: probabilities", what)
    return logits


def _sum_to_one(rows: np.ndarray) -> bool:
    """Whether all rows are distributions."""
    inside = rows.min() >= 0 and rows.max() <= 1
    return bool(inside and (np.abs(rows.sum(axis=1, dtype=np.float64) - 1) <= SUM_TOLERANCE).all())


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
    what = "rows of numbers from 0 to 1 that sum to 1"
    outside = (rows < 0).any(axis=1) | (rows > 1).any(axis=1)
    bad = outside | (np.abs(rows.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE)
    row = int(bad.argmax())
    require(not bad.any(), f"{name}[{row}]", rows[row].tolist(), what)
    return rows


def _labels(name: str, labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels as whole numbers in range, one a point."""
    n, k = shape
    what = f"one label a point, shape ({n},)"
    require(labels.shape == (n,), name, f"shape {labels.shape}", what + "; a soft label is a row of the posterior")
    require(labels.dtype.kind in "iu", name, f"dtype {labels.dtype}", f"whole numbers from 0 to {k - 1}")
    outside = (labels < 0) | (labels >= k)
    row = int(outside.argmax())
    require(
        not outside.any(), f"{name}[{row}]", int(labels[row]), f"a label from 0 to {k - 1}, the columns of the logits"
    )
    return labels.astype(np.int64)


def _halved(points: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Points, drawn into the two splits, in their order."""
    count = len(points["labels"])
    require(count >= FEWEST, "logits", f"{count} row", "at least two points: one half is fitted to, the other scored")
    order = generator(seed, "halves").permutation(count)
    parts = {"val": np.sort(order[: count // 2]), "test": np.sort(order[count // 2 :])}
    return {f"{split}.{kind}": array[part] for split, part in parts.items() for kind, array in points.items()}
