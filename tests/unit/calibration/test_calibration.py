"""The core of the calibrate stage on synthetic cells with known answers."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest

from halobench.calibration import calibrator as posthoc
from halobench.calibration.calibrate_cell import calibrate
from halobench.calibration.calibrators.exact import fit_temperature
from halobench.calibration.calibrators.paper import fit_paper
from halobench.calibration.reference_predictors import nearest, references
from halobench.calibration.scores import metric
from halobench.calibration.scores.resampling import bootstrap_intervals, ece_floor
from halobench.calibration.scores.sample_scores import cross_entropy
from halobench.calibration.temperature.rescaling import FLAT
from halobench.core.errors import SpecError
from halobench.core.seeding import generator
from halobench.core.specs.calibrate import CalibrateSpec

SPEC = CalibrateSpec(draws=40, floor_draws=5)
SIZES = {"train": 120, "val": 90, "test": 150}
K = 4
PERIOD = np.roll(np.arange(K), -1)


def cell(p: float = 0.4, seed: int = 0, strength: float = 6.0) -> dict[str, np.ndarray]:
    """Slightly informative logits, over-confident by `strength`; labels changed by a cycle of classes at rate p."""
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
    """The single value with these names."""
    for column, name in names.items():
        table = table[table[column] == name]
    assert len(table) == 1
    return float(table["value"].iloc[0])


# Whole tables, from the public fits and metrics -----------------------------------------------------------------------

JUDGED = {"train": ("drawn", "clean"), "val": ("drawn", "noisy", "clean"), "test": ("noisy", "clean")}
FAMILIES = ("top_rest", f"{__name__}:certain")
ALL = CalibrateSpec(("none", "exact", "paper", "oracle", *FAMILIES), draws=40, floor_draws=5)


def certain(logits, labels):
    """A calibrator that rules out the class of the smallest logit."""
    return lambda z: np.where(z == z.min(axis=1, keepdims=True), -np.inf, z)


def plain_fits(arrays: dict[str, np.ndarray]) -> dict[tuple[str, str, str], object]:
    """Fits by calibrator, split and labels; only the oracle uses the test labels."""
    val = arrays["val.logits"], arrays["val.labels"]
    fits = {("exact", "val", "drawn"): fit_temperature(*val), ("paper", "val", "drawn"): fit_paper(*val)}
    for labels in JUDGED["test"]:
        fits["oracle", "test", labels] = fit_temperature(arrays["test.logits"], targets_of(arrays, "test", labels))
    return fits | {(name, "val", "drawn"): posthoc.fit(name, *val) for name in FAMILIES}


def plain_scores(z: np.ndarray, t: np.ndarray, seed: int, split: str) -> dict[str, list[float]]:
    """Value and interval by metric; a split's resamples don't depend on what else is scored on it."""
    p = metric.softmax(z)
    rows = t if t.ndim == 2 else np.eye(K)[t]
    samples = {
        "error": 1 - rows[np.arange(len(p)), p.argmax(axis=1)],
        "nll": cross_entropy(z, t),
        "brier": (p**2 - 2 * p * rows).sum(axis=1) + 1,
    }
    if t.ndim == 2:
        samples["kl"] = samples["nll"] + (t * np.log(np.where(t > 0, t, 1))).sum(axis=1)
    binned = {
        "ece": metric.ece(p, t),
        "ace_average": metric.ace(p, t),
        "ace_equal_mass": metric.ace(p, t, kind="equal_mass"),
        "mce": metric.mce(p, t),
        "classwise_ece": metric.classwise_ece(p, t),
        "ece_floor": ece_floor(p, 15, ALL.floor_draws, generator(seed, "floor", split)),
    }
    found = {name: [number, math.nan, math.nan] for name, number in binned.items()}
    for name, column in samples.items():
        ends = bootstrap_intervals(column[:, None], ALL.draws, generator(seed, "bootstrap", split))
        found[name] = [column.mean(), *(float(end[0]) for end in ends)]
    return {name: found[name] for name in (*samples, *binned)}


def test_tables_are_those_of_the_public_fits_and_metrics():
    """Compared row by row, in order: the labels scored, what each fit uses, values, intervals, and diagrams."""
    arrays, seed = cell(), 3
    found, fits = calibrate(arrays, ALL, seed), plain_fits(arrays)
    rows, bins = [], []
    for split, name in itertools.product(SIZES, ALL.calibrators):
        if name == "oracle" and split != "test":
            continue
        for labels in JUDGED[split]:
            z = arrays[f"{split}.logits"].astype(np.float64)
            if name in FAMILIES:
                z = fits[name, "val", "drawn"].logits(z)
            elif name != "none":
                z *= fits[(name, "test", labels) if name == "oracle" else (name, "val", "drawn")].beta
            t = targets_of(arrays, split, labels)
            scores = plain_scores(z, t, seed, split)
            rows += [(split, labels, name, score, *numbers) for score, numbers in scores.items()]
            if split == "test":
                diagram = dataclasses.asdict(metric.reliability(metric.softmax(z), t))
                bins.append(
                    pd.DataFrame({"split": split, "labels": labels, "calibrator": name, "bin": range(15)} | diagram)
                )
    columns = ["split", "labels", "calibrator", "metric", "value", "low", "high"]
    expected = pd.DataFrame(rows, columns=columns)
    known = found.metrics[found.metrics["metric"].isin(expected["metric"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, expected, rtol=1e-9, atol=1e-10)
    pd.testing.assert_frame_equal(found.reliability, pd.concat(bins, ignore_index=True), rtol=1e-9, atol=1e-10)
    assert np.isposinf(found.metrics["high"]).any(), "a probability of 0 is an infinite NLL, and stays one"
    assert (found.reliability["count"] == 0).any(), "empty bins are kept"
    told = {(fit["calibrator"], fit["split"], fit["labels"]): fit for fit in found.fits}
    assert list(told) == list(fits)
    for key, fit in fits.items():
        numbers = {name: getattr(fit, name, math.nan) for name in ("T", "beta", "nll", "gradient")}
        numbers |= {"converged": fit.converged, "separable": getattr(fit, "separable", False)}
        assert {name: told[key][name] for name in numbers} == {
            name: number if math.isfinite(number) else None for name, number in numbers.items()
        }


def test_posterior_rows_and_a_transition_are_two_ways_to_say_the_same():
    arrays = cell()
    transition = arrays.pop("transition")
    rows = {f"{split}.posterior": transition[arrays[f"{split}.clean"]] for split in SIZES}
    tables = [calibrate(arrays | given, SPEC, 0).metrics for given in ({"transition": transition}, rows)]
    pd.testing.assert_frame_equal(*tables)


def test_only_what_is_asked_for_and_known_is_there():
    arrays = cell()
    del arrays["transition"]
    found = calibrate(arrays, CalibrateSpec(("none", "oracle"), draws=10, floor_draws=5, bins=7), 0)
    assert set(found.metrics["calibrator"]) == {"none", "oracle"}
    assert set(found.metrics["labels"]) == {"drawn", "clean"}
    assert "kl" not in set(found.metrics["metric"])
    assert [(fit["calibrator"], fit["labels"]) for fit in found.fits] == [("oracle", "clean")]
    assert set(found.reliability["labels"]) == {"clean"}
    assert set(found.reliability["bin"]) == set(range(7))
    known = {name: array for name, array in arrays.items() if not name.endswith("logits")}
    assert set(references(pixels(known), known, SPEC, 0).metrics["model"]) == {"uniform", "nearest"}, "no bayes"


def test_fits_without_an_optimum_give_nan_rows_and_json():
    arrays = cell(p=0.0)
    arrays["val.logits"] = 3 * np.eye(K, dtype=np.float32)[arrays["val.labels"]]
    found = calibrate(arrays, ALL, 0)
    without = {fit["calibrator"] for fit in found.fits if fit["separable"]}
    assert without == {"exact", "paper"}
    json.dumps(found.fits, allow_nan=False)
    (exact,) = (fit for fit in found.fits if fit["calibrator"] == "exact")
    assert (exact["T"], exact["beta"], exact["converged"]) == (None, None, False)
    missing = found.metrics["calibrator"].isin(without - {"paper"})  # the paper's always stops somewhere
    assert found.metrics.loc[missing, ["value", "low", "high"]].isna().all(axis=None)
    assert found.metrics.loc[~missing, "value"].notna().all()
    assert set(found.reliability["calibrator"]) == {"none", "paper", "oracle", *FAMILIES}


def test_a_fit_below_zero_is_scored_as_its_user_would_get_it():
    """The paper's fit can end at T < 0; logits / T then ranks the classes in reverse."""
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(10_000, 10))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    arrays = {f"{split}.logits": 0.5525 * z for split in ("val", "test")}
    arrays |= {f"{split}.{labels}": y for split in ("val", "test") for labels in ("labels", "clean")}
    found = calibrate(arrays, CalibrateSpec(("none", "paper"), draws=10, floor_draws=2), 0, ("val", "test"))
    T = found.fits[0]["T"]
    assert T < 0
    assert not found.fits[0]["converged"]
    scaled = 0.5525 * z / T
    rows = {"split": "test", "labels": "clean", "calibrator": "paper"}
    assert value(found.metrics, **rows, metric="nll") == pytest.approx(metric.nll(scaled, y), rel=1e-9)
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
        ({"val.labels": np.full(90, K)}, "val.labels[0]"),
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
    """Points around one far corner per clean class, so the nearest training point always has the same clean class."""
    rng = np.random.default_rng(1)
    return {
        split: (distance * np.eye(K, 6)[arrays[f"{split}.clean"]] + rng.standard_normal((n, 6))).astype(np.float32)
        for split, n in SIZES.items()
    }


def plain_cell(p: float = 0.4) -> dict[str, np.ndarray]:
    return {name: array for name, array in cell(p).items() if not name.endswith("logits")}


def test_references_are_their_predictions_scored_as_a_models_are():
    """They also match a closed form where one exists."""
    arrays = plain_cell()
    inputs = pixels(arrays)
    found = references(
        inputs, arrays, dataclasses.replace(ALL, calibrators=("none", "exact", "paper", "oracle", "top_rest")), 3
    )
    distances = {s: np.linalg.norm(inputs[s][:, None] - inputs["train"][None], axis=2) for s in SIZES}
    votes = {s: np.eye(K)[arrays["train.labels"][each.argmin(axis=1)]] for s, each in distances.items()}
    with np.errstate(divide="ignore"):
        logits = {
            ("bayes", ("none",)): {s: np.log(targets_of(arrays, s, "noisy")) for s in SIZES},
            ("uniform", ("none",)): {s: np.zeros((n, K)) for s, n in SIZES.items()},
            ("nearest", ("none",)): {s: np.log(rows) for s, rows in votes.items()},
            ("nearest", ("exact", "oracle")): votes,
        }
    expected, fits = [], []
    for (model, calibrators), rows in logits.items():
        spec = dataclasses.replace(ALL, calibrators=calibrators)
        scored = calibrate(arrays | {f"{s}.logits": each for s, each in rows.items()}, spec, 3)
        expected.append(scored.metrics.assign(model=model))
        fits += [{"model": model} | fit for fit in scored.fits]
    names = ["model", "split", "labels", "calibrator", "metric"]
    tables = [table.set_index(names).sort_index() for table in (found.metrics, pd.concat(expected))]
    pd.testing.assert_frame_equal(*tables, rtol=1e-12, atol=1e-12)
    assert found.fits == fits
    scores = tables[0]["value"].xs(("test", "noisy"), level=("split", "labels"))
    entropy = -(0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    assert list(scores["bayes", "none"][["nll", "error"]]) == pytest.approx([entropy, 0.4], rel=1e-12)
    assert list(scores["bayes", "none"][["kl", "ece"]]) == pytest.approx([0, 0], abs=1e-12)
    assert scores["uniform", "none", "nll"] == pytest.approx(math.log(K), rel=1e-12)
    # A one-hot predictor's best confidence is its accuracy a, which gives an NLL of H(a) + (1 - a) log(k - 1).
    wrong = scores["nearest", "none", "error"]
    best = -(1 - wrong) * math.log(1 - wrong) - wrong * math.log(wrong / (K - 1))
    assert scores["nearest", "oracle", "nll"] == pytest.approx(best, rel=1e-9)
    assert scores["nearest", "none", "nll"] == math.inf


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
        assert np.mean(far == expected) > 0.99  # near 1,000, float32 keeps four decimals: near ties may flip
    np.testing.assert_array_equal(nearest(queries, points), expected)
