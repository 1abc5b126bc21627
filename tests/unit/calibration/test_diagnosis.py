"""Diagnoses of logits: right numbers, the same from every kind of input, and plain words about what is wrong."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import re
import shlex
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import halobench
from halobench import SpecError, calibrate_file, diagnose, diagnose_file, diagnosis_page, fit_temperature
from halobench.calibration import calibrator
from halobench.calibration.calibrators import auto
from halobench.calibration.diagnosis import diagnose as diagnose_module
from halobench.calibration.diagnosis import parts, text
from halobench.calibration.diagnosis.parts import Shift, Temperature
from halobench.calibration.diagnosis.result import Diagnosis
from halobench.calibration.repair import families
from halobench.calibration.repair.groups import Groups
from halobench.calibration.scores.metric import nll, softmax
from halobench.cli.main import main
from halobench.core.extras import MissingExtraError
from halobench.desk.diagnose import run_diagnose
from unit.calibration.builders import drawn, torch_lbfgs
from unit.calibration.builders import without_ladder as without_ladder  # a fixture

OWN = ("top_rest", "partner")
NO_SLOW_MAPS = dict.fromkeys(("regression", "network", "trees"), 0.0)


def short(diagnosis, words: str) -> str:
    """The short answer to the question that contains these words."""
    (answer,) = (each for each in diagnosis.answers() if words in each.question)
    return answer.short


fast = pytest.mark.usefixtures("without_ladder")


@pytest.fixture(scope="module")
def flipped():
    (z, y), (new_z, new_y) = drawn(600, flips=0.35), drawn(600, seed=1, flips=0.35)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "WORK", NO_SLOW_MAPS)
        return z, y, new_z, new_y, diagnose(z, y, new_z, new_y, candidates=OWN)


def test_its_numbers_are_those_of_the_functions_it_combines(flipped):
    z, y, new_z, new_y, found = flipped
    exact = fit_temperature(z, y)
    assert found.temperature.exact == exact
    assert found.auto.chosen == "partner"
    p = found.predict_proba(new_z)
    top_rest = calibrator.fit("top_rest", z, y).logits(new_z)
    maps = {"none": new_z, "exact": new_z / exact.T, "partner": np.log(p), "top_rest": top_rest}
    for name, logits in maps.items():
        own = nll(logits, new_y)
        assert found.scores[name]["nll"].value == pytest.approx(own, rel=1e-9)
        if name != "none":
            assert found.test_gains[name].value == pytest.approx(nll(new_z, new_y) - own, abs=1e-9)
        if name != "partner":
            assert found.better[name].value == pytest.approx(nll(np.log(p), new_y) - own, abs=1e-9)
    assert set(found.scores) == {*maps, "paper"}
    assert next(iter(found.scores)) == "none", "the first row"
    gain = nll(new_z / exact.T, new_y) - nll(np.log(p), new_y)
    assert found.auto.gain.low <= gain <= found.auto.gain.high
    top, q = z.argmax(axis=1), softmax(z / exact.T)
    for each in found.confusions:
        rows = top == each.predicted
        assert (each.count, each.of) == ((y[rows] == each.label).sum(), rows.sum())
        assert each.expected == pytest.approx(q[rows, each.label].sum())
    assert all((each.predicted + 1) % 4 == each.label for each in found.confusions[:4]), "these were flipped"


@fast
def test_every_kind_of_input_gives_the_same(flipped, tmp_path):
    z, y, new_z, new_y, _ = flipped
    found = diagnose(z, y, new_z, new_y, candidates=OWN)
    rng = np.random.default_rng(0)
    table = pd.DataFrame(np.concatenate([z, new_z]), columns=[f"logit_{name}" for name in "dbac"])
    table["label"] = np.array(list("dbac"))[np.concatenate([y, new_y])]
    table["split"] = np.repeat(["val", "test"], 600)
    table["id"] = rng.permutation(1200)
    shuffled = table[["id", "split", "label", *table.columns[:4]]]
    shuffled.to_csv(tmp_path / "mine.csv", index=False)
    shuffled.to_parquet(tmp_path / "mine.parquet")
    np.savez(tmp_path / "mine.npz", val_logits=z, val_labels=y, test_logits=new_z, test_labels=new_y)
    numbered = table.assign(label=np.concatenate([y, new_y]))
    numbered = numbered.rename(columns={f"logit_{name}": f"logit_{j}" for j, name in enumerate("dbac")})
    numbered[["logit_2", "split", "logit_0", "label", "logit_3", "logit_1"]].to_csv(tmp_path / "numbered.csv")
    column = pd.DataFrame({"logits": list(z), "label": y})
    others = [diagnose_file(tmp_path / name, candidates=OWN) for name in ("mine.npz", "numbered.csv")]
    others += [diagnose(column["logits"], column["label"], pd.DataFrame(new_z), new_y, candidates=OWN)]
    others += [diagnose(torch.tensor(z), torch.tensor(y), new_z.tolist(), new_y.tolist(), candidates=OWN)]
    for each in others:
        assert each.as_json() == found.as_json()
    named = [diagnose_file(tmp_path / f"mine.{kind}", candidates=OWN) for kind in ("csv", "parquet")]
    named.append(diagnose(table, candidates=OWN))
    expected = found.as_json() | {"names": list("dbac")}
    for each in named:
        assert each.as_json() == expected


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda table: table.drop(columns="label"),
            r"columns: found .*expected a column label \(or vote_NAME for each class\), and",
        ),
        (lambda table: table.rename(columns={"logit_1": "logit_9"}), r"label\[\d+\] = 1: expected one of 0, 2, 9"),
        (lambda table: table.assign(split=["val", "train"] * 30), "split: found train, expected only val and test"),
        (lambda table: table.assign(split="test"), "split: no row has the split val"),
        (lambda table: table.assign(label=[np.nan] + [0] * 59), r"label\[0\]: missing"),
        (
            lambda table: table.assign(probability_0=0.5),
            "probabilities: found the classes 0, expected the classes 0, 1, 2",
        ),
        (lambda table: table.assign(logit_0=0.2, logit_1=0.3, logit_2=0.5), "call the array probabilities"),
        (lambda table: table.assign(logit_scale=1.0), "columns: all classes but 'scale' are numbered"),
        (
            lambda table: pd.concat([table, table[["logit_0"]]], axis=1),
            r"columns\.logit_0: there are several columns with this name; keep one",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, change, told):
    z, y = drawn(60, 3)
    table = pd.DataFrame(z, columns=["logit_0", "logit_1", "logit_2"]).assign(label=y)
    path = tmp_path / "mine.csv"
    change(table).to_csv(path, index=False)
    with pytest.raises(SpecError, match=told) as caught:
        diagnose_file(path)
    assert str(path) in str(caught.value)
    with pytest.raises(SpecError, match=told):
        diagnose(change(table))
    table.to_csv(path, index=False, sep=";")
    with pytest.raises(SpecError, match=r"mine\.csv: its columns are separated by semicolons"):
        diagnose_file(path)


def test_torchs_module_says_what_to_install_and_a_diagnosis_is_shown_as_its_text(monkeypatch, flipped):
    for name in ("torch", "halobench.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "halobench.torch")
    with pytest.raises(MissingExtraError, match=r'^halobench\.torch needs torch: pip install "halobench\[train\]"$'):
        importlib.import_module("halobench.torch")
    assert repr(flipped[-1]) == str(flipped[-1])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": None}, "labels: missing; pass labels, votes, or a data frame"),
        ({"test_labels": np.zeros(5, int)}, "test_labels: passed without test_logits"),
        ({"logits": np.full((50, 4), 0.25)}, "look like probabilities"),
        ({"posterior": np.ones((50, 4))}, "posterior.*a sum of 4"),
        ({"names": ["a", "b"]}, "names = .*expected a list of 4 class names"),
        ({"names": dict.fromkeys("abcd")}, "names = .*expected a list of 4 class names"),
        ({"seed": -1}, "seed = -1"),
        ({"logits": np.ma.masked_less(drawn(50)[0], 0)}, "masked entries"),
        ({"labels": np.ma.masked_equal(drawn(50)[1], 0)}, "masked entries"),
        (
            {"logits": pd.DataFrame({"label": [[0, 1]], "logit_0": 1.0, "logit_1": 2.0}), "labels": None},
            r"label\[0\] = \[0, 1\]: expected a single number or name",
        ),
        (
            {"logits": pd.DataFrame({"label": [], "logit_0": [], "logit_1": []}), "labels": None},
            "the table has no rows; add one per sample",
        ),
        (
            {"logits": pd.DataFrame(drawn(50)[0]).convert_dtypes().replace(drawn(50)[0][0, 0], pd.NA)},
            r"logits\[0\] = nan",
        ),
    ],
)
def test_bad_arguments_are_named(change, told):
    z, y = drawn(50)
    with pytest.raises(SpecError, match=told):
        diagnose(**({"logits": z, "labels": y, "candidates": OWN} | change))


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["1", "2", "other"], [1, 2]),
        (["1.0", "0.0"], [1, 0]),
        (["-1", "0", "1"], [-1, 0, 1]),
        (["2", "1", "0"], [2.0, 1.0, 0.0]),
        (["b", "a"], ["b", "a"]),
        (["b", "a"], [0, 1]),
        (["True", "False"], [True, False]),
        (["2", "3", "5"], [2, 3, 5]),
    ],
)
@fast
def test_labels_are_names_of_classes_or_their_positions(names, labels):
    table = pd.DataFrame(9 * np.eye(len(names))[: len(labels)], columns=[f"logit_{name}" for name in names])
    table = pd.concat([table.assign(label=labels)] * 9, ignore_index=True)
    for each in (table, table.convert_dtypes()):
        found = diagnose(each, candidates=())
        assert found.errors == 0
        assert sorted(found.names) == sorted(names)


@fast
def test_frames_are_aligned_by_name_and_can_be_mapped_as_they_were_given():
    (z, y), (new_z, new_y) = drawn(flips=0.35), drawn(seed=1, flips=0.35)
    frame, new = (pd.DataFrame(each, columns=list("abcd")) for each in (z, new_z))
    names = np.array(list("abcd"))
    found = diagnose(z, y, new_z, new_y, names=names, candidates=OWN)
    assert (
        diagnose(frame, y, new[list("cdab")], new_y, names=frame.columns, candidates=OWN).as_json() == found.as_json()
    )
    assert diagnose(frame.convert_dtypes(), pd.Series(y, dtype="Int64"), candidates=OWN).auto.gain == found.auto.gain
    table = frame.add_prefix("logit_").assign(label=names[y])
    chosen = diagnose(table, candidates=OWN)
    p = found.predict_proba(z)
    for each in (table, table[table.columns[::-1]], frame):
        np.testing.assert_array_equal(chosen.predict_proba(each), p)
    probabilities = pd.DataFrame(softmax(z), columns=names).add_prefix("probability_")
    np.testing.assert_allclose(chosen.predict_proba(probabilities), p, rtol=1e-9)
    for one in (chosen, chosen.auto):
        with pytest.raises(SpecError, match=r"logits: found 3 (classes|columns), expected 4"):
            one.predict_proba(z[:, :3])


@fast
def test_what_wasnt_seen_and_a_loss_on_test_samples_are_said_first(monkeypatch):
    monkeypatch.setattr(auto, "missing_classes", lambda *_: [])  # as if class c were only rare
    z, y = drawn(2000, flips=0.35)
    seen = y != 2
    found = diagnose(z[seen], y[seen], *drawn(2000, seed=1), names=list("abcd"), candidates=OWN)
    assert found.auto.chosen == "partner"
    assert found.better["exact"].low > 0
    first = found.answers()[0]
    assert "But on the labelled test samples, top-versus-rest scaling is better by " in first.short
    assert first.sentences.startswith("On the test samples, these are better than partner scaling: top-versus-rest ")
    assert "; TS (optimal) by " in first.sentences
    assert first.short.endswith("It hasn't seen class c.")
    assert first.warning
    assert short(found, "enough") == "Yes, except for class c."


@fast
def test_a_test_set_on_which_no_calibration_is_best_says_so_first():
    z, y = drawn(400)
    found = diagnose(z, y, *(drawn(400, seed=1)[0] / 3, drawn(400, seed=1)[1]), candidates=OWN)
    assert found.auto.chosen == "exact"
    first = found.answers()[0]
    assert "But on the labelled test samples, leaving the logits as they are is better by " in first.short
    assert first.warning
    assert found.better["none"].low > 0


@fast
def test_any_calibrator_can_be_asked_for(tmp_path):
    z, y = drawn(1200, flips=0.3)
    for name in ("none", "exact", "matrix", "top_rest"):
        found = diagnose(z, y, *drawn(400, seed=1), candidates=OWN, calibrator=name)
        assert (found.auto.chosen, found.recommended) == (name, "partner")
        assert found.answers()[0].warning
        assert "Partner scaling is recommended." in found.answers()[0].short
        expected = softmax(z) if name == "none" else calibrator.fit(name, z, y).predict_proba(z)
        np.testing.assert_allclose(found.predict_proba(z), expected, atol=1e-12)
        found.save(tmp_path / f"{name}.npz")
        assert name in found.scores
        np.testing.assert_allclose(
            halobench.Calibrator.load(tmp_path / f"{name}.npz").predict_proba(z), expected, atol=1e-12
        )
    same = diagnose(z, y, candidates=OWN, calibrator="partner")
    assert "asked" not in same.answers()[0].short
    with pytest.raises(SpecError, match="calibrator: exact can't be fitted: the labels always have the largest logit"):
        diagnose(z[:9], z[:9].argmax(axis=1), candidates=OWN, calibrator="exact")
    with pytest.raises(SpecError, match=r"calibrator = 'nope': expected one of .*none.*partner"):
        diagnose(z, y, candidates=OWN, calibrator="nope")


def test_the_interval_and_the_cost_of_a_temperature_are_right():
    """Over 100 draws of 150 samples, the interval holds the true T, and the cost is what 4000 samples say."""
    (new_z, new_y), held, costs, measured = drawn(4000, seed=9), 0, [], []
    best = nll(new_z / fit_temperature(new_z, new_y).T, new_y)
    for seed in range(100):
        found = Temperature.of(*drawn(150, seed=100 + seed))
        held += found.low <= 3 <= found.high
        costs.append(found.cost)
        measured.append(nll(new_z * found.exact.beta, new_y) - best)
    assert 89 <= held <= 99
    assert np.mean(costs) == pytest.approx(np.mean(measured), rel=0.35)


def test_the_copied_fit_is_torchs():
    z, y = drawn(500)
    for scale in (0.3, 3.0):
        found = Temperature.of(scale * z, y).others["copied"]
        assert pytest.approx(torch_lbfgs(scale * z, y, 1.5, 50), rel=1e-6) == found.T


def test_a_shift_of_classes_or_confidences_is_seen_and_nothing_rarely_is():
    z, y = drawn(400)
    seen = []
    for seed in range(60):
        new = drawn(400, seed=1 + seed)[0]
        seen.append(Shift.of(z / 3, y, new / 3, None).seen)
    assert sum(seen) <= 4
    new, new_y = drawn(1200, seed=99)
    rare = (new.argmax(axis=1) > 0) | (np.arange(1200) % 3 == 0)
    classes, confidences = (Shift.of(z / 3, y, each, None) for each in (new[rare] / 3, new / 4.5))
    assert classes.seen
    assert classes.changed == 0
    assert confidences.seen
    assert min(classes.confidence[2], confidences.classes[2]) > 0.001, "each test sees its own"
    relabelled = Shift.of(z / 3, y, new / 3, np.where(np.arange(1200) % 4 == 0, (new_y + 1) % 4, new_y))
    assert not relabelled.seen
    assert relabelled.nll[2] < 0.01


def test_the_range_of_what_training_could_remove_is_printed(monkeypatch):
    """Three samples a class say little; with 20 classes, nothing is known about the lower end."""
    monkeypatch.setattr(parts, "WORK", NO_SLOW_MAPS)
    z, y = np.random.default_rng(0).normal(size=(60, 20)), np.arange(60) % 20
    found = diagnose(z, y, candidates=())
    low, high = found.ladder.training_range
    assert low == 0
    said = " ".join(str(found).split())
    assert said.count(f"only other training at most {high:.3f}.") == 1, "what a temperature removed isn't left"
    assert said.count("With 3 samples a class on average") == 1


def test_noise_is_apart_where_the_posterior_is_known(monkeypatch):
    monkeypatch.setattr(parts, "WORK", NO_SLOW_MAPS)
    z, y = drawn(400)
    found = diagnose(z, y, posterior=softmax(z / 3), candidates=OWN)
    entropy = nll(z / 3, softmax(z / 3))
    assert found.ladder.noise.value == pytest.approx(entropy, rel=1e-6)
    assert found.ladder.training.value + found.ladder.richer_map.value == pytest.approx(0, abs=0.01)
    assert "own noise" in str(found)


def hard(case: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Validation logits and labels, and test logits, that leave something undefined."""
    z, y = drawn(200 if case == "useless" else 80)
    top, random = z.argmax(axis=1), np.random.default_rng(5)
    ruled_out = np.where(np.eye(4)[(top if "separable" in case else y) - 3] > 0, -np.inf, z)
    z, y = {
        "three": (z[:3], y[:3]),
        "one label": (z, np.zeros_like(y)),
        "rare class": (z, np.where(np.arange(len(y)) == 0, 3, np.minimum(y, 2))),
        "separable": (z, top),
        "ties": (np.tile([1.0, 1.0, 0.0, 0.0], (80, 1)), np.arange(80) % 2),
        "ruled out": (ruled_out, y),
        "separable, ruled out": (ruled_out, top),
        "ruled out in test": (z, y),
        "useless": (z, random.integers(4, size=len(y))),
        "huge": (1e12 * z, y),
        "constant": (np.full_like(z, 0.3), y),
        "wrong": (-z, y),
    }[case]
    new = z[:60].copy()
    if case == "ruled out in test":
        new[7, y[7]] = -np.inf
    return z, y, new


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("case", "words", "answer"),
    [
        ("three", "enough", "No."),
        ("one label", "calibrator", None),
        ("rare class", "calibrator", None),
        ("separable", "temperature optimal", "No finite temperature is."),
        ("ties", "calibrator", None),
        ("ruled out", "calibrator", "Divide the logits by T = 2.748, a temperature that is shrunk towards 1."),
        ("separable, ruled out", "temperature optimal", "No finite temperature is."),
        ("ruled out in test", "calibrator", "Divide the logits by T = 2.838, a temperature that is shrunk towards 1."),
        ("useless", "calibrator", None),
        ("huge", "calibrator", None),
        ("constant", "temperature optimal", "Every temperature gives the same NLL."),
        ("wrong", "enough", "Unknown, since no finite temperature is best."),
    ],
)
def test_hard_data_get_an_answer(case, words, answer, monkeypatch):
    monkeypatch.setattr(parts, "WORK", NO_SLOW_MAPS)
    z, y, new = hard(case)
    found = diagnose(z, y, new, y[:60] if len(y) >= 60 else None, candidates=OWN)
    assert np.allclose(found.predict_proba(new).sum(axis=1), 1)
    assert np.allclose(found.predict_proba(z).sum(axis=1), 1)
    assert len(found.answers()) == (1 if found.auto.mismatch else 6)
    assert found.auto.keeps_temperature or case not in ("three", "separable")
    assert ("fewer than 20 samples" in found.auto.reason) == (case == "three")
    json.dumps(found.as_json(), allow_nan=False)
    assert diagnosis_page(found)
    assert "prediction is right" not in str(found) or found.errors == 0
    assert short(found, words) == answer or answer is None


def test_labels_in_random_order_are_noticed(monkeypatch):
    """The test's moments are those over all orders, its p-value is uniform under the null, and classes may be rare."""
    assert np.isnan(diagnose([[2.0, 0.0, 0.0]], [0], candidates=OWN).unrelated)
    monkeypatch.setattr(parts, "FEWEST", 2)
    rng = np.random.default_rng(0)
    p, mass = rng.dirichlet(np.ones(3), size=6), rng.dirichlet(np.ones(3), size=6)
    every = np.array([(p * mass[list(order)]).sum() for order in itertools.permutations(range(6))])
    z_score = ((p * mass).sum() - every.mean()) / every.std()
    assert parts.unrelated(p, mass) == pytest.approx(stats.norm.sf(z_score), rel=1e-9)
    for same in (np.full((6, 3), 1 / 3), softmax(np.tile([0.1, 0.7, 0.3], (6, 1)))):
        assert np.isnan(parts.unrelated(same, mass))
        assert np.isnan(parts.unrelated(p, same))
    z, y = drawn(300, k=10)
    y[y > 1] = 1  # of ten columns, two have labels
    found = [parts.unrelated(softmax(z), np.eye(10)[rng.permutation(y)]) for _ in range(400)]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert parts.unrelated(softmax(z), np.eye(10)[y]) < 1e-6


@fast
@pytest.mark.parametrize("case", ["shuffled", "matching"])
def test_a_diagnosis_of_rows_in_another_order_asks_to_check_them(case):
    z, y = drawn(60)
    found = diagnose(z, np.random.default_rng(0).permutation(y) if case == "shuffled" else y, candidates=OWN)
    assert ("labels in random order would fit as well (p = " in short(found, "calibrator")) == (case == "shuffled")
    assert found.answers()[0].warning == (case == "shuffled")


def test_a_temperature_that_rests_on_few_wrong_predictions_is_left_or_shrunk():
    """The estimated sampling error, which also rests on them, may be small."""
    z = np.random.default_rng(0).normal(size=(250, 10))
    top = z.argmax(axis=1)
    z[np.arange(250), top] += 3
    for scale, errors, chosen in ((1, 1, "shrunk"), (4, 1, "none"), (4, 2, "none"), (4, 5, "shrunk")):
        y = np.where(np.isin(np.arange(250), 7 + 45 * np.arange(errors)), (top + 1) % 10, top)
        found = diagnose(scale * z, y, candidates=OWN)
        assert found.auto.chosen == chosen
        words = "1 wrong prediction" if errors == 1 else f"{errors} wrong predictions"
        if errors < 5:
            assert found.temperature.cost < 0.005
            assert short(found, "enough") == "No."
            assert f"For a temperature: no; T rests on {words}." in " ".join(str(found).split())


@fast
@pytest.mark.parametrize(
    ("n", "told"), [(60, r"Not enough evidence \(60 samples\) to change .*; T = \d"), (4000, "^None: leave")]
)
def test_the_logits_are_kept_for_lack_of_evidence_or_because_of_it(n, told):
    """Here, T = 1 is best; of few samples, T's sampling error costs more than `NEGLIGIBLE` nats."""
    rng = np.random.default_rng(2)
    z = rng.normal(size=(n, 3))
    found = diagnose(z, (z + rng.gumbel(size=z.shape)).argmax(axis=1), candidates=())
    assert found.auto.chosen == "none"
    assert re.search(told, short(found, "calibrator"))


@fast
def test_a_diagnosis_of_probabilities_maps_probabilities_unless_told_otherwise():
    (z, y), (new, _) = drawn(flips=0.35), drawn(seed=1)
    found = diagnose(softmax(z), y, probabilities=True, candidates=())
    expected = found.predict_proba(np.log(softmax(new)), probabilities=False)
    np.testing.assert_allclose(found.predict_proba(softmax(new)), expected, rtol=0, atol=1e-12)


def test_gains_that_are_known_to_no_precision_are_said_to_need_far_more_samples():
    """As of logits of 1e300."""
    z, y = drawn()
    found = diagnose(1e300 * z, y, candidates=("partner",))
    answer = text.are_enough(found.temperature, found.auto, "none", 1e302, 300, 3, 50, 20, "")
    assert "0.01 would take far more samples" in answer.sentences
    assert str(found)


@fast
def test_groups_come_from_every_kind_of_input(tmp_path):
    z, y = drawn(flips=0.35)
    patients = np.array([f"patient {i // 3}" for i in range(300)])
    found = diagnose(z, y, groups=patients, candidates=OWN)
    assert found.auto.groups.kind == "given"
    assert found.as_json()["auto"]["groups"] == 100
    assert "The 100 groups count as one sample each." in " ".join(str(found).split())
    np.savez(tmp_path / "one.npz", logits=z, labels=y, groups=patients)
    np.savez(tmp_path / "two.npz", val_logits=z, val_labels=y, val_groups=patients)
    table = pd.DataFrame(z).add_prefix("logit_").assign(label=y, group=patients)
    table.to_csv(tmp_path / "mine.csv")
    others = [diagnose_file(tmp_path / name, candidates=OWN) for name in ("one.npz", "two.npz", "mine.csv")]
    for each in (*others, diagnose(table, candidates=OWN)):
        assert each.as_json() == found.as_json()
    with pytest.raises(SpecError, match=r"groups: .*put it into the data frame, as a column named group"):
        diagnose(table, groups=patients)
    with pytest.raises(SpecError, match=r"one.npz: groups: remove this array"):
        calibrate_file(tmp_path / "one.npz")
    np.savez(tmp_path / "short.npz", logits=z, labels=y, groups=patients[1:])
    with pytest.raises(SpecError, match=r"short.npz: groups: found shape \(299,\)"):
        diagnose_file(tmp_path / "short.npz")


def test_a_recommendation_that_worsens_the_ece_says_so(flipped):
    """The sentence has the out-of-fold accuracy, confidence and ECE of both; the warning has a margin."""
    *_, found = flipped
    assert "Its accuracy there is" in " ".join(str(found).split())
    ts, own = found.auto.confidence["base"], found.auto.confidence["partner"]
    assert 0 < own.ece < 0.2
    assert abs(own.mean - own.accuracy) <= own.ece + 1e-12
    for ece, warned in ((ts.ece + 0.021, True), (ts.ece + 0.019, False)):
        confidence = {"base": ts, "partner": dataclasses.replace(own, ece=ece)}
        changed = dataclasses.replace(found, auto=dataclasses.replace(found.auto, confidence=confidence))
        first = changed.answers()[0]
        assert first.warning == warned
        assert ("But its confidence is further from its accuracy." in first.short) == warned


def test_the_text_fits_and_the_page_needs_nothing_else(flipped):
    *_, found = flipped
    assert max(map(len, str(found).splitlines())) <= 80
    page = diagnosis_page(found, "<mine>")
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "&lt;mine&gt;" in page
    assert all(answer.short in page for answer in found.answers())
    assert "drawn at random" not in str(found)
    groups = Groups.single(2500)
    large = dataclasses.replace(found, samples=2500, auto=dataclasses.replace(found.auto, groups=groups))
    assert "of 2,000 samples, drawn at random" in " ".join(str(large).split())


@fast
def test_the_command_prints_and_writes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(auto, "default_candidates", lambda: OWN)
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # which a command sets in its process
        monkeypatch.setenv(name, "1")
    (z, y), (new_z, _) = drawn(flips=0.35), drawn(seed=1)
    path, out = tmp_path / "mine.npz", tmp_path / "out"
    np.savez(path, val_logits=z, val_labels=y, test_logits=new_z)
    assert main(["diagnose", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "300 test samples without labels" in printed
    assert "proved optimal" in printed
    assert sorted(file.name for file in out.iterdir()) == [
        *("calibrator.npz", "diagnosis.html", "diagnosis.json", "probabilities.npz")
    ]
    found = diagnose_file(path)
    assert json.loads((out / "diagnosis.json").read_text()) == found.as_json()
    with np.load(out / "probabilities.npz") as arrays:
        np.testing.assert_array_equal(arrays["test_probabilities"], found.predict_proba(new_z))
        assert arrays["val_probabilities"].shape == z.shape
    shell, python = map(str.strip, printed.splitlines()[-2:])
    np.savez(tmp_path / "new.npz", logits=new_z)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(shell)[1:]) == 0
    with np.load("calibrated.npz") as arrays:
        np.testing.assert_allclose(arrays["probabilities"], found.predict_proba(new_z), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(
        eval(python, {"halobench": halobench, "new_logits": new_z}), found.predict_proba(new_z)
    )
    assert main(["diagnose", str(tmp_path / "none.npz")]) == 2
    assert "none.npz: no such file" in capsys.readouterr().err
    assert main(["diagnose", str(path), "--out", str(path)]) == 2
    assert "is a file; pass a folder" in capsys.readouterr().err
    for file in out.iterdir():
        file.unlink()
    monkeypatch.setattr("builtins.print", pytest.fail)  # as if `| head` had closed the output
    with pytest.raises(pytest.fail.Exception):
        run_diagnose(path, 0, out)
    monkeypatch.undo()
    assert len(list(out.iterdir())) == 4
    given = out / "probabilities.npz"
    np.savez(given, val_probabilities=softmax(z), val_labels=y)
    before = given.read_bytes()
    assert main(["diagnose", str(given), "--out", str(out)]) == 2
    assert "is the input and would be overwritten" in capsys.readouterr().err
    assert given.read_bytes() == before
    assert diagnose_file(given).samples == 300, "test samples aren't needed"


def test_whoever_is_handed_samples_is_told(tmp_path, capsys, monkeypatch):
    z, y = drawn(flips=0.35)
    np.savez(tmp_path / "mine.npz", logits=z, labels=y)
    monkeypatch.setattr(auto, "default_candidates", lambda: ())
    monkeypatch.setattr(families, "TREES", 5)
    fit = calibrator.fit("local", z, y)
    monkeypatch.setattr(Diagnosis, "calibrator", property(lambda self: fit))
    run_diagnose(tmp_path / "mine.npz", 0, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    path = tmp_path / "out/calibrator.npz"
    assert f"note: {path} holds all 300 validation samples, since local can't be saved otherwise" in lines


@fast
def test_the_score_of_what_is_saved_is_that_of_its_probabilities():
    """Also of no calibration, and if a floor is added to probabilities of 0."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet((0.5, 0.5, 0.5), size=400)
    y = (p.cumsum(axis=1) < rng.random((400, 1))).sum(axis=1)
    votes = np.array([rng.multinomial(12, row) for row in p]) / 12
    halves = votes[:200], y[:200], votes[200:], y[200:]
    for name in ("none", "exact", "partner"):
        found = diagnose(*halves, probabilities=True, candidates=OWN, calibrator=name)
        assert found.floor is not None
        own = -np.log(found.predict_proba(votes[200:], probabilities=True)[np.arange(200), y[200:]]).mean()
        assert found.scores[name]["nll"].value == pytest.approx(own, rel=1e-9)
        assert all(np.isfinite(gain.value) for gain in found.better.values())


def test_reliability_is_shown_before_and_after_with_what_calibrated_probabilities_would_show(flipped):
    """On the test samples if they have labels, otherwise on those of the fit."""
    z, y, new_z, new_y, found = flipped
    for one, logits, labels in ((found, new_z, new_y), (diagnose(z, y, candidates=(), calibrator="exact"), z, y)):
        before, after = one.reliability.values()
        assert list(one.reliability) == ["none", one.auto.chosen]
        for diagram, p in ((before, softmax(logits)), (after, one.predict_proba(logits))):
            assert diagram.ece == pytest.approx(halobench.ece(p, labels), abs=1e-12)
            expected = halobench.ece_floor(p, 15, 2000, np.random.default_rng(0))
            assert diagram.floor == pytest.approx(expected, rel=0.1)
            assert sum(share for _, _, share in diagram.bins) == pytest.approx(1)
        page = diagnosis_page(one)
        assert page.count("<circle") == len(before.bins) + len(after.bins)
        assert ("Reliability on the test samples" in page) == (one is found)


@fast
def test_a_folder_that_cant_be_written_to_is_named_before_anything_is_computed(tmp_path, monkeypatch):
    z, y = drawn(50)
    np.savez(tmp_path / "mine.npz", logits=z, labels=y)
    (tmp_path / "file").touch()
    monkeypatch.setattr(diagnose_module, "diagnose_file", lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(SpecError, match="file/out: can't be written to"):
        run_diagnose(tmp_path / "mine.npz", 0, tmp_path / "file/out")


def test_with_many_classes_slow_maps_are_left_out_by_name(monkeypatch):
    monkeypatch.setattr(auto, "WORK", 100 * 4**2 - 1)
    monkeypatch.setattr(parts, "WORK", dict.fromkeys(NO_SLOW_MAPS, 100 * 4**2 - 1))
    found = diagnose(*drawn(100, flips=0.35), candidates=("matrix", "partner"))
    assert set(found.ladder.families) == {"temperature", "partner", "ranks", "neighbours", "mixture"}
    told = " ".join(str(found).split())
    assert "Left out: matrix scaling, too slow for 4 classes and 100 samples." in told
    assert "too slow for 4 classes: regression, network, trees; with these, a richer map may remove more." in told
