"""Read logits from other projects from an .npz file, and calibrate and score them in the same way as a cell's.

The file contains either two sets of samples, one for fitting calibrators and one for scoring them,

=============================== ===========================================================================
``val_logits``, ``test_logits`` (n, k), finite; or -inf for a class that the model rules out
``val_labels``, ``test_labels`` (n,), whole numbers from 0 to k - 1
``val_posterior``,              optional: (n, k), P(label | x) if it is known. Scores are then also expectations
``test_posterior``              under it; calibrators except ``oracle`` are still fitted to ``val_labels``
=============================== ===========================================================================

or one set of samples (``logits``, ``labels`` and optionally ``posterior``), which is then halved at random.
``logits`` may be replaced by ``probabilities``, whose logarithm equals the logits up to a constant per row. A
probability of 0, as random forests can output, or a logit of -inf means that the class is ruled out. Temperature
scaling can still be fitted as long as no ``val`` label is a class that is ruled out for its sample. The paper's fit is
NaN if a class is ruled out, and calibrators other than temperatures reject such logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from halobench.calibration.arrays import (
    check_labels,
    check_logits,
    check_matrix,
    check_rows,
    look_like_probabilities,
)
from halobench.calibration.evaluate import Calibrated, calibrate
from halobench.core.errors import SpecError, one_of, require
from halobench.core.seeding import generator
from halobench.core.specs import CalibrateSpec

SPLITS = ("val", "test")
KINDS = ("logits", "probabilities", "labels", "posterior")
NAMES = (*KINDS, *(f"{split}_{kind}" for split in SPLITS for kind in KINDS))
FEWEST = 2  # the smallest number of samples that can be halved


def read_logits(path: Path | str, seed: int = 0) -> dict[str, np.ndarray]:
    """Read a file's arrays for the splits ``val`` and ``test``, named as `evaluate.calibrate` expects.

    Parameters
    ----------
    path : path of an .npz file
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
    return _read(path, seed)[0]


def _read(path: Path | str, seed: int) -> tuple[dict[str, np.ndarray], bool]:
    """Return the arrays of `read_logits` and whether one set of samples was halved."""
    arrays = _load(Path(path))
    for name in arrays:
        require(name in NAMES, f"{path}: {name}", f"shape {arrays[name].shape}", one_of(NAMES, name))
    is_split = any(name in arrays for name in NAMES[len(KINDS) :])
    mixed = [name for name in KINDS if name in arrays]
    if is_split and mixed:
        expected = "either arrays whose names begin with val_ or test_, or a single set without these prefixes"
        raise SpecError(f"{path}: {mixed[0]}", f"alongside {', '.join(sorted(set(arrays) - set(mixed)))}", expected)
    try:
        if is_split:
            return _read_splits(arrays), False
        return _halve(_read_samples(arrays, ""), seed), True
    except SpecError as error:
        raise SpecError(f"{path}: {error.key}", error.value, error.expected) from None


def _read_splits(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Check the arrays of both splits, and return them with the names that `evaluate.calibrate` expects."""
    splits = {split: _read_samples(arrays, f"{split}_") for split in SPLITS}
    widths = [samples["logits"].shape[1] for samples in splits.values()]
    expected = f"{widths[0]} classes, as in val_logits"
    require(widths[0] == widths[1], "test_logits", f"{widths[1]} classes", expected)
    # Calibrators are fitted to drawn labels, so a missing validation posterior affects only the validation scores.
    alone = "posterior" in splits["val"] and "posterior" not in splits["test"]
    require(not alone, "val_posterior", "without test_posterior", "test_posterior too, since test samples are scored")
    return {f"{split}.{kind}": array for split, samples in splits.items() for kind, array in samples.items()}


def calibrate_file(path: Path | str, spec: CalibrateSpec | None = None, seed: int = 0) -> Calibrated:
    """Fit the calibrators of `spec` to the ``val`` samples of a file and score them on both splits.

    Parameters
    ----------
    path : path of an .npz file
        As described at the top of this module.
    spec : CalibrateSpec, optional
        Defaults to the temperature scalings.
    seed : int
        Used to draw bootstrap resamples and, if the file contains only one set of samples, to halve it.

    Raises
    ------
    SpecError
        As in `read_logits` and `halobench.calibration.evaluate.calibrate`.
    """
    return calibrate_and_describe(path, spec, seed)[0]


def calibrate_and_describe(
    path: Path | str, spec: CalibrateSpec | None = None, seed: int = 0
) -> tuple[Calibrated, str]:
    """Run `calibrate_file`; also return text on how many samples the file has and which were used for fitting."""
    arrays, halved = _read(path, seed)
    (val, k), (test, _) = (arrays[f"{split}.logits"].shape for split in SPLITS)
    description = f"{k} classes; fitted to the {val} validation points, scored on the {test} test points"
    if halved:
        description = f"{val + test} points, {k} classes; fitted to {val} (drawn with seed {seed}), scored on the rest"
    try:
        return calibrate(arrays, spec or CalibrateSpec(), seed, SPLITS), description
    except SpecError as error:
        split, _, rest = error.key.partition(".")
        key = f"{split}_{rest}" if split in SPLITS else error.key
        raise SpecError(f"{path}: {key}", error.value, error.expected) from None


def _load(path: Path) -> dict[str, np.ndarray]:
    """Load all arrays of an .npz file without unpickling any."""
    expected = "an .npz file of numeric arrays, as written by numpy.savez (convert each with numpy.asarray first)"
    if not path.is_file():
        raise SpecError(str(path), "a folder" if path.is_dir() else "no such file", expected)
    try:
        archive = np.load(path, allow_pickle=False)
        require(isinstance(archive, Mapping), str(path), "a single array", expected)
        with archive:
            return {name: archive[name] for name in archive}
    except SpecError:
        raise
    except Exception as error:  # numpy and zipfile raise a dozen types, and some messages suggest unpickling
        raise SpecError(str(path), f"an unreadable file ({type(error).__name__})", expected) from None


def _read_samples(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Check and return the logits, labels and any posterior among the arrays whose names begin with `prefix`."""
    kinds = [kind for kind in ("logits", "probabilities") if prefix + kind in arrays]
    expected = f"either {prefix}logits or {prefix}probabilities, along with {prefix}labels"
    require(bool(kinds), f"{prefix}logits", "no such array", expected)
    require(len(kinds) == 1, f"{prefix}logits", f"alongside {prefix}probabilities", "only one of the two")
    require(f"{prefix}labels" in arrays, f"{prefix}labels", "no such array", f"labels for {prefix}{kinds[0]}")
    name = prefix + kinds[0]
    logits = _logarithm(name, arrays[name]) if kinds == ["probabilities"] else _check_logits(name, arrays[name], prefix)
    labels = check_labels(arrays[f"{prefix}labels"], logits.shape, f"{prefix}labels").astype(np.int64)
    samples = {"logits": logits, "labels": labels, "clean": labels}
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


def _halve(samples: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Divide samples randomly into the two splits, keeping their order."""
    count = len(samples["labels"])
    expected = "at least two rows, since half are used for fitting and the rest for scoring"
    require(count >= FEWEST, "logits", f"{count} row", expected)
    order = generator(seed, "halves").permutation(count)
    parts = {"val": np.sort(order[: count // 2]), "test": np.sort(order[count // 2 :])}
    return {f"{split}.{kind}": array[part] for split, part in parts.items() for kind, array in samples.items()}
