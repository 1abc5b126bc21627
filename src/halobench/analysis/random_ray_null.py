"""Compute how far random rays go before they meet flat boundaries that touch a ball: the null for random directions.

Suppose that certainty ends at hyperplanes, and that the nearest of them lies at distance a from a sample. A ray in a
uniformly random direction meets the nearest one at distance a / c, where c is the cosine of its angle to the normal,
or never, if c is 0 or less. In dimension d, c is a coordinate of a uniformly random unit vector: its square has the law
Beta(1/2, (d - 1) / 2), and its sign is a fair coin. Since the size of c is about 1 / sqrt(d), rays that cross the
boundary do so at about sqrt(d) times the distance a (Fawzi, Moosavi-Dezfooli and Frossard, NeurIPS 2016). With flat
boundaries, random rays thus reach much farther than a ray in the worst direction. Only a difference from the lengths
that flat boundaries predict says something about the model.

With several hyperplanes, all at distance a and with independent uniformly random normals, a ray ends at the first one
that it meets. A convex region whose nearest boundary lies at distance a is contained in a half-space whose boundary
lies at distance a, so one hyperplane bounds the lengths of rays in convex regions from above. Linear models are certain
in convex regions.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from halobench.core.errors import refuse, require
from halobench.storage.columns import SURVIVAL, SURVIVAL_COLUMNS

ONE, OTHERS = "half_space", "half_spaces"  # quantities in the table `radii`: one hyperplane, or one per other class
HALVINGS = 40  # bisections that find a quantile


def half_space_survival(distance: ArrayLike, attacked: ArrayLike, dimension: int, planes: int = 1) -> np.ndarray:
    """Return the share of random rays longer than `distance` if flat boundaries lie at the distance `attacked`.

    The share is (1 - P(c > attacked / distance))^planes, where c is a coordinate of a random unit vector.

    Parameters
    ----------
    distance, attacked : float or array
        Distances of at least 0, broadcast against each other. If `attacked` is 0, no ray goes beyond the sample.
    dimension : int
        Number of input dimensions, at least 2.
    planes : int, optional
        Number of hyperplanes, at least 1, with independent uniformly random normals.

    Returns
    -------
    float64 array

    Raises
    ------
    SpecError
        If an argument is out of the range given above.

    Examples
    --------
    >>> round(float(half_space_survival(10.0, 1.0, 64)), 3)
    0.786
    """
    _check(dimension, planes)
    distance, attacked = np.broadcast_arrays(np.asarray(distance, np.float64), np.asarray(attacked, np.float64))
    refuse((distance < 0).any() or (attacked < 0).any(), "distance", "a distance is negative; all must be at least 0")
    beyond = distance > attacked
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(beyond, attacked / distance, 1.0)
    # P(c > x) = I_{1 - x^2}((d - 1) / 2, 1 / 2) / 2, where I is the regularised incomplete beta function.
    crossed = special.betainc((dimension - 1) / 2, 0.5, 1 - cosine**2) / 2
    share = np.exp(planes * np.log1p(-crossed))
    return np.where(attacked > 0, share, 0.0)


def half_space_factor(dimension: int, planes: int = 1, level: float = 0.5) -> float:
    """Return a quantile of random rays' lengths as a multiple of the distance of the flat boundaries.

    Parameters
    ----------
    dimension, planes : int
        As in `half_space_survival`.
    level : float, optional
        The share of rays shorter than the quantile, in (0, 1); by default, the factor is for the median.

    Returns
    -------
    float
        Infinite if rays at this quantile never meet a boundary. With a single hyperplane, half of all rays never meet a
        boundary.

    Raises
    ------
    SpecError
        If an argument is out of the range given above.

    Examples
    --------
    >>> [round(half_space_factor(64, planes), 1) for planes in (2, 9)], half_space_factor(64)
    ([14.5, 5.5], inf)
    """
    _check(dimension, planes)
    require(0 < level < 1, "level", level, "a share above 0 and below 1")
    crossed = -np.expm1(np.log1p(-level) / planes)  # the share of rays that cross a given hyperplane
    if crossed >= 0.5:
        return float("inf")
    return float(special.betaincinv(0.5, (dimension - 1) / 2, 1 - 2 * crossed) ** -0.5)


def summarise_nulls(
    attacked: pd.DataFrame, dimension: int, planes: Mapping[str, int], levels: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Return summaries, like those of `summarise_radii`, for random rays and flat boundaries at the attacked radii.

    `planes` maps quantities to numbers of hyperplanes, and `levels` maps names of quantiles to their levels. Nothing is
    known beyond a censored radius, so its sample's rays count as endless.
    """
    radius, unit = attacked["radius"].to_numpy(np.float64), attacked["other_distance"].to_numpy(np.float64)
    radius = np.where(attacked["censored"].to_numpy(bool), np.inf, radius)
    summaries = {}
    for quantity, count in planes.items():
        endless = np.where(np.isinf(radius), 1.0, np.where(radius > 0, 0.5**count, 0.0)).mean()
        summary: dict[str, Any] = {"censored": endless}
        for scale, units in (("radius", np.ones_like(unit)), ("relative", unit)):
            quantiles = _quantiles(radius / units, dimension, count, np.array(list(levels.values())), endless)
            summary |= {f"{scale}_{name}": value for name, value in zip(levels, quantiles, strict=True)}
        shares = _shares(radius / unit, dimension, count)
        summary |= dict(zip(SURVIVAL_COLUMNS, shares, strict=True))
        summaries[quantity] = summary
    return summaries


def _shares(relative: np.ndarray, dimension: int, planes: int) -> np.ndarray:
    """Return the share of all samples' rays beyond each of `SURVIVAL`, for attacked radii (n,) on the same scale."""
    endless, shares = np.isinf(relative), np.ones((len(SURVIVAL), len(relative)))
    distances = np.asarray(SURVIVAL)[:, None]
    shares[:, ~endless] = half_space_survival(distances, relative[~endless], dimension, planes)
    return shares.mean(axis=1)


def _quantiles(attacked: np.ndarray, dimension: int, planes: int, levels: np.ndarray, endless: float) -> np.ndarray:
    """Return quantiles (l,) of the lengths of all samples' rays, found by bisection; NaN for an endless ray."""
    ending = np.log(attacked[(attacked > 0) & np.isfinite(attacked)])
    stuck, lasting = (attacked == 0).mean(), np.isinf(attacked).mean()
    quantiles = np.where(levels <= stuck, 0.0, np.nan)
    sought = (levels > stuck) & (1 - levels > endless)
    if not sought.any():
        return quantiles
    kept, grid, curve = 1 - levels[sought], *_curve(dimension, planes)
    low, high = np.full(len(kept), ending.min()), np.full(len(kept), ending.max() + grid[-1])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        shares = np.interp(middle[:, None] - ending, grid, curve).sum(axis=1) / len(attacked) + lasting
        low, high = np.where(shares > kept, middle, low), np.where(shares > kept, high, middle)
    quantiles[sought] = np.exp((low + high) / 2)
    return quantiles


@functools.lru_cache(maxsize=16)
def _curve(dimension: int, planes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logarithms of multiples of the boundaries' distance, and the shares of rays beyond these multiples."""
    logs = np.linspace(0, 20, 8001)  # linear interpolation changes shares by less than 1e-5
    return logs, half_space_survival(np.exp(logs), 1.0, dimension, planes)


def _check(dimension: int, planes: int) -> None:
    """Raise SpecError unless there are at least two input dimensions and one hyperplane."""
    require(dimension >= 2, "dimension", dimension, "at least 2")
    require(planes >= 1, "planes", planes, "at least 1")
