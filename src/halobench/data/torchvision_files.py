"""Data sets that torchvision knows, read from its on-disk layout under the data root, or fetched into it.

Checksums and addresses are those that torchvision's own classes publish. Files are read once and their MD5 compared;
only if all are as published are those same bytes parsed. Archives are read in place and not unpacked.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import importlib
import io
import math
import os
import pickle
import shutil
import socket
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from halobench.core.errors import SpecError, describe_error
from halobench.data.data_root import check_root, data_root, may_fetch, unfit
from halobench.data.sources import Description, Images
from halobench.storage import files as store

PATIENCE = 60.0  # seconds without a byte after which a download has failed


@dataclass(frozen=True)
class Archive:
    """A file to be downloaded: its path under the data root, its MD5 and its addresses, mirrors in order."""

    path: str
    md5: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class VisionSet:
    """A set with official parts, which does the work of a loader's ``describe`` and ``load``.

    Attributes
    ----------
    title : str
        Its name in messages.
    published : str
        The name of its class in ``torchvision.datasets``.
    train, test : int
        Images of its parts; the test part's rows follow the train part's.
    shape : (C, H, W)
    classes : int
    """

    title: str
    published: str
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int = 10

    def describe(self) -> Description:
        """Return shape, classes and sizes; only names of files are examined.

        Raises
        ------
        SpecError
            If the files are missing and must not be downloaded, or something else is in their place.
        """
        self._check_way()
        if not self.is_there() and not may_fetch():
            raise self._absent("fetch: true")
        return Description(self.shape, self.classes, self.train + self.test, self._parts())

    def load(self) -> Images:
        """Load the images, downloaded first if they are missing.

        Raises
        ------
        SpecError
            If they are missing and can't be downloaded, or a file isn't as published.
        """
        self._check_way()
        published = getattr(importlib.import_module("torchvision.datasets"), self.published)
        if not self.is_there():
            self._fetch(self.archives(published))
        train, test, names = self.read(published, data_root())
        images, labels = (np.concatenate(parts) for parts in zip(train, test, strict=True))
        return Images(images, labels.astype(np.int64), self.classes, self._parts(), tuple(names))

    def _parts(self) -> dict[str, tuple[int, int]]:
        return {"train": (0, self.train), "test": (self.train, self.train + self.test)}

    def _check_way(self) -> None:
        """Raise SpecError if the data root is no folder, or something else is in the place of a missing set's file."""
        check_root()
        try:
            bad = None if self.is_there() else next(filter(None, map(_in_the_way, self.places())), None)
        except OSError as error:
            raise self._absent(f"leave to look for them ({describe_error(error)})") from None
        if bad:
            raise self._absent(f"nothing but files in their place: {bad}, move it away")

    def _absent(self, what: str) -> SpecError:
        expected = f"the files of {self.title} in torchvision's layout ({self.layout()}), or {what}"
        return SpecError("data_root", str(data_root()), expected)

    def _fetch(self, archives: Sequence[Archive]) -> None:
        """Download the missing archives, one process at a time."""
        if not may_fetch():
            raise self._absent("fetch: true")
        folders = {(data_root() / archive.path).parent for archive in archives}
        created = {place for folder in folders for place in (folder, *folder.parents) if not os.path.lexists(place)}
        try:
            data_root().mkdir(parents=True, exist_ok=True)
            with store.alone(data_root()):
                for archive in archives:
                    if not (data_root() / archive.path).exists():  # nor was it downloaded while this process waited
                        fetch(archive, data_root())
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise self._absent(f"a network to fetch them from ({describe_error(error)})") from None
        finally:
            for place in sorted(created, reverse=True):  # the contents of a folder before it
                with contextlib.suppress(OSError):  # it holds a downloaded file
                    place.rmdir()

    # A subclass defines its layout by these.

    def layout(self) -> str:
        """Return the files in words."""
        raise NotImplementedError

    def is_there(self) -> bool:
        """Return whether all files exist, whatever their contents."""
        return all(path.is_file() for path in self.places())

    def places(self) -> list[Path]:
        """Return the paths of the files."""
        raise NotImplementedError

    def archives(self, published: Any) -> list[Archive]:
        """Return the archives to download."""
        raise NotImplementedError

    def read(self, published: Any, root: Path) -> tuple[Any, Any, Sequence[str]]:
        """Read images uint8 (n, C, H, W) and labels (n,) of the train and the test part, and the classes' names."""
        raise NotImplementedError


@dataclass(frozen=True)
class IdxSet(VisionSet):
    """MNIST and similar sets: four files in the IDX format, each in its own gzip archive, in ``NAME/raw``.

    Only the archives are read: for the files that torchvision unpacks next to them no checksum is published.
    """

    train: int = 60_000
    test: int = 10_000
    shape: tuple[int, int, int] = (1, 28, 28)

    def layout(self) -> str:
        return f"{data_root() / self.published}/raw/*-ubyte.gz, four archives"

    def places(self) -> list[Path]:
        names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
        return [data_root() / self.published / "raw" / name for name in names]

    def archives(self, published: Any) -> list[Archive]:
        folder = f"{self.published}/raw"
        archives = []
        for name, md5 in published.resources:
            archives.append(Archive(f"{folder}/{name}", md5, tuple(f"{mirror}{name}" for mirror in published.mirrors)))
        return archives

    def read(self, published: Any, root: Path) -> tuple[Any, Any, Sequence[str]]:
        contents = [checked(root / archive.path, archive.md5) for archive in self.archives(published)]
        names = [Path(archive.path).name.removesuffix("-ubyte.gz") for archive in self.archives(published)]
        arrays = {name: read_idx(gzip.decompress(content)) for name, content in zip(names, contents, strict=True)}
        parts = [(arrays[f"{part}-images-idx3"][:, None], arrays[f"{part}-labels-idx1"]) for part in ("train", "t10k")]
        return *parts, published.classes


@dataclass(frozen=True)
class BatchesSet(VisionSet):
    """CIFAR: Python's pickles of batches, in a folder, or in the archive from which it is unpacked."""

    train: int = 50_000
    test: int = 10_000
    shape: tuple[int, int, int] = (3, 32, 32)
    folder: str = ""
    archive: str = ""
    files: tuple[str, ...] = ()

    def layout(self) -> str:
        return f"{data_root() / self.folder}/*, or {data_root() / self.archive}"

    def is_there(self) -> bool:
        return self._unpacked(data_root()) or (data_root() / self.archive).is_file()

    def places(self) -> list[Path]:
        return [data_root() / self.archive, *(data_root() / self.folder / name for name in self.files)]

    def _unpacked(self, root: Path) -> bool:
        return all((root / self.folder / name).is_file() for name in self.files)

    def archives(self, published: Any) -> list[Archive]:
        return [Archive(self.archive, published.tgz_md5, (published.url,))]

    def read(self, published: Any, root: Path) -> tuple[Any, Any, Sequence[str]]:
        listed, meta = [*published.train_list, *published.test_list], published.meta
        contents = self._contents(published, root, [*listed, [meta["filename"], meta["md5"]]])
        parts = []
        for files in (published.train_list, published.test_list):
            batches = [read_pickle(contents[name]) for name, _ in files]
            labels = [batch["labels"] if "labels" in batch else batch["fine_labels"] for batch in batches]
            pixels = np.concatenate([batch["data"] for batch in batches])
            parts.append((pixels.reshape(-1, *self.shape), np.concatenate(labels)))
        return *parts, read_pickle(contents[meta["filename"]])[meta["key"]]

    def _contents(self, published: Any, root: Path, listed: Sequence[Sequence[str]]) -> dict[str, bytes]:
        """Read the files `listed` by name and MD5 from the folder, or else from the archive."""
        if self._unpacked(root):
            return {name: checked(root / self.folder / name, md5) for name, md5 in listed}
        path = root / self.archive
        contents = {}
        with tarfile.open(fileobj=io.BytesIO(checked(path, published.tgz_md5)), mode="r:gz") as archive:
            for name, md5 in listed:
                member = f"{self.folder}/{name}"
                contents[name] = compared(
                    cast("IO[bytes]", archive.extractfile(member)).read(), md5, f"{path}: {member}"
                )
        return contents


@dataclass(frozen=True)
class MatSet(VisionSet):
    """SVHN: one MATLAB file per part, at the data root itself; the digit 0 is labelled 10 in them."""

    shape: tuple[int, int, int] = (3, 32, 32)
    files: tuple[str, str] = ("train_32x32.mat", "test_32x32.mat")

    def layout(self) -> str:
        return ", ".join(str(data_root() / name) for name in self.files)

    def places(self) -> list[Path]:
        return [data_root() / name for name in self.files]

    def archives(self, published: Any) -> list[Archive]:
        parts = [published.split_list[part] for part in ("train", "test")]
        return [Archive(name, md5, (address,)) for address, name, md5 in parts]

    def read(self, published: Any, root: Path) -> tuple[Any, Any, Sequence[str]]:
        from scipy.io import loadmat

        parts = []
        for content in [checked(root / archive.path, archive.md5) for archive in self.archives(published)]:
            arrays = loadmat(io.BytesIO(content), variable_names=["X", "y"])
            parts.append((arrays["X"].transpose(3, 2, 0, 1), arrays["y"].reshape(-1).astype(np.int64) % 10))
        train, test = parts
        return train, test, tuple(map(str, range(10)))


def _in_the_way(path: Path) -> str | None:
    """Return, in words, what is in the way of a file under the data root, in its place or in that of a parent."""
    for folder in reversed(path.relative_to(data_root()).parents):
        place = data_root() / folder
        if os.path.lexists(place) and not place.is_dir():
            return f"{place} is no folder"
    kind = unfit(path) if os.path.lexists(path) else None
    return f"{path} is {kind}" if kind else None


def fetch(archive: Archive, root: Path) -> None:
    """Download an archive from the first of its addresses that works, under another name until it is complete.

    Raises
    ------
    OSError, RuntimeError, http.client.HTTPException
        The error of the last address, if none works.
    """
    from torchvision.datasets.utils import download_url

    place = root / archive.path
    # A fixed name, which the next attempt overwrites if this one is killed.
    folder = place.parent / f".fetching-{place.name}"
    folder.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    failed: Exception = RuntimeError(f"no address gives {place.name}")
    socket.setdefaulttimeout(PATIENCE)
    try:
        for address in archive.addresses:
            print(f"fetching {address} to {place}", flush=True)
            try:
                download_url(address, folder, place.name, archive.md5)
                os.replace(folder / place.name, place)
                return
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                print(describe_error(error), flush=True)
                failed = error
        raise failed
    finally:
        socket.setdefaulttimeout(before)
        shutil.rmtree(folder, ignore_errors=True)


def checked(path: Path, md5: str) -> bytes:
    """Return the content of a file, if it is as published.

    Raises
    ------
    SpecError
        If it isn't, or the file can't be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(str(path), describe_error(error), "a file that can be read") from None
    return compared(content, md5, str(path))


def compared(content: bytes, md5: str, where: str) -> bytes:
    """Return `content` if it has that MD5, or else raise SpecError, which names `where` it is from."""
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != md5:
        expected = f"the file as published, md5 {md5}: it is damaged or cut off; delete it, and it is fetched again"
        raise SpecError(where, f"md5 {digest}", expected)
    return content


def read_idx(content: bytes) -> np.ndarray:
    """Parse an array of bytes in the IDX format: two zeros, the type (8), the number of axes, their lengths, values."""
    axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    shape = [int.from_bytes(content[4 * axis : 4 * axis + 4]) for axis in range(1, axes + 1)]
    if not axes or len(content) != 4 + 4 * axes + math.prod(shape):
        raise ValueError(f"no IDX file of bytes: it begins with {content[:4]!r} and has {len(content)} bytes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


class _ArraysOnly(pickle.Unpickler):
    """Read pickles of plain data and numpy's arrays, and refuse to call anything else.

    CIFAR is published as pickles, which could run code. They are read only after their MD5 was compared.
    """

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"})

    def find_class(self, module: str, name: str) -> Any:
        numpys = module.split(".")[0] == "numpy" and name in self.ALLOWED
        if not numpys and (module, name) != ("_codecs", "encode"):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return super().find_class(module, name)


def read_pickle(content: bytes) -> Any:
    """Read plain data and arrays from a pickle that Python 2 may have written; nothing else is built."""
    return _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
