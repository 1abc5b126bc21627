"""Measures on own and shared regions: gaps of made-up logits, and nearest neighbours against their closed form."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.special import softmax

from halobench.calibration.calibrate_cell import calibrate
from halobench.calibration.overlap_theory import nearest_neighbour_kl, partner_kl, two_level_kl
from halobench.calibration.reference_predictors import references
from halobench.calibration.scores.region_scores import GAPS, SampleRegions, _level, gaps
from halobench.core.errors import SpecError
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.data import DatasetSpec, SourceSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.data.distribution import Regions, overlap_regions
from halobench.data.sources import load_distribution
from halobench.data.splits import _drawn
from halobench.training.train_cell import train_cell

pytestmark = pytest.mark.theory
FEW = CalibrateSpec(draws=10, floor_draws=2)


def drawn(k: int, n: int = 20, val: int = 4000, test: int = 20_000, seed: int = 0, **options):
    """A sample of an overlap distribution, with `n` training points per class."""
    source = load_distribution(SourceSpec("overlap", {"classes": k, **options}))
    return _drawn(source, "overlap", DatasetSpec("s", n * k, val, test), seed)


def regions_of(k: int, m: int, counts: int, beta: float = 0.5, shares=None) -> SampleRegions:
    """Regions of `counts` drawn test points."""
    law = overlap_regions(k, m, beta, shares)
    region = law.draw(counts, np.random.default_rng(0))
    return SampleRegions(law, {"test": region})


def two_level(regions: SampleRegions, own: float, top: float, partner: float, rng: np.random.Generator) -> np.ndarray:
    """Logits with these gaps, a random class of each group on top, and a separate offset for each point."""
    rows = regions.rows("test") > 0
    shared = regions.shared("test")
    logits = np.where(shared[:, None], partner, own) * rows
    for i in np.flatnonzero(shared):
        logits[i, rng.choice(np.flatnonzero(rows[i]))] = top
    return logits + rng.normal(size=(len(rows), 1))


@pytest.mark.parametrize(("k", "m"), [(4, 2), (12, 2), (12, 4), (9, 3)])
def test_gaps_of_two_level_logits_are_their_levels(k, m):
    regions, rng = regions_of(k, m, 500, beta=0.3), np.random.default_rng(1)
    found = gaps(two_level(regions, 7.0, 5.0, 3.0, rng), 0.7, regions)
    assert [found[name] for name in GAPS[:5]] == pytest.approx([7.0, 5.0, 3.0, 0.6, 1.0])
    assert found["kl_two_level"] == pytest.approx(two_level_kl(k, 0.3, m, 7.0, 5.0, 3.0))
    below = gaps(two_level(regions, 7.0, 5.0, -1.0, rng), 0.7, regions)
    assert below["partner_second"] == 0
    assert below["rho"] == pytest.approx(-0.2)


def test_gaps_dont_depend_on_the_names_of_classes():
    """Permuting the classes, along with their regions, changes no gap."""
    regions, rng = regions_of(12, 3, 400), np.random.default_rng(1)
    logits = rng.normal(size=(400, 12)) + 3 * (regions.rows("test") > 0)
    order = rng.permutation(12)
    law = regions.distribution
    permuted = SampleRegions(Regions(law.posterior[:, order], law.mass, law.shared), regions.index)
    assert gaps(logits[:, order], 0.5, permuted) == pytest.approx(gaps(logits, 0.5, regions))


def test_the_level_of_others_is_that_of_equal_logits_with_their_mass():
    """Replacing the others by it changes no class's probability; it is their mean at beta 0, their maximum at inf."""
    rng = np.random.default_rng(2)
    regions = regions_of(8, 2, 300)
    logits = rng.normal(size=(300, 8)) + 4 * (regions.rows("test") > 0)
    inside = regions.rows("test") > 0
    for beta in (0.3, 1.0, 4.0):
        level = _level(logits, ~inside, beta)
        replaced = np.where(inside, logits, level[:, None])
        np.testing.assert_allclose(
            softmax(beta * logits, axis=1)[inside], softmax(beta * replaced, axis=1)[inside], rtol=1e-12
        )
    means = np.array([row[~mask].mean() for row, mask in zip(logits, inside, strict=True)])
    np.testing.assert_allclose(_level(logits, ~inside, 0.0), means)
    np.testing.assert_allclose(_level(logits, ~inside, 1e-8), means, atol=1e-6)
    largest = np.array([row[~mask].max() for row, mask in zip(logits, inside, strict=True)])
    np.testing.assert_array_equal(_level(logits, ~inside, np.inf), largest)
    np.testing.assert_allclose(_level(logits, ~inside, 1e5), largest, atol=1e-4)


def test_one_region_for_all_has_no_rest():
    regions, rng = regions_of(6, 6, 300), np.random.default_rng(0)
    found = gaps(two_level(regions, 4.0, 5.0, 2.0, rng), 1.0, regions)
    assert [found["gap_top"], found["gap_partner"], found["partner_second"]] == pytest.approx([3.0, 0.0, 1.0])
    assert np.isnan(found["rho"])
    assert found["kl_two_level"] == pytest.approx(two_level_kl(6, 0.5, 6, 4.0, 3.0, 0.0))


@pytest.mark.parametrize("case", ["unequal", "noise", "no shared point", "no own point"])
def test_where_nothing_is_two_level_gaps_are_nan(case):
    regions = regions_of(8, 2, 200, shares=[0.8, 0.2] if case == "unequal" else None)
    posterior, shared = regions.distribution.posterior, regions.shared("test")
    if case == "noise":
        posterior = 0.9 * posterior + 0.1 / 8
    kept = {"no shared point": ~shared, "no own point": shared}.get(case, np.ones(200, dtype=bool))
    law = regions.distribution
    regions = SampleRegions(Regions(posterior, law.mass, law.shared), {"test": regions.index["test"][kept]})
    found = gaps(np.zeros((kept.sum(), 8)), 1.0, regions)
    assert all(np.isnan(found[name]) for name in GAPS)


@pytest.mark.parametrize("k", [2, 32])
def test_nearest_neighbours_meet_their_closed_form(k):
    """A cell of the model `nearest`, run through data, training and calibration, is within 3%.

    The reference of that name is a separate implementation, in numpy, and agrees.
    """
    data = drawn(k, val=2000, test=4000)
    cell = train_cell(data, ModelSpec("nearest"), LossSpec("cross_entropy"), TrainSpec(), 0, log=lambda line: None)
    assert cell.facts["train_accuracy"] == 1
    assert cell.facts["steps"] == 0
    arrays = cell.logits | data.targets()
    table = calibrate(arrays, dataclasses.replace(FEW, calibrators=("none", "exact", "oracle", "partner")), 0).metrics
    test = table[(table["split"] == "test") & (table["labels"] == "noisy")].set_index(["calibrator", "metric"])["value"]
    assert test["partner", "kl"] == pytest.approx(partner_kl(k, 0.5, 2), rel=0.03)
    expected = nearest_neighbour_kl(k, 0.5, 2)
    for calibrator in ("exact", "oracle"):
        assert test[calibrator, "kl"] == pytest.approx(expected, rel=0.03)
        assert test[calibrator, "kl_per_log_k"] == pytest.approx(test[calibrator, "kl"] / np.log(k))
    assert test["none", "kl_two_level"] == pytest.approx(expected, abs=1e-9)
    train = table[(table["split"] == "train") & (table["calibrator"] == "none")].set_index("metric")["value"]
    assert (train["error_own"], train["error_shared"]) == (0, 0)
    inputs = {split: data.inputs(split).reshape(len(part.labels), -1) for split, part in data.splits.items()}
    known = references(inputs, data.targets(), FEW, 0).metrics
    rows = known[(known["model"] == "nearest") & (known["calibrator"] == "exact") & (known["metric"] == "kl")]
    reference = rows.loc[(rows["split"] == "test") & (rows["labels"] == "noisy"), "value"].item()
    assert reference == pytest.approx(test["exact", "kl"], rel=1e-3)


def test_scores_on_regions_add_up():
    """KL is the mean over own and shared points; on own regions it is the NLL of the only class."""
    data = drawn(8, test=1000)
    rng = np.random.default_rng(0)
    logits = {f"{split}.logits": rng.normal(size=(len(part.labels), 8)) for split, part in data.splits.items()}
    table = calibrate(logits | data.targets(), FEW, 0).metrics
    test = table[(table["split"] == "test") & (table["labels"] == "noisy")].set_index(["calibrator", "metric"])["value"]
    shared = data.distribution.regions.shared[data.splits["test"].region]
    for calibrator in ("none", "exact", "oracle", "paper"):
        parts = test[calibrator, "kl_own"] * (~shared).mean() + test[calibrator, "kl_shared"] * shared.mean()
        assert parts == pytest.approx(test[calibrator, "kl"])
    assert test["oracle", "kl"] <= min(test["none", "kl"], test["exact", "kl"]) + 1e-12
    train = table[(table["split"] == "train") & (table["labels"] == "drawn") & (table["calibrator"] == "none")]
    errors = train.set_index("metric")["value"]
    own = ~data.distribution.regions.shared[data.splits["train"].region]
    assert errors["error"] == pytest.approx(errors["error_own"] * own.mean() + errors["error_shared"] * (~own).mean())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"regions.mass": None}, "regions.mass: missing"),
        ({"val.region": None}, "val.region: missing"),
        ({"regions.shared": np.zeros(3)}, r"regions.shared: found shape \(3,\), expected shape \(6,\)"),
        ({"test.region": np.full(50, 9)}, r"test.region: all values must be whole numbers from 0 to 5"),
    ],
)
def test_arrays_that_dont_fit_are_named(change, told):
    data = drawn(4, val=50, test=50)
    arrays = {name: value for name, value in (data.targets() | change).items() if value is not None}
    with pytest.raises(SpecError, match=told):
        SampleRegions.read(arrays, ("train", "val", "test"))
