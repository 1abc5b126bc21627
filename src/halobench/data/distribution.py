"""Define distributions: sources with an exactly known posterior, whose samples are drawn separately for each seed.

A loader defines a distribution if its ``load`` is annotated to return a `Distribution`; the annotation is read from the
source text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from halobench.core.errors import RefusedError, SpecError, require, shown
from halobench.core.seeding import generator
from halobench.core.specs.codec import convert_number


@dataclass(frozen=True)
class Sample:
    """Samples drawn from a distribution.

    Attributes
    ----------
    inputs : float32 array (n, C, H, W), or (n, D)
    labels : int64 array (n,)
    region : int64 array (n,) or None
        The region that each sample was drawn from, if the distribution consists of regions.
    """

    inputs: np.ndarray
    labels: np.ndarray
    region: np.ndarray | None = None


@dataclass(frozen=True)
class Regions:
    """R disjoint regions, each with a constant posterior."""

    posterior: np.ndarray  # P(label | region), float64 (R, k)
    mass: np.ndarray  # P(region), float64 (R,), summing to 1
    shared: np.ndarray  # whether the region belongs to a group of classes rather than to one of them, bool (R,)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the regions of `count` independent samples, int64 (n,)."""
        return rng.choice(len(self.mass), size=count, p=self.mass).astype(np.int64)

    def allocate(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the regions of `count` samples in proportion to the masses, int64 (n,), in random order.

        The method is systematic sampling: one random number shifts `count` equidistant marks along the cumulative
        masses. The number of samples in a region, or in a run of consecutive regions, is `count` times its mass,
        rounded down or up, and exact on average, so means over the samples are unbiased.
        """
        marks = (np.arange(count) + rng.random()) / count
        region = np.searchsorted(np.cumsum(self.mass)[:-1], marks, side="right")
        return rng.permutation(region).astype(np.int64)


class Distribution:
    """A distribution of labelled inputs, which defines `inputs_in` if it consists of regions, and `sample` if not.

    Attributes
    ----------
    shape : (C, H, W), or (D,)
    classes : int
    mean, std : float arrays (C,), or (D,)
        Mean and standard deviation that normalise inputs; 0 and 1 unless the inputs are pixels.
    regions : Regions or None
    """

    shape: tuple[int, int, int]
    classes: int
    mean: np.ndarray
    std: np.ndarray
    regions: Regions | None = None

    def facts(self) -> dict[str, float | int]:
        """Return facts for the tables: beta (the mass of shared regions) and, if shares are equal, a group's size."""
        if self.regions is None:
            return {}
        shared = self.regions.posterior[self.regions.shared]
        group = int((shared > 0).sum(axis=1).max())
        facts = {"beta": round(float(self.regions.mass[self.regions.shared].sum()), 12)}
        even = group > 1 and np.allclose(shared.max(axis=1), 1 / group)
        return facts | ({"group": group} if even else {})

    def sample(self, count: int, rng: np.random.Generator) -> Sample:
        """Draw `count` independent samples, for training and fitting."""
        if self.regions is None:
            raise NotImplementedError
        return self._sample_in(self.regions.draw(count, rng), rng)

    def test_sample(self, count: int, rng: np.random.Generator) -> Sample:
        """Draw `count` samples for scoring.

        If there are regions, each region's share of the samples equals its mass, up to rounding. Scores then estimate
        the same expectations as with `sample`, but don't depend on how many samples happen to be in shared regions.
        """
        if self.regions is None:
            return self.sample(count, rng)
        return self._sample_in(self.regions.allocate(count, rng), rng)

    def _sample_in(self, region: np.ndarray, rng: np.random.Generator) -> Sample:
        """Draw a label and an input in each of the given regions (n,)."""
        assert self.regions is not None
        labels = draw_labels(self.regions.posterior, region, rng)
        return Sample(self.inputs_in(region, rng), labels, region)

    def inputs_in(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw an input in each of the given regions (n,), float32 (n, C, H, W)."""
        raise NotImplementedError

    def posterior(self, inputs: np.ndarray) -> np.ndarray:
        """Return P(label | input), float64 (n, k), for inputs (n, C, H, W) on the scale of `sample`.

        Raises
        ------
        SpecError
            If the posterior isn't known, or the distribution can't produce one of the inputs.
        """
        raise RefusedError(
            "posterior", f"the posterior of {type(self).__name__} isn't known; define the method posterior"
        )


def draw_labels(posterior: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one label per sample, int64 (n,), from its row of the posterior (R, k) by inverting the cumulative sum."""
    cumulative = np.cumsum(posterior, axis=1)[rows]
    labels = (rng.random(len(rows))[:, None] >= cumulative).sum(axis=1)
    return np.minimum(labels, posterior.shape[1] - 1).astype(np.int64)


def overlap_regions(classes: int, group: int, beta: float, shares: list[float] | None = None) -> Regions:
    """Check the parameters, and return the regions for k classes in groups of m: one per class and one per group.

    `beta` is the total mass of the shared regions, and `shares` are P(class | shared region), equal by default. With
    shares of 1 and 0, each shared region belongs to one class, so no classes overlap; this control has the same regions
    as the distribution with overlap.
    """
    classes, group = convert_number(int, "classes", classes), convert_number(int, "group", group)
    beta = convert_number(float, "beta", beta)
    require(classes >= 2, "classes", classes, "at least 2")
    size = f"a number of classes per shared region, from 2 to classes = {classes}"
    require(2 <= group <= classes, "group", group, size)
    expected = f"a multiple of group = {group}, since each class is in exactly one group"
    require(classes % group == 0, "classes", classes, expected)
    require(0 < beta < 1, "beta", beta, "a total mass for the shared regions in (0, 1)")
    p = _checked_shares(shares, group)
    groups = classes // group
    together = np.kron(np.eye(groups), p[None])
    mass = np.concatenate([np.full(classes, (1 - beta) / classes), np.full(groups, beta / groups)])
    return Regions(np.concatenate([np.eye(classes), together]), mass / mass.sum(), np.arange(len(mass)) >= classes)


def _checked_shares(shares: list[float] | None, group: int) -> np.ndarray:
    """Return P(class | shared region), float64 (m,)."""
    if shares is None:
        return np.full(group, 1 / group)
    require(isinstance(shares, list | tuple), "shares", shares, f"a list of {group} shares")
    p = np.array([convert_number(float, f"shares[{i}]", share) for i, share in enumerate(shares)])
    fine = len(p) == group and (p >= 0).all() and abs(p.sum() - 1) < 1e-6
    require(fine, "shares", list(shares), f"{group} shares of at least 0 that add up to 1, one per class in a group")
    return p / p.sum()


def checked_shape(shape: Any) -> tuple[int, int, int]:
    """Return (C, H, W) from a list of three positive integers; raise SpecError for anything else."""
    fine = isinstance(shape, list | tuple) and len(shape) == 3
    require(fine, "shape", shape, "three whole numbers, [channels, height, width]")
    sizes = tuple(convert_number(int, f"shape[{i}]", size) for i, size in enumerate(shape))
    require(min(sizes) >= 1, "shape", list(sizes), "sizes of at least 1")
    return sizes


def positive(key: str, value: object) -> float:
    """Return `value` if it is a length from 1e-6 to 1e6, as float32 inputs require; raise SpecError otherwise."""
    number = convert_number(float, key, value)
    require(1e-6 <= number <= 1e6, key, value, "a number from 1e-6 to 1e6")
    return number


def sample_generator(distribution: Distribution, seed: int, *purpose: str) -> np.random.Generator:
    """Return the generator for drawing samples from a distribution with a cell's seed.

    Distributions with the same number of classes share random numbers, so that a control without overlap, for example,
    has the same regions and inputs. Distributions with different numbers of classes k share none, so a slope on
    log k is fitted to independent draws.
    """
    return generator(seed, *purpose, distribution.classes)


def layout_generator(layout: object) -> np.random.Generator:
    """Return the generator for the fixed part of a distribution, which doesn't depend on a cell's seed."""
    number: int = convert_number(int, "layout", layout)
    require(number >= 0, "layout", number, "a whole number of at least 0")
    return generator(number, "layout")


def unknown(inputs: np.ndarray, outside: np.ndarray) -> SpecError:
    """Return the error for inputs that the distribution can't produce, which are marked in `outside` (n,)."""
    first = int(np.flatnonzero(outside)[0])
    count = f"{int(outside.sum())} of {len(outside)}"
    start = shown(np.round(inputs[first].ravel()[:4], 3).tolist())
    sentence = (
        f"{count} inputs are outside all regions and have no posterior; leave them out (this one begins with {start})"
    )
    return RefusedError(f"inputs[{first}]", sentence)
