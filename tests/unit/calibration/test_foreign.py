"""Logits from other projects: one command calibrates an .npz and reports what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from halobench.calibration.calibrators.exact import fit_temperature
from halobench.calibration.diagnosis.external_logits import calibrate_file, read_logits
from halobench.calibration.scores import metric
from halobench.core.errors import SpecError
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.reporting import terminal
from unit.calibration.builders import drawn

QUICK = CalibrateSpec(draws=50, floor_draws=5)


def saved(path, **arrays):
    """Save these arrays to an .npz file."""
    np.savez(path / "mine.npz", **arrays)
    return path / "mine.npz"


def apart(**changed) -> dict:
    """Arrays of a file with separate val and test parts, some of them changed."""
    (val, val_labels), (test, test_labels) = drawn(400, 5, seed=1), drawn(400, 5, seed=2)
    arrays = {"val_logits": val.astype(np.float32), "val_labels": val_labels}
    arrays |= {"test_logits": test.astype(np.float32), "test_labels": test_labels}
    return {name: array for name, array in (arrays | changed).items() if array is not None}


def test_fitted_to_val_and_scored_on_test(tmp_path):
    arrays = apart()
    found = calibrate_file(saved(tmp_path, **arrays), QUICK)
    expected = fit_temperature(arrays["val_logits"], arrays["val_labels"])
    (exact,) = (fit for fit in found.fits if fit["calibrator"] == "exact")
    assert exact["T"] == expected.T == pytest.approx(3, rel=0.2)
    told = found.metrics.set_index(["split", "labels", "calibrator", "metric"])["value"]
    assert set(found.metrics["split"]) == {"val", "test"}
    for calibrator, T in (("none", 1), ("exact", expected.T)):
        scaled = arrays["test_logits"].astype(float) / T
        assert told["test", "clean", calibrator, "nll"] == pytest.approx(metric.nll(scaled, arrays["test_labels"]))
        p = metric.softmax(scaled)
        assert told["test", "clean", calibrator, "ece"] == pytest.approx(metric.ece(p, arrays["test_labels"]))
    assert told["test", "clean", "exact", "nll"] < told["test", "clean", "none", "nll"] - 0.1


def test_one_set_is_halved_at_random(tmp_path):
    z, y = drawn(400, 5)
    path = saved(tmp_path, logits=z, labels=y)
    first, again, other = (read_logits(path, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["val.logits"], other["val.logits"])
    assert len(first["val.labels"]) == len(first["test.labels"]) == 200
    between = saved(tmp_path, logits=np.random.default_rng(0).random((200, 5)), labels=np.arange(200) % 5)
    assert read_logits(between)["val.logits"].shape == (100, 5), "from 0 to 1, and yet no probabilities"
    together = np.concatenate([first["val.logits"], first["test.logits"]])
    assert np.array_equal(np.sort(together, axis=0), np.sort(z, axis=0))


def test_a_posterior_gives_the_divergence(tmp_path):
    z, y = drawn(400, 5)
    path = saved(tmp_path, logits=z, labels=y, posterior=metric.softmax(z / 3))
    found = calibrate_file(path, QUICK).metrics.set_index(["split", "labels", "calibrator", "metric"])["value"]
    assert found["test", "noisy", "oracle", "kl"] == pytest.approx(0, abs=1e-6)


FIFTHS = np.full((400, 5), 0.2)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"val_labels": None}, "val_labels: missing; add the labels or votes of val_logits"),
        ({"test_logits": None}, "test_logits: missing"),
        ({"test_logits": None, "test_labels": None}, "test_logits: missing; add logits and labels of test samples"),
        ({"test_logits": FIFTHS * np.nan}, r"test_logits\[0\] = nan"),
        ({"test_logits": np.zeros(400)}, r"test_logits: found shape \(400,\)"),
        ({"test_logits": FIFTHS}, "test_logits = .*probabilities.*call the array test_prob"),
        ({"test_labels": np.full(400, 5)}, r"test_labels\[0\] = 5"),
        (
            {"test_logits": drawn(400)[0], "test_labels": np.full(400, 4)},
            "test_logits: found 4 classes, expected 5 classes",
        ),
        ({"val_posterior": np.full((400, 5), 0.3)}, r"val_posterior\[0\]: found a sum of 1.5"),
        ({"val_posterior": FIFTHS}, "val_posterior: test_posterior is missing"),
        ({"val_posterior": np.full((400, 4), 0.25)}, r"val_posterior: found shape \(400, 4\)"),
        ({"val_probabilities": FIFTHS}, "val_logits: the file also has val_probabilities"),
        ({"val_probabilities": FIFTHS, "val_logits": None, "val_labels": None}, "val_probabilities"),
        ({"test_logits": FIFTHS * -np.inf}, r"test_logits\[0\] = -inf"),
        (
            {"val_logits": np.where(np.arange(5) > 0, 1.0, -np.inf) + 0 * FIFTHS, "val_labels": np.zeros(400, int)},
            "label 0",
        ),
        ({"logits": np.zeros((4, 5))}, "logits: the file also has test_labels, .*only names that begin with val_"),
        ({"tset_logits": np.zeros((4, 5))}, "tset_logits: unknown array.*did you mean 'test_logits'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changed, error):
    with pytest.raises(SpecError, match=error) as caught:
        calibrate_file(saved(tmp_path, **apart(**changed)), QUICK)
    assert str(tmp_path / "mine.npz") in str(caught.value)


def test_a_forest_that_gives_probabilities_of_zero(tmp_path):
    """Its exact temperature matches a search over T on probabilities alone; ruled-out classes stay ruled out."""
    from scipy.optimize import minimize_scalar
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_digits(return_X_y=True)
    forest = RandomForestClassifier(20, random_state=0).fit(x[:600], y[:600])
    p, labels = forest.predict_proba(x[600:]), y[600:]
    ruled_out = p[np.arange(len(p)), labels] == 0
    val, test = ~ruled_out & (np.arange(len(p)) % 2 == 0), np.arange(len(p)) % 2 == 1
    assert (p[val] == 0).any()
    assert ruled_out[test].any()

    def nll(log_beta: float) -> float:
        powers = p[val] ** np.exp(log_beta)
        return -np.log(powers[np.arange(len(powers)), labels[val]] / powers.sum(axis=1)).mean()

    arrays = {"val_probabilities": p[val], "val_labels": labels[val]}
    arrays |= {"test_probabilities": p[test], "test_labels": labels[test]}
    found = calibrate_file(saved(tmp_path, **arrays), QUICK)
    fits = {fit["calibrator"]: fit for fit in found.fits}
    best = minimize_scalar(nll, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
    assert fits["exact"]["converged"]
    assert fits["exact"]["beta"] == pytest.approx(np.exp(best.x), rel=1e-6)
    assert fits["exact"]["nll"] == pytest.approx(best.fun, rel=1e-9)
    values = found.metrics.query("split == 'test'").set_index(["calibrator", "metric"])["value"]
    assert np.isposinf([values["none", "nll"], values["exact", "nll"]]).all()  # some test labels have probability 0
    assert 0 < values["exact", "error"] < 0.2
    assert terminal.certificate(fits["paper"]) == "none: its gradient is NaN at logits of -inf"
    with pytest.raises(SpecError, match="val_logits: a logit is -inf; leave out the calibrator top_rest, which"):
        calibrate_file(saved(tmp_path, **arrays), CalibrateSpec(("none", "top_rest")))


def pickled(path):
    np.savez(path, logits=np.array([{}], dtype=object), labels=np.zeros(1, int))


def single(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "mine.npz: no such file"),
        (
            lambda path: (path.unlink(), path.mkdir()),
            r"mine.npz: has no logits\.npy, labels\.npy, .*; pass a file, or a folder with such files",
        ),
        (
            lambda path: path.write_text("a,b\n1,2\n"),
            r"can\'t be read \(.*\); pass an \.npz file",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-40]),
            r"can\'t be read \(.*\); pass an \.npz file",
        ),
        (pickled, r"can\'t be read \(.*\); pass an \.npz file"),
        (single, r"found a single array, expected an \.npz file"),
        (
            lambda path: np.savez(path, logits=np.zeros((1, 2)), labels=np.zeros(1, int)),
            "found 1 row, expected at least two",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused_but_not_to_be_deleted(tmp_path, spoil, told):
    path = saved(tmp_path, logits=np.zeros((4, 2)), labels=np.arange(4) % 2)
    spoil(path)
    with pytest.raises(SpecError, match=told) as caught:
        read_logits(path)
    assert "delete" not in str(caught.value)
    assert "unsafe" not in str(caught.value)


def test_tensors_without_numbers_and_shapes_beyond_memory_are_refused_in_a_line(tmp_path):
    labels = torch.zeros(3, dtype=int)
    for logits in (torch.eye(3).to_sparse(), torch.eye(3, device="meta")):
        torch.save({"logits": logits, "labels": labels}, tmp_path / "mine.pt")
        with pytest.raises(SpecError, match=r"mine\.pt: can't be read \(\w+\); pass a dict of tensors"):
            read_logits(tmp_path / "mine.pt")
    with open(tmp_path / "logits.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**6)})
    with pytest.raises(SpecError, match=r"logits\.npy: can't be read \(\w+\); pass an array of numbers"):
        read_logits(tmp_path)


def test_a_list_of_calibrators_will_do(tmp_path):
    path = saved(tmp_path, **apart())
    found = calibrate_file(path, ["none", "exact"])
    assert set(found.metrics["calibrator"]) == {"none", "exact"}
    with pytest.raises(SpecError, match="calibrators"):
        calibrate_file(path, ["exat"])
