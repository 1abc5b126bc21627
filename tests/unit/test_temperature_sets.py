"""The sets of logits of `halobench.testing`, against optima that golden sections find, and what a check accepts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import log_softmax

from halobench import testing
from halobench.testing.logit_sets import KINDS, SETS

ALL = testing.temperature_sets(soft=True)
NAMED = {each.name: each for each in ALL}
PLAIN, SEPARABLE = NAMED["T .3 to 30: T near 3"], NAMED["no finite T: separable"]


def nll(each: testing.TemperatureSet, beta: float) -> float:
    """The mean NLL by SciPy, whatever the type of the logits."""
    logits = each.logits.astype(np.float64)
    scaled = np.where(np.isfinite(logits), beta * (logits - logits.max(axis=1, keepdims=True)), -np.inf)
    rows = np.eye(logits.shape[1])[each.labels] if each.labels.ndim == 1 else each.labels
    with np.errstate(invalid="ignore"):
        return float(-np.where(rows > 0, rows * log_softmax(scaled, axis=1), 0).sum(axis=1).mean())


def golden(each: testing.TemperatureSet, low: float, high: float) -> tuple[float, float]:
    """The lowest NLL between two values of log(beta), and where it is."""
    ratio = (math.sqrt(5) - 1) / 2
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    values = [nll(each, math.exp(x)) for x in inner]
    for _ in range(60):
        if values[0] < values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - ratio * (high - low)
            values[0] = nll(each, math.exp(inner[0]))
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + ratio * (high - low)
            values[1] = nll(each, math.exp(inner[1]))
    return min(zip(values, inner, strict=True))


def spread(each: testing.TemperatureSet) -> float:
    """The standard deviation of the logits within rows."""
    logits = np.where(np.isfinite(each.logits), each.logits, np.nan).astype(np.float64)
    return float(np.nanstd(logits - np.nanmean(logits, axis=1, keepdims=True)))


@pytest.mark.parametrize("each", ALL, ids=str)
def test_the_optimum_is_that_of_a_golden_section_or_a_limit(each):
    if not each.optimum.finite:
        falls_to_its_limit(each)
    elif each.logits.size > 30_000:
        is_lower_than_around(each)
    else:
        is_that_of_a_golden_section(each)


def is_that_of_a_golden_section(each: testing.TemperatureSet) -> None:
    centre = -math.log(spread(each))
    lowest, at = golden(each, centre - 9, centre + 9)
    assert each.optimum.nll == pytest.approx(lowest, rel=1e-11, abs=1e-12)
    assert math.log(each.optimum.beta) == pytest.approx(at, abs=1e-4)
    assert each.optimum.gain == pytest.approx(nll(each, 1) - lowest, abs=1e-9)


def is_lower_than_around(each: testing.TemperatureSet) -> None:
    best = each.optimum
    assert best.nll == pytest.approx(nll(each, best.beta), rel=1e-9)
    assert all(nll(each, best.beta * factor) > best.nll for factor in (0.999, 1.001))


def falls_to_its_limit(each: testing.TemperatureSet) -> None:
    best, step = each.optimum, 1e4 / (spread(each) or 1)
    if best.beta == 0:
        assert best.nll == pytest.approx(nll(each, 0), rel=1e-12)
        assert nll(each, 1e-6 * step) >= best.nll
        assert math.isinf(best.T)
        return
    falling = [nll(each, step * factor) for factor in (1e-4, 1e-3, 1e-2, 1e5)]
    assert falling[:3] == sorted(falling[:3], reverse=True)
    assert best.nll == pytest.approx(falling[-1], abs=1e-12)
    assert best.T == 0


def test_options_choose_the_sets_and_each_call_gives_arrays_of_ones_own():
    sizes = [len(testing.temperature_sets(trained=t, soft=s)) for t, s in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert sizes == [58, 60, 75, 77]
    assert {each.kind for each in SETS.values()} == set(KINDS)
    assert len({str(each) for each in SETS.values()}) == 77
    PLAIN.logits[:] = 0
    PLAIN.labels[:] = 0
    assert PLAIN.logits.any()
    assert PLAIN.labels.any()


def passes(each: testing.TemperatureSet, T: float, **more: bool) -> bool:
    try:
        each.check(T, **more)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("each", ALL, ids=str)
def test_a_check_passes_the_optimum_and_what_scipy_sees_close_to_it(each):
    best = each.optimum
    assert passes(each, best.T, reported=True)
    assert passes(each, math.nan) != best.finite
    assert not passes(each, -1.0)
    if best.finite:
        assert passes(each, np.float32(best.T))
        tried = [best.T * factor for factor in (0.02, 0.5, 0.9, 0.999, 1.1, 2, 50)]
        right = [passes(each, T) for T in tried]
        assert right == [nll(each, 1 / T) - best.nll <= best.tolerance for T in tried]
        assert right[3]
        assert not all(right)


def test_a_failure_shows_how_far_above_the_lowest_the_nll_is():
    above = nll(PLAIN, 1 / 1.5) - PLAIN.optimum.nll
    with pytest.raises(AssertionError, match=f"best T is 2.97306, but T = 1.5 has an NLL {above:.3g} nats above"):
        PLAIN.check(1.5)


def test_the_tolerance_is_a_share_of_the_gain_between_rounding_and_a_thousandth_of_a_nat():
    tolerances = [testing.Optimum(1.0, 1.0, gain).tolerance for gain in (0, 1e-5, 1e-3, 0.05, 9)]
    assert tolerances == pytest.approx([1e-6, 1e-6, 1e-5, 5e-4, 1e-3])
    exceeding = next(T for T in np.linspace(PLAIN.optimum.T, 4, 2000) if nll(PLAIN, 1 / T) > PLAIN.optimum.nll + 1e-3)
    PLAIN.check(exceeding - 0.001)
    with pytest.raises(AssertionError):
        PLAIN.check(exceeding)


def test_on_a_separable_set_a_temperature_needs_a_report():
    SEPARABLE.check(1e-3, reported=True)
    for T in (0.0, 1e-3):
        with pytest.raises(AssertionError, match="without a report"):
            SEPARABLE.check(T)
    with pytest.raises(AssertionError, match="nats above"):
        SEPARABLE.check(1.0, reported=True)
    NAMED["no finite T: every label has the lowest logit"].check(math.inf)
