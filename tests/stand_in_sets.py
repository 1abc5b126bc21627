"""Small stand-ins of the sets that torchvision downloads: real files of each format, and their checksums.

`install` writes them into a data root and makes Python processes that are started from then on take their sizes and
checksums for the published ones.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib
import io
import json
import os
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from halobench.data.torchvision_files import VisionSet

IDX = ("mnist", "fashion_mnist", "kmnist")
BATCHES = ("cifar10", "cifar100")
SETS = (*IDX, *BATCHES, "svhn")
LOADERS = "halobench.data.loaders"
Parts = dict[str, tuple[np.ndarray, np.ndarray]]  # images, uint8 (n, C, H, W), and labels (n,), by part
Published = dict[str, Any]  # attributes of a torchvision class, with the checksums of the files that were written

# Python imports this module when it starts. It mustn't import torch, which most processes don't need.
STARTED = '''"""Takes stand-ins for the published sets."""

import dataclasses
import importlib
import json
from pathlib import Path

from halobench.data.torchvision_files import VisionSet


class StandIn(VisionSet):
    def load(self):
        published = getattr(importlib.import_module("torchvision.datasets"), self.published)
        for name, value in PUBLISHED[self.published].items():
            setattr(published, name, value)
        return super().load()


KNOWN = json.loads(Path(__file__).with_name("sets.json").read_text())
PUBLISHED = {}
for loader, (train, test, attributes) in KNOWN.items():
    module = importlib.import_module("halobench.data.loaders." + loader)
    fields = {field.name: getattr(module.SET, field.name) for field in dataclasses.fields(module.SET)}
    module.SET = StandIn(**fields | {"train": train, "test": test})
    PUBLISHED[module.SET.published] = attributes
'''


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """The IDX format: two zeros, the type (8 for bytes), the number of axes, their lengths, the values."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def set_of(name: str) -> VisionSet:
    """The set of a loader."""
    return importlib.import_module(f"{LOADERS}.{name}").SET


def small(name: str, train: int = 0, test: int = 0) -> VisionSet:
    """The set of a loader with few images, and each class in both parts."""
    spec = set_of(name)
    return dataclasses.replace(spec, train=train or max(40, 2 * spec.classes), test=test or max(20, spec.classes))


def drawn(spec: VisionSet) -> Parts:
    """Images and labels of both parts, in which every class occurs."""
    rng = np.random.default_rng(len(spec.title))
    found = {}
    for part, count in (("train", spec.train), ("test", spec.test)):
        images = rng.integers(256, size=(count, *spec.shape), dtype=np.uint8)
        found[part] = images, rng.permutation(np.arange(count) % spec.classes).astype(np.uint8)
    return found


def write(name: str, published: Any, folder: Path, parts: Parts) -> Published:
    """Write the files of a loader's set, of which `published` is torchvision's class, into a data root."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = write_idx if name in IDX else write_batches if name in BATCHES else write_mat
    return kind(published, folder, parts)


def write_idx(published: Any, folder: Path, parts: Parts) -> Published:
    folder = folder / published.__name__ / "raw"
    folder.mkdir(parents=True)
    known = []
    for name, _ in published.resources:
        images, labels = parts["train" if name.startswith("train") else "test"]
        content = gzip.compress(idx(images[:, 0] if "images" in name else labels))
        (folder / name).write_bytes(content)
        (folder / name.removesuffix(".gz")).write_bytes(b"not read, since no checksum is published")
        known.append((name, md5(content)))
    return {"resources": known}


def write_batches(published: Any, folder: Path, parts: Parts) -> Published:
    fine = "fine_labels" if "100" in published.base_folder else "labels"
    files, known = {}, {}
    for part, name in (("train", "train_list"), ("test", "test_list")):
        listed = getattr(published, name)
        images, labels = (np.array_split(array, len(listed)) for array in parts[part])
        for (file, _), pixels, some in zip(listed, images, labels, strict=True):
            batch = {fine: some.tolist(), "data": pixels.reshape(len(pixels), -1), "batch_label": part}
            files[file] = pickle.dumps(batch, protocol=2)
        known[name] = [[file, md5(files[file])] for file, _ in listed]
    meta = published.meta
    classes = max(int(labels.max()) for _, labels in parts.values()) + 1
    files[meta["filename"]] = pickle.dumps({meta["key"]: [f"class {i}" for i in range(classes)]})
    known["meta"] = meta | {"md5": md5(files[meta["filename"]])}
    return known | {"tgz_md5": md5(pack(published, folder, files))}


def pack(published: Any, folder: Path, files: Mapping[str, bytes]) -> bytes:
    """Write CIFAR's archive and return its bytes."""
    with tarfile.open(folder / published.filename, mode="w:gz") as archive:
        for file, content in files.items():
            entry = tarfile.TarInfo(f"{published.base_folder}/{file}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return (folder / published.filename).read_bytes()


def write_mat(published: Any, folder: Path, parts: Parts) -> Published:
    known = dict(published.split_list)
    for part, (images, labels) in parts.items():
        address, name, _ = known[part]
        labels = np.where(labels == 0, 10, labels)[:, None]
        savemat(folder / name, {"X": images.transpose(2, 3, 1, 0), "y": labels}, do_compression=True)
        known[part] = [address, name, md5((folder / name).read_bytes())]
    return {"split_list": known}


def install(folder: Path, root: Path, train: int, test: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write all sets into the data root `root`, with files for new processes in `folder`, which must not exist."""
    import torchvision

    folder.mkdir()
    known = {}
    for name in SETS:
        spec = small(name, train, test)
        known[name] = train, test, write(name, getattr(torchvision.datasets, spec.published), root, drawn(spec))
    (folder / "sets.json").write_text(json.dumps(known))
    (folder / "sitecustomize.py").write_text(STARTED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
