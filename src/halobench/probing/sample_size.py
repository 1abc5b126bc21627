"""The precision of a probe's mean confidence, and the samples and directions needed for a given precision.

A probe estimates the mean, over all N training samples, of a sample's mean confidence over directions. It draws m
samples without replacement, and R directions separately for each of them. This is two-stage sampling, from a finite
population of samples and an infinite one of directions. If S_b^2 is the variance of the sample means (over all N, with
divisor N - 1) and S_w^2 the mean over samples of the variance within a sample, the variance of the probe's mean is

    (1 - m / N) S_b^2 / m  +  S_w^2 / (m R).

An unbiased estimate from the probe itself is

    (1 - f) s_b^2 / m  +  f s_w^2 / (m R),    f = m / N,

where s_b^2 is the variance of the m observed means, which includes S_w^2 / R, and s_w^2 the mean of the m variances
within samples (W. G. Cochran, Sampling Techniques, 3rd edition, 1977, chapter 10, with an infinite population in the
second stage). `confidence_se` in neighbourhood.parquet is the square root of s_b^2 / m, which treats the population of
samples as infinite too. On average, it is no smaller than the square root of this estimate, and at most 1 / sqrt(1 - f)
times as large. It is the right standard error for statements about any samples that the training set might have
contained.

This module never changes a probe; `needed` only suggests numbers for its spec::

    values = confidences(predict, inputs, labels, spec, surroundings, rng=rng)   # halobench.probing.probe: a pilot
    spread = components(values[:, :, 3])                                        # at one of its distances
    points, directions = needed(spread, size=4000, target=0.005)

A pilot whose samples differ from the probe's (because it uses another seed) leaves the probe's mean unbiased. With the
same seed, the pilot's samples are among the probe's, whose number then depends slightly on the values of some of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from halobench.core.errors import SpecError, require


@dataclass(frozen=True)
class Spread:
    """Variances of values `between` samples (S_b^2, of their means) and `within` them (S_w^2, over directions)."""

    between: float
    within: float


def components(values: np.ndarray) -> Spread:
    """Estimate both variances from a pilot's values (m, R) for m samples with R directions each.

    `within` is unbiased, and so is `between`, except that a negative estimate becomes 0. Values (m, 1) are assumed to
    come from rays that aren't random (`nearest_other`) and thus have no variance within samples; a pilot with random
    rays needs at least two directions.

    Raises
    ------
    SpecError
        If there are fewer than two samples.
    """
    observed, within = _observed(values)
    return Spread(max(0.0, observed - within / values.shape[1]), within)


def variance(spread: Spread, points: int, directions: int, size: int) -> float:
    """Return the variance of the mean over `points` of `size` samples, with `directions` directions each.

    Samples are drawn without replacement.

    Raises
    ------
    SpecError
        If there are no samples or directions, or more samples than `size`.
    """
    _check(points, directions, size)
    return spread.between * (1 / points - 1 / size) + spread.within / (points * directions)


def estimated_variance(values: np.ndarray, size: int) -> float:
    """Estimate the variance of a probe's mean without bias, from its own values (m, R) for m of `size` samples.

    With one direction per sample (R = 1), the variance within samples can't be estimated. s_w^2 is then taken to be
    s_b^2, which on average is no smaller, so the result is too large (by a factor of at most 1 / (1 - f)) rather than
    too small. If the rays aren't random (`nearest_other`), use ``variance(components(values), m, 1, size)`` instead.

    Raises
    ------
    SpecError
        If there are fewer than two samples, or more than `size`.
    """
    observed, within = _observed(values)
    points, directions = values.shape
    _check(points, directions, size)
    share = points / size
    if directions == 1:
        within = observed
    return (1 - share) * observed / points + share * within / (points * directions)


def needed(spread: Spread, size: int, target: float, directions: int | None = None) -> tuple[int, int]:
    """Return the samples and directions needed for the mean over `size` samples to have standard error <= `target`.

    An extra sample is always worth more than an extra direction. So unless `directions` is passed, one direction per
    sample is used if enough samples exist, and otherwise as few directions as suffice. The number of samples is then
    the smallest that suffices with that many directions.

    Returns
    -------
    points, directions : int
        Values for `points` and `directions` in a probe's spec; at least two samples, if that many exist.

    Raises
    ------
    SpecError
        If the target isn't above 0, or can't be reached even with all `size` samples and the given `directions`.
    """
    require(target > 0, "target", target, "a standard error above 0")
    rays = 1 if directions is None else directions
    _check(1, rays, size)
    aim = target**2
    per_point = spread.between + spread.within / rays
    points = math.ceil(_shy(per_point / (aim + spread.between / size)))
    if points <= size:
        return min(size, max(2, points)), rays
    if directions is not None:
        reached = math.sqrt(variance(spread, size, directions, size))
        raise SpecError(
            "target",
            target,
            f"at least {reached:.2g}, the standard error with all {size} points and directions = {directions}",
        )
    rays = math.ceil(_shy(spread.within / (size * aim)))
    points = math.ceil(_shy((spread.between + spread.within / rays) / (aim + spread.between / size)))
    return min(size, max(2, points)), rays


def _shy(count: float) -> float:
    """Return a count less the excess that rounding may have added to it."""
    return count * (1 - 1e-12)


def _observed(values: np.ndarray) -> tuple[float, float]:
    """Return s_b^2, the variance of sample means, and s_w^2, the mean variance within samples (0 if R = 1)."""
    values = np.asarray(values, np.float64)
    require(values.ndim == 2 and len(values) >= 2, "values", values.shape, "an array (m, R) for at least two points")
    within = values.var(axis=1, ddof=1).mean() if values.shape[1] > 1 else 0.0
    return float(values.mean(axis=1).var(ddof=1)), float(within)


def _check(points: int, directions: int, size: int) -> None:
    """Raise SpecError unless that many samples and directions can be drawn."""
    require(1 <= points <= size, "points", points, f"a number from 1 to {size}, the number of points available")
    require(directions >= 1, "directions", directions, "at least 1")
