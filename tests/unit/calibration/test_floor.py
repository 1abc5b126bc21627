"""Probabilities of 0: the floor that is added, what it gains, and the inputs in which such probabilities come."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from halobench import Calibrator, diagnose, diagnose_file, fit_partner, fit_temperature, nll, softmax
from halobench.calibration import floor as module
from halobench.calibration.floor import USUAL_FLOOR, Floor, fit_floor, floored
from halobench.core.errors import SpecError
from halobench.desk.apply import run_apply
from unit.calibration.builders import drawn
from unit.calibration.builders import without_ladder as without_ladder  # a fixture


def votes(trees: int, strength: float, n: int = 600, k: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Shares of votes from class probabilities with a Dirichlet prior, and labels."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.full(k, strength), n)
    labels = (truth.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return rng.multinomial(trees, truth) / trees, np.minimum(labels, k - 1)


@pytest.mark.parametrize(("trees", "strength"), [(10, 0.5), (40, 0.2)])
def test_the_fitted_floor_of_counts_is_laplaces_rule(trees, strength):
    """The posterior mean of Dirichlet's prior is (c + a) / (n + k a): a floor of a / n, at T = 1."""
    p, y = votes(trees, strength, n=60_000)
    fitted = fit_floor(p, y)
    assert fitted == pytest.approx(strength / trees, rel=0.2)
    exact = floored(p, strength / trees)
    assert pytest.approx(1, abs=0.03) == fit_temperature(exact, y).T
    assert nll(floored(p, fitted) * fit_temperature(floored(p, fitted), y).beta, y) < nll(exact, y) + 1e-5


def test_what_the_floor_gains_is_the_difference_of_two_best_temperatures(without_ladder):
    p, y = votes(10, 0.3)
    found = diagnose(p, y, probabilities=True, candidates=())
    added = found.floor
    assert isinstance(added, Floor)
    assert added.labels == (p[np.arange(len(y)), y] == 0).sum() > 0
    assert added.zeros == (p == 0).any(axis=1).sum()
    usual = floored(p, USUAL_FLOOR)
    assert added.before == pytest.approx(nll(usual, y), rel=1e-12)
    assert added.least == pytest.approx(fit_temperature(usual, y).nll, rel=1e-9)
    raised = floored(p, added.value, added.scale)
    assert found.temperature.exact == fit_temperature(raised, y)
    assert softmax(raised).max(axis=1).mean() == pytest.approx(p.max(axis=1).mean(), abs=1e-9)
    gain = added.least - found.temperature.exact.nll
    said = re.search(r"the floor itself\s+gains\s+(\d\.\d+)", str(found))
    assert said is not None
    assert gain > 0.05
    assert float(said[1]) == pytest.approx(gain, abs=6e-4)
    stated = diagnose(p, y, probabilities=True, candidates=(), floor=1e-3)
    assert stated.temperature.exact == fit_temperature(floored(p, 1e-3), y)
    assert "each probability p becomes p + 0.001, divided by" in " ".join(str(stated).split())
    raised = np.maximum(p, 1e-9) / np.maximum(p, 1e-9).sum(axis=1, keepdims=True)
    assert diagnose(raised, y, probabilities=True, candidates=()).floor is None


@pytest.mark.parametrize("load", [load_digits, load_breast_cancer, load_iris])
@pytest.mark.parametrize("calibrator", ["none", "exact"])
def test_what_a_forests_diagnosis_prints_is_what_it_applies(load, calibrator, without_ladder):
    """Uncalibrated probabilities are the forest's own, unless a label has a probability of 0."""
    x, y = load(return_X_y=True)
    parts = train_test_split(x, y, test_size=0.6, random_state=0, stratify=y)
    forest = RandomForestClassifier(100, random_state=0).fit(parts[0], parts[2])
    x, new, y, _ = train_test_split(parts[1], parts[3], test_size=0.5, random_state=0)
    p, fresh = forest.predict_proba(x), forest.predict_proba(new)
    found = diagnose(p, y, probabilities=True, candidates=(), calibrator=calibrator)
    said = " ".join(str(found).split())
    lost = (p[np.arange(len(y)), y] == 0).any()
    raised = re.search(r"p becomes \(p \+ ([\d.e-]+)\)\^([\d.e+]+), divided", said)
    assert (raised is None) == (calibrator == "none" and not lost)
    expected = fresh
    if raised is not None:
        scaled = (fresh + float(raised[1])) ** (
            float(raised[2]) / (found.temperature.exact.T if calibrator == "exact" else 1)
        )
        expected = scaled / scaled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.predict_proba(fresh), expected, atol=2e-3)
    if not lost:
        with np.errstate(divide="ignore"):
            assert found.temperature.nll == pytest.approx(nll(np.log(p), y), rel=1e-12)


def test_the_floor_is_part_of_the_calibrator_wherever_it_goes(tmp_path, without_ladder):
    (p, y), (new, _) = votes(10, 0.3), votes(10, 0.3, seed=1)
    found = diagnose(p, y, probabilities=True, candidates=("partner",))
    found.save(tmp_path / "calibrator.npz")
    with np.errstate(divide="ignore"):
        expected = Calibrator.load(tmp_path / "calibrator.npz").predict_proba(np.log(new))
    assert np.isfinite(expected).all()
    assert (expected > 0).all()
    mapped = found.auto.calibrator.transform.transform(floored(new, found.floor.value, found.floor.scale))
    np.testing.assert_allclose(expected, softmax(mapped), rtol=0, atol=1e-12)
    for dtype, atol in ((np.float64, 1e-12), (np.float16, 5e-3)):
        np.savez(tmp_path / "new.npz", probabilities=new.astype(dtype))
        run_apply(tmp_path / "calibrator.npz", tmp_path / "new.npz", tmp_path / "out.npz")
        with np.load(tmp_path / "out.npz") as out:
            np.testing.assert_allclose(out["probabilities"], expected, rtol=0, atol=atol)


def test_a_calibrator_without_a_floor_refuses_a_probability_of_0():
    fit = fit_partner(*drawn(flips=0.3))
    with pytest.raises(SpecError, match="-inf: expected finite numbers; for a probability of 0, diagnose probab"):
        fit.predict_proba(np.array([[0.0, 1.0, -np.inf, 2.0]]))


@pytest.mark.parametrize(
    ("floor", "told"), [(1, "floor = 1: expected a number from 0"), (-0.1, "floor = -0.1"), ("x", "floor = 'x'")]
)
def test_a_floor_that_is_none_is_named(floor, told):
    p, y = votes(10, 0.3)
    with pytest.raises(SpecError, match=re.escape(told)):
        diagnose(p, y, probabilities=True, floor=floor)


def binary() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.random(500)
    return rng.binomial(20, truth) / 20, (rng.random(500) < truth).astype(int)


def test_every_form_of_a_binary_models_output_gives_the_same(tmp_path, without_ladder):
    """One column or two, in an array, a file of any kind or a table, with labels as numbers or names."""
    torch = pytest.importorskip("torch")
    p, y = binary()
    both, names = np.stack([1 - p, p], axis=1), np.array(["ham", "spam"])
    expected = diagnose(both, y, probabilities=True, candidates=("partner",)).as_json()

    def check(found, names=("0", "1")):
        assert found.names == names
        assert found.as_json() | {"names": None} == expected | {"names": None}

    check(diagnose(p, y, probabilities=True, candidates=("partner",)))
    check(diagnose(p[:, None], names[y], probabilities=True, candidates=("partner",)), tuple(names))
    np.savez(tmp_path / "mine.npz", probabilities=p, labels=y)
    torch.save({"probabilities": torch.from_numpy(p), "labels": torch.from_numpy(y)}, tmp_path / "mine.pt")
    for name, array in {"probabilities": p, "labels": names[y], "names": names}.items():
        np.save(tmp_path / f"{name}.npy", array)
    for file in ("mine.npz", "mine.pt"):
        check(diagnose_file(tmp_path / file, ("partner",)))
    for file in ("", "probabilities.npy"):
        check(diagnose_file(tmp_path / file, ("partner",)), tuple(names))
    table = pd.DataFrame({"probability_ham": 1 - p, "probability_spam": p, "label": names[y]})
    check(diagnose(table, candidates=("partner",)), tuple(names))


def test_a_single_column_is_a_logit_only_if_it_cant_be_a_probability(without_ladder):
    p, y = binary()
    z = np.log((p + 0.01) / (1.01 - p))
    two = diagnose(np.stack([np.zeros_like(z), z], axis=1), y, candidates=("partner",))
    one = diagnose(z, y, candidates=("partner",))
    assert one.as_json() == two.as_json()
    np.testing.assert_array_equal(one.predict_proba(z), two.predict_proba(np.stack([np.zeros_like(z), z], axis=1)))
    with pytest.raises(SpecError, match="a column of numbers from 0 to 1 may be probabilities or logits"):
        diagnose(p, y)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "found list, expected a dict of tensors with the names"),
        ({"logits": 3}, "found dict, expected a dict of tensors"),
        (None, r"can't be read \(.*\); pass a dict of tensors"),
    ],
)
def test_what_is_wrong_with_tensors_is_one_line(content, told, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "mine.pt"
    if content is None:
        path.write_bytes(b"not a file of torch")
    else:
        torch.save(content, path)
    with pytest.raises(SpecError, match=told) as caught:
        diagnose_file(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_large_set_is_fitted_to_some_of_its_rows(monkeypatch):
    p, y = votes(10, 0.5, n=4000)
    whole = fit_floor(p, y)
    monkeypatch.setattr(module, "MOST_PROBABILITIES", 8000)
    assert math.log(fit_floor(p, y)) == pytest.approx(math.log(whole), abs=0.7)
