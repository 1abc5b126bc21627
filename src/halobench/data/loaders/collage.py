"""Define the overlap distribution on collages, where a region is a pair of image classes, one above the other.

A sample of a region is the upper half of a random image of one class, from another loader, above the lower half of a
random image of the other class, such as the collar of a coat above the sole of a boot. The two classes may be the same,
so with C image classes, regions are drawn from C^2 pairs. Halves that images of two classes share are left out, so the
region of a collage, and hence the posterior, is exact. Classes, groups and masses are as in
`halobench.data.loaders.overlap`.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from halobench.core.errors import require
from halobench.data.channel_stats import ChannelStats
from halobench.data.distribution import Distribution, Regions, layout_generator, overlap_regions, unknown
from halobench.data.sources import Images, plain_images

TITLE = "Collages in pairs"
ORDER = 13


class Halves:
    """One half of each image, uint8 (N, C, h, W), sorted by class, without halves shared by two classes."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, classes: int):
        self.owner: dict[bytes, int] = {}
        for row, label in zip(pixels, labels.tolist(), strict=True):
            if self.owner.setdefault(row.tobytes(), label) != label:
                self.owner[row.tobytes()] = -1
        kept = self.class_of(pixels) >= 0
        order = np.flatnonzero(kept)[np.argsort(labels[kept], kind="stable")]
        self.pixels = pixels[order]
        self.counts = np.bincount(labels[order], minlength=classes)

    def class_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return the class that each half comes from, int64 (n,); -1 for a half of no class, or of several."""
        return np.array([self.owner.get(row.tobytes(), -1) for row in pixels], dtype=np.int64)

    def draw(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw half an image, uint8 (C, h, W), for each of the given classes (n,)."""
        first = np.cumsum(self.counts) - self.counts
        return self.pixels[first[classes] + rng.integers(self.counts[classes])]


class Collage(Distribution):
    """Collages of `images`, whose upper and lower classes are in `pairs` (R, 2), with pixels from 0 to 255."""

    regions: Regions

    def __init__(self, images: Images, regions: Regions, pairs: np.ndarray):
        self.images, self.regions, self.pairs = images, regions, pairs
        self.shape, self.classes = images.images.shape[1:], regions.posterior.shape[1]
        stats = ChannelStats(self.shape[0])
        stats.add(images.images)
        self.mean, self.std = stats.result()

    @cached_property
    def halves(self) -> tuple[Halves, Halves]:
        """Return the upper and the lower halves of which collages consist."""
        middle, images = self.shape[1] // 2, self.images
        upper, lower = (
            Halves(np.ascontiguousarray(part), images.labels, images.classes)
            for part in (images.images[:, :, :middle], images.images[:, :, middle:])
        )
        return upper, lower

    def inputs_in(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        parts = [half.draw(self.pairs[region, place], rng) for place, half in enumerate(self.halves)]
        return np.concatenate(parts, axis=2).astype(np.float32)

    def posterior(self, inputs: np.ndarray) -> np.ndarray:
        pixels = np.asarray(inputs).astype(np.uint8)
        upper, lower = self.halves
        middle = self.shape[1] // 2
        above = upper.class_of(np.ascontiguousarray(pixels[:, :, :middle]))
        below = lower.class_of(np.ascontiguousarray(pixels[:, :, middle:]))
        region_at = np.full((self.images.classes,) * 2, -1)
        region_at[tuple(self.pairs.T)] = np.arange(len(self.pairs))
        exact = (pixels == inputs).all(axis=(1, 2, 3)) & (above >= 0) & (below >= 0)
        region_of = np.where(exact, region_at[above, below], -1)
        if (region_of < 0).any():
            raise unknown(np.asarray(inputs), region_of < 0)
        return self.regions.posterior[region_of]


def of_classes(images: Images, classes: list[int] | None) -> Images:
    """Return the images of the given classes, renumbered in the given order; if `classes` is None, return `images`."""
    if classes is None:
        return images
    fine = isinstance(classes, list) and len(classes) >= 2 and len(set(classes)) == len(classes)
    fine = fine and all(isinstance(each, int) and 0 <= each < images.classes for each in classes)
    require(fine, "of", classes, f"a list of at least two different classes from 0 to {images.classes - 1}")
    rows = np.isin(images.labels, classes)
    number = np.zeros(images.classes, dtype=np.int64)
    number[classes] = np.arange(len(classes))
    return Images(images.images[rows], number[images.labels[rows]], len(classes))


def load(
    *,
    classes: int,  # this and the next two as for `overlap`
    group: int = 2,
    beta: float = 0.5,
    images: str = "mnist5k",  # the loader of the images, which is called without options
    shares: list[float] | None = None,  # as for `overlap`
    layout: int = 0,  # seed for drawing the pairs that become regions
    of: list[int] | None = None,  # the image classes whose halves are used; by default, all
) -> Distribution:
    """Return the distribution; raise SpecError if it needs more regions than there are pairs of classes."""
    regions = overlap_regions(classes, group, beta, shares)
    source, count = of_classes(plain_images("images", images), of), len(regions.mass)
    pairs = source.classes**2
    expected = (
        f"fewer, since they need {count} regions, and the {source.classes} classes of {images} have {pairs} pairs"
    )
    require(count <= pairs, "classes", classes, expected)
    chosen = layout_generator(layout).permutation(pairs)[:count]
    return Collage(source, regions, np.stack(np.divmod(chosen, source.classes), axis=1))
