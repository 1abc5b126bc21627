"""CIFAR-10 as JPEG files, and people's labels of it: what is refused, and the order of the images."""

from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from halobench.core.errors import SpecError
from halobench.data import people
from halobench.data.loaders import cifar10_jpeg


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root without anything, from which nothing may be fetched."""
    monkeypatch.setenv("HALOBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("HALOBENCH_FETCH", "0")
    return tmp_path


def known(monkeypatch, module, name, path):
    """Take a made-up file for the published one."""
    published = getattr(module, name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(module, name, type(published)(published.path, published.url, digest, published.licence))


def place(root, published, content: bytes):
    path = root / published.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pickled(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_labels_of_people_are_read_and_nothing_else_is(root, monkeypatch):
    labels = {name: np.arange(6) % 3 for name in people.LABELS}
    monkeypatch.setattr(people, "TRAIN", 6)
    for content, told in [
        (labels, None),
        ({**labels, "random_label2": np.arange(5)}, "has no random_label2 of 6 images"),
        ({**labels, "random_label3": np.full(6, 10)}, "has no random_label3 of 6 images from 0 to 9"),
        ([1, 2], "has no clean_label"),
        ({"clean_label": np.random.default_rng(0)}, "isn't CIFAR-10N's file of labels"),
    ]:
        known(monkeypatch, people, "CIFAR10N", place(root, people.CIFAR10N, pickled(content)))
        if told:
            with pytest.raises(SpecError, match=told):
                people.training_labels()
        else:
            found = people.training_labels()
            assert all((found[name] == labels[name]).all() for name in labels)
    place(root, people.CIFAR10N, b"other")
    with pytest.raises(SpecError, match="isn't the published file"):
        people.training_labels()


def archive(counts: dict[str, int], prefix: str = "") -> bytes:
    """An archive with images of one brightness each: the k-th file of a class has 10 k."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for folder, count in counts.items():
            for number in range(count):
                image = io.BytesIO()
                Image.new("RGB", (32, 32), (10 * number,) * 3).save(image, "JPEG")
                made.writestr(f"{prefix}{folder}/{number:04}.jpg", image.getvalue())
    return file.getvalue()


def test_images_are_in_the_order_of_the_labels(root, monkeypatch):
    """The k-th file of a class is the k-th image with its label, also in an archive with a folder above all others."""
    counts = {f"{part}/{name}": 3 for part in cifar10_jpeg.PARTS for name in cifar10_jpeg.NAMES}
    rng = np.random.default_rng(0)
    train, test = (rng.permutation(np.repeat(np.arange(10), 3)) for _ in range(2))
    monkeypatch.setattr(cifar10_jpeg, "PARTS", {"train": (0, 30), "test": (30, 60)})
    monkeypatch.setattr(people, "training_labels", lambda: {"clean_label": train})
    monkeypatch.setattr(people, "test_labels", lambda: test)
    loaded = []
    for prefix in ("", "CIFAR-10-images-d7d0561/"):
        place(root, cifar10_jpeg.JPEGS, archive(counts, prefix))
        with pytest.raises(SpecError, match=r"other files than the published ones \(SHA-256 (\w+)") as told:
            cifar10_jpeg.load()
        digest = str(told.value).split("SHA-256 ")[1][:16]
        with monkeypatch.context() as patched:
            patched.setattr(cifar10_jpeg, "CONTENT", Digest(digest))
            loaded.append(cifar10_jpeg.load())
    first, second = loaded
    assert (first.images == second.images).all()
    assert (first.labels == np.concatenate([train, test])).all()
    kth = np.array([(part[:row] == part[row]).sum() for part in (train, test) for row in range(30)])
    assert (np.abs(first.images.mean(axis=(1, 2, 3)) - 10 * kth) < 1).all()


class Digest(str):
    """Equal to any digest that starts with it."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return other.startswith(str(self))

    def __ne__(self, other):
        return not self == other


def test_a_class_with_another_number_of_images_is_refused(tmp_path):
    files = {f"train/{name}/{number}.jpg": b"" for name in cifar10_jpeg.NAMES for number in range(2)}
    labels = np.repeat(np.arange(10), 2)
    assert len(set(cifar10_jpeg.in_order(files, "train", labels, tmp_path))) == 20
    labels[0] = 1
    with pytest.raises(SpecError, match="has 2 images in train/airplane, but 1 labels are airplane"):
        cifar10_jpeg.in_order(files, "train", labels, tmp_path)


def test_missing_files_are_told_before_any_job(root):
    with pytest.raises(SpecError, match=r"CIFAR-10-images\.zip.*missing, and fetch is false.*no licence is stated"):
        cifar10_jpeg.describe()
    place(root, cifar10_jpeg.JPEGS, b"x")
    with pytest.raises(SpecError, match=r"CIFAR-10_human\.pt.*CC BY-NC 4\.0"):
        cifar10_jpeg.describe()
