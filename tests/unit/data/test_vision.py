"""Sets in torchvision's layout: real files of each format, small, with their checksums in place of the published."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib
import io
import os
import pickle
import shutil
import struct
import tarfile
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torchvision
from scipy.io import savemat

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs import DatasetSpec, NoiseSpec, SourceSpec
from halobench.data import data_root, sources, torchvision_files
from halobench.data.splits import load_data
from halobench.experiment.config_loader import load_config
from halobench.runner import cluster_run
from halobench.storage import files as store

pytestmark = pytest.mark.paper

TRAIN, TEST = 40, 20
IDX = ("mnist", "fashion_mnist", "kmnist")
BATCHES = ("cifar10", "cifar100")
SETS = (*IDX, *BATCHES, "svhn")
REAL = {"mnist": (60_000, 10_000), "cifar10": (50_000, 10_000), "svhn": (73_257, 26_032)}


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote its strings, which is how CIFAR was written."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def pickled(value: object) -> bytes:
    out = io.BytesIO()
    Python2Pickler(out, protocol=2).dump(value)
    return out.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def drawn(spec: torchvision_files.VisionSet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels of both parts; every class is there."""
    rng = np.random.default_rng(len(spec.title))
    found = {}
    for part, count in (("train", spec.train), ("test", spec.test)):
        images = rng.integers(256, size=(count, *spec.shape), dtype=np.uint8)
        found[part] = images, rng.permutation(np.arange(count) % spec.classes).astype(np.uint8)
    return found


def write_idx(spec, published, folder, drawn, monkeypatch):
    folder = folder / spec.published / "raw"
    folder.mkdir(parents=True)
    known = []
    for name, _ in published.resources:
        images, labels = drawn["train" if name.startswith("train") else "test"]
        content = gzip.compress(idx(images[:, 0] if "images" in name else labels))
        (folder / name).write_bytes(content)
        (folder / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
        known.append((name, md5(content)))
    monkeypatch.setattr(published, "resources", known)


def write_batches(spec, published, folder, drawn, monkeypatch):
    """The archive beside the folder that it is unpacked to."""
    fine = "fine_labels" if spec.classes == 100 else "labels"
    files, lists = {}, {}
    for part, name in (("train", "train_list"), ("test", "test_list")):
        listed = getattr(published, name)
        images, labels = (np.array_split(array, len(listed)) for array in drawn[part])
        for (file, _), pixels, some in zip(listed, images, labels, strict=True):
            batch = {"batch_label": f"{part} batch", fine: some.tolist(), "data": pixels.reshape(len(pixels), -1)}
            batch |= {"coarse_labels": [0] * len(some)} if spec.classes == 100 else {}
            files[file] = pickled(batch | {"filenames": [f"{i}.png" for i in range(len(some))]})
        lists[name] = [[file, md5(files[file])] for file, _ in listed]
    meta = published.meta
    files[meta["filename"]] = pickled({meta["key"]: [f"class {i}" for i in range(spec.classes)]})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for file, content in files.items():
            entry = tarfile.TarInfo(f"{published.base_folder}/{file}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    (folder / published.filename).write_bytes(packed.getvalue())
    (folder / published.base_folder).mkdir()
    for file, content in files.items():
        (folder / published.base_folder / file).write_bytes(content)
    lists["meta"] = meta | {"md5": md5(files[meta["filename"]])}
    lists["tgz_md5"] = md5(packed.getvalue())
    for name, value in lists.items():
        monkeypatch.setattr(published, name, value)


def write_mat(spec, published, folder, drawn, monkeypatch):
    known = dict(published.split_list)
    for part, (images, labels) in drawn.items():
        address, name, _ = known[part]
        labels = np.where(labels == 0, 10, labels)[:, None]
        savemat(folder / name, {"X": images.transpose(2, 3, 1, 0), "y": labels}, do_compression=True)
        known[part] = [address, name, md5((folder / name).read_bytes())]
    monkeypatch.setattr(published, "split_list", known)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """An empty data root; nothing can be fetched."""

    def refuse(*arguments, **options):
        raise urllib.error.URLError("no route")

    folder = tmp_path / "data"
    monkeypatch.setenv(data_root.ROOT, str(folder))
    monkeypatch.delenv(data_root.FETCH, raising=False)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return folder


def made(name: str, folder: Path, monkeypatch) -> tuple[torchvision_files.VisionSet, dict]:
    """A set, small, on disk and published; and what was drawn for it."""
    module = importlib.import_module(f"halobench.data.loaders.{name}")
    classes = module.SET.classes
    spec = dataclasses.replace(module.SET, train=max(TRAIN, 2 * classes), test=max(TEST, classes))
    monkeypatch.setattr(module, "SET", spec)
    write = {
        torchvision_files.IdxSet: write_idx,
        torchvision_files.BatchesSet: write_batches,
        torchvision_files.MatSet: write_mat,
    }[type(spec)]
    folder.mkdir(exist_ok=True)
    parts = drawn(spec)
    write(spec, getattr(torchvision.datasets, spec.published), folder, parts, monkeypatch)
    return spec, parts


@pytest.mark.parametrize("name", SETS)
def test_images_and_labels_come_as_written_and_as_torchvision_reads_them(name, place, tmp_path, monkeypatch):
    spec, parts = made(name, place, monkeypatch)
    loaded = sources.load_source(SourceSpec(name))
    assert loaded.parts == {"train": (0, spec.train), "test": (spec.train, spec.train + spec.test)}
    np.testing.assert_array_equal(loaded.images, np.concatenate([images for images, _ in parts.values()]))
    np.testing.assert_array_equal(loaded.labels, np.concatenate([labels for _, labels in parts.values()]))
    cls = getattr(torchvision.datasets, spec.published)
    for part, (start, stop) in loaded.parts.items():
        theirs = cls(place, split=part) if name == "svhn" else cls(place, train=part == "train")
        pixels = np.stack([np.asarray(image) for image, _ in theirs]).reshape(stop - start, *spec.shape[1:], -1)
        np.testing.assert_array_equal(loaded.images[start:stop], pixels.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(loaded.labels[start:stop], [label for _, label in theirs])
        assert loaded.names == tuple(getattr(theirs, "classes", map(str, range(10))))
    for folder in ("a", "b"):
        sources.write_source(SourceSpec(name), tmp_path / folder)
    for file in ("images.npy", "labels.npy", "meta.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    meta = store.read_json(tmp_path / "a/meta.json")
    assert tuple(meta["names"]) == loaded.names
    np.testing.assert_allclose(meta["mean"], parts["train"][0].mean(axis=(0, 2, 3)))


@pytest.mark.parametrize("name", SETS)
def test_noise_and_splits_keep_to_the_official_parts(name, place, tmp_path, monkeypatch):
    spec, _ = made(name, place, monkeypatch)
    sources.write_source(SourceSpec(name), tmp_path / "source")
    sizes = DatasetSpec("s", spec.train - 10, 10, spec.test, NoiseSpec("asymmetric", 0.5))
    splits = load_data(tmp_path / "source", sizes, 0).splits
    assert max(splits["train"].index.max(), splits["val"].index.max()) < spec.train <= splits["test"].index.min()
    assert 0.2 < (splits["train"].labels != splits["train"].clean).mean() < 0.8
    with pytest.raises(
        SpecError, match=rf"test = {spec.test + 1}: expected at most the {spec.test} images of the test"
    ):
        load_data(tmp_path / "source", dataclasses.replace(sizes, test=spec.test + 1), 0)


@pytest.mark.parametrize("name", SETS)
def test_what_is_described_is_what_was_published(name, place):
    """From names of files alone; here none is there, but all could be fetched."""
    described = sources.describe(SourceSpec(name))
    train, test = REAL.get(name) or REAL["cifar10" if name in BATCHES else "mnist"]
    assert described.parts == {"train": (0, train), "test": (train, train + test)}
    assert described.size == train + test
    assert described.classes == (100 if name == "cifar100" else 10)
    assert described.shape == ((1, 28, 28) if name in IDX else (3, 32, 32))
    assert plugins.constant("data", name, "FROM_DISK") is True
    assert not place.exists()


@pytest.mark.parametrize("name", SETS)
def test_names_of_files_are_those_of_torchvision(name):
    spec = importlib.import_module(f"halobench.data.loaders.{name}").SET
    published = getattr(torchvision.datasets, spec.published)
    if name in BATCHES:
        listed = [file for file, _ in published.train_list + published.test_list] + [published.meta["filename"]]
        assert (spec.folder, spec.archive) == (published.base_folder, published.filename)
        assert sorted(spec.files) == sorted(listed)
    elif name == "svhn":
        assert spec.files == tuple(published.split_list[part][1] for part in ("train", "test"))
    else:
        parts = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
        assert sorted(name for name, _ in published.resources) == sorted(parts)


def files_read(name: str, place: Path) -> list[Path]:
    """What a set is read from: of CIFAR the unpacked batches."""
    pattern = {"svhn": "*.mat", **dict.fromkeys(BATCHES, "cifar*/*")}.get(name, "*/raw/*.gz")
    return sorted(place.glob(pattern))


@pytest.mark.parametrize("name", SETS)
def test_a_wrong_checksum_of_any_file_is_refused_before_any_is_parsed(name, place, monkeypatch):
    made(name, place, monkeypatch)
    for reader in (
        "halobench.data.torchvision_files.read_idx",
        "halobench.data.torchvision_files.read_pickle",
        "scipy.io.loadmat",
    ):
        monkeypatch.setattr(reader, lambda *_, **__: pytest.fail("parsed before all was compared"))
    files = files_read(name, place)
    assert len(files) == {"svhn": 2, "cifar10": 7, "cifar100": 3}.get(name, 4)
    for path in files:
        content = path.read_bytes()
        for bad in (content[:-1] + bytes([content[-1] ^ 1]), content[: len(content) // 2], b""):
            path.write_bytes(bad)
            with pytest.raises(SpecError) as caught:
                sources.load_source(SourceSpec(name))
            assert caught.value.key == str(path)
            assert caught.value.value == f"md5 {md5(bad)}"
            assert f"as published, md5 {md5(content)}: it is damaged or cut off; delete it" in caught.value.expected
            assert path.read_bytes() == bad
        path.write_bytes(content)


@pytest.mark.parametrize("name", BATCHES)
def test_an_archive_is_read_where_nothing_is_unpacked(name, place, monkeypatch):
    spec, parts = made(name, place, monkeypatch)
    next((place / spec.folder).iterdir()).unlink()  # one that lacks is enough
    before = sorted(place.rglob("*"))
    loaded = sources.load_source(SourceSpec(name))
    np.testing.assert_array_equal(loaded.images, np.concatenate([images for images, _ in parts.values()]))
    np.testing.assert_array_equal(loaded.labels, np.concatenate([labels for _, labels in parts.values()]))
    assert sorted(place.rglob("*")) == before
    archive = place / spec.archive
    archive.write_bytes(archive.read_bytes()[:-9])
    with pytest.raises(SpecError, match=rf"{spec.archive} = 'md5 \w+': expected the file as published"):
        sources.load_source(SourceSpec(name))


def test_a_pickle_that_would_run_code_is_refused_even_with_the_right_checksum():
    assert torchvision_files.read_pickle(pickled({"data": np.arange(3), "labels": [1]}))["data"].tolist() == [0, 1, 2]
    for bad in (os.system, sources.load_source, getattr, np.load):
        with pytest.raises(pickle.UnpicklingError, match="no part of an array"):
            torchvision_files.read_pickle(pickle.dumps(bad, protocol=2))


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x09\x01\0\0\0\x01a", idx(np.zeros((2, 3), np.uint8))[:-1]]
)
def test_what_is_no_idx_file_is_refused(content):
    with pytest.raises(ValueError, match="no IDX file of bytes"):
        torchvision_files.read_idx(content)


@pytest.mark.parametrize("name", SETS)
def test_without_files_and_network_the_line_says_where_both_were_looked_for(name, place, capsys):
    spec = importlib.import_module(f"halobench.data.loaders.{name}").SET
    with pytest.raises(SpecError) as caught:
        sources.load_source(SourceSpec(name))
    line = str(caught.value)
    assert line.startswith(f"data_root = '{place}': expected the files of {spec.title} in torchvision's layout (")
    assert line.endswith("or a network to fetch them from (URLError: <urlopen error no route>)")
    assert spec.layout() in line
    assert not [path for path in place.rglob("*") if path.is_file() or path.name.startswith(".")]
    assert (
        f"fetching {spec.archives(getattr(torchvision.datasets, spec.published))[0].addresses[0]}"
        in capsys.readouterr().out
    )


def test_where_fetching_is_off_absence_is_told_by_the_description(place, monkeypatch):
    data_root.note({"fetch": False})
    try:
        for call in (sources.describe, sources.load_source):
            with pytest.raises(
                SpecError, match=rf"data_root = '{place}': expected the files of SVHN .*, or fetch: true"
            ):
                call(SourceSpec("svhn"))
        made("svhn", place, monkeypatch)
        sources.describe(SourceSpec("svhn"))
        sources.load_source(SourceSpec("svhn"))
    finally:
        os.environ.pop(data_root.FETCH)


class Answer(io.BytesIO):
    """What a server gives; torchvision asks for its length and its address."""

    def __init__(self, content: bytes, address: str):
        super().__init__(content)
        self.length, self.url = len(content), address


@pytest.mark.parametrize("name", SETS)
def test_what_lacks_is_fetched_whole_or_not_at_all(name, place, tmp_path, monkeypatch):
    """From another folder in the place of a server, which at first knows nothing, then cuts off, then serves."""
    spec, parts = made(name, place, monkeypatch)
    served = tmp_path / "served"
    place.rename(served)
    archives = spec.archives(getattr(torchvision.datasets, spec.published))
    asked = []

    def serve(share: float):
        def urlopen(request, *arguments, **options):
            asked.append(request.full_url)
            name = request.full_url.rpartition("/")[2]
            content = next(path.read_bytes() for path in served.rglob(name) if path.is_file())
            return Answer(content[: int(share * len(content))], request.full_url)

        return urlopen

    monkeypatch.setattr("urllib.request.urlopen", serve(0.9))
    with pytest.raises(SpecError, match=r"or a network to fetch them from \(RuntimeError: File not found or corrupted"):
        sources.load_source(SourceSpec(name))
    assert not [path for path in place.rglob("*") if path.is_file()]
    assert set(asked) == {address for address in archives[0].addresses}  # all mirrors of the first
    monkeypatch.setattr("urllib.request.urlopen", serve(1))
    loaded = sources.load_source(SourceSpec(name))
    np.testing.assert_array_equal(loaded.images, np.concatenate([images for images, _ in parts.values()]))
    there = [path for path in place.rglob("*") if path.is_file()]
    assert sorted(there) == sorted(place / archive.path for archive in archives)
    asked.clear()
    sources.load_source(SourceSpec(name))
    assert not asked
    # A file that is there but damaged is the user's: it is told, and left alone.
    there[0].write_bytes(b"mine")
    with pytest.raises(SpecError, match="delete it, and it is fetched again"):
        sources.load_source(SourceSpec(name))
    assert not asked
    assert there[0].read_bytes() == b"mine"


@pytest.mark.parametrize("name", SETS)
def test_a_data_root_that_is_no_folder_is_told_by_the_description(name, place, monkeypatch):
    place.write_text("a file")
    (place.parent / "gone").symlink_to("nowhere")
    for root, nearest, what in (
        (place, place, "no folder"),
        (place / "deeper", place, "no folder"),
        (place.parent / "gone", place.parent / "gone", "a link that leads to no folder"),
    ):
        monkeypatch.setenv(data_root.ROOT, str(root))
        for call in (sources.describe, sources.load_source):
            with pytest.raises(SpecError) as caught:
                call(SourceSpec(name))
            assert str(caught.value) == f"data_root = '{root}': expected a folder, and {nearest} is {what}"


@pytest.mark.parametrize("fetch", ["0", "1"])
@pytest.mark.parametrize("name", SETS)
def test_what_lies_in_the_place_of_a_file_is_told_by_the_description(name, fetch, place, monkeypatch):
    spec, _ = made(name, place, monkeypatch)
    monkeypatch.setenv(data_root.FETCH, fetch)
    sources.describe(SourceSpec(name))
    if name in BATCHES:
        shutil.rmtree(place / spec.folder)
    path = spec.places()[0]
    for put, kind in (
        (Path.mkdir, "a folder"),
        (os.mkfifo, "a FIFO"),
        (lambda path: path.symlink_to("nowhere"), "a link that leads nowhere"),
    ):
        (Path.rmdir if path.is_dir() else Path.unlink)(path)
        put(path)
        for call in (sources.describe, sources.load_source):
            with pytest.raises(SpecError) as caught:
                call(SourceSpec(name))
            assert caught.value.key == "data_root"
            assert caught.value.expected.endswith(
                f", or nothing but files in their place: {path} is {kind}, move it away"
            )


def test_a_file_in_the_place_of_a_folder_is_told_by_the_description(place):
    place.mkdir()
    (place / "MNIST").write_text("a file")
    with pytest.raises(SpecError, match=rf"nothing but files in their place: {place}/MNIST is no folder, move it away"):
        sources.describe(SourceSpec("mnist"))


@pytest.mark.parametrize("name", SETS)
def test_a_fetch_that_fails_leaves_no_folder_that_it_made(name, place, monkeypatch):
    monkeypatch.setenv(data_root.ROOT, str(place / "deeper"))
    for before in ([], [place], [place, place / "deeper", place / "deeper/MNIST"]):
        for folder in before:
            folder.mkdir(exist_ok=True)
        with pytest.raises(SpecError, match="or a network to fetch them from"):
            sources.load_source(SourceSpec(name))
        assert sorted(path for path in place.parent.rglob("*")) == before


def test_a_clusters_jobs_use_the_root_that_their_run_was_started_with(tmp_path, monkeypatch, config):
    """Their Snakemakes read a note of the configuration, not the file, which may have been edited since."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(cluster_run.NOTED, str(cluster_run.note_start(config | {"data_root": "there", "fetch": False})))
    monkeypatch.setenv(data_root.FETCH, "1")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    noted = cluster_run.started_with()
    load_config(noted)
    data_root.note(noted)
    assert (str(data_root.data_root()), data_root.may_fetch()) == ("there", False)


def test_two_that_fetch_at_once_fetch_once(place, tmp_path, monkeypatch):
    spec, _ = made("svhn", place, monkeypatch)
    served, asked = {path.name: path.read_bytes() for path in place.iterdir()}, []
    for path in place.iterdir():
        path.unlink()

    def slow(request, *arguments, **options):
        asked.append(request.get_method())
        time.sleep(0.1)
        return Answer(served[request.full_url.rpartition("/")[2]], request.full_url)

    monkeypatch.setattr("urllib.request.urlopen", slow)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: sources.load_source(SourceSpec("svhn")), range(2))
    np.testing.assert_array_equal(first.images, second.images)
    assert len(first.labels) == spec.train + spec.test
    assert len(asked) == 4  # of two files the address, then the content


def test_the_root_is_the_configurations_then_the_environments(monkeypatch):
    monkeypatch.setenv(data_root.ROOT, "/elsewhere")
    monkeypatch.setenv(data_root.FETCH, "1")
    data_root.note({})
    assert (str(data_root.data_root()), data_root.may_fetch()) == ("/elsewhere", True)
    data_root.note({"data_root": "there", "fetch": False})
    assert (str(data_root.data_root()), data_root.may_fetch()) == ("there", False)
    monkeypatch.delenv(data_root.ROOT)
    monkeypatch.delenv(data_root.FETCH)
    data_root.note({"data_root": 3, "fetch": "no"})
    assert (str(data_root.data_root()), data_root.may_fetch()) == ("data", True)
