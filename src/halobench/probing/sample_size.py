"""The precision of a probe's mean confidence, and the samples and directions that a wanted precision takes.

A probe estimates the mean, over all N training samples, of a sample's mean confidence over directions. It draws m
samples without replacement, and R directions separately for each of them: sampling in two stages, from a finite
population of samples and an infinite one of directions. With the variance S_b^2 of samples' means (over N, divisor
N - 1) and the mean S_w^2 over samples of the variance within a sample, its mean has the variance

    (1 - m / N) S_b^2 / m  +  S_w^2 / (m R).

From the probe itself, an unbiased estimate is

    (1 - f) s_b^2 / m  +  f s_w^2 / (m R),    f = m / N,

with the variance s_b^2 of the m observed means, which has S_w^2 / R in it, and the mean s_w^2 of the m variances within
(W. G. Cochran, Sampling Techniques, 3rd edition, 1977, chapter 10, with an infinite population in the second stage).
`confidence_se` in neighbourhood.parquet is the root of s_b^2 / m, which takes the population of samples to be infinite
too: on average no smaller than this, and larger by a factor of at most 1 / sqrt(1 - f). It is the one for statements
about any samples that the training set might have had.

Nothing here changes a probe. `needed` suggests numbers for its spec::

    values = confidences(predict, inputs, labels, spec, surroundings, rng=rng)   # halobench.probing.probe: a pilot
    spread = components(values[:, :, 3])                                        # at one of its distances
    points, directions = needed(spread, size=4000, target=0.005)

A pilot of other samples than the probe's (another seed) leaves its mean unbiased. With one seed the pilot's samples are
among the probe's, and their number then depends a little on the values of some of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from halobench.core.errors import SpecError, require


@dataclass(frozen=True)
class Spread:
    """Variances of values: `between` samples (S_b^2, of their means) and `within` them (S_w^2, over directions)."""

    between: float
    within: float


def components(values: np.ndarray) -> Spread:
    """Estimate both variances from a pilot's values (m, R) at m samples, along R directions each.

    `within` is unbiased. So is `between`, except that values below 0 become 0. Values (m, 1) are those of rays that
    aren't drawn (`nearest_other`), with no variance within; a pilot of random rays needs two directions or more.

    Raises
    ------
    SpecError
        With fewer than two samples.
    """
    observed, within = _observed(values)
    return Spread(max(0.0, observed - within / values.shape[1]), within)


def variance(spread: Spread, points: int, directions: int, size: int) -> float:
    """Return the variance of the mean over `points` samples out of `size`, with `directions` of each.

    Samples are drawn without replacement.

    Raises
    ------
    SpecError
        If there are no samples or directions, or more samples than `size`.
    """
    _check(points, directions, size)
    return spread.between * (1 / points - 1 / size) + spread.within / (points * directions)


def estimated_variance(values: np.ndarray, size: int) -> float:
    """Estimate the variance of a probe's mean, without bias, from its own values (m, R), of m samples out of `size`.

    With one direction per sample (R = 1) nothing shows how values vary within samples; s_w^2 is then taken to be s_b^2,
    which on average is no smaller, so that the result is too large, by a factor of at most 1 / (1 - f), rather than too
    small. If rays aren't drawn (`nearest_other`) use ``variance(components(values), m, 1, size)`` instead.

    Raises
    ------
    SpecError
        With fewer than two samples, or more than `size`.
    """
    observed, within = _observed(values)
    points, directions = values.shape
    _check(points, directions, size)
    share = points / size
    if directions == 1:
        within = observed
    return (1 - share) * observed / points + share * within / (points * directions)


def needed(spread: Spread, size: int, target: float, directions: int | None = None) -> tuple[int, int]:
    """Return the samples and directions that give the mean over `size` samples a standard error of at most `target`.

    One more sample is always worth more than one more direction. So there is one direction per sample if enough samples
    exist, and else the fewest that suffice; or as many as `directions` says. Samples are then the fewest that suffice
    with so many directions.

    Returns
    -------
    points, directions : int
        For `points` and `directions` of a probe's spec; at least two samples, if there are so many.

    Raises
    ------
    SpecError
        If the target isn't above 0, or with `directions` isn't reached by all `size` samples.
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
        raise SpecError("target", target, f"at least {reached:.2g}, which all {size} points with {directions} give")
    rays = math.ceil(_shy(spread.within / (size * aim)))
    points = math.ceil(_shy((spread.between + spread.within / rays) / (aim + spread.between / size)))
    return min(size, max(2, points)), rays


def _shy(count: float) -> float:
    """Return a count less what rounding may have added to it."""
    return count * (1 - 1e-12)


def _observed(values: np.ndarray) -> tuple[float, float]:
    """Return s_b^2, the variance of samples' means, and s_w^2, the mean variance within (0 with one direction)."""
    values = np.asarray(values, np.float64)
    require(values.ndim == 2 and len(values) >= 2, "values", values.shape, "values of two points or more: (m, R)")
    within = values.var(axis=1, ddof=1).mean() if values.shape[1] > 1 else 0.0
    return float(values.mean(axis=1).var(ddof=1)), float(within)


def _check(points: int, directions: int, size: int) -> None:
    """Raise SpecError unless there can be such a sample."""
    require(1 <= points <= size, "points", points, f"at least 1, and at most the {size} points that there are")
    require(directions >= 1, "directions", directions, "at least 1")
