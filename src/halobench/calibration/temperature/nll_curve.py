"""Compute the mean NLL of softmax(beta * logits) and its derivatives as functions of the inverse temperature beta.

Arrays must already have been checked: logits (n, k) are finite (see `Curve`), and targets are labels (n,) or rows of
probabilities (n, k), multiplied by the samples' weights if there are any. With s = logits minus their row's largest,
the mean NLL at beta is mean(log sum exp(beta s)) - beta * linear (see `DataSummary`). For beta >= 0, neither term is
negative, so nothing cancels. Sums are computed in float64, one block of rows at a time, so finite float32 logits aren't
copied in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from halobench.calibration.arrays import ELEMENTS_PER_BLOCK, blocks, weights_of
from halobench.core.errors import Found, refuse, require

# With this many classes or more, a block keeps its row-by-row layout. With fewer, numpy's reductions along short rows
# take longer than copying the block to a layout in which they run across samples.
MANY_CLASSES = 256


class DataSummary(NamedTuple):
    """Statistics from one pass over the data, without exponentials.

    linear : mean of the target's logit minus its row's largest; at most 0, and 0 if the data are separable.
    slope_at_zero : d NLL / d beta at beta = 0, where the softmax is uniform.
    spread : the largest difference between two logits in a row.
    """

    linear: float
    slope_at_zero: float
    spread: float


class Derivatives(NamedTuple):
    """Mean NLL at beta (1 + x) and its first three derivatives with respect to the relative step x, at x = 0."""

    nll: float
    slope: float
    curvature: float
    third: float

    def halley_step(self) -> float:
        """Return Halley's step x, or Newton's if the two differ by a factor of 2 or more; NaN without curvature."""
        if not self.curvature > 0:
            return math.nan
        damping = 1 - self.slope * self.third / self.curvature / (2 * self.curvature)
        return -self.slope / self.curvature / (damping if 0.5 < damping < 2 else 1.0)

    def after_step(self, x: float) -> Derivatives:
        """Return the derivatives after a small step x, approximated by the Taylor series."""
        nll = self.nll + x * (self.slope + x * (self.curvature / 2 + x * self.third / 6))
        slope = self.slope + x * (self.curvature + x * self.third / 2)
        return Derivatives(nll, slope, self.curvature + x * self.third, self.third)


def summarise(logits: np.ndarray, targets: np.ndarray) -> DataSummary:
    """Return the statistics from which a fit starts; raise SpecError if logits are too far apart for float64."""
    picked, total, lowest, weights = [], [], 0.0, weights_of(targets)
    plain = (weights == 1).all()
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in _fit_blocks(logits):
            shifted = _shifted(logits[rows])
            if targets.ndim == 1:
                picked.append(shifted[targets[rows], np.arange(shifted.shape[1])].sum())
            else:
                picked.append(np.einsum("ij,ij->", shifted, targets[rows].T, dtype=np.float64))
            total.append(shifted.sum() if plain else shifted.sum(axis=0) @ weights[rows])
            lowest = np.minimum(lowest, shifted.min())
    linear = _sum(picked) / len(logits)
    slope = _sum(total) / logits.size - linear
    refuse(not all(map(math.isfinite, (lowest, linear, slope))), "logits", TOO_FAR)
    return DataSummary(linear, slope, -float(lowest))


TOO_FAR = "too far apart for float64; divide all logits by the same number"
FAR = 1e100  # how far `Curve` puts a ruled-out class below a row's largest logit, in units of the others' spread


@dataclass(frozen=True)
class Curve:
    """Finite logits in place of logits that may be -inf; their NLL at beta * `unit` is the original logits' at beta.

    If all logits are finite, they are left as they are. Otherwise, all rows are shifted, and all logits divided by the
    largest difference between two finite logits in any row. A ruled-out class is then placed so low that exp(beta s)
    and its contribution to every derivative are 0 at every beta that a fit can reach. At beta = 0 the softmax is
    uniform over the other classes, which `summary` and `nll_at_zero` account for.
    """

    logits: np.ndarray
    weights: np.ndarray
    summary: DataSummary
    nll_at_zero: float
    unit: float = 1.0
    masked: bool = False

    @property
    def falls(self) -> bool:
        """Return whether the NLL certainly falls as beta increases from 0."""
        slope = self.summary.slope_at_zero
        return slope < -slope_rounding(self.logits.shape[1], slope, self.summary.linear)

    @property
    def separable(self) -> bool:
        """Return whether all mass of each target is on its row's largest logits, and some logits are smaller."""
        return self.summary.linear == 0 and self.summary.slope_at_zero < 0

    @classmethod
    def of(cls, logits: np.ndarray, targets: np.ndarray) -> Curve:
        """Return the curve of logits, which may be finite or -inf."""
        weights = weights_of(targets)
        if np.isfinite(logits.min()):
            return cls(logits, weights, summarise(logits, targets), math.log(logits.shape[1]) * float(weights.mean()))
        finite = np.isfinite(logits)
        _check_mass(finite, targets)
        with np.errstate(over="ignore"):
            shifted = logits - logits.max(axis=1, keepdims=True).astype(np.float64)
        spread = float(-shifted[finite].min())
        refuse(not math.isfinite(spread), "logits", TOO_FAR)
        unit = spread or 1.0
        scaled = np.where(finite, shifted / unit, 0.0)
        if targets.ndim == 1:
            picked = scaled[np.arange(len(scaled)), targets]
        else:
            picked = np.einsum("ij,ij->i", scaled, targets, dtype=np.float64)
        linear, counts = math.fsum(picked) / len(picked), finite.sum(axis=1)
        slope = math.fsum(weights * scaled.sum(axis=1) / counts) / len(picked) - linear
        summary = DataSummary(linear, slope, spread / unit)
        at_zero = float((weights * np.log(counts)).mean())
        return cls(np.where(finite, scaled, -FAR), weights, summary, at_zero, unit, masked=True)


def _check_mass(finite: np.ndarray, targets: np.ndarray) -> None:
    """Raise SpecError if a target has mass where the logit isn't `finite`."""
    rows = np.arange(len(finite))
    good = finite[rows, targets] if targets.ndim == 1 else (finite | (targets == 0)).all(axis=1)
    row = int(np.argmin(good))
    label = f" (label {targets[row]})" if targets.ndim == 1 else ""
    count = f"rows affected: {int((~good).sum())}"
    expected = f"a finite logit where a target has mass; otherwise the NLL is infinite at every temperature ({count})"
    require(good.all(), f"logits[{row}]", Found(f"-inf{label}"), expected)


def derivatives(logits: np.ndarray, weights: np.ndarray, linear: float, beta: float) -> Derivatives:
    """Return the mean NLL at `beta` (not 0) and its derivatives, from cumulants of u = beta s under softmax(u).

    `weights` (n,) are sample weights; means are weighted sums divided by n.
    """
    parts = []
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for rows in _fit_blocks(logits):
            scaled = _shifted(logits[rows])
            scaled *= beta
            top = scaled.max(axis=0) if beta < 0 else 0.0
            powers = np.exp(scaled - top if beta < 0 else scaled)
            total = powers.sum(axis=0)
            powers *= scaled
            first = powers.sum(axis=0) / total
            powers *= scaled
            second = powers.sum(axis=0) / total
            third = np.einsum("ij,ij->j", powers, scaled) / total
            variance = np.maximum(second - first**2, 0)
            skewness = third - first * (3 * second - 2 * first**2)
            cumulants = np.log(total) + top, first, variance, skewness
            parts.append([(weights[rows] * cumulant).sum() for cumulant in cumulants])
    nll, mean, variance, skewness = (_sum(part) / len(logits) for part in zip(*parts, strict=True))
    return Derivatives(nll - beta * linear, mean - beta * linear, variance, skewness)


def slope_rounding(classes: int, slope: float, linear: float) -> float:
    """Return a bound on the rounding error of a slope, mean E[u] - `linear`, if the terms of each sum have one sign.

    Each term of the slope is accurate to a few units in the last place; a sum over classes adds at most one unit per
    class.
    """
    return (16 + classes) * 2.0**-53 * (abs(slope + linear) + abs(linear))


def limit_of_separable(logits: np.ndarray, weights: np.ndarray) -> float:
    """Return the limit of separable data's NLL as beta grows: the mean log of the number of logits tied for largest."""
    ties = (np.count_nonzero(logits[b] == logits[b].max(axis=1, keepdims=True), axis=1) for b in blocks(*logits.shape))
    return float((weights * np.log(np.concatenate(list(ties)))).mean())


def _fit_blocks(logits: np.ndarray) -> Iterator[slice]:
    """Return the blocks of rows that a fit works on, which need about 26 bytes of temporary memory per element.

    For float32 logits of 2 MiB or more, temporary arrays take up to about a fifth of the size of the logits. (With few
    classes or samples, one number per row or class isn't negligible in comparison.)
    """
    rows, classes = logits.shape
    return blocks(rows, classes, min(ELEMENTS_PER_BLOCK, max(1 << 14, logits.size // 40)))


def _shifted(block: np.ndarray) -> np.ndarray:
    """Transpose a block of logits to float64 (k, samples), and subtract each sample's largest logit.

    In the result's memory layout, reductions over the classes are fast.
    """
    shifted = np.array(block.T, dtype=np.float64, order="C" if len(block.T) < MANY_CLASSES else "F")
    shifted -= shifted.max(axis=0)
    return shifted


def _sum(parts: Sequence[float]) -> float:
    """Return the exact sum, rounded once, or the plain sum if any of `parts` is not finite."""
    return math.fsum(parts) if all(map(math.isfinite, parts)) else float(sum(parts))
