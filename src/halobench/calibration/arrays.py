"""Check and block the arrays that calibration reads: logits, labels and posteriors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from halobench.core.errors import SpecError, require

SUM_TOLERANCE = 1e-4
BLOCK = 1 << 16


def blocks(rows: int, columns: int, elements: int = BLOCK) -> Iterator[slice]:
    """Slices that cut `rows` into blocks of about so many elements."""
    step = max(1, elements // max(columns, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def check_logits(logits: np.ndarray, masked: bool = False) -> np.ndarray:
    """`logits` as a floating-point array (n, k), float32 uncopied; `masked` allows -inf beside a finite logit.

    Raises
    ------
    SpecError
    """
    logits = _real_matrix(logits)
    for rows in blocks(*logits.shape):
        block = logits[rows]
        if np.isfinite(block.max()) and np.isfinite(block.min()):  # NaN wins in both
            continue
        top, bottom = block.max(axis=1), block.min(axis=1)
        good = np.isfinite(top) & (np.isfinite(bottom) | (masked & (bottom == -np.inf)))
        if not good.all():
            row = int(np.argmin(good))
            expected = "finite numbers" + (", or -inf beside a finite one" if masked else "")
            raise SpecError(f"logits[{rows.start + row}]", [float(top[row]), float(bottom[row])], expected)
    return logits


def as_array(values: Any) -> np.ndarray:
    """Numbers as an array; of a tensor, on whatever device and with gradients or not, what it holds."""
    if not hasattr(values, "detach"):
        return np.asarray(values)
    tensor = values.detach().cpu()
    return np.asarray(tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor)


def _real_matrix(logits: np.ndarray) -> np.ndarray:
    """`logits` as a floating-point array (n, k), float32 uncopied; SpecError where they are none."""
    logits = as_array(logits)
    shaped = logits.ndim == 2 and logits.shape[0] >= 1 and logits.shape[1] >= 2
    require(shaped, "logits", f"shape {logits.shape}", "an array (n, k) of at least one row and two classes")
    require(logits.dtype.kind in "fiu", "logits", f"dtype {logits.dtype}", "real numbers")
    return logits if logits.dtype.kind == "f" else logits.astype(np.float64)


def check_targets(targets: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`targets` for predictions of `shape` (n, k): integer labels (n,) in [0, k), or rows of probabilities (n, k).

    Raises
    ------
    SpecError
    """
    targets, (n, k) = as_array(targets), shape
    if targets.shape == (n,):
        require(targets.dtype.kind in "iu", "targets", f"dtype {targets.dtype}", "integer labels")
        low, high = int(targets.min()), int(targets.max())
        require(low >= 0 and high < k, "targets", [low, high], f"labels from 0 to {k - 1}")
        return targets
    require(targets.shape == (n, k), "targets", f"shape {targets.shape}", f"labels ({n},) or probabilities ({n}, {k})")
    return check_rows(targets, "targets")


@np.errstate(invalid="ignore", over="ignore")  # of sums of infinities, which are told
def check_rows(rows: np.ndarray, key: str) -> np.ndarray:
    """`rows` if each is a distribution: finite, of at least 0, its sum within 1e-4 of 1.

    Raises
    ------
    SpecError
    """
    require(rows.dtype.kind in "fiu", key, f"dtype {rows.dtype}", "real numbers")
    for block in blocks(*rows.shape):
        check_block(rows[block], key, block.start)
    return rows


def check_block(block: np.ndarray, key: str, start: int) -> None:
    """`check_rows` of the rows from `start` on, for those who go on to work on them while they are in the cache."""
    if block.min() >= 0 and adds_up(block):
        return
    total = block.sum(axis=1, dtype=np.float64)
    low = block.min(axis=1)
    good = (np.abs(total - 1) <= SUM_TOLERANCE) & (low >= 0)
    if not good.all():
        row = int(np.argmin(good))
        if not low[row] >= 0:
            raise SpecError(f"{key}[{start + row}]", float(low[row]), "probabilities of at least 0")
        raise SpecError(f"{key}[{start + row}]", float(total[row]), "probabilities that sum to 1")


def adds_up(block: np.ndarray) -> bool:
    """Whether each row's sum is 1, as `check_rows` has it, if all numbers are of at least 0; False also where in doubt.

    In whatever order m such numbers are added, rounding moves their sum by at most m eps / 2 of it. So what is nearer
    than the tolerance by that much passes by products, which are quicker than sums along rows.
    """
    ones = np.ones(min(block.shape[1], 1024), dtype=block.dtype if block.dtype.char in "fd" else np.float64)
    near = SUM_TOLERANCE - len(ones) * float(np.finfo(ones.dtype).eps) / 2
    parts = (block[:, first : first + len(ones)] for first in range(0, block.shape[1], len(ones)))
    total = sum((part @ ones[: part.shape[1]]).astype(np.float64) for part in parts)
    return bool(np.abs(total - 1).max() <= near)
