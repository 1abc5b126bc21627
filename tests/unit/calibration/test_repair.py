"""The repair ladder: exactly known parts, sums, ranges around known best maps, and estimates without a posterior."""

from __future__ import annotations

import functools
from dataclasses import astuple

import numpy as np
import pytest
from scipy.special import softmax

from halobench import SpecError, fit_temperature, kl, nll, repair_ladder
from halobench.calibration import ladder as repair
from halobench.calibration.cell_ladder import NLL_PARTS, cell_ladder
from halobench.theory import nearest_neighbour_kl, partner_kl
from studies.ladder.constructed_maps import draw
from unit.calibration.builders import hard, nearest


def parts(ladder: repair.RepairLadder) -> list[repair.Rung]:
    return [part for part in (ladder.noise, ladder.training, ladder.richer_map, ladder.temperature) if part]


SMOOTH, LOCAL = ("temperature", "partner", "regression"), ("temperature", "partner", "neighbours")


def posteriors(n: int = 300, k: int = 5, seed: int = 0) -> np.ndarray:
    return softmax(1.5 * np.random.default_rng(seed).normal(size=(n, k)), axis=1)


@pytest.mark.parametrize("known", [True, False])
def test_parts_add_up_and_intervals_hold_them(known):
    p = posteriors(100)
    targets = p if known else p.argmax(axis=1)
    logits = 3 * np.log(p) + np.random.default_rng(1).normal(size=p.shape)
    ladder = repair.ladder(logits, targets, families=LOCAL)
    assert sum(part.value for part in parts(ladder)) == pytest.approx(ladder.nll.value, abs=1e-9)
    assert ladder.nll.value == pytest.approx(nll(logits, targets), abs=1e-12)
    assert (ladder.noise is None) != known
    for part in (ladder.nll, *parts(ladder)):
        assert part.low <= part.value <= part.high
        assert part.high >= 0, "a part below 0 is within its interval of it"
    low, high = ladder.best_map_range
    above_noise = ladder.training.value + (ladder.noise.value if ladder.noise else 0)
    assert low <= ladder.families[ladder.map] <= high
    assert 0 <= ladder.training_range[0] <= ladder.training.value <= ladder.training_range[1]
    assert ladder.families[ladder.map] == pytest.approx(above_noise, abs=1e-9)
    assert ladder.families[ladder.map] == min(ladder.families.values()) <= high
    assert repair.ladder(logits, targets, families=LOCAL) == ladder, "the same again"
    assert repair.ladder(logits, targets, families=LOCAL, seed=1) != ladder


def test_a_tempered_posterior_is_repaired_by_its_temperature_alone():
    p = posteriors(100)
    ladder = repair_ladder(4 * np.log(p), p)
    assert ladder.noise.value == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), abs=1e-12)
    assert ladder.temperature.value == pytest.approx(kl(4 * np.log(p), p), abs=1e-9)
    assert ladder.training.value == pytest.approx(0, abs=1e-9)
    assert ladder.richer_map.value == pytest.approx(0, abs=1e-9)


def test_an_affine_map_is_found_to_be_a_richer_map():
    """Logits mixed by a matrix: no temperature undoes this, but a linear map does."""
    p = posteriors(600)
    turn = np.eye(5) + 0.6 * np.random.default_rng(2).normal(size=(5, 5))
    z = np.log(p) - np.log(p).mean(axis=1, keepdims=True)
    ladder = repair.ladder(z @ turn, p, families=SMOOTH)
    ts = kl(fit_temperature(z @ turn, p).beta * z @ turn, p)
    assert ladder.training.value < 0.2 * ts
    assert ladder.richer_map.value == pytest.approx(ts - ladder.training.value, abs=0.01)
    assert ladder.best_map_range[0] <= ladder.noise.value + 0.2 * ts


def test_nearest_neighbours_have_the_parts_of_the_closed_forms():
    """Training's part is the KL with known partners; a richer map's part is the rest of TS's KL."""
    k, m = 12, 4
    logits, _, posterior = nearest(1000, k, m, 0.5)
    ladder = repair.ladder(12 * logits, posterior, families=LOCAL)
    assert ladder.training.value == pytest.approx(partner_kl(k, 0.5, m), rel=0.05)
    gap = nearest_neighbour_kl(k, 0.5, m) - partner_kl(k, 0.5, m)
    assert ladder.richer_map.low - 0.01 < gap < ladder.richer_map.high + 0.01
    low, high = ladder.training_range
    assert low - 0.01 < partner_kl(k, 0.5, m) < high + 0.01  # of all samples, not of these
    assert high - low < 0.03, "one-hot logits are a few different rows, so the learning curve shows what is left"


@pytest.mark.parametrize("known", [True, False])
def test_a_cell_has_the_ladder_of_its_test_samples(known, monkeypatch):
    """As rows of the metrics table; one-hot logits, which look like probabilities, are used unchanged."""
    few = functools.partial(repair.ladder, families=LOCAL)
    monkeypatch.setattr("halobench.calibration.cell_ladder.ladder", few)
    logits, labels, posterior = nearest(100, 6, 2, 0.5)
    arrays = {"test.logits": logits, "test.clean": labels} | ({"test.posterior": posterior} if known else {})
    found, rows = cell_ladder(arrays, 3)
    assert found == few(logits, posterior if known else labels, seed=3)
    assert set(rows["labels"]) == {"noisy" if known else "clean"}
    by = rows.set_index(rows["metric"].str.removeprefix("repair_"))
    assert ("noise" in by.index) == known
    assert by.loc[[name for name in by.index if name in NLL_PARTS], "value"].sum() == pytest.approx(by["value"]["nll"])
    assert tuple(by.loc["training", ["value", "low", "high"]]) == astuple(found.training)
    noise = found.noise.value if known else 0.0
    assert tuple(by.loc["best_map", ["low", "high"]]) == tuple(noise + end for end in found.training_range)


def test_without_a_posterior_the_refinement_is_estimated():
    """With drawn labels, noise and training together are about the best map's expected NLL."""
    p = posteriors(1200)
    labels = (np.random.default_rng(3).random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    ladder = repair.ladder(4 * np.log(p), labels, families=SMOOTH)
    assert ladder.training.low < -(p * np.log(p)).sum(axis=1).mean() < ladder.training.high
    assert ladder.temperature.value == pytest.approx(kl(4 * np.log(p), p), rel=0.1)


@pytest.mark.parametrize("case", ["separable", "one class", "no logit stands out"])
def test_hard_cells_are_finite(case):
    """A stage computes these, although `repair_ladder` refuses the first two."""
    z, y = hard(case)
    ladder = repair.ladder(z, y, families=LOCAL)
    assert all(np.isfinite([part.value, part.low, part.high]).all() for part in parts(ladder))
    assert sum(part.value for part in parts(ladder)) == pytest.approx(ladder.nll.value, abs=1e-9)
    if case != "no logit stands out":
        with pytest.raises(SpecError):
            repair_ladder(z, y)


@pytest.mark.parametrize(
    ("case", "families", "posterior"),
    [
        ("12 clusters, k = 4", LOCAL, False),
        ("rotated logits, k = 8", SMOOTH, True),
        ("rings, k = 3", ("temperature", "partner", "network"), True),
        ("a feature missing from the logits, k = 2", LOCAL, True),
        ("the row's offset carries it, k = 4", SMOOTH, False),
    ],
)
def test_the_range_holds_the_best_map_that_is_known_by_construction(case, families, posterior):
    """The truth is the best map's NLL on the same samples; studies/ladder/constructed.py has all cases."""
    logits, targets, truth = draw(case, 400, 0, posterior)
    found = repair.ladder(logits, targets, families=families)
    low, high = found.training_range
    assert low - 0.002 < truth - (found.noise.value if posterior else 0) < high + 0.002
    assert found.best_map_range[0] < draw(case, 20_000, 1, True)[2] < found.best_map_range[1], "on new samples"
    if posterior:  # without the noise of labels, the range is narrow
        assert high - low < 0.25


def test_labels_by_rank_are_found_and_what_cannot_be_known_is_not_claimed():
    """The best map's NLL is the entropy of the frequencies; with 20 classes, no sample rules out a better map."""
    logits, labels, truth = draw("labels at the second rank, k = 20", 1000, 0, False)
    found = repair.ladder(logits, labels, families=("temperature", "partner", "ranks", "neighbours"))
    assert found.training.value == pytest.approx(truth, abs=0.05)
    assert found.training_range[0] == 0


def test_the_ladder_ignores_constants_that_are_added_to_rows():
    logits, labels, _ = draw("the row's offset carries it, k = 4", 100, 0, False)
    centred = logits - logits.mean(axis=1, keepdims=True)
    one, other = (repair.ladder(z, labels, families=("partner", "ranks", "temperature")) for z in (logits, centred))
    np.testing.assert_allclose(list(one.families.values()), list(other.families.values()), rtol=1e-6)


def test_further_samples_narrow_the_range():
    case = "40 clusters, k = 10"
    logits, targets, truth = draw(case, 400, 0, True)
    more = draw(case, 3000, 1, True)[:2]
    alone, helped = (repair.ladder(logits, targets, each, families=LOCAL) for each in (None, more))
    assert helped.best_map_range[0] - 0.002 < truth < helped.best_map_range[1] + 0.002
    assert np.ptp(helped.training_range) < np.ptp(alone.training_range) / 2
    assert helped.training.value < alone.training.value
    assert helped.nll == alone.nll


def test_the_range_is_what_the_learning_curves_leave():
    """If what a family misses shrinks as assumed, the lower estimate is its limit, up to the standard errors."""
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(2, 10_000)) * 1e-3
    upper, fewer = 1 + 800**-0.25 + spread[0], 1 + 500**-0.25 + spread[1]
    growth = 1.6**0.25
    low, high = repair._range(upper, [(upper, fewer)], growth)
    errors = 1.96 * upper.std() / 100, 1.96 * (fewer - upper).std() / 100
    assert low == pytest.approx(1 - errors[0] - errors[1] / (growth - 1), abs=1e-3)
    assert high == pytest.approx(upper.mean() + errors[0], abs=1e-6)
    steeper = repair._range(upper, [(upper, fewer), (upper + 0.2, fewer + 0.3)], growth)
    assert steeper == (pytest.approx(low + 0.2 - 0.1 / (growth - 1), abs=1e-6), high), "the lowest limit of all curves"
    assert repair._range(upper, [(upper, fewer)], 1.0) == (0.0, high), "nothing is known"


@pytest.mark.parametrize(
    ("k", "n", "rate"), [(2, 50, 1 / 2), (3, 63, 0), (3, 64, 1 / 3), (4, 1000, 1 / 4), (5, 1000, 0), (9, 9, 0)]
)
def test_the_rate_is_that_of_jumps_in_as_many_directions_as_logits_vary(k, n, rate):
    logits = np.random.default_rng(0).normal(size=(n, k))
    assert repair._rate(logits) == rate
    assert repair._rate(logits + np.arange(n)[:, None]) == rate, "constants of rows don't count"
    assert repair._rate(np.repeat(logits, 5, axis=0)[: 5 * n]) == 1, "few different rows"
