"""Samples that depend on each other, and columns in another order: noticed if they are there, and rarely otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from halobench import SpecError, diagnose, fit_auto
from halobench.calibration.calibrators.auto import TEMPERATURES
from halobench.calibration.diagnosis.parts import Temperature
from halobench.calibration.repair.columns import find_mismatch
from halobench.calibration.repair.dependence import find_dependence, near_groups
from halobench.calibration.repair.groups import Groups
from unit.calibration.builders import drawn
from unit.calibration.builders import without_ladder as without_ladder  # a fixture

OWN = ("top_rest", "partner")


def copies(originals: int, each: int, noise: float, k: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Near-copies of samples whose logits are calibrated, in random order."""
    rng = np.random.default_rng(seed)
    z = 3 * rng.normal(size=(originals, k))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    rows = rng.permutation(np.repeat(np.arange(originals), each))
    return z[rows] + noise * rng.normal(size=(len(rows), k)), y[rows]


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3, 0.8])
@pytest.mark.parametrize(("originals", "each"), [(50, 6), (100, 3), (150, 2), (20, 15)])
def test_copies_are_noticed_and_counted(originals, each, noise):
    factors = []
    for seed in range(4):
        z, y = copies(originals, each, noise, seed=seed)
        moved = 1e4 * (z + np.random.default_rng(9).normal(size=(len(z), 1)).round())
        found = find_dependence(z, y)
        assert found is not None
        assert found.kind == find_dependence(moved, y).kind == "copies"
        factors.append(found.factor)
    assert each / 2.2 < np.mean(factors) < 1.6 * each


@pytest.mark.parametrize("k", [2, 3, 10, 40])
@pytest.mark.parametrize("flips", [0.0, 0.2])
def test_independent_samples_are_not_suspected(k, flips):
    """Neither if logits are distinct, nor if they coincide, as those of nearest neighbours and votes do."""
    suspected = 0
    for seed in range(5):
        z, y = drawn(400, k, seed=seed, flips=flips)
        p = np.exp(z / 3 - (z / 3).max(axis=1, keepdims=True))
        votes = (p / p.sum(axis=1, keepdims=True)).round(1)
        shown = (z, z.round(), np.eye(k)[z.argmax(axis=1)], np.log(votes + 0.01), np.roll(z, 1, axis=1))
        suspected += sum(find_dependence(each, y) is not None for each in shown)
        order = np.argsort(y, kind="stable")
        suspected += find_dependence(z[order], y[order]) is not None
    assert suspected <= 1


@pytest.mark.parametrize(("k", "flips"), [(3, 0.0), (10, 0.4)])
def test_files_that_are_sorted_by_class_are_not_suspected(k, flips):
    """Neither by their labels nor, with many classes, by classes whose labels were flipped afterwards."""
    suspected = 0
    for seed in range(10):
        z, y = drawn(600, k, seed=seed)
        z, y = z[np.argsort(y)], np.sort(y)
        flipped = np.where(np.random.default_rng(seed).random(600) < flips, (y + 1) % k, y)
        suspected += sum(find_dependence(z, each) is not None for each in (y, flipped))
    assert suspected <= 1


def test_rows_of_one_patient_are_noticed_if_they_follow_each_other():
    rng = np.random.default_rng(0)
    noticed = {"in order": 0, "shuffled": 0}
    for _ in range(10):
        z = 2 * rng.normal(size=(400, 4))
        shift = np.repeat(2 * rng.normal(size=(20, 4)), 20, axis=0)
        y = (z + shift + rng.gumbel(size=z.shape)).argmax(axis=1)
        order = rng.permutation(400)
        for name, rows in {"in order": slice(None), "shuffled": order}.items():
            found = find_dependence(z[rows], y[rows])
            noticed[name] += found is not None
            assert found is None or found.kind == "order"
    assert noticed["in order"] >= 8
    assert noticed["shuffled"] <= 1, "this can't be noticed"


@pytest.mark.usefixtures("without_ladder")
def test_no_map_is_recommended_for_copies_unless_groups_are_passed():
    z, y = copies(60, 5, 0.1, seed=1)
    diagnosis = diagnose(z, y, candidates=OWN)
    assert diagnosis.auto.keeps_temperature
    first = diagnosis.answers()[0]
    assert first.warning
    assert first.short.endswith("or the network is used on other data: if copies, pass groups.")
    assert "at least" not in str(diagnosis)
    assert diagnosis.ladder is None
    widths = [np.log(each.high / each.low) for each in (diagnosis.temperature, Temperature.of(z, y))]
    assert widths[0] > 1.5 * widths[1], "the interval of T is of about 60 samples"
    with pytest.raises(SpecError, match="groups: samples in different groups seem to be copies of each other"):
        fit_auto(*copies(60, 5, 0.0, seed=1), candidates=OWN, groups=np.arange(300))
    assert fit_auto(z, y, candidates=OWN, groups=np.arange(300)).groups.kind == "given", "which may be so"


def on_other_data(seed: int, n: int = 400, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Independent samples of a network that tells the classes apart, but takes most of them for others."""
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=n)
    mixed = np.eye(k) + np.roll(np.eye(k), 1, axis=1) + 0.5 * rng.normal(size=(k, k))
    return 1.5 * (3 * np.eye(k)[y] + rng.normal(size=(n, k))) @ mixed, y


@pytest.mark.usefixtures("without_ladder")
def test_a_network_on_other_data_gets_the_map_that_independent_samples_get():
    """Its samples look like copies, but the map's gain stays if near neighbours are held out together."""
    for seed in (0, 2, 5):
        z, y = on_other_data(seed)
        found = diagnose(z, y, candidates=("matrix",))
        assert found.auto.groups.kind == "copies"
        assert found.auto.chosen == found.auto.near.name == "matrix"
        assert "With near neighbours in one fold, the gain is" in found.answers()[0].sentences
        known = diagnose(z, y, candidates=("matrix",), independent=True)
        assert known.auto.groups.kind == ""
        assert "copies" not in str(known)
        np.testing.assert_array_equal(known.predict_proba(z), found.predict_proba(z))
    with pytest.raises(SpecError, match="independent: independent samples have no groups"):
        fit_auto(z, y, groups=np.arange(len(z)), independent=True)


@pytest.mark.parametrize(("originals", "each", "noise"), [(50, 6, 0.3), (50, 6, 1.0), (20, 15, 0.8), (100, 3, 0.5)])
def test_copies_are_together_in_small_groups_and_get_no_map(originals, each, noise):
    rng = np.random.default_rng(1)
    rows = np.repeat(np.arange(originals), each)
    z = 3 * rng.normal(size=(originals, 10))[rows] + noise * rng.normal(size=(len(rows), 10))
    groups = near_groups(z, each)
    assert np.bincount(groups).max() <= max(10, 2 * each)
    together = groups[:, None] == groups
    assert together[rows[:, None] == rows].mean() > 0.9
    assert fit_auto(*copies(originals, each, noise, seed=1), candidates=("partner", "matrix")).keeps_temperature


@pytest.mark.parametrize("each", [2, 3, 50])
def test_copies_are_noticed_by_equal_votes(each):
    rng = np.random.default_rng(each)
    for k in (3, 10):
        z = 2 * rng.normal(size=(300, k))
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        votes = rng.multinomial(each, 0.6 * p + 0.4 * np.roll(p, 1, axis=1))
        assert find_dependence(3 * z, votes / each) is None
        rows = np.repeat(np.arange(60), 5)
        found = find_dependence(3 * z[rows] + 0.1 * rng.normal(size=(300, k)), votes[rows] / each)
        assert found.kind == "copies"


@pytest.mark.usefixtures("without_ladder")
@pytest.mark.parametrize("case", ["off by one", "two pairs", "sorted names"])
def test_columns_in_another_order_end_all_other_advice(case):
    z, y = drawn(300, 10, seed=3)
    places = {
        "off by one": np.roll(np.arange(10), 1),
        "two pairs": np.array([1, 0, 2, 3, 4, 5, 6, 7, 9, 8]),
        "sorted names": np.array(sorted(range(10), key=lambda j: ["ten", "one", "six", "two"][j % 4] + str(j))),
    }[case]
    found = diagnose(z[:, places], y, candidates=OWN, names=[f"c{j}" for j in range(10)])
    assert {(pair.column, pair.label) for pair in found.auto.mismatch} == {
        (j, int(places[j])) for j in range(10) if places[j] != j
    }
    assert found.auto.chosen in TEMPERATURES, "which moves no prediction"
    assert found.auto.calibrator.T > 1.2, "as the labels demand"
    assert [answer.short for answer in found.answers()] == ["A temperature, until predictions and labels match."]
    assert "inputs mirrored, inverted or prepared otherwise" in found.answers()[0].sentences
    assert found.answers()[0].warning
    assert "gain" not in str(found)
    right = diagnose(z, y, candidates=OWN)
    assert right.auto.mismatch == ()


def test_samples_of_a_model_that_is_biased_are_not_suspected():
    """Rows that are drawn at random are no subjects, even if a class is predicted too often, or none wrongly."""
    suspected = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y = rng.choice(3, 500, p=(0.8, 0.15, 0.05))
        z = 2 * (rng.normal(size=(500, 3)) + 1.5 * np.eye(3)[y])  # as if classes were equally frequent
        right = 0.1 * z
        for logits, labels in ((z, y), (right, right.argmax(axis=1))):
            suspected += find_dependence(logits, labels) is not None
    assert suspected <= 1


def test_poor_models_and_confused_classes_are_no_mismatch():
    rng, found = np.random.default_rng(0), 0
    for _ in range(200):
        n, k = int(rng.choice([20, 50, 200, 1000])), int(rng.choice([2, 3, 10, 50]))
        y = rng.integers(k, size=n)
        predicted = np.where(rng.random(n) < rng.choice([0, 0.1, 0.5]), y, rng.integers(k, size=n))
        flipped = np.where(rng.random(n) < 0.5, (y + 1) % k, y)
        found += bool(find_mismatch(predicted, y, k)) + bool(find_mismatch(y, flipped, k))
    assert found == 0


def test_one_sample_of_each_group_or_as_many_as_count_are_drawn_at_random():
    rng = np.random.default_rng(0)
    given = [Groups(np.repeat([2, 0, 1], 4), "given").one_each(rng) for _ in range(100)]
    assert {len(rows) for rows in given} == {3}
    assert {tuple(np.sort(rows // 4)) for rows in given} == {(0, 1, 2)}
    drawn = [Groups.single(12, "order", 3.0).one_each(rng) for _ in range(600)]
    assert {len(rows) for rows in drawn} == {4}
    counts = np.bincount(np.concatenate(drawn), minlength=12)
    assert abs(counts - 200).max() < 5 * np.sqrt(600 * (1 / 3) * (2 / 3))
