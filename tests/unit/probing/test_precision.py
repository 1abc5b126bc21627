"""The variance of a probe's mean: by exact enumeration if rays are fixed, over many seeds if they are drawn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from halobench.core.errors import SpecError
from halobench.core.specs import ProbeSpec
from halobench.probing.probe import choose_samples, confidences, probe
from halobench.probing.rays import Surroundings
from halobench.probing.sample_size import Spread, components, estimated_variance, needed, variance

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


def estimate(population, rows, seed=0, kind="nearest_other", **more) -> float:
    """A probe's mean confidence around some rows, at its first distance."""
    points, labels = population
    spec, rows = ProbeSpec(kind, **more), np.asarray(rows)
    around, rng = Surroundings(points, labels), np.random.default_rng(seed)
    found = probe(sloped, points[torch.from_numpy(rows)], labels[rows], spec, around, rng=rng)
    return float(found.curves["confidence"].iloc[0])


@pytest.mark.parametrize("count", [2, 4, 6])
def test_over_all_samples_the_mean_is_unbiased_and_its_variance_is_the_stated_one(population, count):
    """Every sample without replacement is taken once; rays to the nearest other point are not random."""
    samples = list(itertools.combinations(range(SIZE), count))
    found = np.array([estimate(population, rows, **SPHERE) for rows in samples])
    each = np.array([estimate(population, [row], **SPHERE) for row in range(SIZE)])
    assert found.mean() == pytest.approx(each.mean(), rel=1e-12)
    spread = Spread(each.var(ddof=1), 0.0)
    assert found.var() == pytest.approx(variance(spread, count, 1, SIZE), rel=1e-9)
    stated = [variance(components(each[list(rows), None]), count, 1, SIZE) for rows in samples]
    assert np.mean(stated) == pytest.approx(found.var(), rel=1e-9)
    infinite = [each[list(rows)].var(ddof=1) / count for rows in samples]  # confidence_se, squared
    assert np.mean(infinite) == pytest.approx(found.var() / (1 - count / SIZE), rel=1e-9)


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


def test_on_spheres_the_mean_is_unbiased_and_its_variance_is_the_stated_one(population):
    """Over 500 probes of 3 of 7 points, the mean is within 4 standard errors, and the variance within 4 of its own.

    The latter are sqrt(2 / 500) of the variance for normal values, and up to twice that for heavier tails than these.
    """
    points, labels = population
    draws, count, rays = 500, 3, 2
    truth = mean_on_sphere(points, labels, 1.5)
    many = confidences(
        sloped,
        points,
        labels,
        ProbeSpec("sphere", directions=20000, **SPHERE),
        Surroundings(points, labels),
        rng=np.random.default_rng(1),
    )[:, :, 0]
    np.testing.assert_allclose(many.mean(axis=1), truth, atol=4 * 0.5 / math.sqrt(20000))
    spread = Spread(truth.var(ddof=1), many.var(axis=1, ddof=1).mean())
    expected = variance(spread, count, rays, SIZE)
    spec, around = ProbeSpec("sphere", directions=rays, **SPHERE), Surroundings(points, labels)
    means, stated = [], []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        rows = choose_samples(SIZE, count, rng)
        values = confidences(sloped, points[torch.from_numpy(rows)], labels[rows], spec, around, rng=rng)[:, :, 0]
        means.append(values.mean())
        stated.append(estimated_variance(values, SIZE))
    assert abs(np.mean(means) - truth.mean()) < 4 * math.sqrt(expected / draws)
    assert np.var(means, ddof=1) == pytest.approx(expected, rel=4 * 2 * math.sqrt(2 / draws))
    assert abs(np.mean(stated) - expected) < 4 * np.std(stated) / math.sqrt(draws)


def test_confidences_are_those_of_the_probe(population):
    points, labels = population
    spec, around = ProbeSpec("sphere", directions=3), Surroundings(points, labels)
    values = confidences(sloped, points, labels, spec, around, rng=np.random.default_rng(3))
    curves = probe(sloped, points, labels, spec, around, rng=np.random.default_rng(3)).curves
    np.testing.assert_allclose(values.mean(axis=(0, 1)), curves["confidence"], rtol=1e-9)


def test_one_direction_a_point_is_told_too_wide_not_too_narrow():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=50)
    spread = Spread(centres.var(ddof=1), 0.25)
    stated = [
        estimated_variance(centres[rng.permutation(50)[:20], None] + 0.5 * rng.normal(size=(20, 1)), 50)
        for _ in range(2000)
    ]
    exact = variance(spread, 20, 1, 50)
    assert exact < np.mean(stated) < exact / (1 - 20 / 50)


@pytest.mark.parametrize("between", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("within", [0.0, 0.01, 0.24])
@pytest.mark.parametrize("target", [0.1, 0.005, 0.0005])
def test_what_is_needed_is_enough_and_no_more(between, within, target):
    spread, size = Spread(between, within), 400
    points, directions = needed(spread, size, target)
    assert 2 <= points <= size
    assert variance(spread, points, directions, size) <= target**2 * (1 + 1e-9)
    if directions > 1:
        assert points == size
        assert variance(spread, points, directions - 1, size) > target**2
    elif points > 2:
        assert variance(spread, points - 1, 1, size) > target**2


def test_directions_that_are_asked_for_are_kept():
    spread = Spread(0.1, 0.2)
    points, directions = needed(spread, 4000, 0.01, directions=4)
    assert directions == 4
    assert variance(spread, points, 4, 4000) <= 1e-4 * (1 + 1e-9) < variance(spread, points - 1, 4, 4000)
    with pytest.raises(SpecError, match="all 4000 points"):
        needed(spread, 4000, 0.001, directions=4)


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (needed, (Spread(0.1, 0.1), 10, 0.0), "target"),
        (needed, (Spread(0.1, 0.1), 10, 0.1, 0), "directions"),
        (variance, (Spread(0.1, 0.1), 11, 1, 10), "points"),
        (components, (np.zeros((1, 5)),), "two points"),
        (estimated_variance, (np.zeros((5, 2)), 4), "points"),
    ],
)
def test_bad_values_are_named(function, arguments, words):
    with pytest.raises(SpecError, match=words):
        function(*arguments)
