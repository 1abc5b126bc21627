"""The variance of a probe's mean, by exact enumeration of the samples of points."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from halobench.core.specs.probe import ProbeSpec
from halobench.probing.probe import choose_samples, probe
from halobench.probing.rays import TrainingPoints

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


def estimate(population, rows, rng=0, kind="nearest_other", **more) -> tuple[float, float]:
    """A probe's mean confidence around some rows at its first distance, and the standard error that it states."""
    points, labels = population
    spec, rows = ProbeSpec(kind, **more), np.asarray(rows)
    around, rng = TrainingPoints(points, labels), np.random.default_rng(rng)
    curves = probe(sloped, points[torch.from_numpy(rows)], labels[rows], spec, around, rng=rng).curves
    return float(curves["confidence"].iloc[0]), float(curves["confidence_se"].iloc[0])


@pytest.mark.parametrize("count", [2, 6])
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
