"""Define Gaussians with unit covariance: k equally likely classes in R^D, whose means are all equally far apart.

With two classes, `mu` and the default shape, the distribution is the paper's, whose means are 0 and mu in each of 3 x
10 x 10 coordinates (arXiv 2306.00740, section 5). The posterior is softmax(-|x - mean|^2 / 2). Two classes at
separation s have a Bayes error of Phi(-s / 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halobench.core.errors import Found, refuse, require
from halobench.core.specs.codec import convert_number
from halobench.data.distribution import Distribution, Sample, checked_shape, layout_generator, positive

TITLE = "Gaussians"
ORDER = 13


class Gaussians(Distribution):
    """N(means[y], I) for labels y uniform over the k rows of `means` (k, D)."""

    def __init__(self, shape: tuple[int, int, int], means: np.ndarray):
        self.shape, self.means, self.classes = shape, means, len(means)
        self.mean, self.std = np.zeros(shape[0]), np.ones(shape[0])

    def facts(self) -> dict[str, float | int]:
        return {"separation": float(np.linalg.norm(self.means[0] - self.means[1]))}

    def sample(self, count: int, rng: np.random.Generator) -> Sample:
        labels = rng.integers(self.classes, size=count)
        inputs = self.means[labels] + rng.standard_normal((count, self.means.shape[1]))
        return Sample(inputs.astype(np.float32).reshape(count, *self.shape), labels.astype(np.int64))

    def posterior(self, inputs: np.ndarray) -> np.ndarray:
        points = np.asarray(inputs, dtype=np.float64).reshape(len(inputs), -1)
        require(np.isfinite(points).all(), "inputs", Found("NaN or infinity"), "finite numbers")
        logits = points @ self.means.T - (self.means**2).sum(axis=1) / 2
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


def load(
    *,
    classes: int = 2,  # k, at least 2; at most D + 1 with `separation`, and exactly 2 with `mu`
    shape: Sequence[int] = (3, 10, 10),  # [C, H, W] of an input; D is their product
    separation: float | None = None,  # distance between any two means
    mu: float | None = None,  # instead of `separation`: means are 0 and mu in each coordinate, and mu sqrt(D) apart
    layout: int = 0,  # seed for the directions of the means
) -> Distribution:
    """Return the distribution; exactly one of `separation` and `mu` must be set."""
    sizes, classes = checked_shape(shape), convert_number(int, "classes", classes)
    rng, size = layout_generator(layout), int(np.prod(sizes))
    require(classes >= 2, "classes", classes, "at least 2")
    refuse((separation is None) == (mu is None), "separation", "set either separation or mu, but not both")
    if mu is not None:
        mu = positive("mu", mu)
        require(
            classes == 2, "classes", classes, "2 if mu is set, since the means are then 0 and mu in each coordinate"
        )
        return Gaussians(sizes, np.stack([np.zeros(size), np.full(size, mu)]))
    separation = positive("separation", separation)
    most = f"at most {size + 1}, since no more means can be equally far apart in {size} dimensions"
    require(classes <= size + 1, "classes", classes, most)
    return Gaussians(sizes, separation / np.sqrt(2) * simplex(classes, size, rng))


def simplex(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` random points (count, size) around 0 that are all sqrt(2) apart; count <= size + 1."""
    corners = np.eye(count) - 1 / count
    # The corners span count - 1 dimensions. Express them in an orthonormal basis of these, then rotate it randomly.
    basis = np.linalg.svd(corners)[2][: count - 1]
    turned = np.linalg.qr(rng.standard_normal((size, count - 1)))[0]
    return corners @ basis.T @ turned.T
