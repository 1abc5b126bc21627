"""Define the overlap distribution: k classes in groups of m that share a region of the input space.

Each class has a region to itself, and each group has a region that its classes share. Regions are balls in R^D or
discs, which are balls in a random p-dimensional subspace through their centre. Centres lie in random directions at a
fixed norm. With probability beta, a sample is drawn from a shared region, where its label is drawn from the group's
classes. Within a region, samples are uniform. See `halobench.calibration.overlap_theory` for closed forms. The
distribution generalises Definition 4.1 of arXiv 2306.00740.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halobench.core.errors import SpecError, require
from halobench.core.specs.codec import convert_number
from halobench.data.distribution import (
    Distribution,
    Regions,
    checked_shape,
    layout_generator,
    overlap_regions,
    positive,
    unknown,
)

TITLE = "Balls in pairs"
ORDER = 11
# The experiments' names for its forms, without the number of classes.
VARIANTS = {
    "overlap-m4": {"TITLE": "Balls in fours"},
    "overlap-all": {"TITLE": "Balls, one region for all"},
    "overlap-disc": {"TITLE": "Discs in pairs"},
}

TOLERANCE = 1e-4  # relative tolerance, for inputs rounded to float32


class Overlap(Distribution):
    """Regions around `centres` (R, D): balls of `radius`, or discs in the spans of `bases` (R, D, p)."""

    regions: Regions

    def __init__(
        self,
        shape: tuple[int, int, int],
        regions: Regions,
        centres: np.ndarray,
        radius: float,
        bases: np.ndarray | None,
    ):
        self.shape, self.regions, self.classes = shape, regions, regions.posterior.shape[1]
        self.centres, self.radius, self.bases = centres, radius, bases
        self.mean, self.std = np.zeros(shape[0]), np.ones(shape[0])

    def inputs_in(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        width = self.centres.shape[1] if self.bases is None else self.bases.shape[2]
        offsets = in_ball(len(region), width, rng) * self.radius
        if self.bases is not None:
            offsets = np.einsum("ndp,np->nd", self.bases[region], offsets)
        points = (self.centres[region] + offsets).astype(np.float32)
        return points.reshape(-1, *self.shape)

    def posterior(self, inputs: np.ndarray) -> np.ndarray:
        return self.regions.posterior[self.region_of(inputs)]

    def region_of(self, inputs: np.ndarray) -> np.ndarray:
        """Return the region that contains each input, int64 (n,); raise SpecError if an input isn't in any region."""
        points = np.asarray(inputs, dtype=np.float64).reshape(len(inputs), -1)
        scale = TOLERANCE * (self.radius + np.abs(self.centres).max())
        region_of = np.full(len(points), -1)
        for region, centre in enumerate(self.centres):
            offset = points - centre
            inside = np.linalg.norm(offset, axis=1) <= self.radius + scale
            if self.bases is not None:
                off = offset - offset @ self.bases[region] @ self.bases[region].T
                inside &= np.linalg.norm(off, axis=1) <= scale
            region_of[inside] = region
        if (region_of < 0).any():
            raise unknown(points, region_of < 0)
        return region_of


def load(
    *,
    classes: int,  # k
    group: int = 2,  # m, from 2 to k; k is a multiple of m
    beta: float = 0.5,  # total mass of the shared regions, in (0, 1)
    shape: Sequence[int] = (1, 8, 8),  # [C, H, W] of an input; D is their product
    norm: float = 4.0,  # distance of the centres from the origin
    radius: float = 1.0,  # distance of a region's border from its centre
    disc: int | None = None,  # dimension p of discs, at least 1 and less than D; regions are balls by default
    shares: list[float] | None = None,  # P(class | shared region), m values; equal by default; 1 and 0: no overlap
    layout: int = 0,  # seed for the directions of centres and discs, which are part of the distribution
) -> Distribution:
    """Return the distribution; its regions must not meet, since the posterior would be wrong where they do."""
    sizes = checked_shape(shape)
    regions = overlap_regions(classes, group, beta, shares)
    norm, radius = positive("norm", norm), positive("radius", radius)
    size, count = int(np.prod(sizes)), len(regions.mass)
    rng = layout_generator(layout)
    directions = rng.standard_normal((count, size))
    centres = norm * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    bases = None if disc is None else _disc_bases(disc, count, size, rng)
    _check_apart(centres, radius, bases, norm)
    return Overlap(sizes, regions, centres, radius, bases)


def _disc_bases(disc: int, count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw orthonormal bases (count, size, disc) of `count` random `disc`-dimensional subspaces of R^size."""
    width: int = convert_number(int, "disc", disc)
    require(1 <= width < size, "disc", width, f"a dimension from 1 to {size - 1}, below that of the inputs")
    return np.linalg.qr(rng.standard_normal((count, size, width)))[0]


def in_ball(count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points uniformly in the unit ball of R^width, float64 (count, width)."""
    normal = rng.standard_normal((count, width))
    lengths = rng.random(count) ** (1 / width)
    return normal * (lengths / np.linalg.norm(normal, axis=1))[:, None]


def _check_apart(centres: np.ndarray, radius: float, bases: np.ndarray | None, norm: float) -> None:
    """Raise SpecError unless every two regions are shown to be disjoint.

    Two balls or discs are disjoint if their centres are more than 2 radii apart. Closer discs are disjoint if the
    affine subspaces that contain them are, which a least-squares fit checks.
    """
    square = ((centres**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)) - 2 * centres @ centres.T
    distance = np.sqrt(np.maximum(square, 0))
    # Regions must be further apart than twice the rounding tolerance of `region_of`, so that it never confuses two.
    first, second = np.nonzero(np.triu(distance <= 2 * radius + 3 * TOLERANCE * (radius + norm), k=1))
    slack = 10 * TOLERANCE * (radius + norm)
    for a, b in zip(first, second, strict=True):
        if bases is not None:
            spanned = np.concatenate([bases[a], bases[b]], axis=1)
            gap = centres[a] - centres[b]
            solution = np.linalg.lstsq(spanned, gap, rcond=None)[0]
            if np.linalg.norm(gap - spanned @ solution) > slack:
                continue
        least = distance[np.triu_indices(len(centres), 1)].min() / 2
        what = (
            f"less than {least:.3g}, half the smallest distance between two of the {len(centres)} centres, "
            "or a larger norm, so that the regions are disjoint and the posterior exact"
        )
        raise SpecError("radius", radius, what)
