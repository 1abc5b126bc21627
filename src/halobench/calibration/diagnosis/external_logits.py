"""Read other projects' logits from a file, and calibrate and score them as a cell's logits are.

An .npz file contains either two sets of samples, one for fitting calibrators and one for scoring them,

=============================== ===========================================================================
``val_logits``, ``test_logits`` (n, k), finite; or -inf for a class that the model rules out
``val_labels``, ``test_labels`` (n,), whole numbers from 0 to k - 1
``val_votes``, ``test_votes``   (n, k), for `diagnose_file` only, in place of labels: how many labels of each
                                class a sample has, for example from several annotators
``val_posterior``,              optional: (n, k), P(label | x) if it is known. Scores are then also expectations
``test_posterior``              under it; calibrators except ``oracle`` are still fitted to ``val_labels``
``val_groups``                  optional, for `diagnose_file` only: (n,), numbers or names that are equal for samples
                                that belong together
``names``                       optional: (k,), the name of each column's class; labels may then be names
=============================== ===========================================================================

or one set (``logits``, ``labels`` or ``votes``, and optionally ``posterior`` and ``groups``), which `calibrate_file`
randomly halves. `diagnose_file` needs neither test samples nor test labels. ``probabilities`` may replace ``logits``,
since their logarithm equals the logits up to a constant per row. If some probabilities are 0, `diagnose_file` adds a
floor to all probabilities, unless the floor is set to 0 (`halobench.calibration.floor`). In `calibrate_file`, a
probability of 0 rules the class out, as a logit of -inf does in both functions. Temperature scaling can still be fitted
as long as no ``val`` label is a class that is ruled out for its sample. The paper's fit is NaN if a class is ruled out,
and calibrators other than temperatures reject logits of -inf.

The same arrays may be tensors in a dict that ``torch.save`` has written (.pt), or .npy files in a folder, such as
logits.npy and labels.npy. A single column of logits or probabilities belongs to the second of two classes.

A table (.csv or .parquet) has one row per sample, and columns as described in
`halobench.calibration.logit_tables`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from halobench.calibration.arrays import (
    as_array,
    as_probabilities,
    check_labels,
    check_logits,
    check_rows,
    check_unscaled,
    check_votes,
    in_unit_interval,
    shares_of,
    two_columns,
)
from halobench.calibration.logit_tables import SPLITS, check_columns, numbered, table_arrays
from halobench.calibration.repair.groups import check_groups
from halobench.calibration.scores.sample_scores import logarithm
from halobench.core.errors import Found, RefusedError, SpecError, one_of, refuse, require
from halobench.core.extras import explained
from halobench.core.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

    from halobench.calibration.calibrate_cell import Calibrated
    from halobench.core.specs.calibrate import CalibrateSpec

ARRAY_KINDS = ("logits", "probabilities", "labels", "votes", "posterior")
NAMES = (
    *ARRAY_KINDS,
    "groups",
    "names",
    *(f"{split}_{kind}" for split in SPLITS for kind in ARRAY_KINDS),
    "val_groups",
)
FEWEST = 2  # the smallest number of samples that can be halved

# The logits, labels and, if known, the posterior of a set of samples; test samples may have no labels. In place of
# labels, there may be the shares (n, k) and numbers (n,) of votes.
Samples = dict[str, np.ndarray]


def read_logits(path: Path | str, seed: int = 0) -> dict[str, np.ndarray]:
    """Return a file's arrays for the splits ``val`` and ``test``, by the names that `halobench.calibrate` expects.

    Parameters
    ----------
    path : path of a file or folder
        As described at the top of this module.
    seed : int
        Determines which half of the samples is used for fitting if the file contains only one set.

    Returns
    -------
    dict of name to array
        ``{split}.logits``, ``{split}.labels``, ``{split}.clean`` and optionally ``{split}.posterior``.

    Raises
    ------
    SpecError
        If the file doesn't have the form described, e.g. if its logits look like probabilities or its arrays have other
        names, or if it has groups or votes.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "mine.npz")
    >>> np.savez(path, logits=3 * np.eye(4), labels=np.arange(4))
    >>> {name: array.shape for name, array in sorted(read_logits(path).items())}["val.logits"]
    (2, 4)
    """
    with in_file(path):
        arrays, _ = _load(Path(path))
        val, test = as_sets(arrays)
        sentence = (
            "remove this array; only `halobench diagnose` uses groups, and these fits treat samples as independent"
        )
        refuse("groups" in val, "groups" if "groups" in arrays else "val_groups", sentence)
        voted = "votes" in val or (test is not None and "votes" in test)
        refuse(voted, "votes", "only `halobench diagnose` uses votes; pass labels, e.g. votes.argmax(axis=1)")
        if set(ARRAY_KINDS) & set(arrays):
            val, test = _halves(val, seed)
        if test is None:
            raise RefusedError("test_logits", "missing; add logits and labels of test samples, which are scored")
        refuse("labels" not in test, "test_labels", "missing; add the labels of the test samples, which are scored")
        # Calibrators are fitted to drawn labels, so a missing validation posterior only affects validation scores.
        alone = "posterior" in val and "posterior" not in test
        refuse(
            alone,
            "val_posterior",
            "test_posterior is missing; add it, since test samples are scored, or remove this array",
        )
    sets = zip(SPLITS, (val | {"clean": val["labels"]}, test | {"clean": test["labels"]}), strict=True)
    return {
        f"{split}.{kind}": array
        for split, samples in sets
        for kind, array in samples.items()
        if kind != "probabilities"  # the logits are their logarithms
    }


def calibrate_file(path: Path | str, spec: CalibrateSpec | Sequence[Any] | None = None, seed: int = 0) -> Calibrated:
    """Return calibrators fitted to the ``val`` samples of a file, and their scores on both splits.

    Parameters
    ----------
    path : path of a file or folder
        As described at the top of this module.
    spec : CalibrateSpec or list of calibrators, optional
        Defaults to ``none``, ``exact``, ``paper`` and ``oracle``.
    seed : int
        Determines bootstrap resamples and, if the file contains only one set of samples, its halves.

    Raises
    ------
    SpecError
        As in `read_logits` and `halobench.calibration.calibrate_cell.calibrate`.
    """
    from halobench.calibration.calibrate_cell import calibrate
    from halobench.core.specs.calibrate import CalibrateSpec
    from halobench.core.specs.codec import parse

    if not isinstance(spec, CalibrateSpec):
        spec = CalibrateSpec() if spec is None else parse(CalibrateSpec, {"calibrators": spec})
    arrays = read_logits(path, seed)
    with in_file(path):
        return calibrate(arrays, spec, seed, SPLITS)


def read_sets(path: Path | str) -> tuple[Samples, Samples | None, tuple[str, ...] | None]:
    """Return a file's validation samples, any test samples, and any names of classes.

    If the file has only one set, all samples are validation samples. SpecError is raised if the file doesn't have the
    form described at the top of this module.
    """
    with in_file(path):
        arrays, names = _load(Path(path))
        return *as_sets(arrays), names


def as_sets(arrays: Mapping[str, np.ndarray]) -> tuple[Samples, Samples | None]:
    """Check arrays with the names of an .npz file, and return the validation samples and any test samples."""
    for name in arrays:
        refuse(name not in NAMES, name, f"unknown array; rename it to {one_of(NAMES, name)}, or remove it")
    single, split = (
        [name for name in arrays if (name in (*ARRAY_KINDS, "groups")) == alone] for alone in (True, False)
    )
    if single and split:
        wanted = "use either only names that begin with val_ or test_, or only names without these prefixes"
        raise RefusedError(single[0], f"the file also has {', '.join(sorted(split))}; {wanted}")
    val = read_samples(arrays, "val_" if split else "")
    has_test = any(name.startswith("test_") for name in arrays)
    return val, read_samples(arrays, "test_", val["logits"].shape[1]) if has_test else None


def read_samples(arrays: Mapping[str, np.ndarray], prefix: str = "", classes: int | None = None) -> Samples:
    """Return the checked logits, labels or votes, groups and posterior of arrays whose names begin with `prefix`.

    If `classes`, the number of classes in the validation samples, is passed, the samples are test samples, which may
    have no labels.
    """
    kinds = [kind for kind in ARRAY_KINDS[:2] if prefix + kind in arrays]
    wanted = f"add {prefix}logits or {prefix}probabilities, along with {prefix}labels"
    refuse(not kinds, f"{prefix}logits", f"missing; {wanted}")
    refuse(len(kinds) > 1, f"{prefix}logits", f"the file also has {prefix}probabilities; keep only one of the two")
    name, samples = prefix + kinds[0], {}
    if kinds == ["probabilities"]:
        samples["probabilities"] = as_probabilities(arrays[name], name)
        logits = logarithm(samples["probabilities"].astype(np.float64))
    else:
        column = np.asarray(arrays[name])
        rows = two_columns(column, "logits") if classes in (None, 2) else column
        logits = check_logits(rows, masked=True, key=name)
        unclear = logits.shape[1] == 2 and column.size == len(logits) and in_unit_interval(column)
        advice = f"P(class 1) is called {prefix}probabilities; for logits, pass two columns, 0 and this one"
        refuse(unclear, name, f"a column of numbers from 0 to 1 may be probabilities or logits; {advice}")
        advice = f"if these are probabilities, call the array {prefix}probabilities or, in Python, pass"
        advice += " probabilities=True"
        check_unscaled(logits, name, advice)
    fits = classes in (None, logits.shape[1])  # checked first; otherwise, the error would blame the labels
    require(fits, name, Found(f"{logits.shape[1]} classes"), f"{classes} classes, as in the validation logits")
    samples = {"logits": logits} | samples
    if f"{prefix}labels" in arrays:
        labels = check_labels(np.asarray(arrays[f"{prefix}labels"]), logits.shape, f"{prefix}labels")
        samples["labels"] = labels.astype(np.int64)
    if f"{prefix}votes" in arrays:
        for other in ("labels", "posterior"):
            refuse(
                f"{prefix}{other}" in arrays, f"{prefix}votes", f"passed next to {prefix}{other}; keep one of the two"
            )
        votes = check_votes(arrays[f"{prefix}votes"], logits.shape, f"{prefix}votes")
        targets, counts = shares_of(votes)
        samples |= {"labels": targets} if counts is None else {"shares": targets, "votes": counts}
    known = "labels" in samples or "shares" in samples
    refuse(not known and classes is None, f"{prefix}labels", f"missing; add the labels or votes of {name}")
    if f"{prefix}groups" in arrays:
        samples["groups"] = check_groups(arrays[f"{prefix}groups"], len(logits), f"{prefix}groups")
    if f"{prefix}posterior" in arrays:
        name, rows = f"{prefix}posterior", arrays[f"{prefix}posterior"]
        require(
            rows.shape == logits.shape, name, Found(f"shape {rows.shape}"), f"the shape of the logits, {logits.shape}"
        )
        samples["posterior"] = check_rows(rows, name)
    return samples


@contextlib.contextmanager
def in_file(path: Path | str) -> Iterator[None]:
    """Name the file in SpecErrors raised in this context, and its arrays, e.g. val_logits in place of val.logits."""
    try:
        yield
    except SpecError as error:
        if error.key == str(path):
            raise
        split, _, rest = error.key.partition(".")
        key = f"{split}_{rest}" if split in SPLITS else error.key
        raise error.at(f"{path}: {key}") from None


def _load(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Return all arrays of a file, and any names of classes, without running code from the file."""
    kind = path.suffix.lower()
    wanted = "an .npz file of numeric arrays, as written by numpy.savez (convert each with numpy.asarray first)"
    if path.is_dir() or (kind == ".npy" and path.stem in NAMES):
        return named_arrays(_read_npy_files(path if path.is_dir() else path.parent))
    if not path.is_file():
        raise RefusedError(str(path), "no such file")
    if kind == ".npy":
        raise RefusedError(str(path), "call it logits.npy, or another name that the arrays of an .npz file have")
    if kind == ".pt":
        return named_arrays(_read_tensors(path))
    if is_table := kind in (".csv", ".parquet"):
        wanted = f"a table with a header, as written by pandas to {kind}"
    try:
        if is_table:
            return table_arrays(_read_table(path))
        archive = np.load(path, allow_pickle=False)
        require(isinstance(archive, Mapping), str(path), Found("a single array"), wanted)
        with archive:
            return named_arrays(dict(archive))
    except (SpecError, ImportError):
        raise
    except Exception as error:  # numpy, zipfile and pandas raise a dozen types, and some messages suggest unpickling
        raise RefusedError(str(path), f"can't be read ({type(error).__name__}); pass {wanted}") from None


def _read_npy_files(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a folder's .npy files with known names, such as logits.npy and labels.npy."""
    files = {file.stem: file for file in sorted(folder.glob("*.npy")) if file.stem in NAMES}
    sentence = "has no logits.npy, labels.npy, val_logits.npy, ...; pass a file, or a folder with such files"
    refuse(not files, str(folder), sentence)
    arrays = {}
    for name, file in files.items():
        try:
            arrays[name] = np.load(file, allow_pickle=False)
        except (ValueError, EOFError, MemoryError) as error:
            raise RefusedError(str(file), f"can't be read ({type(error).__name__}); pass an array of numbers") from None
    return arrays


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays in a dict of tensors that torch.save has written; raise SpecError for other objects."""
    with explained(str(path)):
        import torch
    wanted = "a dict of tensors with the names of an .npz file's arrays, such as logits and labels"
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        named = isinstance(tensors, dict) and all(hasattr(tensor, "detach") for tensor in tensors.values())
        require(named, str(path), Found(type(tensors).__name__), wanted)
        return {str(name): as_array(tensor) for name, tensor in tensors.items()}
    except SpecError:
        raise
    except Exception as error:  # torch raises a dozen types, some with a page of advice; sparse tensors are one reason
        raise RefusedError(str(path), f"can't be read ({type(error).__name__}); pass {wanted}") from None


def named_arrays(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Return an .npz file's arrays with labels as numbers, and any names of classes."""
    listed = arrays.pop("names", None)
    names: Any = None if listed is None else tuple(map(str, listed.ravel().tolist()))
    for name in sorted(key for key in arrays if key.endswith("labels")):
        rows = next(
            (arrays[key] for kind in ARRAY_KINDS[:2] if (key := name.removesuffix("labels") + kind) in arrays), None
        )
        if rows is not None and rows.ndim in (1, 2):
            k = max(rows.shape[1], 2) if rows.ndim == 2 else 2
            arrays[name], names = numbered(arrays[name], names, k, name)
    return arrays, names


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    if path.suffix.lower() == ".csv":
        csv_columns(path)
        return pd.read_csv(path, float_precision="round_trip")
    with explained(str(path)):
        import pyarrow  # noqa: F401 (if it is missing, pandas doesn't say that this is why)
    return pd.read_parquet(path)


def csv_columns(path: Path) -> list[str]:
    """Return the names of a .csv file's columns; raise SpecError if one is repeated, since pandas would rename it."""
    import pandas as pd

    names = pd.read_csv(path, header=None, nrows=1, dtype=str, sep=",").iloc[0]
    joined = len(names) == 1 and ";" in str(names[0])
    refuse(
        joined, str(path), "its columns are separated by semicolons; separate them by commas, and decimals by points"
    )
    check_columns(names.dropna())
    return names.tolist()


def _halves(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """Return two random halves of samples, val and test, each in the original order."""
    count = len(samples["labels"])
    expected = "at least two, since half are used for fitting and the rest for scoring"
    require(count >= FEWEST, "logits", Found(f"{count} row"), expected)
    order = generator(seed, "halves").permutation(count)
    val, test = np.sort(order[: count // 2]), np.sort(order[count // 2 :])
    return {kind: array[val] for kind, array in samples.items()}, {kind: array[test] for kind, array in samples.items()}
