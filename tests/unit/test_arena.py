"""CalArena's layout: what is read, and what is said of each pair."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from halobench import arena
from halobench.core.errors import SpecError
from halobench.core.extras import MissingExtraError

h5py = pytest.importorskip("h5py")


def pair(seed: int, k: int = 3, n: int = 300, temperature: float = 2.0) -> dict[str, np.ndarray]:
    """Predictions that are overconfident by this temperature."""
    rng, arrays = np.random.default_rng(seed), {}
    for split in ("cal", "test"):
        logits = rng.normal(size=(n, k))
        scaled = np.exp(temperature * logits)
        arrays[f"probas_{split}"] = scaled / scaled.sum(axis=1, keepdims=True)
        arrays[f"labels_{split}"] = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return arrays


def written(path: Path, **pairs: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for name, arrays in pairs.items():
            for key, array in arrays.items():
                file[f"{name.replace('_', '/')}/{key}"] = array
    return path


def nll(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def test_each_pair_is_compared_and_only_separable_sets_have_no_temperature(tmp_path):
    plain, separable = pair(0), pair(1)
    separable["labels_cal"] = separable["probas_cal"].argmax(axis=1)
    table = arena.compare(written(tmp_path / "a.h5", d_plain=plain, d_right=separable)).set_index("model")
    assert list(table["dataset"]) == ["d", "d"]
    row = table.loc["plain"]
    assert row["uncalibrated"] == pytest.approx(nll(plain["probas_test"], plain["labels_test"]))
    powers = plain["probas_test"] ** (1 / row["T"])
    assert row["exact"] == pytest.approx(
        nll(powers / powers.sum(axis=1, keepdims=True), plain["labels_test"]), abs=1e-9
    )
    assert row["T"] == pytest.approx(2, rel=0.2)
    assert row["exact"] < row["uncalibrated"]
    assert table.loc["right", "note"] == "separable: no temperature is optimal"
    assert math.isnan(table.loc["right", "T"])
    assert math.isnan(table.loc["right", "exact"])


def test_a_binary_column_is_the_second_class_and_zeros_get_a_floor(tmp_path):
    two = pair(2, k=2)
    column = two | {f"probas_{split}": two[f"probas_{split}"][:, 1] for split in ("cal", "test")}
    zeros = pair(3)
    zeros["probas_test"][:5] = [1.0, 0.0, 0.0]
    zeros["labels_test"][:5] = 2
    table = arena.compare(written(tmp_path / "a.h5", d_column=column, d_two=two, d_zeros=zeros), ["matrix"])
    rows = table.set_index("model")
    np.testing.assert_allclose(*(rows.loc[name, ["exact", "T", "matrix"]].astype(float) for name in ("column", "two")))
    assert rows.loc["zeros", "exact"] < rows.loc["zeros", "uncalibrated"] - 0.1, "by 5 labels of 300 with 1e-12"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels_cal": None}, r"d/m/labels_cal: missing; add this array"),
        ({"labels_test": np.array([7, 0])}, r"d/m/labels_test"),
        ({"probas_cal": np.full((300, 3), 2.0)}, r"d/m/probas_cal"),
        ({"probas_test": np.full((300, 4), 0.25)}, r"d/m/probas_test = \(300, 4\): expected 3 columns"),
    ],
)
def test_bad_arrays_are_named(tmp_path, change, said):
    arrays = {key: array for key, array in (pair(0) | change).items() if array is not None}
    path = written(tmp_path / "a.h5", d_m=arrays)
    with pytest.raises(SpecError, match=said):
        list(arena.read(path))


def test_files_that_are_not_of_this_layout_are_named(tmp_path):
    (tmp_path / "text.h5").write_text("no")
    written(tmp_path / "flat.h5", flat={"x": np.zeros(2)})
    with h5py.File(written(tmp_path / "link.h5", d_m=pair(0)), "a") as file:
        del file["d/m/labels_cal"]
        file["d/m/labels_cal"] = h5py.SoftLink("/nowhere")
        file["broken"] = h5py.ExternalLink("nowhere.h5", "/")
    for name, said in (
        ("gone", "no such file"),
        ("text", "can't be opened as HDF5"),
        ("flat", "x/probas_cal: missing"),
        ("link", r"d/m: can't be read as probas_cal and labels_cal \(KeyError"),
    ):
        with pytest.raises(SpecError, match=said):
            list(arena.read(tmp_path / f"{name}.h5"))


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"^CalArena's files need h5py: pip install \"halobench\[arena\]\"$"):
        next(arena.read(tmp_path / "pairs.h5"))
