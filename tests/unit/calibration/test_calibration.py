"""The calibrate stage's core on synthetic cells whose answers are known."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from halobench.calibration import calibrator as posthoc
from halobench.calibration import metrics
from halobench.calibration.evaluate import calibrate
from halobench.calibration.paper_fit import fit_released
from halobench.calibration.reference_predictors import nearest, references
from halobench.calibration.temperature_scaling import FLAT, fit_temperature
from halobench.core.errors import SpecError
from halobench.core.spec_codec import parse
from halobench.core.specs import CalibrateSpec

SPEC = CalibrateSpec(draws=200, floor_draws=50)
SIZES = {"train": 120, "val": 90, "test": 150}
K = 4
PERIOD = np.roll(np.arange(K), -1)


def cell(p: float = 0.4, seed: int = 0, strength: float = 6.0) -> dict[str, np.ndarray]:
    """Logits that know the clean class a little, over-confident by `strength`; labels noisy by a cycle at rate p."""
    rng = np.random.default_rng(seed)
    arrays = {"transition": (1 - p) * np.eye(K) + p * np.eye(K)[PERIOD]}
    for split, n in SIZES.items():
        clean = rng.integers(K, size=n)
        labels = np.where(rng.random(n) < p, PERIOD[clean], clean)
        known = labels if split == "train" else clean
        logits = strength * (np.eye(K)[known] + rng.standard_normal((n, K)))
        arrays |= {f"{split}.logits": logits.astype(np.float32), f"{split}.labels": labels, f"{split}.clean": clean}
    return arrays


def targets_of(arrays: dict[str, np.ndarray], split: str, labels: str) -> np.ndarray:
    clean = arrays[f"{split}.clean"]
    return {"drawn": arrays[f"{split}.labels"], "clean": clean, "noisy": arrays["transition"][clean]}[labels]


def value(table: pd.DataFrame, **names: str) -> float:
    """The one value of these names."""
    for column, name in names.items():
        table = table[table[column] == name]
    assert len(table) == 1
    return float(table["value"].iloc[0])


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(a, b)
    return True


FOUND = calibrate(cell(), SPEC, 0)


def test_rows_are_those_of_the_contract():
    assert list(FOUND.metrics.columns) == ["split", "labels", "calibrator", "metric", "value", "low", "high"]
    rows = FOUND.metrics.groupby(["split", "labels", "calibrator"])["metric"].agg(set).to_dict()
    judged = {"train": ("drawn", "clean"), "val": ("drawn", "noisy", "clean"), "test": ("noisy", "clean")}
    wanted = {
        (split, labels, calibrator)
        for split, names in judged.items()
        for labels in names
        for calibrator in ("none", "exact", "released", "oracle")
        if calibrator != "oracle" or split == "test"
    }
    assert set(rows) == wanted
    plain = {"error", "nll", "brier", "ece", "ace_average", "ace_equal_mass", "mce", "classwise_ece", "ece_floor"}
    for (_, labels, _), names in rows.items():
        assert names == (plain | {"kl"} if labels == "noisy" else plain)
    assert not FOUND.metrics.duplicated(["split", "labels", "calibrator", "metric"]).any()


def test_fits_are_fitted_where_they_should_be():
    arrays = cell()
    fits = {(fit["calibrator"], fit["split"], fit["labels"]): fit for fit in FOUND.fits}
    assert set(fits) == {
        ("exact", "val", "drawn"),
        ("released", "val", "drawn"),
        ("oracle", "test", "noisy"),
        ("oracle", "test", "clean"),
    }
    for (calibrator, split, labels), row in fits.items():
        fit = fit_released if calibrator == "released" else fit_temperature
        expected = fit(arrays[f"{split}.logits"], targets_of(arrays, split, labels))
        assert (row["T"], row["beta"], row["nll"]) == (expected.T, expected.beta, expected.nll)
        assert row["converged"] == (calibrator != "released")
        assert row["separable"] is False
    assert json.loads(json.dumps(FOUND.fits, allow_nan=False)) == FOUND.fits


def test_test_labels_move_nothing_but_the_oracle():
    arrays = cell()
    rng = np.random.default_rng(8)
    arrays["test.labels"], arrays["test.clean"] = (
        rng.permutation(arrays["test.labels"]),
        rng.permutation(arrays["test.clean"]),
    )
    fits = calibrate(arrays, SPEC, 0).fits
    changed = {fit["calibrator"] for fit, before in zip(fits, FOUND.fits, strict=True) if fit != before}
    assert changed == {"oracle"}


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("calibrator", ["none", "exact", "released"])
def test_values_are_those_of_the_metrics(split, calibrator):
    arrays = cell()
    fits = {fit["calibrator"]: fit for fit in FOUND.fits if fit["split"] == "val"}
    beta = 1.0 if calibrator == "none" else fits[calibrator]["beta"]
    z = beta * arrays[f"{split}.logits"].astype(np.float64)
    p = metrics.softmax(z)
    for labels in ("noisy", "clean"):
        t = targets_of(arrays, split, labels)
        expected = {
            "error": metrics.error(p, t),
            "nll": metrics.nll(z, t),
            "brier": metrics.brier(p, t),
            "ece": metrics.ece(p, t),
            "ace_average": metrics.ace(p, t),
            "ace_equal_mass": metrics.ace(p, t, kind="equal_mass"),
            "mce": metrics.mce(p, t),
            "classwise_ece": metrics.classwise_ece(p, t),
        }
        if labels == "noisy":
            expected["kl"] = metrics.kl(z, t)
        for metric, number in expected.items():
            got = value(FOUND.metrics, split=split, labels=labels, calibrator=calibrator, metric=metric)
            assert got == pytest.approx(number, abs=1e-10), metric


def test_a_fit_is_best_where_it_was_fitted():
    nll = (
        FOUND.metrics[FOUND.metrics["metric"] == "nll"]
        .set_index(["split", "labels", "calibrator"])["value"]
        .sort_index()
    )
    assert nll["val", "drawn", "exact"] < nll["val", "drawn", "released"] < nll["val", "drawn", "none"]
    for labels in ("noisy", "clean"):
        assert nll["test", labels].idxmin() == "oracle"
    fits = {(fit["calibrator"], fit["labels"]): fit["nll"] for fit in FOUND.fits}
    assert nll["val", "drawn", "exact"] == pytest.approx(fits["exact", "drawn"], rel=1e-12)
    assert nll["test", "clean", "oracle"] == pytest.approx(fits["oracle", "clean"], rel=1e-12)


def test_kl_is_nll_less_the_entropy_of_the_noise():
    entropy = -(0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    rows = {"split": "test", "labels": "noisy", "calibrator": "exact"}
    gap = value(FOUND.metrics, **rows, metric="nll") - value(FOUND.metrics, **rows, metric="kl")
    assert gap == pytest.approx(entropy, rel=1e-12)


def test_temperature_leaves_the_error_alone():
    errors = FOUND.metrics[FOUND.metrics["metric"] == "error"]
    assert (errors.groupby(["split", "labels"])["value"].nunique() == 1).all()


def test_intervals_hold_the_value_and_binned_metrics_have_none():
    scored = FOUND.metrics["metric"].isin(["error", "nll", "brier", "kl"])
    table = FOUND.metrics[scored]
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert (table["low"] < table["high"])[table["metric"] == "nll"].all()
    assert FOUND.metrics.loc[~scored, ["low", "high"]].isna().all(axis=None)


def test_the_seed_moves_intervals_and_floors_alone():
    assert same(calibrate(cell(), SPEC, 0).metrics, FOUND.metrics)
    other = calibrate(cell(), SPEC, 1).metrics
    kept = other["metric"] != "ece_floor"
    assert other.loc[kept, "value"].equals(FOUND.metrics.loc[kept, "value"])
    assert not other["low"].equals(FOUND.metrics["low"])


def test_resamples_are_shared_between_cells():
    # Logits that differ by row shifts are the same predictions: with shared resamples the intervals agree too.
    arrays = cell()
    shifted = dict(arrays, **{f"{s}.logits": arrays[f"{s}.logits"].astype(np.float64) + 7 for s in SIZES})
    a, b = calibrate(shifted, SPEC, 0).metrics, FOUND.metrics
    np.testing.assert_allclose(a[["low", "high"]].astype(float), b[["low", "high"]].astype(float), atol=1e-9)


def test_reliability_adds_up_and_keeps_empty_bins():
    table = FOUND.reliability
    assert list(table.columns) == [
        "split", "labels", "calibrator", "bin", "lower", "upper", "count", "confidence", "accuracy",
    ]  # fmt: skip
    assert set(table["split"]) == {"test"}
    groups = table.groupby(["labels", "calibrator"])
    assert len(groups) == 8
    for (labels, calibrator), bins in groups:
        assert bins["bin"].tolist() == list(range(15))
        assert bins["count"].sum() == SIZES["test"]
        empty = bins["count"] == 0
        assert empty.any()  # below 1/4 no largest of four probabilities can lie
        assert bins.loc[empty, ["confidence", "accuracy"]].isna().all(axis=None)
        full = bins[~empty]
        ece = (full["count"] * (full["confidence"] - full["accuracy"]).abs()).sum() / SIZES["test"]
        expected = value(FOUND.metrics, split="test", labels=labels, calibrator=calibrator, metric="ece")
        assert ece == pytest.approx(expected, rel=1e-12)


def test_posterior_rows_and_a_transition_are_two_ways_to_say_the_same():
    arrays = cell()
    transition = arrays.pop("transition")
    arrays |= {f"{split}.posterior": transition[arrays[f"{split}.clean"]] for split in SIZES}
    assert same(calibrate(arrays, SPEC, 0).metrics, FOUND.metrics)


def test_without_a_posterior_there_are_no_noisy_rows():
    arrays = cell()
    del arrays["transition"]
    found = calibrate(arrays, SPEC, 0)
    assert set(found.metrics["labels"]) == {"drawn", "clean"}
    assert "kl" not in set(found.metrics["metric"])
    assert [fit["labels"] for fit in found.fits if fit["calibrator"] == "oracle"] == ["clean"]
    assert set(found.reliability["labels"]) == {"clean"}


def test_only_the_calibrators_asked_for_are_there():
    found = calibrate(cell(), CalibrateSpec(("none", "exact"), draws=10, floor_draws=5, bins=7), 0)
    assert set(found.metrics["calibrator"]) == {"none", "exact"}
    assert [fit["calibrator"] for fit in found.fits] == ["exact"]
    assert set(found.reliability["bin"]) == set(range(7))


# Calibrators other than TS

OTHERS = ("vector", "isotonic", "histogram", "ensemble")
BESIDE = calibrate(
    cell(), CalibrateSpec(("none", "exact", "released", "oracle", *OTHERS), draws=200, floor_draws=50), 0
)


def test_other_calibrators_add_rows_and_change_none():
    plain = BESIDE.metrics[~BESIDE.metrics["calibrator"].isin(OTHERS)].reset_index(drop=True)
    assert same(plain, FOUND.metrics)
    kept = BESIDE.reliability[~BESIDE.reliability["calibrator"].isin(OTHERS)].reset_index(drop=True)
    assert same(kept, FOUND.reliability)
    assert BESIDE.fits[: len(FOUND.fits)] == FOUND.fits
    exact = FOUND.metrics[FOUND.metrics["calibrator"] == "exact"][["split", "labels", "metric"]].to_numpy().tolist()
    for name in OTHERS:
        rows = BESIDE.metrics[BESIDE.metrics["calibrator"] == name]
        assert rows[["split", "labels", "metric"]].to_numpy().tolist() == exact


def test_other_calibrators_are_fitted_to_drawn_validation_labels():
    arrays = cell()
    fits = {fit["calibrator"]: fit for fit in BESIDE.fits if fit["calibrator"] in OTHERS}
    keys = {"calibrator", "split", "labels", "T", "beta", "nll", "gradient", "converged", "separable"}
    assert list(fits) == list(OTHERS)
    for name, row in fits.items():
        assert set(row) == keys
        fit = posthoc.fit(name, arrays["val.logits"], arrays["val.labels"])
        assert (row["split"], row["labels"], row["T"], row["beta"]) == ("val", "drawn", None, None)
        assert (row["nll"], row["converged"], row["separable"]) == (fit.nll, True, False)
        for split, labels in (("val", "drawn"), ("test", "noisy"), ("test", "clean")):
            z, t = fit.logits(arrays[f"{split}.logits"]), targets_of(arrays, split, labels)
            at = {"split": split, "labels": labels, "calibrator": name}
            assert value(BESIDE.metrics, **at, metric="nll") == pytest.approx(metrics.nll(z, t), rel=1e-9)
            assert value(BESIDE.metrics, **at, metric="brier") == pytest.approx(metrics.brier(metrics.softmax(z), t))
            assert value(BESIDE.metrics, **at, metric="ece") == pytest.approx(metrics.ece(metrics.softmax(z), t))
    json.dumps(BESIDE.fits, allow_nan=False)


def test_families_that_hold_ts_are_no_worse_on_validation():
    rows = {"split": "val", "labels": "drawn", "metric": "nll"}
    for name in ("vector", "ensemble"):
        assert value(BESIDE.metrics, **rows, calibrator=name) <= value(BESIDE.metrics, **rows, calibrator="exact")


def test_an_infinite_nll_stays_so_with_its_interval():
    """A probability of 0 where a label falls: infinite as the mean is, and so is the interval's upper end."""
    table = BESIDE.metrics[BESIDE.metrics["metric"].isin(["nll", "kl"]) & np.isinf(BESIDE.metrics["value"])]
    assert set(table["calibrator"]) <= {"isotonic", "histogram"}
    assert len(table)
    assert np.isposinf(table["high"]).all()
    assert BESIDE.metrics["value"].notna().all()
    others = ~BESIDE.metrics["metric"].isin(["nll", "kl"])
    assert np.isfinite(BESIDE.metrics.loc[others, "value"]).all()


def test_other_calibrators_that_have_no_optimum_give_nan_rows():
    arrays = cell(p=0.0)
    arrays["val.logits"] = 3 * np.eye(K, dtype=np.float32)[arrays["val.labels"]]
    found = calibrate(arrays, CalibrateSpec(("none", *OTHERS), draws=10, floor_draws=5), 0)
    for fit in found.fits:
        none = fit["calibrator"] in ("vector", "ensemble")
        assert (fit["separable"], fit["converged"]) == (none, not none)
        rows = found.metrics[found.metrics["calibrator"] == fit["calibrator"]]
        assert rows["value"].isna().all() if none else rows["value"].notna().all()
    json.dumps(found.fits, allow_nan=False)
    assert set(found.reliability["calibrator"]) == {"none", "isotonic", "histogram"}


def test_other_calibrators_are_left_to_trained_models():
    spec = CalibrateSpec(("none", "exact", "vector", "isotonic"), draws=10, floor_draws=5)
    found = references(pixels(cell()), plain_cell(), spec, 0)
    assert set(found.metrics["calibrator"]) == {"none", "exact"}


def test_a_missing_package_is_told_before_anything_is_fitted(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"calibrators = 'matrix': expected probmetrics.*\[posthoc\]"):
        calibrate({}, CalibrateSpec(("none", "matrix")), 0)


def test_an_unknown_calibrator_is_named():
    with pytest.raises(SpecError, match=r"calibrators\[1\] = 'exakt'.*did you mean 'exact'"):
        parse(CalibrateSpec, {"calibrators": ["none", "exakt"]})


def test_separable_validation_gives_nan_rows_and_json():
    arrays = cell(p=0.0)
    arrays["val.logits"] = 3 * np.eye(K, dtype=np.float32)[arrays["val.labels"]]
    found = calibrate(arrays, SPEC, 0)
    fit = next(fit for fit in found.fits if fit["calibrator"] == "exact")
    assert (fit["T"], fit["beta"], fit["separable"], fit["converged"]) == (None, None, True, False)
    json.dumps(found.fits, allow_nan=False)
    exact = found.metrics["calibrator"] == "exact"
    assert found.metrics.loc[exact, ["value", "low", "high"]].isna().all(axis=None)
    assert found.metrics.loc[~exact, "value"].notna().all()
    assert len(found.metrics) == len(FOUND.metrics)
    assert "exact" not in set(found.reliability["calibrator"])


def test_a_fit_below_zero_is_scored_as_its_user_would_get_it():
    """The paper's fit can end at a T below 0, and logits / T then rank the classes the other way round."""
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(10_000, 10))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    arrays = {f"{split}.logits": 0.5525 * z for split in ("val", "test")}
    arrays |= {f"{split}.{labels}": y for split in ("val", "test") for labels in ("labels", "clean")}
    found = calibrate(arrays, CalibrateSpec(("none", "released"), draws=10, floor_draws=2), 0, ("val", "test"))
    T = found.fits[0]["T"]
    assert T < 0
    assert not found.fits[0]["converged"]
    scaled = 0.5525 * z / T
    rows = {"split": "test", "labels": "clean", "calibrator": "released"}
    assert value(found.metrics, **rows, metric="nll") == pytest.approx(metrics.nll(scaled, y), rel=1e-9)
    assert value(found.metrics, **rows, metric="error") == (scaled.argmax(axis=1) != y).mean()


def test_infinite_temperature_predicts_uniformly_and_keeps_the_prediction():
    arrays = cell()
    arrays["val.logits"] = -5 * np.eye(K, dtype=np.float32)[arrays["val.labels"]]
    found = calibrate(arrays, SPEC, 0)
    fit = next(fit for fit in found.fits if fit["calibrator"] == "exact")
    assert (fit["T"], fit["beta"], fit["converged"]) == (None, 0.0, True)
    rows = {"split": "test", "labels": "noisy", "calibrator": "exact"}
    assert value(found.metrics, **rows, metric="nll") == pytest.approx(math.log(K), abs=FLAT)
    assert value(found.metrics, **rows, metric="brier") == pytest.approx(1 - 1 / K, abs=FLAT)
    raw = value(found.metrics, **rows | {"calibrator": "none"}, metric="error")
    assert value(found.metrics, **rows, metric="error") == raw


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"val.logits": None}, "val.logits"),
        ({"test.clean": None}, "test.clean"),
        ({"train.logits": np.zeros((120, K + 1))}, "train.logits"),
        ({"train.logits": np.zeros((119, K))}, "train.logits"),
        ({"val.logits": np.full((90, K), np.nan)}, "val.logits[0]"),
        ({"val.labels": np.full(90, K)}, "val.labels"),
        ({"val.labels": np.zeros(90)}, "val.labels"),
        ({"val.labels": np.zeros(80, int)}, "val.labels"),
        ({"transition": np.eye(K + 1)}, "transition"),
        ({"test.posterior": np.ones((150, K + 1))}, "test.posterior"),
    ],
)
def test_bad_arrays_are_named(change, key):
    arrays = {name: array for name, array in (cell() | change).items() if array is not None}
    with pytest.raises(SpecError) as caught:
        calibrate(arrays, SPEC, 0)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)


# References


def pixels(arrays: dict[str, np.ndarray], distance: float = 30.0) -> dict[str, np.ndarray]:
    """Points around a far corner per clean class: the nearest training point is always one of the same clean class."""
    rng = np.random.default_rng(1)
    return {
        split: (distance * np.eye(K, 6)[arrays[f"{split}.clean"]] + rng.standard_normal((n, 6))).astype(np.float32)
        for split, n in SIZES.items()
    }


def plain_cell(p: float = 0.4) -> dict[str, np.ndarray]:
    return {name: array for name, array in cell(p).items() if not name.endswith("logits")}


REFERENCES = references(pixels(cell()), plain_cell(), SPEC, 0)


def test_reference_models_and_their_calibrators():
    assert list(REFERENCES.metrics.columns)[:2] == ["model", "split"]
    assert REFERENCES.metrics.groupby("model")["calibrator"].agg(set).to_dict() == {
        "bayes": {"none"},
        "uniform": {"none"},
        "nearest": {"none", "exact", "oracle"},
    }
    assert {fit["model"] for fit in REFERENCES.fits} == {"nearest"}
    json.dumps(REFERENCES.fits, allow_nan=False)


def test_bayes_scores_the_entropy_and_has_no_calibration_error():
    rows = {"model": "bayes", "split": "test", "labels": "noisy"}
    entropy = -(0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    assert value(REFERENCES.metrics, **rows, metric="nll") == pytest.approx(entropy, rel=1e-12)
    assert value(REFERENCES.metrics, **rows, metric="error") == pytest.approx(0.4, rel=1e-12)
    for metric in ("kl", "ece", "mce", "classwise_ece"):
        assert value(REFERENCES.metrics, **rows, metric=metric) == pytest.approx(0, abs=1e-12)


def test_no_calibrator_beats_bayes():
    scores = REFERENCES.metrics.query("split == 'test' and labels == 'noisy' and metric in ['nll', 'brier']")
    for _, group in scores.groupby("metric"):
        assert group.loc[group["value"].idxmin(), "model"] == "bayes"
    rows = {"split": "test", "labels": "noisy", "metric": "nll"}
    assert value(FOUND.metrics, **rows, calibrator="oracle") > value(REFERENCES.metrics, **rows, model="bayes")


def test_uniform_scores_log_k():
    for split, labels in (("train", "drawn"), ("val", "noisy"), ("test", "clean")):
        rows = {"model": "uniform", "split": split, "labels": labels}
        assert value(REFERENCES.metrics, **rows, metric="nll") == pytest.approx(math.log(K), rel=1e-12)


def test_nearest_memorises_and_pays_for_it():
    rows = {"model": "nearest", "calibrator": "none"}
    assert value(REFERENCES.metrics, **rows, split="train", labels="drawn", metric="error") == 0
    assert value(REFERENCES.metrics, **rows, split="train", labels="drawn", metric="nll") == 0
    assert value(REFERENCES.metrics, **rows, split="test", labels="noisy", metric="nll") == math.inf
    assert REFERENCES.metrics["value"].notna().all()
    # A certain predictor's expected Brier score is twice its expected error.
    error = value(REFERENCES.metrics, **rows, split="test", labels="noisy", metric="error")
    assert value(REFERENCES.metrics, **rows, split="test", labels="noisy", metric="brier") == pytest.approx(2 * error)


def test_scaled_nearest_in_closed_form():
    # On the objective it is fitted on, a one-hot predictor's best confidence is its accuracy a, and its NLL is
    # H(a) + (1 - a) log(k - 1).
    rows = {"model": "nearest", "split": "test", "labels": "noisy"}
    wrong = value(REFERENCES.metrics, **rows, calibrator="none", metric="error")
    expected = -(1 - wrong) * math.log(1 - wrong) - wrong * math.log(wrong / (K - 1))
    assert value(REFERENCES.metrics, **rows, calibrator="oracle", metric="nll") == pytest.approx(expected, rel=1e-9)
    assert value(REFERENCES.metrics, **rows, calibrator="oracle", metric="ece") == pytest.approx(0, abs=1e-9)
    assert value(REFERENCES.metrics, **rows, calibrator="exact", metric="nll") >= expected


def test_nearest_on_clean_separated_classes_is_right_and_has_no_temperature():
    arrays = plain_cell(p=0.0)
    found = references(pixels(arrays), arrays, SPEC, 0)
    rows = {"model": "nearest", "split": "test", "labels": "clean", "calibrator": "none"}
    assert value(found.metrics, **rows, metric="error") == 0
    assert all(fit["separable"] and fit["T"] is None for fit in found.fits)


def test_without_a_posterior_there_is_no_bayes():
    arrays = plain_cell()
    del arrays["transition"]
    found = references(pixels(arrays), arrays, SPEC, 0)
    assert set(found.metrics["model"]) == {"uniform", "nearest"}
    rows = {"model": "uniform", "split": "test", "labels": "clean", "metric": "nll"}
    assert value(found.metrics, **rows) == pytest.approx(math.log(K), rel=1e-12)


def test_inputs_of_another_shape_are_named():
    arrays = plain_cell()
    with pytest.raises(SpecError, match=r"inputs\.val"):
        references(pixels(arrays) | {"val": np.zeros((90, 5), np.float32)}, arrays, SPEC, 0)
    with pytest.raises(SpecError, match="test"):
        references({k: v for k, v in pixels(arrays).items() if k != "test"}, arrays, SPEC, 0)


def test_nearest_equals_brute_force_far_from_the_origin():
    rng = np.random.default_rng(0)
    points, queries = rng.standard_normal((600, 20)), rng.standard_normal((700, 20))
    expected = ((queries[:, None] - points[None]) ** 2).sum(axis=2).argmin(axis=1)
    for shift in (0.0, 1000.0):
        far = nearest((queries + shift).astype(np.float32), (points + shift).astype(np.float32))
        assert np.mean(far == expected) > 0.99  # float32 at 1,000 keeps four decimals: a near tie may turn
    np.testing.assert_array_equal(nearest(queries, points), expected)


def test_the_stage_needs_no_torch():
    code = "import sys, halobench.calibration.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
