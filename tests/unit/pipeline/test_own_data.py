"""A user's data through all stages: float features, a validation part and a posterior, checked independently."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

from halobench import open_cell
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.storage import arrays_io

MODULE = """
import numpy as np
from sklearn.datasets import load_wine
from torch import nn

from halobench import Description, Images

PARTS = {"val": (0, 40), "train": (40, 130), "test": (130, 178)}
ORDER = np.random.default_rng(5).permutation(178)


def describe():
    return Description((13,), 3, 178, PARTS)


def load():
    '''Wines, with what a rule of two measurements says of those that nobody trains on.'''
    wine = load_wine()
    features = wine.data[ORDER]
    odds = np.exp(np.stack([features[:, 0] - 13, features[:, 6] - 2, np.zeros(178)], axis=1))
    posterior = odds / odds.sum(axis=1, keepdims=True)
    posterior[slice(*PARTS["train"])] = np.nan
    return Images(features, wine.target[ORDER], 3, PARTS, tuple(wine.target_names), posterior)


def linear(input_shape, classes):
    return nn.LazyLinear(classes)  # takes (n, 13)
"""
DATASET = {"source": "wine", "train": 80, "val": 40, "test": 45, "noise": {"kind": "uniform", "p": 0.2}}
TRAIN = {"epochs": 12, "warmup": 0, "lr": 0.05, "batch": 16}
PROBES = {
    "nearest_other": {"kind": "nearest_other", "points": 60, "control": 0, "radii": [1.0], "bisections": 20},
    "manifold": {"kind": "manifold", "points": 5, "control": 0, "radii": [1.0], "relative_radii": [1.0]},
}
CALIBRATE = {"calibrators": ["none", "exact", "oracle"], "draws": 10, "floor_draws": 10}


def run(stage: str, **arguments) -> None:
    plugins.load("stages", stage)(**arguments)


def source_of(cell: Path) -> Path:
    return cell.parents[4] / "sources/wine"


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """The folder of a cell of such a source after all its stages; its data set's references are also computed."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_wine.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    try:
        source, out = folder / "sources/wine", folder / "runs/wine/linear/cross_entropy/seed0"
        run("source", spec={"loader": "own_wine:load"}, out=source)
        parts = {"dataset": DATASET, "model": {"name": "own_wine:linear"}, "train": TRAIN}
        run("train", spec=parts | {"loss": {"name": "cross_entropy"}}, source=source, seed=0, out=out)
        run("probe", spec=parts | {"train": {}, "probes": PROBES}, source=source, seed=0, folder=out)
        run("calibrate", spec=CALIBRATE, seed=0, folder=out)
        specs = {"dataset": DATASET, "calibrate": CALIBRATE}
        run("reference", spec=specs, source=source, seed=0, out=folder / "references")
        yield out
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("own_wine", None)


@pytest.fixture(scope="module")
def wine():
    """Raw features in the loader's order, labels and the rule's posterior, recomputed here."""
    order = np.random.default_rng(5).permutation(178)
    raw = load_wine().data[order]
    posterior = softmax(np.stack([raw[:, 0] - 13, raw[:, 6] - 2, np.zeros(178)], axis=1), axis=1)
    return raw, load_wine().target[order], posterior


def standardised(raw):
    """The features standardised by the source's train part."""
    return StandardScaler().fit(raw[40:130].astype(np.float32)).transform(raw)


def test_features_are_kept_and_standardised_by_the_train_part(cell, wine):
    raw, labels, _ = wine
    source = cell.parents[4] / "sources/wine"
    np.testing.assert_array_equal(np.load(source / "images.npy"), raw.astype(np.float32))
    data = open_cell(cell).data
    train = raw[40:130].astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(data.mean, train.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.std, train.std(axis=0), rtol=1e-12)
    for name, (start, stop), count in (("train", (40, 130), 80), ("val", (0, 40), 40), ("test", (130, 178), 45)):
        split = data.splits[name]
        assert len(set(split.index)) == count
        assert start <= split.index.min() <= split.index.max() < stop
        np.testing.assert_array_equal(split.clean, labels[split.index])
        np.testing.assert_allclose(data.inputs(name), standardised(raw)[split.index], atol=1e-5)


def test_logits_are_those_of_a_plain_linear_model(cell, wine):
    opened = open_cell(cell)
    weights = {name: tensor.numpy() for name, tensor in opened.model.state_dict().items()}
    for name, split in opened.data.splits.items():
        expected = standardised(wine[0])[split.index] @ weights["weight"].T + weights["bias"]
        np.testing.assert_allclose(opened.logits[f"{name}.logits"], expected, atol=1e-4)
    assert json.loads((cell / "train.json").read_text())["train_accuracy"] > 0.6  # of noisy labels


def test_logits_open_without_the_source(cell, tmp_path):
    alone = open_cell(shutil.copytree(cell, tmp_path / "results/runs/wine/linear/cross_entropy/seed0"))
    np.testing.assert_array_equal(alone.logits["val.logits"], open_cell(cell).logits["val.logits"])
    with pytest.raises(SpecError, match=r"sources/wine"):
        _ = alone.model


def test_radii_are_distances_between_standardised_features(cell, wine):
    """For a linear model, where each other class overtakes the label on a ray is known in closed form."""
    opened, inputs = open_cell(cell), standardised(wine[0])
    radii = pd.read_parquet(cell / "radii.parquet").query("probe == 'nearest_other' and quantity == 'decision'")
    train = opened.data.splits["train"]
    label = dict(zip(train.index, train.labels, strict=True))
    weights = {name: tensor.double().numpy() for name, tensor in opened.model.state_dict().items()}
    ended = 0
    for row in radii.itertuples():
        others = train.index[train.labels != label[row.point]]
        distances = cdist(inputs[[row.point]], inputs[others])[0]
        nearest = others[distances.argmin()]
        assert row.other_distance == pytest.approx(distances.min(), rel=1e-5)
        way = (inputs[nearest] - inputs[row.point]) / distances.min()
        logits, slopes = weights["weight"] @ inputs[row.point] + weights["bias"], weights["weight"] @ way
        gaps, closing = logits[label[row.point]] - logits, slopes - slopes[label[row.point]]
        meets = [gaps[j] / closing[j] for j in range(3) if j != label[row.point] and closing[j] > 0 and gaps[j] > 0]
        if not row.censored and (np.delete(gaps, label[row.point]) > 0).all():
            assert row.radius == pytest.approx(min(meets), rel=1e-3, abs=1e-4)
            ended += 1
    assert ended >= 15


def nll(logits, rows):
    """Mean cross entropy of logits against rows of probabilities."""
    return -(rows * log_softmax(logits, axis=1)).sum(axis=1).mean()


def test_scores_are_expectations_under_the_posterior_with_the_noise(cell, wine):
    opened = open_cell(cell)
    noise = 0.8 * np.eye(3) + 0.1 * (1 - np.eye(3))
    rows = {name: wine[2][opened.data.splits[name].index] @ noise for name in ("val", "test")}
    logits = {name: opened.logits[f"{name}.logits"].astype(np.float64) for name in ("val", "test")}
    drawn = np.eye(3)[opened.logits["val.labels"]]
    exact = minimize_scalar(lambda beta: nll(beta * logits["val"], drawn), bounds=(0.01, 10), options={"xatol": 1e-10})
    oracle = minimize_scalar(lambda beta: nll(beta * logits["test"], rows["test"]), bounds=(0.001, 10))
    table = (
        pd.read_csv(cell / "metrics.csv").set_index(["split", "labels", "calibrator", "metric"])["value"].sort_index()
    )
    for split in ("val", "test"):
        entropy = -(rows[split] * np.log(rows[split])).sum(axis=1).mean()
        for calibrator, beta in (("none", 1.0), ("exact", exact.x)):
            found = table[split, "noisy", calibrator]
            probabilities = softmax(beta * logits[split], axis=1)
            expected = nll(beta * logits[split], rows[split])
            assert found["nll"] == pytest.approx(expected, abs=1e-6)
            assert found["kl"] == pytest.approx(expected - entropy, abs=1e-6)
            top = probabilities.argmax(axis=1)
            hit = rows[split][np.arange(len(top)), top]
            assert found["error"] == pytest.approx(1 - hit.mean(), abs=1e-9)
            bins = np.clip(np.ceil(probabilities.max(axis=1) * 15).astype(int) - 1, 0, 14)
            gaps = [abs((probabilities.max(axis=1) - hit)[bins == each].sum()) for each in range(15)]
            assert found["ece"] == pytest.approx(sum(gaps) / len(top), abs=1e-6)
    assert table["test", "noisy", "oracle", "nll"] == pytest.approx(oracle.fun, abs=1e-8)
    references = pd.read_csv(cell.parents[4] / "references/metrics.csv")
    bayes = references.query("model == 'bayes' and split == 'test' and labels == 'noisy'").set_index("metric")["value"]
    assert bayes["nll"] == pytest.approx(-(rows["test"] * np.log(rows["test"])).sum(axis=1).mean(), abs=1e-9)
    assert bayes["kl"] == pytest.approx(0, abs=1e-9)


def test_where_no_posterior_is_known_the_label_is_certain_but_for_the_noise(cell):
    opened = open_cell(cell)
    assert "train.posterior" not in opened.logits
    noise = 0.8 * np.eye(3) + 0.1 * (1 - np.eye(3))
    np.testing.assert_allclose(opened.data.posterior("train"), noise[opened.data.splits["train"].clean])


@pytest.mark.parametrize(
    ("part", "value", "line"),
    [
        ("model", {"name": "timm/resnet18"}, "name = 'timm/resnet18': expected a model that takes features"),
        ("loss", {"name": "cutmix"}, r"inputs: found shape \(16, 13\), expected images \(n, C, H, W\)"),
        ("train", {"channels_last": True}, "train.channels_last: the samples aren't images; leave this key out"),
    ],
)
def test_what_is_for_images_alone_is_refused_by_the_job(cell, tmp_path, part, value, line):
    parts = {"dataset": DATASET, "model": {"name": "mlp"}, "loss": {"name": "cross_entropy"}, "train": {"batch": 16}}
    with pytest.raises(SpecError, match=line):
        run("train", spec=parts | {part: parts[part] | value}, source=source_of(cell), seed=0, out=tmp_path)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("model", ["linear", "mlp", "mlp_bn", "nearest", "attention"])
def test_built_in_models_and_mixup_take_features(cell, tmp_path, model):
    parts = {"dataset": DATASET, "model": {"name": model}, "loss": {"name": "regmixup"}, "train": TRAIN}
    run("train", spec=parts, source=source_of(cell), seed=0, out=tmp_path)
    assert torch.isfinite(torch.from_numpy(arrays_io.read_arrays(tmp_path / "logits.safetensors")["test.logits"])).all()
