"""Load any folder of images with one subfolder per class, as for torchvision's ImageFolder and ImageNet.

Each image is decoded once, converted, resized so that its shorter side has `size` pixels (bilinear, antialiased), and
cropped to the central square, like torchvision's ``Resize(size)`` and ``CenterCrop(size)``. Images are processed in
blocks, so memory use grows only with the number of files. Camera orientation tags are ignored, as in torchvision. Only
the first image of animations and multi-page files is read.

torchvision's ImageFolder isn't used, because it follows circular links endlessly and would load torch before each run.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from halobench.core.errors import RefusedError, SpecError, describe_error, one_of, refuse, require
from halobench.core.specs.codec import convert_number
from halobench.data.data_root import check_root, data_root, unfit
from halobench.data.sources import Description, Images

TITLE = "Image folder"
ORDER = 10
# The experiments' data sets that use this loader.
VARIANTS = {
    "imagenet-val": {"TITLE": "ImageNet"},
}

FROM_DISK = True
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")  # whatever the suffix; EPS would start Ghostscript
CHANNELS = {"L": 1, "RGB": 3}  # by mode
THREADS = 8  # maximum number of decoding threads
LARGEST = 2**14  # pixels per side


def describe(
    *, folder: str | None = None, size: int | None = None, mode: str = "RGB", test_folder: str | None = None
) -> Description:
    """Return an image's shape, the numbers of classes and images, and the parts, without opening any file."""
    images, labels, names, parts = _listed(folder, size, mode, test_folder)
    return Description(images.shape[1:], len(names), len(labels), parts, names)


def listing(*, folder: Any = None, test_folder: Any = None, **_: Any) -> np.ndarray:
    """Return a number per image, sorted uint64 (n,); it depends on the image's path, size and time of change."""
    numbers, listed = [], dict[str, str]()
    for key, name in (("folder", folder), ("test_folder", test_folder)):
        for path in _joined(list_folder(key, name, listed)) if name is not None else ():
            found = os.stat(path)
            text = f"{key} {os.path.relpath(path, _root(name))} {found.st_size} {found.st_mtime_ns}"
            numbers.append(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest())
    return np.sort(np.frombuffer(b"".join(numbers), dtype="<u8"))


def load(
    *,
    folder: str | None = None,  # absolute, or relative to the data root
    size: int | None = None,  # side of the images, in pixels
    mode: str = "RGB",  # or L (grey), to which all images are converted
    test_folder: str | None = None,  # of the official test part; `folder` is then the train part
) -> Images:
    """Return the images, part by part and class by class, sorted by name; slices are decoded when they are read."""
    images, labels, names, parts = _listed(folder, size, mode, test_folder)
    return Images(images, labels, len(names), parts, names)


def _listed(
    folder: Any, size: Any, mode: Any, test_folder: Any
) -> tuple[FolderImages, np.ndarray, tuple[str, ...], dict[str, tuple[int, int]]]:
    """Check all options; return the images, not yet decoded, with their labels, the classes and the parts."""
    side: int = convert_number(int, "size", size)
    require(1 <= side <= LARGEST, "size", side, f"a side of 1 to {LARGEST} pixels")
    require(isinstance(mode, str) and mode in CHANNELS, "mode", mode, one_of(CHANNELS, mode))
    listed: dict[str, str] = {}  # shared by both folders, since a test image must not be a training image
    classes = list_folder("folder", folder, listed)
    names, paths, labels = tuple(classes), _joined(classes), _labels(classes)
    if test_folder is None:
        return FolderImages(paths, side, mode), labels, names, {}
    test = list_folder("test_folder", test_folder, listed)
    differ = sorted(set(names) ^ set(test))
    refuse(
        differ,
        "test_folder",
        f"must have the same classes as folder; add or remove {', '.join(differ[:1])}, which only one of the two has",
    )
    images = FolderImages(paths + _joined(test), side, mode)
    parts = {"train": (0, len(paths)), "test": (len(paths), len(images))}
    return images, np.concatenate([labels, _labels(test)]), names, parts


def _joined(classes: dict[str, list[str]]) -> list[str]:
    return [path for paths in classes.values() for path in paths]


def _labels(classes: dict[str, list[str]]) -> np.ndarray:
    return np.repeat(np.arange(len(classes)), [len(paths) for paths in classes.values()])


def list_folder(key: str, folder: Any, listed: dict[str, str]) -> dict[str, list[str]]:
    """List the paths of the images under a folder by class, in torchvision's order, without opening them.

    `key` is the option that specifies the folder. `listed` maps the real path of each folder that counts as listed to
    the path that led there. The folders that this call lists are added to `listed`, as are the folders that contain
    them.
    """
    require(isinstance(folder, str) and folder, key, folder, "a folder with a subfolder of images for each class")
    root = _root(folder)
    try:
        classes = _walk(str(root), listed)
    except SpecError:
        raise
    except (OSError, ValueError) as error:  # ValueError for invalid paths
        raise RefusedError(key, f"{root} can't be read ({describe_error(error)})") from None
    found = f"{root} has {len(classes)} subfolder{'s' * (len(classes) != 1)} of images"
    refuse(len(classes) < 2, key, f"{found}, but needs at least 2, one per class")
    for name, paths in classes.items():
        refuse(not paths, key, f"{root / name} has no images ({', '.join(SUFFIXES)}); add some, or remove the folder")
    return classes


def _root(folder: Any) -> Path:
    """Return the path of a folder, which may be relative to the data root."""
    root = Path(os.path.expanduser(folder))  # unlike Path's method, this leaves unknown users unchanged
    if not root.is_absolute():
        check_root()
        root = data_root() / root
    return root


def _walk(root: str, listed: dict[str, str]) -> dict[str, list[str]]:
    """Return the sorted paths of each class's images; links are followed, but no folder may occur twice."""

    def fail(error: OSError) -> None:
        raise error

    classes: dict[str, list[str]] = {}
    images: dict[str, list[str]] = {}  # by folder
    for place, folders, files in os.walk(root, followlinks=True, onerror=fail):
        real = os.path.realpath(place)
        if real in listed:
            why = f"{listed[real]} contains this link or is listed too"
            raise RefusedError(
                place, f"its images would count twice, since {why}; remove the link or choose another folder"
            )
        listed[real] = place
        if place == root:
            listed |= {str(parent): str(parent) for parent in Path(real).parents}
            classes = {name: [] for name in sorted(folders)}
        folders.sort()
        paths = [os.path.join(place, name) for name in sorted(files)]
        images[place] = [path for path in paths if _is_image(path)]
    for place in sorted(images.keys() - {root}):
        classes[os.path.relpath(place, root).split(os.sep)[0]] += images[place]
    return classes


def _is_image(path: str) -> bool:
    """Return whether a file is named like an image; refuse a broken link, as it might be a missing class."""
    image = path.lower().endswith(SUFFIXES)
    kind = unfit(path) if image or os.path.islink(path) else None
    if kind and (image or kind == "a broken link"):
        raise RefusedError(path, f"is {kind}; replace it or move it elsewhere")
    return image


class FolderImages:
    """Images by their paths; a slice is decoded when it is read, as a uint8 array (n, C, size, size)."""

    dtype = np.dtype(np.uint8)

    def __init__(self, paths: list[str], size: int, mode: str):
        self.paths, self.size, self.mode = paths, size, mode
        self.shape = (len(paths), CHANNELS[mode], size, size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice) -> np.ndarray:
        # Decoding releases Python's lock. The error is that of the first bad image, whichever thread fails first.
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            return np.stack(list(pool.map(self._decoded, self.paths[rows])))

    def _decoded(self, path: str) -> np.ndarray:
        """Return one image, uint8 (C, size, size); refuse levels beyond 8 bits, which would be clipped."""
        try:
            with Image.open(path, formats=FORMATS) as image:
                deep = f"has more than 8 bits per channel (mode {image.mode}); convert it or move it elsewhere"
                refuse(image.mode.startswith(("I", "F")), path, deep)
                pixels = np.asarray(square(image.convert(self.mode), self.size))
        except SpecError:
            raise
        except Exception as error:  # decoders raise all kinds of errors on a damaged file
            sentence = f"can't be read ({describe_error(error)}); replace it or move it elsewhere"
            raise RefusedError(path, sentence) from None
        return pixels.reshape(self.size, self.size, -1).transpose(2, 0, 1)


def square(image: Image.Image, size: int) -> Image.Image:
    """Resize an image to a shorter side of `size` pixels and crop it to the central square, like torchvision."""
    width, height = image.size
    shorter = min(width, height)
    if shorter != size:
        image = image.resize((int(size * width / shorter), int(size * height / shorter)), Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))
