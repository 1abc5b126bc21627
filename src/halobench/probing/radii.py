"""Find the distances at which the confidence first falls below a level on each ray, by bracketing and bisection.

There are three kinds of radius: ``certainty`` is the first distance at which the confidence is below the threshold,
``half_level`` is the first at which it is below half its value at distance 0, and ``decision`` is the first at which
another class overtakes the label. The certainty and half-level radii are found for each calibrator, but the decision
radius only once, since it doesn't depend on temperature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from halobench.core.specs.probe import ProbeSpec
from halobench.probing.ray_walk import RayWalk, Readings


def quantities(spec: ProbeSpec, calibrators: Iterable[str]) -> list[tuple[str, str, float]]:
    """Return the quantity, calibrator and threshold of each kind of radius, in order."""
    kinds = []
    for name in calibrators:
        kinds += [("certainty", name, spec.threshold), ("half_level", name, float("nan"))]
    return [*kinds, ("decision", "none", float("nan"))]


def find_radii(
    walk: RayWalk, spec: ProbeSpec, distances: np.ndarray, readings: Readings
) -> tuple[np.ndarray, np.ndarray]:
    """Find the radius of each quantity on each ray: bracket where the quantity first ends on the grid, then bisect.

    The `readings` (m, R, S) were taken at a grid of `distances` (m, S). Returns radii (m, Q, R), in the order of
    `quantities`, and whether they are censored. A quantity with a censored radius doesn't end on the grid, and the
    radius is the grid's largest distance.
    """
    brackets = []
    for quantity, name, _ in quantities(spec, readings.confidences):
        if quantity == "decision":
            brackets.append(Bracket(distances, readings.gaps < 0, None, 0.0))
            continue
        confidences = readings.confidences[name]
        start = confidences[:, :, 0]
        level = np.full_like(start, spec.threshold) if quantity == "certainty" else start / 2
        brackets.append(Bracket(distances, confidences < level[..., None], name, level))
    for _ in range(spec.bisections):
        _halve(walk, [bracket for bracket in brackets if len(bracket.sample)])
    return np.stack([b.radius() for b in brackets], axis=1), np.stack([b.censored for b in brackets], axis=1)


class Bracket:
    """The two distances between which a quantity, such as certainty, first ends on each of the rays (m, R).

    If a value falls below the level and recovers between two neighbouring grid distances, the fall goes unnoticed, so
    the grid (m, S) determines which end counts as first. The value compared with `level` is the confidence of the
    calibrator `name` or, if `name` is None, the logit gap; `ended` (m, R, S) marks the distances at which this value is
    below the level.
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
        self.sample, self.ray = np.nonzero(~self.censored & (first > 0) & (self.high > low))
        self.lower, self.upper = low[self.sample, self.ray], self.high[self.sample, self.ray]
        self.level = np.broadcast_to(level, self.high.shape)[self.sample, self.ray]

    @property
    def middle(self) -> np.ndarray:
        """Return the distances (b,) at which to halve the b open brackets."""
        return (self.lower + self.upper) / 2

    def narrow(self, values: np.ndarray) -> None:
        """Keep the half of each bracket in which the quantity ends, according to the values (b,) read in the middle."""
        middle, over = self.middle, values < self.level
        self.upper, self.lower = np.where(over, middle, self.upper), np.where(over, self.lower, middle)

    def radius(self) -> np.ndarray:
        """Return the distances (m, R) at which the quantity ends."""
        radius = self.high.copy()
        radius[self.sample, self.ray] = self.middle
        return radius


def _halve(walk: RayWalk, brackets: list[Bracket]) -> None:
    """Halve the brackets of all quantities together, so that points needed by several of them are read only once."""
    if not brackets:
        return
    rays = walk.directions.shape[1]
    middles = [np.stack([bracket.sample * rays + bracket.ray, bracket.middle]) for bracket in brackets]
    places, at = np.unique(np.concatenate(middles, axis=1), axis=1, return_inverse=True)
    row, at = places[0].astype(np.int64), at.ravel()
    readings = walk.at(row // rays, row % rays, places[1])
    ends = np.cumsum([len(bracket.sample) for bracket in brackets])
    for bracket, part in zip(brackets, np.split(at, ends[:-1]), strict=True):
        bracket.narrow((readings.gaps if bracket.name is None else readings.confidences[bracket.name])[part])


def radii_table(
    kinds: Iterable[tuple[str, str, float]], arrays: Mapping[str, np.ndarray], other_distance: np.ndarray
) -> pd.DataFrame:
    """Return the radii of all samples as a long table, in the format of `halobench.probing.probe.Neighbourhood`.

    `arrays` are ``radius`` and ``censored``, (n, Q, R), and the rays' ``length``, (n, R); `kinds` are the Q
    `quantities`.
    """
    count, rays = arrays["length"].shape
    sample, ray = np.repeat(np.arange(count), rays), np.tile(np.arange(rays), count)
    shared: dict[str, Any] = {"point": sample, "ray": ray}
    shared |= {"other_distance": other_distance[sample], "line_length": arrays["length"].ravel()}
    tables = []
    for row, (quantity, calibrator, threshold) in enumerate(kinds):
        kind = {"quantity": quantity, "calibrator": calibrator}
        values = {name: arrays[name][:, row].ravel() for name in ("radius", "censored")}
        tables.append(pd.DataFrame({**shared, **kind, **values, "threshold": threshold}))
    return pd.concat(tables, ignore_index=True)
