"""The variance of a probe's mean: by exact enumeration if rays are fixed, over many seeds if they are drawn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from halobench.core.specs import ProbeSpec
from halobench.probing.probe import choose_samples, probe
from halobench.probing.rays import Surroundings

SIZE = 7
SPHERE = {"radii": (1.5,), "relative_radii": (1.0,), "bisections": 1}


def sloped(batch: torch.Tensor) -> torch.Tensor:
    """Two logits whose gap is 2 x_0 + 1 for class 0."""
    return torch.stack([2 * batch.flatten(1)[:, 0] + 1, torch.zeros(len(batch))], dim=1)


@pytest.fixture(scope="module")
def population():
    """7 points of two classes in three dimensions, as 1x1x3 images: a whole training set."""
    points = torch.from_numpy(np.random.default_rng(5).normal(size=(SIZE, 1, 1, 3)).astype(np.float32))
    return points, np.arange(SIZE) % 2


def mean_on_sphere(points: torch.Tensor, labels: np.ndarray, radius: float) -> np.ndarray:
    """Each point's mean label confidence over all directions, in closed form.

    A coordinate of a uniform direction in three dimensions is uniform on [-1, 1] (Archimedes), and the integral of the
    logistic function is log(1 + exp). The confidence in class 1 is 1 minus that in class 0.
    """
    gap = 2 * points.flatten(1)[:, 0].double().numpy() + 1
    ends = np.logaddexp(0, gap + 2 * radius) - np.logaddexp(0, gap - 2 * radius)
    return np.where(labels == 0, ends / (4 * radius), 1 - ends / (4 * radius))


def estimate(population, rows, rng=0, kind="nearest_other", **more) -> tuple[float, float]:
    """A probe's mean confidence around some rows at its first distance, and the standard error that it states."""
    points, labels = population
    spec, rows = ProbeSpec(kind, **more), np.asarray(rows)
    around, rng = Surroundings(points, labels), np.random.default_rng(rng)
    curves = probe(sloped, points[torch.from_numpy(rows)], labels[rows], spec, around, rng=rng).curves
    return float(curves["confidence"].iloc[0]), float(curves["confidence_se"].iloc[0])


@pytest.mark.parametrize("count", [2, 4, 6])
def test_over_all_samples_the_mean_is_unbiased_and_its_stated_error_treats_points_as_infinitely_many(population, count):
    """Every sample without replacement is taken once; rays to the nearest other point are not random."""
    samples = list(itertools.combinations(range(SIZE), count))
    found, errors = np.array([estimate(population, rows, **SPHERE) for rows in samples]).T
    each = np.array([estimate(population, [row], **SPHERE)[0] for row in range(SIZE)])
    assert found.mean() == pytest.approx(each.mean(), rel=1e-12)
    assert found.var() == pytest.approx(each.var(ddof=1) * (1 / count - 1 / SIZE), rel=1e-9)
    # The stated error treats the population as infinite.
    assert np.mean(errors**2) == pytest.approx(found.var() / (1 - count / SIZE), rel=1e-9)


def test_every_sample_of_points_is_as_likely():
    """A sample is a permutation's first rows; over all permutations, each set occurs equally often."""

    class Given:
        def __init__(self, order):
            self.order = np.array(order)

        def permutation(self, size):
            return self.order

    drawn = [tuple(choose_samples(5, 2, Given(order))) for order in itertools.permutations(range(5))]
    assert sorted(set(drawn)) == list(itertools.combinations(range(5), 2))
    assert {drawn.count(sample) for sample in drawn} == {12}
    assert choose_samples(3, 5, np.random.default_rng(0)).tolist() == [0, 1, 2], "all of a small set"


def test_on_spheres_the_mean_is_unbiased_and_the_stated_error_is_at_least_its_own(population):
    """Over 500 probes of 3 of 7 points, the mean is within 4 standard errors, and the variance within 4 of its own.

    The latter are sqrt(2 / 500) of the variance for normal values, and up to twice that for heavier tails than these.
    """
    draws, count, rays = 500, 3, 2
    truth = mean_on_sphere(*population, 1.5)
    found = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        rows = choose_samples(SIZE, count, rng)
        found.append(estimate(population, rows, rng, kind="sphere", directions=rays, **SPHERE))
    means, errors = np.array(found).T
    assert abs(means.mean() - truth.mean()) < 4 * means.std() / math.sqrt(draws)
    between = truth.var(ddof=1) * (1 / count - 1 / SIZE)  # the rest is the variance within points
    assert means.var(ddof=1) > between * (1 - 8 * math.sqrt(2 / draws))
    assert np.mean(errors**2) > means.var(ddof=1) * (1 - 8 * math.sqrt(2 / draws))
