"""Bracket and bisect the radii at which a confidence ends along each ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from halobench.core.specs import ProbeSpec
from halobench.probing.ray_walk import _Walk


def _quantities(spec: ProbeSpec, betas: Mapping[str, float]) -> list[tuple[str, str, float]]:
    """Quantity, calibrator and threshold of each kind of radius, in their order."""
    found = []
    for name in betas:
        found += [("certainty", name, spec.threshold), ("half_level", name, float("nan"))]
    return [*found, ("decision", "none", float("nan"))]


def _radii(
    walk: _Walk,
    spec: ProbeSpec,
    distances: np.ndarray,
    confidences: Mapping[str, np.ndarray],
    gaps: np.ndarray,
    betas: Mapping[str, float],
) -> tuple[np.ndarray, np.ndarray]:
    """First crossing of each quantity on each ray, bracketed on the grid, then bisected; and whether there was none.

    Both (m, Q, R), in the order of `_quantities`.
    """
    ends: list[tuple[str | None, Any]] = []
    for quantity, name, _ in _quantities(spec, betas):
        if quantity == "decision":
            ends.append((None, 0.0))
            continue
        start = confidences[name][:, :, 0]
        ends.append((name, np.full_like(start, spec.threshold) if quantity == "certainty" else start / 2))
    brackets = [
        _Bracket(distances, gaps < 0 if name is None else confidences[name] < level[..., None], name, level)
        for name, level in ends
    ]
    for _ in range(spec.bisections):
        _halve(walk, [bracket for bracket in brackets if len(bracket.point)], betas)
    return np.stack([b.radius() for b in brackets], axis=1), np.stack([b.censored for b in brackets], axis=1)


class _Bracket:
    """Between which distances each ray (m, R) first ends, by one quantity: where a value falls below a level.

    `ended` (m, R, S) tells so on the grid `distances` (m, S), in any order; `level` (m, R) is of the confidence of the
    calibrator `name`, or 0 of the logit gap where that is None. A crossing back between two neighbouring grid distances
    goes unseen: the grid decides what counts as first. Where none has ended (censored), the radius is the longest
    distance.
    """

    def __init__(self, distances: np.ndarray, ended: np.ndarray, name: str | None, level: np.ndarray | float):
        self.name = name
        order = np.argsort(distances, axis=1, kind="stable")
        grid = np.take_along_axis(distances, order, axis=1)
        ended = np.take_along_axis(ended, np.broadcast_to(order[:, None], ended.shape), axis=2)
        self.censored, first = ~ended.any(axis=2), ended.argmax(axis=2)
        rows = np.arange(len(distances))[:, None]
        self.high = np.where(self.censored, grid[:, -1:], grid[rows, first])
        low = np.where(self.censored, self.high, grid[rows, np.maximum(first - 1, 0)])
        self.point, self.ray = np.nonzero(~self.censored & (first > 0) & (self.high > low))
        self.lower, self.upper = low[self.point, self.ray], self.high[self.point, self.ray]
        self.level = np.broadcast_to(level, self.high.shape)[self.point, self.ray]

    @property
    def middle(self) -> np.ndarray:
        """Where the brackets (b,) are halved."""
        return (self.lower + self.upper) / 2

    def narrow(self, values: np.ndarray) -> None:
        """Keep the half in which the values (b,), read in the middle, say that the rays end."""
        middle, over = self.middle, values < self.level
        self.upper, self.lower = np.where(over, middle, self.upper), np.where(over, self.lower, middle)

    def radius(self) -> np.ndarray:
        """The distances (m, R) at which rays end."""
        found = self.high.copy()
        found[self.point, self.ray] = self.middle
        return found


def _halve(walk: _Walk, brackets: list[_Bracket], betas: Mapping[str, float]) -> None:
    """Halve the brackets of all quantities together: a place that several of them ask for is looked at once."""
    if not brackets:
        return
    rays = walk.directions.shape[1]
    asked = [np.stack([bracket.point * rays + bracket.ray, bracket.middle]) for bracket in brackets]
    places, at = np.unique(np.concatenate(asked, axis=1), axis=1, return_inverse=True)
    row, at = places[0].astype(np.int64), at.ravel()
    confidences, gaps = walk.at(row // rays, row % rays, places[1], betas)
    ends = np.cumsum([len(bracket.point) for bracket in brackets])
    for bracket, some in zip(brackets, np.split(at, ends[:-1]), strict=True):
        bracket.narrow((gaps if bracket.name is None else confidences[bracket.name])[some])


def _radii_table(
    spec: ProbeSpec, found: Mapping[str, np.ndarray], other_distance: np.ndarray, betas: Mapping[str, float]
) -> pd.DataFrame:
    """The radii of all points as a long table."""
    count, rays = found["length"].shape
    point, ray = np.repeat(np.arange(count), rays), np.tile(np.arange(rays), count)
    shared = {
        "point": point,
        "ray": ray,
        "other_distance": other_distance[point],
        "line_length": found["length"].ravel(),
    }
    tables = []
    for row, (quantity, calibrator, threshold) in enumerate(_quantities(spec, betas)):
        of = {"quantity": quantity, "calibrator": calibrator}
        values = {"radius": found["radius"][:, row].ravel(), "censored": found["censored"][:, row].ravel()}
        tables.append(pd.DataFrame({**shared, **of, **values, "threshold": threshold}))
    return pd.concat(tables, ignore_index=True)
