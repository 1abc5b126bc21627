"""The null for random directions against simulated hyperplanes, exact laws in low dimensions, and linear models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from halobench.analysis.radii_summary import QUARTILES, summarise_radii
from halobench.analysis.random_ray_null import half_space_factor, half_space_survival, summarise_nulls
from halobench.core.errors import SpecError
from halobench.storage.columns import SURVIVAL_COLUMNS


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Uniformly random unit vectors."""
    vectors = rng.standard_normal(shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def lengths(rng: np.random.Generator, attacked: np.ndarray, dimension: int, planes: int, rays: int) -> np.ndarray:
    """How far random rays (n, rays) get among random hyperplanes at the distances `attacked` (n,); inf: for ever."""
    found = np.empty((len(attacked), rays))
    for row, distance in enumerate(attacked):
        directions, normals = unit(rng, rays, dimension), unit(rng, rays, planes, dimension)
        cosine = np.einsum("rd,rpd->rp", directions, normals).max(axis=1)
        with np.errstate(divide="ignore"):
            found[row] = np.where(cosine > 0, distance / np.where(cosine > 0, cosine, np.inf), np.inf)
        found[row, cosine <= 0] = np.inf
    return found


def test_in_two_and_three_dimensions_angles_are_known():
    """On a circle the angle is uniform, on a sphere its cosine is (Archimedes)."""
    distance = np.array([0.3, 1.0, 1.5, 4.0, 1e9])
    ratio = np.minimum(1 / np.maximum(distance, 1), 1)
    for dimension, crossed in ((2, np.arccos(ratio) / np.pi), (3, (1 - ratio) / 2)):
        for planes in (1, 2, 9):
            found = half_space_survival(distance, 1.0, dimension, planes)
            np.testing.assert_allclose(found, (1 - crossed) ** planes, rtol=1e-7)


@pytest.mark.parametrize(("dimension", "planes"), [(5, 1), (64, 1), (64, 9), (200, 3)])
def test_shares_are_those_of_simulated_hyperplanes(dimension, planes):
    rays = 20_000
    found = lengths(np.random.default_rng(0), np.array([1.0]), dimension, planes, rays)[0]
    for level in (0.1, 0.3, 0.45):
        distance = half_space_factor(dimension, planes, level)
        expected = half_space_survival(distance, 1.0, dimension, planes)
        assert expected == pytest.approx(1 - level, abs=1e-9)
        assert stats.binomtest(int((found > distance).sum()), rays, float(expected)).pvalue > 1e-3
    assert half_space_survival(1e12, 1.0, dimension, planes) == pytest.approx(0.5**planes, rel=1e-6)


def test_factors_grow_like_the_root_of_the_dimension_and_fall_with_the_number_of_hyperplanes():
    for planes, level in ((1, 0.25), (2, 0.5), (9, 0.5), (9, 0.75)):
        normal = stats.norm.isf(1 - (1 - level) ** (1 / planes))  # the cosine is about normal / sqrt(d)
        assert half_space_factor(10**6, planes, level) / 1e3 == pytest.approx(1 / normal, rel=1e-4)
    factors = [half_space_factor(64, planes) for planes in (1, 2, 3, 9, 99)]
    assert factors[0] == np.inf
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] > 1


def test_no_linear_model_goes_beyond_one_half_space():
    """Where a linear model is certain is convex; the nearest of many directions makes up for the worst one."""
    rng, classes, level = np.random.default_rng(1), 6, 0.9
    for _ in range(5):
        weights, directions = 3 * rng.standard_normal((classes, 3)), unit(rng, 20_000, 3)
        gaps, slopes = rng.uniform(4, 6, classes - 1), directions @ (weights[1:] - weights[0]).T
        low, high = np.zeros(len(directions)), np.full(len(directions), 1e6)
        for _ in range(60):
            middle = (low + high) / 2
            with np.errstate(over="ignore"):
                certain = 1 / (1 + np.exp(slopes * middle[:, None] - gaps).sum(axis=1)) >= level
            low, high = np.where(certain, middle, low), np.where(certain, high, middle)
        for factor in (1.01, 1.2, 2.0, 5.0, 20.0):
            share = (low > factor * low.min()).mean()
            assert share <= half_space_survival(factor, 1.0, 3) + 3 * 0.5 / np.sqrt(len(directions))


def test_a_cells_null_summarises_simulated_rays_as_measured_ones():
    """One sample is never certain. Changing the unit of distance changes the radii, but nothing relative to others."""
    rng, dimension, rays = np.random.default_rng(2), 20, 4000
    attacked = pd.DataFrame({"radius": [0.0, *rng.lognormal(-1, 0.5, 11)], "censored": False})
    attacked["other_distance"] = rng.uniform(2, 3, len(attacked))
    found = summarise_nulls(attacked, dimension, {"one": 1, "four": 4}, QUARTILES)
    for quantity, planes in (("one", 1), ("four", 4)):
        measured = lengths(rng, attacked["radius"].to_numpy(), dimension, planes, rays)
        measured[0] = 0
        table = pd.DataFrame({"radius": np.minimum(measured, 1e6).ravel(), "censored": (measured > 1e5).ravel()})
        table["other_distance"] = attacked["other_distance"].to_numpy().repeat(rays)
        table = table.assign(points="train", probe="", quantity="", calibrator="", threshold=0.9, line_length=np.nan)
        expected, null = summarise_radii(table).iloc[0], found[quantity]
        assert null["censored"] == pytest.approx(expected["censored"], abs=0.01)
        for column in SURVIVAL_COLUMNS:
            assert null[column] == pytest.approx(expected[column], abs=0.01)
        for column in (f"{scale}_{name}" for scale in ("radius", "relative") for name in ("q25", "median", "q75")):
            endless = expected["censored"] >= 1 - QUARTILES[column.rpartition("_")[2]]
            assert np.isnan(null[column]) if endless else null[column] == pytest.approx(expected[column], rel=0.05)
    scaled = attacked.assign(radius=7 * attacked["radius"], other_distance=7 * attacked["other_distance"])
    again = summarise_nulls(scaled, dimension, {"one": 1, "four": 4}, QUARTILES)
    for quantity, null in found.items():
        factors = {column: 7 if column.startswith("radius") else 1 for column in null}
        for column, value in null.items():
            assert again[quantity][column] == pytest.approx(factors[column] * value, rel=1e-6, nan_ok=True)


def test_where_an_attack_found_nothing_rays_never_end():
    attacked = pd.DataFrame({"radius": [1.0, 50.0], "censored": [False, True], "other_distance": 1.0})
    null = summarise_nulls(attacked, 30, {"two": 2}, QUARTILES)["two"]
    assert null["censored"] == (0.25 + 1) / 2
    alone = half_space_factor(30, 2, 0.5)  # half of the rays of the only sample with a boundary are a quarter of all
    assert null["radius_q25"] == pytest.approx(alone, rel=1e-4)
    assert np.isnan(null["radius_median"])
    nothing = summarise_nulls(attacked.assign(censored=True), 30, {"two": 2}, QUARTILES)["two"]
    assert nothing["censored"] == nothing["survival_2"] == 1
    never = summarise_nulls(attacked.assign(radius=0.0, censored=False), 30, {"two": 2}, QUARTILES)["two"]
    assert never["radius_q75"] == never["survival_0"] == never["censored"] == 0


@pytest.mark.parametrize("arguments", [(-1.0, 1.0, 64), (1.0, -1.0, 64), (1.0, 1.0, 1), (1.0, 1.0, 64, 0)])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(SpecError):
        half_space_survival(*arguments)
    with pytest.raises(SpecError):
        half_space_factor(64, 1, 1.0)
