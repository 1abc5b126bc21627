"""Load the data sets that torchvision downloads and reads, stored in its layout under the data root.

Only the published files are read. Their checksums are compared before any file is unpacked or read, because CIFAR's
archives contain pickles. Archives are unpacked into a temporary folder, so the data root may be read-only.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import importlib
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halobench.core.errors import RefusedError
from halobench.data.data_root import check_root, data_root, may_fetch, unfit
from halobench.data.sources import Description, Images
from halobench.storage import files as store

PATIENCE = 60.0  # seconds without a received byte after which a download fails


@dataclass(frozen=True)
class VisionSet:
    """A data set with official parts, which implements a loader's ``describe`` and ``load``.

    File names are listed here, so that describing a data set doesn't require torch.
    """

    title: str
    published: str  # name of its class in torchvision.datasets
    train: int  # number of images; the test part's rows follow the train part's
    test: int
    shape: tuple[int, int, int]
    files: tuple[str, ...]  # that torchvision downloads, as paths under the data root
    classes: int = 10
    payloads: tuple[str, ...] = ()  # SHA-256 of each archive's contents, which identifies recompressed ones

    def describe(self) -> Description:
        """Return the shape, classes and sizes without opening any file; raise SpecError if files can't be obtained."""
        self._check_places()
        if not self._complete() and not may_fetch():
            raise self._absent("set fetch: true to download them, or copy them there")
        return Description(self.shape, self.classes, self.train + self.test, self._parts())

    def load(self) -> Images:
        """Load the images, downloading them first if they are missing."""
        self._check_places()
        published = getattr(importlib.import_module("torchvision.datasets"), self.published)
        if not self._complete():
            self._download(published)
        (train, first, names), (test, second, _) = self._read(published)
        labels = np.concatenate([first, second]).astype(np.int64)
        return Images(np.concatenate([train, test]), labels, self.classes, self._parts(), tuple(names))

    def _parts(self) -> dict[str, tuple[int, int]]:
        return {"train": (0, self.train), "test": (self.train, self.train + self.test)}

    def _complete(self) -> bool:
        return all((data_root() / name).is_file() for name in self.files)

    def _check_places(self) -> None:
        """Raise SpecError if the data root isn't a folder, or if something else is in a file's place."""
        check_root()
        for path in (data_root() / name for name in self.files):
            if kind := unfit(path):
                raise RefusedError(str(path), f"is {kind}, where a file of {self.title} should be; move it elsewhere")

    def _absent(self, remedy: str) -> RefusedError:
        missing = f"the files of {self.title} are missing from {data_root()} ({', '.join(self.files)})"
        return RefusedError("data_root", f"{missing}; {remedy}")

    def _download(self, published: Any) -> None:
        """Download the data set, one process at a time, and move the files that are missing to the data root."""
        if not may_fetch():
            raise self._absent("set fetch: true to download them, or copy them there")
        root, before = data_root(), socket.getdefaulttimeout()
        staging = root / f".fetching-{self.published}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                stack.enter_context(store.alone(root))
                if self._complete():  # downloaded while this process waited
                    return
                print(f"fetching {self.title} to {root}", flush=True)
                stack.callback(socket.setdefaulttimeout, before)
                socket.setdefaulttimeout(PATIENCE)
                stack.callback(shutil.rmtree, staging, ignore_errors=True)
                for part in self._parts():
                    read(published, staging, part, download=True)
                for name in self.files:
                    if not (root / name).exists():
                        (root / name).parent.mkdir(parents=True, exist_ok=True)
                        os.replace(staging / name, root / name)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise self._absent(f"copy them there, since fetching them failed ({why})") from None

    def _read(self, published: Any) -> list[tuple[np.ndarray, np.ndarray, Sequence[str]]]:
        """Check all files, unpack the archives into a temporary folder, and read both parts there."""
        from torchvision.datasets.utils import extract_archive

        checksums, payloads = published_checksums(published), dict(zip(self.files, self.payloads, strict=False))
        for name in self.files:
            check(data_root() / name, checksums[os.path.basename(name)], payloads.get(name))
        with tempfile.TemporaryDirectory(prefix="halobench-") as folder:
            for name in self.files:
                place, path = Path(folder, name), data_root() / name
                place.parent.mkdir(parents=True, exist_ok=True)
                if place.suffix == ".gz":
                    extract_archive(path, place.parent)
                else:
                    place.symlink_to(path.absolute())
            return [read(published, folder, part) for part in self._parts()]


def idx_set(title: str, published: str, **more: Any) -> VisionSet:
    """Return MNIST, or a data set in its format: four files, each in its own archive."""
    kinds = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    names = tuple(f"{published}/raw/{kind}" for kind in kinds)
    return VisionSet(title, published, 60_000, 10_000, (1, 28, 28), names, **more)


def published_checksums(published: Any) -> dict[str, str]:
    """Return the MD5 of each file that a torchvision class downloads, by file name."""
    if hasattr(published, "resources"):  # MNIST and similar data sets
        return dict(published.resources)
    if hasattr(published, "split_list"):  # SVHN
        return {name: md5 for _, name, md5 in published.split_list.values()}
    return {published.filename: published.tgz_md5}  # CIFAR


def check(path: Path, md5: str, payload: str | None = None) -> None:
    """Raise SpecError unless a file has this MD5 or, if `payload` is known, contents with that SHA-256."""
    from torchvision.datasets.utils import calculate_md5

    with store.reading(path, "a readable file"):
        digest = calculate_md5(path)
    if digest != md5 and (payload is None or payload_checksum(path) != payload):
        sentence = f"is damaged or truncated (MD5 {digest}, published {md5}); delete it to fetch it again"
        raise RefusedError(str(path), sentence)


def payload_checksum(path: Path) -> str:
    """Return the SHA-256 of a gzip archive's contents, or "" if the archive is damaged."""
    with contextlib.suppress(OSError, EOFError, zlib.error), gzip.open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return ""


def read(
    published: Any, folder: str | Path, part: str, download: bool = False
) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
    """Read the images, uint8 (n, C, H, W), labels (n,) and class names of the part ``train`` or ``test``.

    The torchvision class `published` reads `folder` and, with `download`, downloads whatever is missing there.
    """
    if hasattr(published, "split_list"):  # SVHN
        data = published(folder, split=part, download=download)
        return data.data, data.labels, tuple(map(str, range(10)))
    data = published(folder, train=part == "train", download=download)
    images = np.asarray(data.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return images, np.asarray(data.targets), data.classes
