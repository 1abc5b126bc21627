"""Joining cells: quantiles of censored radii, temperatures from fits."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from halobench.results.aggregate import released_near_exact
from halobench.results.origins import temperature
from halobench.results.radii_summary import censored_quantile, summarise_radii


def test_uncensored_quantiles_are_order_statistics():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    none = np.zeros(100, bool)
    assert [censored_quantile(values, none, level) for level in (0.25, 0.5, 0.75, 1.0)] == [25, 50, 75, 100]


def test_a_quantile_on_censored_values_is_their_lower_bound():
    values, censored = np.array([1.0, 2.0, 9.0, 8.0]), np.array([False, False, True, True])
    assert censored_quantile(values, censored, 0.5) == 2
    assert censored_quantile(values, censored, 0.75) == 8
    assert censored_quantile(values, np.ones(4, bool), 0.25) == 1


def test_radii_are_summarised_by_probe_quantity_and_calibrator():
    table = pd.DataFrame(
        {
            "points": "train",
            "probe": ["sphere"] * 4 + ["nearest_other"] * 4,
            "point": range(8),
            "ray": 0,
            "quantity": "certainty",
            "calibrator": "none",
            "threshold": 0.9,
            "radius": [1.0, 2.0, 3.0, 4.0, 2.0, 2.0, 2.0, 2.0],
            "censored": [False, False, False, True] + [False] * 4,
            "other_distance": 2.0,
            "line_length": [np.nan] * 4 + [4.0] * 4,
        }
    )
    found = summarise_radii(table).set_index("probe")
    assert found.loc["sphere", ["radius_q25", "radius_median", "radius_q75"]].tolist() == [1, 2, 3]
    assert found.loc["sphere", "relative_median"] == 1
    assert math.isnan(found.loc["sphere", "fraction_median"])
    assert found.loc["sphere", "censored"] == 0.25
    assert found.loc["nearest_other", "fraction_median"] == 0.5


@pytest.mark.parametrize(
    ("fit", "expected"),
    [({"T": 2.5, "beta": 0.4}, 2.5), ({"T": None, "beta": 0.0}, math.inf)],
)
def test_temperatures_read_back(fit, expected):
    assert temperature(fit) == expected


def test_no_temperature_is_nan():
    assert math.isnan(temperature({"T": None, "beta": None}))  # no optimum, or a calibrator without temperature


@pytest.mark.parametrize(
    ("exact", "released", "near"),
    [
        (2.0, 2.09, 1.0),
        (2.0, 1.89, 0.0),
        (0.55, -60.4, 0.0),
        (math.inf, 1.02, 0.0),
        (2.0, math.nan, 0.0),  # of logits with -inf
        (math.nan, 0.9, math.nan),  # separable: there is no optimum
        (None, 0.9, math.nan),
        (2.0, None, math.nan),
    ],
)
def test_the_papers_fit_is_near_the_optimum_or_not(exact, released, near):
    fits = {("exact", "drawn"): exact, ("released", "drawn"): released}
    found = released_near_exact({fit: T for fit, T in fits.items() if T is not None})
    assert found == near or (math.isnan(found) and math.isnan(near))
