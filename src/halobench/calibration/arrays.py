"""Check arrays of logits, probabilities and targets, and split them into blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from halobench.core.errors import Found, SpecError, refuse, require

# How far the sum of a row of probabilities may be from 1 (float32 rows of a thousand classes stay within 1e-5).
SUM_TOLERANCE = 1e-4

# Rows count as probabilities if at least this share sums to 1 within `ROUNDED`: .01 plus a margin for floats.
ROUNDED, MOST = 0.0101, 0.9
ELEMENTS_PER_BLOCK = 1 << 16  # elements per block: float64 temporaries of this size stay in a core's cache


def blocks(rows: int, columns: int, elements: int = ELEMENTS_PER_BLOCK) -> Iterator[slice]:
    """Yield slices that split `rows` rows into blocks of at most `elements` elements, or of one longer row."""
    step = max(1, elements // max(columns, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def as_array(values: Any) -> np.ndarray:
    """Return numbers as an array; raise SpecError if entries are masked.

    Tensors may be on any device and may require gradients.
    """
    if not hasattr(values, "detach"):
        # Conversion would expose the masked values.
        require(
            not np.ma.is_masked(values),
            "array",
            Found("masked entries"),
            "an array without masked entries; drop the rows that have some",
        )
        return np.asarray(values)
    tensor = values.detach().cpu()
    return np.asarray(tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor)


def as_rows(values: Any) -> np.ndarray:
    """Return rows of numbers (a data frame, or a column or list of rows) as an array.

    Missing numbers of a data frame become NaN.
    """
    if hasattr(values, "isna"):
        values = values.to_numpy(na_value=np.nan) if values.isna().to_numpy().any() else values.to_numpy()
    array = as_array(values)
    if array.dtype == object and array.ndim and len(array):  # entries: rows, or numbers that may be missing
        try:
            return np.stack([np.asarray(row if array.ndim == 1 else row.tolist()) for row in array])
        except ValueError:
            pass
    return array


def check_whole(key: str, value: Any, least: int) -> None:
    """Raise SpecError unless `value` is an integer of at least `least`; booleans don't count as integers."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    require(whole and value >= least, key, value, f"a whole number of at least {least}")


def check_logits(logits: np.ndarray, masked: bool = False, key: str = "logits") -> np.ndarray:
    """Return `logits` (n, k) as float32 or float64; raise SpecError unless all are finite.

    If `masked`, logits may also be -inf, but each row needs at least one finite logit.
    """
    logits = check_matrix(logits, key)
    logits = logits if logits.dtype in (np.float32, np.float64) else logits.astype(np.float64)
    for rows in blocks(*logits.shape):
        block = logits[rows]
        if np.isfinite(block.max()) and np.isfinite(block.min()):  # NaN propagates through both
            continue
        finite = np.isfinite(block)
        good = (finite | (masked & (block == -np.inf))).all(axis=1) & finite.any(axis=1)
        if not good.all():
            row = int(np.argmin(good))
            value = float(block[row][~finite[row]][0])
            expected = "finite numbers" + (", or -inf in a row with at least one finite number" if masked else "")
            hint = "; for a probability of 0, diagnose probabilities, with a floor" if value == -np.inf else ""
            raise SpecError(f"{key}[{rows.start + row}]", value, expected + hint)
    return logits


def two_columns(rows: np.ndarray, kind: str) -> np.ndarray:
    """Return a single column (n,) or (n, 1), the probability or logit of the second of two classes, as two columns.

    `kind` is ``probabilities`` or ``logits``. Arrays of other shapes or types are returned as they are.
    """
    single = rows.ndim == 1 or (rows.ndim == 2 and rows.shape[1] == 1)
    if not single or rows.dtype.kind not in "fiu":
        return rows
    second = rows.ravel()
    return np.stack([1 - second if kind == "probabilities" else np.zeros_like(second), second], axis=1)


def as_probabilities(rows: np.ndarray, key: str = "probabilities") -> np.ndarray:
    """Return probabilities (n, k), or (n,) for the second of two classes, as (n, k); raise SpecError if invalid.

    Rounding to float16 may move the sum of a row away from 1, so float16 rows are divided by their sums if the array
    looks like probabilities.
    """
    rows = check_matrix(two_columns(as_array(rows), "probabilities"), key)
    if rows.dtype == np.float16 and look_like_probabilities(rows):
        rows = rows.astype(np.float64)
        rows /= rows.sum(axis=1, keepdims=True)
    return check_rows(rows, key)


def check_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return `probabilities` as an array (n, k), n >= 1 and k >= 2; raise SpecError if a row isn't a distribution."""
    return check_rows(check_matrix(probabilities, "probabilities"), "probabilities")


def check_matrix(matrix: np.ndarray, key: str) -> np.ndarray:
    """Return `matrix` as an array of real numbers, (n, k) with n >= 1 and k >= 2; raise SpecError otherwise."""
    matrix = as_array(matrix)
    shaped = matrix.ndim == 2 and matrix.shape[0] >= 1 and matrix.shape[1] >= 2
    single = matrix.ndim == 1 or (matrix.ndim == 2 and matrix.shape[1] == 1)
    hint = " (for two classes and a single logit z, pass columns 0 and z)" if single else ""
    expected = f"an array (n, k) with at least one row and two classes{hint}"
    require(shaped, key, Found(f"shape {matrix.shape}"), expected)
    require(matrix.dtype.kind in "fiu", key, Found(f"dtype {matrix.dtype}"), "real numbers")
    return matrix


def in_unit_interval(numbers: np.ndarray) -> bool:
    """Return whether all numbers lie in [0, 1], and some are neither 0 nor 1."""
    return bool(numbers.min() >= 0 and numbers.max() <= 1 and ((numbers > 0) & (numbers < 1)).any())


def look_like_probabilities(rows: np.ndarray) -> bool:
    """Return whether numbers (n, k) lie in [0, 1] and at least 90% of rows sum to 1, up to rounding, e.g. to float16.

    An array of only 0s and 1s doesn't count.
    """
    inside = rows.min() >= 0 and rows.max() <= 1 + ROUNDED and ((rows > 0) & (rows < 1)).any()
    return bool(inside and (np.abs(rows.sum(axis=1, dtype=np.float64) - 1) <= ROUNDED).mean() >= MOST)


def check_unscaled(
    logits: np.ndarray, key: str = "logits", advice: str = "numpy.log converts probabilities above 0 to logits"
) -> None:
    """Raise SpecError, with `advice`, if logits (n, k) look like probabilities."""
    value = "rows that look like probabilities (between 0 and 1, summing to 1)"
    require(not look_like_probabilities(logits), key, value, f"pre-softmax logits ({advice})")


def check_targets(targets: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return labels (n,) or probabilities (n, k) as an array; raise SpecError unless they fit `shape`, i.e. (n, k)."""
    targets, (n, k) = as_array(targets), shape
    if targets.shape == (n,):
        return check_labels(targets, shape, "targets")
    require(
        targets.shape == (n, k),
        "targets",
        Found(f"shape {targets.shape}"),
        f"labels ({n},) or probabilities ({n}, {k})",
    )
    return check_rows(targets, "targets")


def check_labels(labels: np.ndarray, shape: tuple[int, ...], key: str = "labels") -> np.ndarray:
    """Return labels (n,) for predictions of `shape` (n, k) if they are integers in [0, k); raise SpecError if not.

    For two classes, False and True become 0 and 1.
    """
    labels, (n, k) = as_array(labels), shape
    hint = ""
    if labels.shape == (n, k):
        several = np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) > 1).any()
        hint = " (for one-hot rows, use argmax(axis=1); counts of several labels are votes)"
        hint = " (if samples have several labels, calibrate each label on its own, as two classes)" if several else hint
    fits = labels.shape == (n,) and n > 0
    require(fits, key, Found(f"shape {labels.shape}"), f"one label per sample, i.e. shape ({n},){hint}")
    if labels.dtype == bool and k == 2:
        return labels.astype(np.int64)
    kind = labels.dtype.kind
    whole = kind == "b" or (kind == "f" and np.array_equal(labels, np.round(labels)))
    hint = f" (use {key}.astype(int))" if whole else ""
    hint = f" (numpy.unique({key}, return_inverse=True) numbers names)" if kind in "OUST" else hint
    require(kind in "iu", key, Found(f"dtype {labels.dtype}"), f"whole numbers from 0 to {k - 1}{hint}")
    outside = (labels < 0) | (labels >= k)
    row = int(outside.argmax())
    hint = "; labels start at 0, not 1" if labels.min() == 1 and labels.max() == k else ""
    expected = f"a label from 0 to {k - 1}, the index of a column{hint}"
    require(not outside.any(), f"{key}[{row}]", int(labels[row]), expected)
    return labels


def check_votes(votes: Any, shape: tuple[int, ...], key: str = "votes") -> np.ndarray:
    """Return votes (n, k) as float64; raise SpecError unless they are counts of this `shape`, not all 0 in a row."""
    try:
        votes, (n, k) = as_rows(votes), shape
    except ValueError:
        raise SpecError(key, Found("rows of different lengths"), "one count per sample and class") from None
    expected = f"one count per sample and class, i.e. shape ({n}, {k}); numpy.bincount counts a sample's labels"
    require(votes.shape == (n, k), key, Found(f"shape {votes.shape}"), expected)
    require(votes.dtype.kind in "fiu", key, Found(f"dtype {votes.dtype}"), "counts: whole numbers of at least 0")
    good = np.isfinite(votes) & (votes >= 0) & (votes == np.round(votes))
    row, column = np.unravel_index(int(np.argmin(good)), good.shape)
    hint = "; pass the numbers of votes, not their shares" if 0 < votes[row, column] < 1 else ""
    require(good.all(), f"{key}[{row}]", float(votes[row, column]), f"whole numbers of at least 0{hint}")
    total = votes.sum(axis=1)
    empty = int(np.argmin(total))
    expected = "at least one vote for each sample; drop samples without"
    require(total[empty] > 0, f"{key}[{empty}]", Found("no vote"), expected)
    return np.ascontiguousarray(votes, dtype=np.float64)  # sums in one memory layout have the same last digits


def shares_of(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the shares (n, k) and numbers (n,) of votes or, if every sample has one vote, labels (n,) and None."""
    total = votes.sum(axis=1)
    if (total == 1).all():
        return votes.argmax(axis=1), None
    return votes / total[:, None], total


def check_labels_or_votes(
    labels: Any, votes: Any, shape: tuple[int, ...], key: str = "labels"
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return checked targets (labels, or shares of votes) and each sample's number of votes, or None for labels.

    SpecError is raised if labels and votes are both passed or both missing, or if they are invalid.
    """
    refuse(labels is not None and votes is not None, "votes", "passed next to labels; pass either labels or votes")
    refuse(labels is None and votes is None, key, "missing; pass labels, or votes")
    return (check_labels(labels, shape, key), None) if votes is None else shares_of(check_votes(votes, shape))


def weighted(targets: np.ndarray, weights: Any, classes: int) -> tuple[np.ndarray | slice, np.ndarray]:
    """Return which samples have a weight above 0, as a mask or slice, and the targets of these samples times weights.

    Targets, already checked, are labels (n,) or rows (n, k). `weights` (n,) are sample weights, or None for equal
    weights. Targets are multiplied only if weights above 0 differ. Labels then become one-hot rows, and weights are
    divided by the mean of those above 0.
    """
    if weights is None:
        return slice(None), targets
    weights = check_weights(weights, len(targets))
    kept = weights > 0
    weights, targets = weights[kept], targets[kept]
    if (weights == weights[0]).all():
        return kept, targets
    rows = np.eye(classes)[targets] if targets.ndim == 1 else targets
    return kept, rows * (weights / weights.mean())[:, None]


def check_weights(weights: Any, samples: int, key: str = "sample_weight") -> np.ndarray:
    """Return weights (n,), divided by the largest; raise SpecError unless they are finite, at least 0 and not all 0."""
    expected = f"one weight per sample, i.e. shape ({samples},)"
    try:
        weights = as_rows(weights)
    except SpecError as error:
        raise error.at(key) from None
    except ValueError:
        raise SpecError(key, Found("rows of different lengths"), expected) from None
    require(weights.shape == (samples,), key, Found(f"shape {weights.shape}"), expected)
    if weights.dtype == object and all(entry is None or isinstance(entry, int | float) for entry in weights.tolist()):
        weights = weights.astype(np.float64)  # None becomes NaN
    require(weights.dtype.kind in "fiub", key, Found(f"dtype {weights.dtype}"), "numbers of at least 0")
    with np.errstate(over="ignore"):
        weights = weights.astype(np.float64)
    good = np.isfinite(weights) & (weights >= 0)
    row = int(np.argmin(good))
    require(bool(good[row]), f"{key}[{row}]", float(weights[row]), "a finite number of at least 0")
    refuse(not weights.any(), key, "all are zero; give at least one sample a weight above 0")
    return weights / weights.max()


def weights_of(targets: np.ndarray) -> np.ndarray:
    """Return the weights (n,) of samples: 1 for labels or distributions, or the sums of rows from `weighted`."""
    if targets.ndim == 1:
        return np.ones(len(targets))
    sums = targets.sum(axis=1, dtype=np.float64)
    return np.ones(len(targets)) if (np.abs(sums - 1) <= SUM_TOLERANCE).all() else sums


def unweighted(targets: np.ndarray) -> np.ndarray:
    """Return targets without the weights by which their rows are multiplied."""
    return targets if targets.ndim == 1 else targets / weights_of(targets)[:, None]


def check_rows(rows: np.ndarray, key: str) -> np.ndarray:
    """Return `rows` (n, k); raise SpecError unless each row is finite and nonnegative with a sum within 1e-4 of 1."""
    require(rows.dtype.kind in "fiu", key, Found(f"dtype {rows.dtype}"), "real numbers")
    for part in blocks(*rows.shape):
        _check_block(rows[part], key, part.start)
    return rows


@np.errstate(invalid="ignore", over="ignore")  # no warnings for infinities, which raise SpecError
def _check_block(block: np.ndarray, key: str, start: int) -> None:
    """Raise SpecError as `check_rows` does; in error messages, the first row has the number `start`."""
    total, low = block.sum(axis=1, dtype=np.float64), block.min(axis=1)
    good = (np.abs(total - 1) <= SUM_TOLERANCE) & (low >= 0)
    if good.all():
        return
    row = int(np.argmin(good))
    if not low[row] >= 0:
        raise SpecError(f"{key}[{start + row}]", float(low[row]), "non-negative probabilities")
    expected = f"a sum within {SUM_TOLERANCE:g} of 1; divide each row by its sum, in float32 or float64"
    raise SpecError(f"{key}[{start + row}]", Found(f"a sum of {total[row]:.6g}"), expected)
