"""Splits, label noise and sources."""

from __future__ import annotations

import importlib
import itertools
import sys

import matplotlib  # noqa: F401  # the loader of photographs imports it, which makes a folder in the home
import numpy as np
import pytest
from PIL import Image

from halobench.core.errors import SpecError
from halobench.core.seeding import generator
from halobench.core.specs.codec import parse
from halobench.core.specs.data import DatasetSpec, NoiseSpec, SourceSpec
from halobench.data import mapped_rows, sources
from halobench.data import splits as splits_
from halobench.data.channel_stats import ChannelStats, FeatureStats
from halobench.data.distribution import draw_labels
from halobench.data.loaders import photos
from halobench.data.mapped_rows import Rows
from halobench.data.splits import noise_transition, split_indices
from halobench.storage import files

KINDS = ["pair_flip", "asymmetric", "uniform"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 10])
def test_transition_rows_are_laws_with_the_stated_mass(kind, classes):
    transition = noise_transition(NoiseSpec(kind, 0.3), classes, np.random.default_rng(0))
    np.testing.assert_allclose(transition.sum(axis=1), 1)
    np.testing.assert_allclose(np.diag(transition), 0.7)
    off = transition[~np.eye(classes, dtype=bool)].reshape(classes, classes - 1)
    expected = np.full(classes, 0.3 / (classes - 1)) if kind == "uniform" else np.full(classes, 0.3)
    np.testing.assert_allclose(off.max(axis=1), expected)


def test_a_cycle_visits_every_class_before_it_returns():
    for seed in range(20):
        transition = noise_transition(NoiseSpec("pair_flip", 0.5), 7, np.random.default_rng(seed))
        partner = (transition - 0.5 * np.eye(7)).argmax(axis=1)
        seen, at = set(), 0
        for _ in range(7):
            seen.add(at)
            at = partner[at]
        assert seen == set(range(7))
        assert at == 0


def test_a_map_may_send_two_classes_to_one_and_favours_none():
    partners = []
    for seed in range(400):
        transition = noise_transition(NoiseSpec("asymmetric", 0.5), 4, np.random.default_rng(seed))
        partners.append((transition - 0.5 * np.eye(4)).argmax(axis=1))
    partners = np.array(partners)
    assert (partners != np.arange(4)).all()
    assert any(len(set(row)) < 4 for row in partners)
    counts = np.bincount(partners[:, 0], minlength=4)[1:]
    assert counts.min() > 400 / 3 * 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_labels_follow_the_transition(kind):
    rng = np.random.default_rng(3)
    transition = noise_transition(NoiseSpec(kind, 0.4), 5, rng)
    clean = np.repeat(np.arange(5), 20000)
    labels = draw_labels(transition, clean, rng)
    counts = np.zeros((5, 5))
    np.add.at(counts, (clean, labels), 1 / 20000)
    np.testing.assert_allclose(counts, transition, atol=0.015)


def test_label_noise_is_independent_between_splits(tmp_path):
    """At p = 1/2, half of the pairs from two splits have both or neither of their labels flipped."""
    sources.write_source(SourceSpec("digits"), tmp_path)
    drawn = splits_.load_data(tmp_path, DatasetSpec("digits", 590, 590, 590, NoiseSpec("uniform", 0.5)), seed=0).splits
    flipped = {name: split.labels != split.clean for name, split in drawn.items()}
    for one, other in itertools.combinations(drawn, 2):
        alike = drawn[one].clean == drawn[other].clean  # equal random numbers would give these equal labels
        same = (flipped[one] == flipped[other])[alike]
        assert same.mean() == pytest.approx(0.5, abs=4 * 0.5 / len(same) ** 0.5)


def test_symmetric_noise_is_called_uniform():
    with pytest.raises(SpecError, match="kind = 'symmetric': expected uniform, "):
        parse(NoiseSpec, {"kind": "symmetric", "p": 0.2})


CONSTANT = np.zeros((60, 4), np.float32)
OUTLIER = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
OUTLIER[7] = 1e30


@pytest.mark.parametrize(("features", "fine"), [(CONSTANT, False), (OUTLIER, False), (OUTLIER[8:], True)])
def test_samples_without_a_neighbour_of_another_label_are_refused(features, fine):
    """Otherwise training would succeed, and a probe would find no training sample of another label."""
    stats = FeatureStats()
    stats.add(features)
    labels = np.arange(len(features)) % 3
    split = splits_.Split(np.arange(len(features)), features, labels, labels)
    data = splits_.Data({"train": split}, 3, (4,), *stats.result(), np.eye(3), source="mine")
    if fine:
        return splits_.check_neighbours(data)
    with pytest.raises(SpecError, match=r"dataset\.source: .*other classes equal a sample of class \d.* in mine"):
        splits_.check_neighbours(data)


def test_splits_are_disjoint_and_keep_to_official_parts():
    spec = DatasetSpec("s", 50, 20, 25)
    free = split_indices(spec, 100, {}, 0)
    assert [len(free[name]) for name in splits_.SPLITS] == [50, 20, 25]
    assert len(np.unique(np.concatenate(list(free.values())))) == 95
    parts = {"train": (0, 70), "test": (70, 100)}
    bound = split_indices(spec, 100, parts, 0)
    assert max(bound["train"].max(), bound["val"].max()) < 70 <= bound["test"].min()
    assert len(np.unique(np.concatenate(list(bound.values())))) == 95


@pytest.mark.parametrize(("size", "blocks"), [(1797, 0), (2599, 0), (2600, 3), (5000, 8), (60_000, 10)])
def test_seeds_share_no_test_sample_nor_train_on_another_seeds_if_the_source_is_large_enough(size, blocks):
    spec = DatasetSpec("s", 1000, 250, 450)
    seeds = [split_indices(spec, size, {}, seed) for seed in range(blocks or 3)]
    tests = np.concatenate([each["test"] for each in seeds])
    for each in seeds:
        assert [len(np.unique(each[name])) for name in splits_.SPLITS] == [1000, 250, 450]
        assert len(np.unique(np.concatenate(list(each.values())))) == 1700
    trained = np.concatenate([each[name] for each in seeds for name in ("train", "val")])
    assert (len(np.unique(tests)) == len(tests)) == (len(np.intersect1d(tests, trained)) == 0) == (blocks > 0)
    assert not np.array_equal(seeds[0]["train"], seeds[1]["train"])
    if blocks:
        after = split_indices(spec, size, {}, blocks)  # as many seeds as blocks: the first one again
        np.testing.assert_array_equal(after["test"], seeds[0]["test"])
        assert not np.array_equal(after["train"], seeds[0]["train"])
    else:  # one permutation cut into splits
        order = generator(1, "split").permutation(size)
        np.testing.assert_array_equal(np.concatenate([*seeds[1].values()]), order[:1700])


@pytest.mark.parametrize("parts", [{}, {"train": (0, 75), "test": (75, 100)}])
def test_seeds_with_blocks_share_the_test_samples_and_no_others(parts):
    """75 samples are enough for three blocks of 25; a fourth seed is refused, before any job if it is in the grid."""
    spec = DatasetSpec("s", 20, 5, 25, blocks=True)
    seeds = [split_indices(spec, 100, parts, seed) for seed in range(3)]
    own = np.concatenate([each[name] for each in seeds for name in ("train", "val")])
    np.testing.assert_array_equal(np.sort(np.concatenate([own, seeds[0]["test"]])), np.arange(100))
    assert {frozenset(each["test"]) for each in seeds} == {frozenset(seeds[0]["test"])}
    for check in (split_indices, splits_.check_size):
        with pytest.raises(SpecError, match=r"seed = 3: expected a seed below 3, since source 's' has so many blocks"):
            check(spec, 100, parts, 3)
    with pytest.raises(SpecError, match="blocks: samples are drawn for each seed anyway"):
        splits_.check_size(spec, None)


def test_validation_samples_come_from_their_own_part_if_there_is_one():
    spec, parts = DatasetSpec("s", 50, 20, 25), {"train": (0, 50), "val": (50, 70), "test": (70, 100)}
    bound = split_indices(spec, 100, parts, 0)
    np.testing.assert_array_equal(np.sort(bound["train"]), np.arange(50))
    np.testing.assert_array_equal(np.sort(bound["val"]), np.arange(50, 70))
    shared = split_indices(spec, 100, {"train": (0, 70), "test": (70, 100)}, 0)
    assert set(shared["val"]) != set(bound["val"])
    for key, wider in (("train", "51"), ("val", "21"), ("test", "31")):
        other = DatasetSpec("s", **{"train": 50, "val": 20, "test": 25, key: int(wider)})
        with pytest.raises(
            SpecError, match=rf"^{key} = {wider}, but the {key} part of source 's' has only \d+ samples"
        ):
            split_indices(other, 100, parts, 0)


def test_a_source_too_small_is_refused_with_both_numbers():
    spec = DatasetSpec("s", 50, 20, 25)
    with pytest.raises(SpecError, match=r"train \+ val \+ test = 95, but source 's' has only 90 samples"):
        split_indices(spec, 90, {}, 0)
    with pytest.raises(SpecError, match=r"test = 25, but the test part of source 's' has only 20 samples"):
        split_indices(spec, 90, {"train": (0, 70), "test": (70, 90)}, 0)


@pytest.mark.parametrize("loader", ["digits", "mnist5k"])
def test_embedded_sources_are_what_they_describe(loader, tmp_path):
    spec = SourceSpec(loader)
    described, images = sources.describe(spec), sources.load_source(spec)
    assert images.images.shape == (described.size, *described.shape)
    assert images.classes == described.classes
    assert np.bincount(images.labels).min() > 100
    assert images.images.min() == 0
    assert images.images.max() == 255
    sources.write_source(spec, tmp_path)
    loaded = splits_.load_data(tmp_path, DatasetSpec("s", 500, 100, 100, NoiseSpec("pair_flip", 0.5)), seed=0)
    clean = splits_.load_data(tmp_path, DatasetSpec("s", 500, 100, 100), seed=0)
    np.testing.assert_array_equal(loaded.splits["train"].index, clean.splits["train"].index)
    np.testing.assert_array_equal(loaded.splits["train"].clean, clean.splits["train"].labels)
    assert 0.4 < (loaded.splits["train"].labels == loaded.splits["train"].clean).mean() < 0.6
    np.testing.assert_array_equal(images.images[loaded.splits["val"].index], loaded.splits["val"].images)
    inputs = np.concatenate([clean.inputs(name) for name in splits_.SPLITS])
    assert abs(inputs.mean()) < 0.05
    assert abs(inputs.std() - 1) < 0.05
    other = splits_.load_data(tmp_path, DatasetSpec("s", 500, 100, 100), seed=1)
    assert (other.splits["train"].index != clean.splits["train"].index).any()


def test_channel_moments_match_numpy_in_blocks(monkeypatch):
    monkeypatch.setattr("halobench.data.channel_stats.BLOCK", 3 * 60)  # three images
    images = np.random.default_rng(0).integers(256, size=(50, 3, 4, 5), dtype=np.uint8)
    images[:, 2] = 7
    moments = ChannelStats(3)
    for start in range(0, 50, 7):
        moments.add(images[start : start + 7])
    mean, std = moments.result()
    np.testing.assert_allclose(mean, images.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(std[:2], images.std(axis=(0, 2, 3))[:2])
    assert std[2] == 1


def mapped(folder, count=40):
    """A memory-mapped array of bytes (count, 3, 4, 5)."""
    np.save(folder / "a.npy", np.random.default_rng(1).integers(256, size=(count, 3, 4, 5), dtype=np.uint8))
    return np.load(folder / "a.npy", mmap_mode="r")


def test_rows_are_read_as_an_array_would_give_them(tmp_path):
    array = mapped(tmp_path)
    index = np.random.default_rng(2).permutation(40)[:17]
    rows, whole = Rows(array, index), array[index]
    assert (len(rows), rows.shape, rows.dtype) == (17, (17, 3, 4, 5), np.uint8)
    for key in (slice(3, 9), slice(None, None, -2), np.array([16, 2]), whole[:, 0, 0, 0] > 99, np.zeros(0, int)):
        assert type(rows[key]) is np.ndarray
        np.testing.assert_array_equal(rows[key], whole[key])
    np.testing.assert_array_equal(np.asarray(rows), whole)
    assert np.asarray(rows, dtype=np.float32).dtype == np.float32
    mean, std = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    scale = (1 / std).astype(np.float32)[:, None, None]
    expected = (whole.astype(np.float32) - mean.astype(np.float32)[:, None, None]) * scale
    np.testing.assert_array_equal(mapped_rows.normalise(rows, mean, std), expected)
    np.testing.assert_array_equal(mapped_rows.normalise(whole, mean, std), expected)


def test_a_large_split_is_left_on_disk_and_gives_the_same(tmp_path, monkeypatch):
    sources.write_source(SourceSpec("digits"), tmp_path)
    spec = DatasetSpec("s", 500, 100, 100, NoiseSpec("pair_flip", 0.5))
    held = splits_.load_data(tmp_path, spec, seed=3)
    monkeypatch.setattr(splits_, "COPIED", 100 * 64)
    left = splits_.load_data(tmp_path, spec, seed=3)
    assert [type(left.splits[name].images).__name__ for name in splits_.SPLITS] == ["Rows", "ndarray", "ndarray"]
    for name in splits_.SPLITS:
        np.testing.assert_array_equal(held.inputs(name), left.inputs(name))
        np.testing.assert_array_equal(held.splits[name].labels, left.splits[name].labels)


BLOCKS = """
import numpy as np
from halobench.data.sources import Description, Images

class Blocks:
    dtype = np.dtype(np.uint8)
    shape = (40, 3, 2, 2)
    asked = []

    def __len__(self):
        return 40

    def __getitem__(self, rows):
        self.asked.append((rows.start, min(rows.stop, 40)))
        rng = np.random.default_rng(0)
        return rng.integers(256, size=self.shape, dtype=np.uint8)[rows]

class Torn(Blocks):
    def __getitem__(self, rows):
        if rows.start:
            raise OSError("the disk is gone")
        return super().__getitem__(rows)

class Short(Blocks):
    def __getitem__(self, rows):
        return super().__getitem__(rows)[1:]

def describe(*, kind="Blocks", names=()):
    return Description((3, 2, 2), 2, 40, {"train": (0, 17), "test": (17, 40)})

def load(*, kind="Blocks", names=()):
    parts = {"train": (0, 17), "test": (17, 40)}
    return Images(globals()[kind](), np.arange(40) % 2, 2, parts, tuple(names))
"""


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    """The module of a loader that returns blocks: twelve bytes per image, five images at a time."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "in_blocks.py").write_text(BLOCKS)
    monkeypatch.setattr("halobench.data.sources.BLOCK", 60)
    monkeypatch.delitem(sys.modules, "in_blocks", raising=False)
    return importlib.import_module("in_blocks")


def test_blocks_are_written_as_the_whole_array_would_be(tmp_path, blocks, monkeypatch, capsys):
    monkeypatch.setattr("halobench.data.sources.REPORT_EVERY", 0.0)
    whole = np.random.default_rng(0).integers(256, size=(40, 3, 2, 2), dtype=np.uint8)
    spec = SourceSpec("in_blocks:load", {"names": ["no", "yes"]})
    paths = sources.write_source(spec, tmp_path / "source")
    assert blocks.Blocks.asked == [(start, min(start + 5, 40)) for start in range(0, 40, 5)]  # each row once, in order
    assert capsys.readouterr().out.splitlines()[-1] == "40 of 40 images, 0 min left"
    np.save(tmp_path / "whole.npy", whole)
    assert paths[0].read_bytes() == (tmp_path / "whole.npy").read_bytes()
    meta = files.read_json(paths[2])
    assert meta["names"] == ["no", "yes"]
    np.testing.assert_allclose(meta["mean"], whole[:17].mean(axis=(0, 2, 3)))  # over the train part
    np.testing.assert_allclose(meta["std"], whole[:17].std(axis=(0, 2, 3)))
    paths[0].unlink()
    splits = splits_.load_data(tmp_path / "source", DatasetSpec("s", 12, 5, 23), 0).splits
    assert paths[0].read_bytes() == (tmp_path / "whole.npy").read_bytes()
    np.testing.assert_array_equal(splits["test"].images, whole[splits["test"].index])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"kind": "Torn"}, r"raised OSError: the disk is gone"),
        ({"kind": "Short"}, r"must return uint8 \(5, 3, 2, 2\) for images\[0:\d+\], not uint8 \(4, 3, 2, 2\)"),
        ({"names": ["one"]}, "must return 2 class names or none, not 1"),
    ],
)
def test_bad_blocks_are_named_and_leave_nothing(tmp_path, blocks, options, line):
    with pytest.raises(SpecError, match=rf"loader: in_blocks:load {line}"):
        sources.write_source(SourceSpec("in_blocks:load", options), tmp_path / "source")
    assert not [path for path in (tmp_path / "source").rglob("*") if path.is_file()]


GIVEN = """
import numpy as np
from halobench.data.sources import Description, Images

PARTS = {"train": (0, 4), "test": (4, 6)}

def describe(*, kind, parts=PARTS):
    return Description((3,), 2, 6, parts)

def load(*, kind, parts=PARTS):
    features, posterior = np.arange(18.0).reshape(6, 3), np.full((6, 2), 0.5)
    if kind == "whole":
        features = features.astype(int)
    if kind == "cube":
        features = features.reshape(6, 3, 1)
    if kind == "infinite":
        features[4, 1] = 1e39  # finite, but not as float32
    if kind == "sums":
        posterior[3] = 0.25, 0.5
    if kind == "partial":
        posterior[:3] = np.nan
    if kind == "votes":
        posterior = np.ones((6, 2), int)
    return Images(features, np.arange(6) % 2, 2, parts, posterior=posterior)
"""


@pytest.fixture
def given(tmp_path, monkeypatch):
    """The file of a loader of six samples with features and a posterior."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "given", raising=False)
    (tmp_path / "given.py").write_text(GIVEN)
    return tmp_path / "given.py"


PARTS = r"must have train, test and optionally val parts that are disjoint ranges of the 6 rows, not "


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"kind": "whole"},
            r"must return uint8 images \(N, C, H, W\) or float32 features \(N, D\), .* returned int64 \(6, 3\) and",
        ),
        ({"kind": "cube"}, r"must return uint8 images .* returned float64 \(6, 3, 1\) and"),
        ({"kind": "infinite"}, r"must return features that are finite in float32, unlike row 4$"),
        (
            {"kind": "sums"},
            r"must return a posterior whose rows are probabilities that sum to 1, unlike row 3, \[0\.25, 0\.5\]",
        ),
        ({"kind": "partial"}, "must return a posterior for all or none of the train part, not for 1 of 4"),
        ({"kind": "partial", "parts": {}}, "must return a posterior for all or none of the only part, not for 3 of 6"),
        ({"kind": "votes"}, r"must return a floating-point posterior of shape \(6, 2\), but returned int64 \(6, 2\)"),
        ({"kind": "", "parts": {"train": [0, 6]}}, PARTS),
        ({"kind": "", "parts": {"train": [0, 4], "test": [3, 6]}}, PARTS),
        ({"kind": "", "parts": {"train": [0, 2], "test": [3, 6], "val": [2, 2]}}, PARTS),
        ({"kind": "", "parts": {"train": [0, 2], "test": [3, 6], "calibration": [2, 3]}}, PARTS),
    ],
)
@pytest.mark.usefixtures("given")
def test_bad_features_parts_and_posteriors_are_named(tmp_path, options, line):
    with pytest.raises(SpecError, match=f"loader: given:load {line}"):
        sources.write_source(SourceSpec("given:load", options), tmp_path / "source")
    assert not (tmp_path / "source/meta.json").exists()


def test_a_source_that_loses_its_posterior_keeps_none(tmp_path, given, monkeypatch):
    sources.write_source(SourceSpec("given:load", {"kind": ""}), tmp_path / "source")
    data = splits_.load_data(tmp_path / "source", DatasetSpec("s", 2, 2, 2), 0)
    assert set(data.targets()) >= {f"{name}.posterior" for name in splits_.SPLITS}
    given.write_text(GIVEN.replace(", posterior=posterior", ""))
    monkeypatch.delitem(sys.modules, "given")
    sources.write_source(SourceSpec("given:load", {"kind": ""}), tmp_path / "source")
    data = splits_.load_data(tmp_path / "source", DatasetSpec("s", 2, 2, 2), 0)
    assert not [name for name in data.targets() if name.endswith(".posterior")]
    assert not (tmp_path / "source/posterior.npy").exists()


def test_only_a_distribution_may_leave_its_size_open(blocks, monkeypatch):
    monkeypatch.setattr(blocks, "describe", lambda: sources.Description((3, 2, 2), 2, None))
    line = r"loader: in_blocks:load must describe images .* returned size None, shape \(3, 2, 2\), classes 2$"
    with pytest.raises(SpecError, match=line):
        sources.describe(SourceSpec("in_blocks:load"))


def test_of_a_large_array_the_size_counts_alone(tmp_path, monkeypatch):
    images = sources.write_source(SourceSpec("digits"), tmp_path)[0]
    sound = images.read_bytes()
    images.write_bytes(sound[:-1] + b"x")
    spec = DatasetSpec("s", 100, 10, 10)
    with pytest.raises(SpecError, match=r"the content recorded in meta\.json"):
        splits_.load_data(tmp_path, spec, 0)
    monkeypatch.setattr("halobench.data.written_sources.HASHED", len(sound) - 1)
    splits_.load_data(tmp_path, spec, 0)
    for bad in (sound[:-1], sound + b"x"):
        images.write_bytes(bad)
        with pytest.raises(SpecError, match=r"images\.npy"):
            splits_.load_data(tmp_path, spec, 0)


CHANGING = """
import numpy as np
from pathlib import Path
from halobench.data.sources import Description, Images

def describe():
    return Description((1, 2, 2), 2, 40)

def load():
    value = int((Path(__file__).parent / "value").read_text())
    return Images(np.full((40, 1, 2, 2), value, np.uint8), np.arange(40) % 2, 2)
"""


def test_lost_arrays_are_loaded_again_and_only_as_they_were(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "changing.py").write_text(CHANGING)
    (tmp_path / "value").write_text("3")
    folder = tmp_path / "source"
    paths = sources.write_source(SourceSpec("changing:load"), folder)
    before = [path.read_bytes() for path in paths]
    spec = DatasetSpec("s", 20, 10, 10)
    for lost in (paths[:1], paths[1:2], paths[:2]):
        for path in lost:
            path.unlink()
        splits_.load_data(folder, spec, 0)
        assert [path.read_bytes() for path in paths] == before
        assert f"reloading {' and '.join(path.name for path in lost)}" in capsys.readouterr().out
    (tmp_path / "value").write_text("4")
    paths[0].unlink()
    with pytest.raises(SpecError, match=r"images\.npy: the source now has other contents .* delete .*meta\.json"):
        splits_.load_data(folder, spec, 0)
    assert sorted(path.name for path in folder.iterdir()) == ["labels.npy", "meta.json"]


def test_photos_are_patches_in_rows():
    """The patches of a class reassemble into its photograph."""
    from sklearn.datasets import load_sample_image

    found = photos.load(side=20)
    described = photos.describe(side=20)
    assert found.images.shape == (described.size, *described.shape)
    first = found.images[found.labels == 0].reshape(21, 32, 3, 20, 20)
    whole = first.transpose(0, 3, 1, 4, 2).reshape(420, 640, 3)
    np.testing.assert_array_equal(whole, load_sample_image("china.jpg")[:420])
    with pytest.raises(SpecError, match="side = 3: expected 4 to 100 pixels"):
        photos.describe(side=3)
    every, some = photos.load(side=8), photos.load(side=8, contrast=20)
    kept = every.images.std(axis=(2, 3)).mean(axis=1) >= 20
    np.testing.assert_array_equal(some.images, every.images[kept])
    assert (len(some.images), 3) == (photos.describe(side=8, contrast=20).size, some.classes)
    with pytest.raises(
        SpecError, match=r"contrast = 200: expected a lower value, since only 0 patches .* at least 50 must"
    ):
        photos.describe(contrast=200)


# --- Photographs with ImageNet's labels ------------------------------------------------------------------


def test_photographs_with_imagenets_labels_are_cut_to_crops_and_mirrored(tmp_path, monkeypatch):
    """scikit-image's photographs are replaced with noise, since it needn't be installed."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "skimage", raising=False)
    (tmp_path / "skimage/data").mkdir(parents=True)
    (tmp_path / "skimage/__init__.py").write_text("raise ImportError('imported, though only its files are needed')")
    spec = SourceSpec("imagenet_photos", {"side": 90})
    with pytest.raises(SpecError, match=r"loader: the photograph .*camera.png is missing; install .*scikit-image"):
        sources.describe(spec)
    drawn = np.random.default_rng(0).integers(0, 256, (100, 160), np.uint8)
    for name in ("camera", "coffee"):
        Image.fromarray(drawn).save(tmp_path / f"skimage/data/{name}.png")
    loaded = sources.load_source(spec)
    assert sources.describe(spec).size == len(loaded.images) == 144
    np.testing.assert_array_equal(loaded.labels, np.repeat([872, 967, 698, 652], 36))
    np.testing.assert_array_equal(loaded.images[1::2], loaded.images[::2, :, :, ::-1])
    # The first nine crops, of 90 x 90 pixels, aren't scaled.
    for crop, (top, left) in enumerate((y, x) for y in (0, 5, 10) for x in (0, 35, 70)):
        expected = np.broadcast_to(drawn[top : top + 90, left : left + 90], (3, 90, 90))
        np.testing.assert_array_equal(loaded.images[2 * crop], expected)
