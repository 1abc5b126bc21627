"""Sets in torchvision's layout: small real files of each format, with their checksums replacing the published ones."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib
import io
import os
import pickle
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torchvision

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs.data import SourceSpec
from halobench.data import data_root, sources, torchvision_files
from halobench.data.loaders import fashion_mnist
from halobench.data.torchvision_files import VisionSet
from halobench.storage import files as store
from stand_in_sets import BATCHES, IDX, LOADERS, SETS, Parts, drawn, md5, set_of, small, write

pytestmark = pytest.mark.paper

REAL = {"svhn": (73_257, 26_032), **dict.fromkeys(IDX, (60_000, 10_000)), **dict.fromkeys(BATCHES, (50_000, 10_000))}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """An empty data root, and no network."""

    def refuse(*arguments, **options):
        raise urllib.error.URLError("no route")

    folder = tmp_path / "data"
    monkeypatch.setenv(data_root.ROOT, str(folder))
    monkeypatch.delenv(data_root.FETCH, raising=False)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return folder


def made(name: str, folder: Path, monkeypatch) -> tuple[VisionSet, Parts]:
    """A small set, on disk and as published, and the data drawn for it."""
    spec = small(name)
    monkeypatch.setattr(importlib.import_module(f"{LOADERS}.{name}"), "SET", spec)
    published, parts = getattr(torchvision.datasets, spec.published), drawn(spec)
    for attribute, value in write(name, published, folder, parts).items():
        monkeypatch.setattr(published, attribute, value)
    return spec, parts


def assert_loads(name: str, parts: Parts) -> None:
    loaded = sources.load_source(SourceSpec(name))
    for found, which in ((loaded.images, 0), (loaded.labels, 1)):
        np.testing.assert_array_equal(found, np.concatenate([part[which] for part in parts.values()]))


def files_under(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", SETS)
def test_images_and_labels_come_as_written(name, place, tmp_path, monkeypatch):
    spec, parts = made(name, place, monkeypatch)
    before = files_under(place)
    assert_loads(name, parts)
    sources.write_source(SourceSpec(name), tmp_path / "out")
    meta = store.read_json(tmp_path / "out/meta.json")
    assert meta["parts"] == {"train": [0, spec.train], "test": [spec.train, spec.train + spec.test]}
    np.testing.assert_allclose(meta["mean"], parts["train"][0].mean(axis=(0, 2, 3)))
    published = getattr(torchvision.datasets, spec.published)
    digits, cifars = [str(i) for i in range(10)], [f"class {i}" for i in range(spec.classes)]
    assert meta["names"] == (digits if name == "svhn" else cifars if name in BATCHES else published.classes)
    assert files_under(place) == before


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_described_as_published_without_its_files(name, place):
    described, spec = sources.describe(SourceSpec(name)), set_of(name)
    train, test = REAL[name]
    assert described.parts == {"train": (0, train), "test": (train, train + test)}
    assert described.classes == (100 if name == "cifar100" else 10)
    assert described.shape == ((1, 28, 28) if name in IDX else (3, 32, 32))
    assert plugins.find("data", name).constants.get("FROM_DISK") is True
    assert not place.exists()
    known = torchvision_files.published_checksums(getattr(torchvision.datasets, spec.published))
    assert {os.path.basename(file) for file in spec.files} == known.keys() - {"extra_32x32.mat"}


class Bomb:
    """Code that runs if a pickle is loaded unchecked."""

    def __reduce__(self):
        return Path("exploded").touch, ()


@pytest.mark.parametrize("name", SETS)
def test_a_wrong_checksum_of_any_file_is_refused_before_any_is_parsed(name, place, monkeypatch):
    spec, _ = made(name, place, monkeypatch)
    monkeypatch.setattr(torchvision_files, "read", lambda *_, **__: pytest.fail("parsed before all was compared"))
    for path in [place / file for file in spec.files]:
        content = path.read_bytes()
        for bad in (content[:-1] + bytes([content[-1] ^ 1]), content[: len(content) // 2], pickle.dumps(Bomb())):
            path.write_bytes(bad)
            with pytest.raises(SpecError) as caught:
                sources.load_source(SourceSpec(name))
            assert caught.value.key == str(path)
            assert f"damaged or truncated (MD5 {md5(bad)}, published {md5(content)}); delete" in str(caught.value)
            assert path.read_bytes() == bad
        path.write_bytes(content)


def compressed_again(source: Path, target: Path) -> None:
    """Archives with the same payload, but no name and another time in their headers, as in Debian."""
    target.mkdir()
    for path in source.glob("*.gz"):
        (target / path.name).write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=9))


def test_archives_that_were_compressed_again_are_known_by_their_payload(place, tmp_path, monkeypatch):
    spec, _ = made("fashion_mnist", place, monkeypatch)
    held = [hashlib.sha256(gzip.decompress((place / file).read_bytes())).hexdigest() for file in spec.files]
    monkeypatch.setattr(fashion_mnist, "SET", dataclasses.replace(spec, payloads=tuple(held)))
    sources.write_source(SourceSpec("fashion_mnist"), tmp_path / "published")
    raw = place / "FashionMNIST/raw"
    compressed_again(raw, tmp_path / "package")
    raw.rename(tmp_path / "moved")
    raw.symlink_to(tmp_path / "package")
    sources.write_source(SourceSpec("fashion_mnist"), tmp_path / "linked")
    for file in ("images.npy", "labels.npy", "meta.json"):
        assert len({(tmp_path / way / file).read_bytes() for way in ("published", "linked")}) == 1
    path = raw / os.path.basename(spec.files[1])
    content = path.read_bytes()
    for bad in (content[:-9], b"no archive", gzip.compress(b"another payload")):
        path.write_bytes(bad)
        with pytest.raises(SpecError, match=r"train-labels-idx1-ubyte\.gz: is damaged or truncated \(MD5 \w+"):
            sources.load_source(SourceSpec("fashion_mnist"))


@pytest.mark.parametrize("name", SETS)
def test_without_files_and_network_the_line_says_where_both_were_looked_for(name, place, capsys):
    spec = set_of(name)
    with pytest.raises(SpecError) as caught:
        sources.load_source(SourceSpec(name))
    line = str(caught.value)
    missing = f"the files of {spec.title} are missing from {place} ({', '.join(spec.files)})"
    assert line.startswith(f"data_root: {missing}; copy them there, since fetching them failed (")
    assert line.endswith("<urlopen error no route>)")
    assert not list(place.iterdir())
    assert f"fetching {spec.title} to {place}" in capsys.readouterr().out


def test_where_fetching_is_off_absence_is_told_by_the_description(place, monkeypatch):
    monkeypatch.setenv(data_root.FETCH, "0")
    for call in (sources.describe, sources.load_source):
        with pytest.raises(
            SpecError, match=rf"data_root: the files of SVHN are missing from {place} .*; set fetch: true"
        ):
            call(SourceSpec("svhn"))
    made("svhn", place, monkeypatch)
    sources.describe(SourceSpec("svhn"))
    sources.load_source(SourceSpec("svhn"))


class Answer(io.BytesIO):
    """A server's response; torchvision reads its length and address."""

    def __init__(self, content: bytes, address: str):
        super().__init__(content)
        self.length, self.url = len(content), address


def serve(folder: Path, monkeypatch, asked: list[str], share: float = 1, wait: float = 0) -> None:
    """Serve a folder in place of the network; only `share` of each file arrives."""

    def urlopen(request, *arguments, **options):
        time.sleep(wait)
        asked.append(request.full_url)
        content = next(folder.rglob(request.full_url.rpartition("/")[2])).read_bytes()
        return Answer(content[: int(share * len(content))], request.full_url)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)


@pytest.mark.parametrize("name", SETS)
def test_what_is_missing_is_fetched_whole_or_not_at_all(name, place, tmp_path, monkeypatch):
    spec, parts = made(name, place, monkeypatch)
    place.rename(tmp_path / "served")
    asked: list[str] = []
    serve(tmp_path / "served", monkeypatch, asked, share=0.9)
    expected = r"fetching them failed \(RuntimeError"
    with pytest.raises(SpecError, match=expected):
        sources.load_source(SourceSpec(name))
    assert not list(place.iterdir())
    assert len(set(asked)) == (2 if name == "mnist" else 1)  # all mirrors of the first file
    serve(tmp_path / "served", monkeypatch, asked)
    assert_loads(name, parts)
    assert files_under(place) == sorted(place / file for file in spec.files)
    asked.clear()
    assert_loads(name, parts)
    # A damaged file belongs to the user: it is reported and left alone.
    bad = place / spec.files[0]
    bad.write_bytes(b"mine")
    with pytest.raises(SpecError, match="delete it to fetch it again"):
        sources.load_source(SourceSpec(name))
    assert not asked
    assert bad.read_bytes() == b"mine"
    bad.unlink()
    assert_loads(name, parts)


def test_two_that_fetch_at_once_fetch_once(place, tmp_path, monkeypatch):
    _, parts = made("svhn", place, monkeypatch)
    place.rename(tmp_path / "served")
    asked: list[str] = []
    serve(tmp_path / "served", monkeypatch, asked, wait=0.1)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: assert_loads("svhn", parts), range(2)))
    assert len(asked) == 4  # for each of two files, the address and then the content


@pytest.mark.parametrize(
    ("root", "nearest", "what"),
    [
        ("file/deeper", "file", "not a folder"),
        ("gone", "gone", "a link that doesn't point to a folder"),
    ],
)
def test_a_data_root_that_is_no_folder_is_told_by_the_description(tmp_path, monkeypatch, root, nearest, what):
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to("nowhere")
    monkeypatch.setenv(data_root.ROOT, str(tmp_path / root))
    for call in (sources.describe, sources.load_source):
        with pytest.raises(SpecError) as caught:
            call(SourceSpec("cifar10"))
        line = f"data_root: {tmp_path / root} can't be a folder, since {tmp_path / nearest} is {what}; move it"
        assert str(caught.value).startswith(line)


@pytest.mark.parametrize("fetch", ["0", "1"])
@pytest.mark.parametrize(
    ("put", "kind"),
    [
        (lambda path: path.mkdir(), "a folder"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "a broken link"),
        (Path.touch, "an empty file"),
    ],
)
def test_what_lies_in_the_place_of_a_file_is_told_by_the_description(fetch, put, kind, place, monkeypatch):
    monkeypatch.setenv(data_root.FETCH, fetch)
    path = place / "MNIST/raw/train-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    put(path)
    for call in (sources.describe, sources.load_source):
        with pytest.raises(SpecError) as caught:
            call(SourceSpec("mnist"))
        line = f"{path}: is {kind}, where a file of MNIST should be; move it elsewhere"
        assert str(caught.value) == line


def test_the_root_is_the_configurations_then_the_environments(monkeypatch):
    monkeypatch.setenv(data_root.ROOT, "/elsewhere")
    monkeypatch.setenv(data_root.FETCH, "1")
    data_root.note({"data_root": 3, "fetch": "no"})  # which are reported elsewhere
    assert (str(data_root.data_root()), data_root.may_fetch()) == ("/elsewhere", True)


@pytest.mark.parametrize("second", [{"data_root": "here", "fetch": False}, {"fetch": False}])
def test_two_modules_of_a_workflow_share_a_root(monkeypatch, second):
    """Also one that doesn't set it, and would get its neighbour's."""
    monkeypatch.setenv(data_root.ROOT, "data")
    monkeypatch.setenv(data_root.FETCH, "1")
    for _ in range(2):  # a run reads its configuration more than once
        data_root.note({"data_root": "there", "fetch": False})
        assert (str(data_root.data_root()), data_root.may_fetch()) == ("there", False)
    own = second.get("data_root", "data")
    with pytest.raises(SpecError, match=f"data_root = '{own}': expected there, as in another module of this workflow"):
        data_root.note(second)
