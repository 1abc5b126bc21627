"""Define the overlap distribution on images, where each region consists of one real image under small affine changes.

Prototypes, one per region, are images from another loader. A sample of a region is its prototype, slightly and randomly
shifted, rotated and scaled. The sample must stay within the Euclidean distance `reach` of the prototype; `reach` is
less than half the distance between the prototype and the nearest other one. Regions are therefore disjoint, so the
region of an image, and hence the posterior, is exact. Classes, groups and masses are as in
`halobench.data.loaders.overlap`; prototypes' own classes aren't used.
"""

from __future__ import annotations

import math

import numpy as np

from halobench.core.errors import SpecError, require
from halobench.core.seeding import generator
from halobench.core.specs.codec import convert_number
from halobench.data.channel_stats import ChannelStats
from halobench.data.distribution import Distribution, Regions, layout_generator, overlap_regions, unknown
from halobench.data.sources import plain_images

TITLE = "Images in pairs"
ORDER = 12
# Its names in the experiments, without the number of classes.
VARIANTS = {
    "overlap-image": {"TITLE": "MNIST images in pairs"},
}

APART = 0.49  # `reach`, as a share of the distance to the nearest other prototype
CANDIDATES = 4  # images considered for each prototype
BLOCK = 512  # images rendered at once
TRIES = 30  # rounds of redrawing images that left their regions
TRIAL = 4  # samples drawn per region to check that this is possible


class ImageOverlap(Distribution):
    """Affine changes of `prototypes` (R, C, H, W), within distances `reach` (R,) of them; pixels are from 0 to 255."""

    regions: Regions

    def __init__(
        self, prototypes: np.ndarray, regions: Regions, stats: tuple[np.ndarray, np.ndarray], change: np.ndarray
    ):
        self.prototypes, self.regions = prototypes, regions
        self.shape, self.classes = prototypes.shape[1:], regions.posterior.shape[1]
        self.mean, self.std = stats
        self.change = change  # maxima: shift (pixels), turn (radians), growth (a share)
        shift, turn, growth = map(float, change)
        self.options = [shift, round(math.degrees(turn), 6), growth]
        flat = prototypes.reshape(len(prototypes), -1).astype(np.float64)
        distance = np.linalg.norm(flat[:, None] - flat[None], axis=2)
        np.fill_diagonal(distance, np.inf)
        self.reach = APART * distance.min(axis=1)

    def inputs_in(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        images = np.empty((len(region), *self.shape), dtype=np.float32)
        left = np.arange(len(region))
        for _ in range(TRIES):
            images[left] = self._changed(region[left], rng)
            left = left[self._offset(images[left], region[left]) > self.reach[region[left]]]
            if not len(left):
                return images
        what = "smaller values, fewer classes or prototypes further apart, since too many images leave their regions"
        raise SpecError("shift, turn, growth", self.options, what)

    def _changed(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return each region's prototype after a random affine change (bilinear, on a black background)."""
        from scipy.ndimage import map_coordinates

        down, right, turn, growth = (rng.uniform(-1, 1, size=(len(region), 4)) * self.change[[0, 0, 1, 2]]).T
        out = np.empty((len(region), *self.shape), dtype=np.float32)
        middle = (np.array(self.shape[1:]) - 1) / 2
        rows, columns = (grid.ravel() - centre for grid, centre in zip(np.indices(self.shape[1:]), middle, strict=True))
        for start in range(0, len(region), BLOCK):
            part = slice(start, start + BLOCK)
            cosine = (np.cos(turn[part]) / (1 + growth[part]))[:, None]
            sine = (np.sin(turn[part]) / (1 + growth[part]))[:, None]
            y, x = rows - down[part, None], columns - right[part, None]
            # The first coordinate selects the prototype; since it is an integer, neighbours have no weight.
            which = np.broadcast_to(region[part, None], y.shape)
            at = np.stack([which, cosine * y - sine * x + middle[0], sine * y + cosine * x + middle[1]])
            for channel in range(self.shape[0]):
                values = map_coordinates(self.prototypes[:, channel].astype(np.float32), at, order=1)
                out[part, channel] = values.reshape(-1, *self.shape[1:])
        return out

    def _offset(self, images: np.ndarray, region: np.ndarray) -> np.ndarray:
        """Return the Euclidean distance (n,), in grey levels, of each image from its region's prototype."""
        gap = images.astype(np.float64) - self.prototypes[region]
        return np.sqrt((gap**2).sum(axis=(1, 2, 3)))

    def posterior(self, inputs: np.ndarray) -> np.ndarray:
        region_of = np.full(len(inputs), -1)
        for region, reach in enumerate(self.reach):
            region_of[self._offset(np.asarray(inputs), np.full(len(inputs), region)) <= reach] = region
        if (region_of < 0).any():
            raise unknown(np.asarray(inputs), region_of < 0)
        return self.regions.posterior[region_of]


def load(
    *,
    classes: int,  # this and the next two as for `overlap`
    group: int = 2,
    beta: float = 0.5,
    prototypes: str = "mnist5k",  # the loader of the images, which is called without options
    shift: float = 1.0,  # maximum shift of an image down or right, in pixels
    turn: float = 5.0,  # maximum turn in degrees, up to 180
    growth: float = 0.05,  # maximum growth or shrinkage, as a share in [0, 1)
    shares: list[float] | None = None,  # as for `overlap`
    layout: int = 0,  # seed for drawing the images that become prototypes
) -> Distribution:
    """Return the distribution; raise SpecError if too many changed images would leave their regions."""
    regions = overlap_regions(classes, group, beta, shares)
    change, rng = _change(shift, turn, growth), layout_generator(layout)
    images = np.asarray(plain_images("prototypes", prototypes).images)
    count, most = len(regions.mass), len(images) // CANDIDATES
    expected = f"fewer, since they need {count} regions, but {prototypes} has enough images for only {most}"
    require(count <= most, "classes", classes, expected)
    chosen = spread_out(images, count, rng)
    stats = ChannelStats(images.shape[1])
    stats.add(images)
    distribution = ImageOverlap(images[chosen], regions, stats.result(), change)
    distribution.sample(TRIAL * count, generator(int(layout), "trial"))  # fail now rather than in a job
    return distribution


def spread_out(images: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Pick the rows of `count` distant images, each the farthest from its predecessors out of a random subset."""
    pool = rng.choice(len(images), size=count * CANDIDATES, replace=False)
    flat = images[pool].reshape(len(pool), -1).astype(np.float64)
    chosen = [0]
    nearest = np.linalg.norm(flat - flat[0], axis=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(flat - flat[chosen[-1]], axis=1))
    return pool[chosen]


def _change(shift: float, turn: float, growth: float) -> np.ndarray:
    """Check and return the maxima of shift (pixels), turn (radians) and growth."""
    values = [convert_number(float, key, v) for key, v in (("shift", shift), ("turn", turn), ("growth", growth))]
    require(values[0] >= 0, "shift", shift, "at least 0 pixels")
    require(0 <= values[1] <= 180, "turn", turn, "0 to 180 degrees")
    require(0 <= values[2] < 1, "growth", growth, "a fraction in [0, 1)")
    return np.array([values[0], np.deg2rad(values[1]), values[2]])
