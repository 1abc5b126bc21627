"""Any folder of images: a subfolder a class, as torchvision's ImageFolder and ImageNet have it.

Each image is decoded once, resized so that its shorter side has `size` pixels (bilinear, antialiased) and cut to the
square in its middle, as torchvision's ``Resize(size)`` and ``CenterCrop(size)`` do; all of it block by block, so that
memory doesn't grow with the folder. Orientation tags of cameras are not heeded, as torchvision doesn't.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from halobench.data.sources import Description, Images
from halobench.dataroot import data_root
from halobench.specs import SpecError, convert_number, one_of, require, told

FROM_DISK = True
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
CHANNELS = {"L": 1, "RGB": 3}  # by mode
THREADS = 8  # at most, that decode
LARGEST = 2**14  # pixels of a side


def describe(
    *, folder: str | None = None, size: int | None = None, mode: str | None = None, test_folder: str | None = None
) -> Description:
    """Shape, classes, sizes and parts, from names of files and at most the head of the first image.

    Parameters and errors are as for `load`.
    """
    size, parts = _checked(folder, size, mode, test_folder)
    counts = [len(part) for part in parts]
    shape = (CHANNELS[mode or _mode_of(parts[0].path(0))], size, size)
    return Description(shape, len(parts[0].names), sum(counts), _official(counts))


def load(
    *, folder: str | None = None, size: int | None = None, mode: str | None = None, test_folder: str | None = None
) -> Images:
    """The images, class by class, in the order of their names.

    Parameters
    ----------
    folder : str
        Holds a folder a class, two at least, each with images at any depth; relative to the data root, or absolute.
    size : int
        Side of the images, in pixels.
    mode : str, optional
        ``RGB`` or ``L`` (grey), to which all are converted. Without it all must be of one of these two modes, which
        they keep.
    test_folder : str, optional
        As `folder`, with the same classes: its images become the official test part, those of `folder` the train part.

    Raises
    ------
    SpecError
        On a bad option, on a folder without two classes of images, and, as images are read, on one that can't be
        decoded or has another mode than the first.
    """
    size, parts = _checked(folder, size, mode, test_folder)
    labels = np.concatenate([part.labels() for part in parts])
    images = FolderImages(parts, size, mode)
    return Images(images, labels, len(parts[0].names), _official([len(part) for part in parts]), parts[0].names)


def _official(counts: list[int]) -> dict[str, tuple[int, int]]:
    return {"train": (0, counts[0]), "test": (counts[0], sum(counts))} if len(counts) == 2 else {}


def _checked(
    folder: str | None, size: int | None, mode: str | None, test_folder: str | None
) -> tuple[int, list[Listing]]:
    """Size and listings of the folders, if all options are good."""
    size = convert_number(int, "size", size)
    require(1 <= size <= LARGEST, "size", size, f"a side in pixels, from 1 to {LARGEST}")
    require(
        mode is None or (isinstance(mode, str) and mode in CHANNELS), "mode", mode, f"{one_of(CHANNELS, mode)}, or null"
    )
    parts = [list_folder("folder", folder)]
    if test_folder is not None:
        parts.append(list_folder("test_folder", test_folder))
        differ = sorted(set(parts[0].names) ^ set(parts[1].names))
        require(not differ, "test_folder", test_folder, f"the classes of folder, but {differ[:1]} is in one alone")
    return size, parts


@dataclass(frozen=True)
class Listing:
    """The images under a folder, in torchvision's order.

    Attributes
    ----------
    names : tuple of str
        The classes.
    places : list of (str, int, str)
        Each folder that holds images, with its class and its images' names, joined by ``/``: as strings of their own a
        million names would take some 100 MB.
    stops : int64 array
        How many images there are up to the end of each folder.
    """

    names: tuple[str, ...]
    places: list[tuple[str, int, str]]
    stops: np.ndarray

    def __len__(self) -> int:
        return int(self.stops[-1])

    def labels(self) -> np.ndarray:
        """The class of each image, int64 (n,)."""
        return np.repeat([label for _, label, _ in self.places], np.diff(self.stops, prepend=0)).astype(np.int64)

    def paths(self, start: int, stop: int) -> list[str]:
        """Paths of the images from `start` to `stop`."""
        found: list[str] = []
        at = int(np.searchsorted(self.stops, start, side="right"))
        while start + len(found) < stop:
            place, _, joined = self.places[at]
            before = int(self.stops[at - 1]) if at else 0
            wanted = joined.split("/")[start + len(found) - before : stop - before]
            found += [os.path.join(place, name) for name in wanted]
            at += 1
        return found

    def path(self, row: int) -> str:
        """Path of one image."""
        return self.paths(row, row + 1)[0]


def list_folder(key: str, folder: str | None) -> Listing:
    """The images under a folder of classes; none of them is opened.

    Parameters
    ----------
    key : str
        The option that names it, for messages.

    Raises
    ------
    SpecError
        If it isn't there or doesn't hold two classes, each with an image.
    """
    require(isinstance(folder, str) and folder, key, folder, "a folder that holds a folder of images for each class")
    root = data_root() / Path(folder).expanduser()
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        classes = [_images_under(str(root / name)) for name in names]
    except OSError as error:
        what = f"a folder that holds a folder of images for each class, at {root} ({told(error)})"
        raise SpecError(key, folder, what) from None
    require(len(names) >= 2, key, folder, f"at least 2 folders of images, one for each class, and {root} has {names}")
    for name, found in zip(names, classes, strict=True):
        require(found, key, folder, f"images in each class, and {root / name} has none ({', '.join(SUFFIXES)})")
    places = [(place, label, joined) for label, found in enumerate(classes) for place, joined in found]
    return Listing(tuple(names), places, np.cumsum([joined.count("/") + 1 for _, _, joined in places]))


def _images_under(folder: str) -> list[tuple[str, str]]:
    """Folders in and under a class's that hold images, with the names of these; sorted, links followed."""
    found = []
    for place, _, files in os.walk(folder, followlinks=True, onerror=_raise):
        names = sorted(name for name in files if name.lower().endswith(SUFFIXES))
        if names:
            found.append((place, "/".join(names)))
    return sorted(found)


def _raise(error: OSError) -> None:
    """For `os.walk`, which else passes over what it can't read."""
    raise error


class FolderImages:
    """The images of listings, one after the other, decoded when a slice of them is asked for.

    Attributes
    ----------
    shape : (n, C, size, size)
    dtype : uint8
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, parts: list[Listing], size: int, mode: str | None):
        self.parts, self.size, self.mode = parts, size, mode
        self.first = parts[0].path(0)
        self.alike = mode or _mode_of(self.first)
        self.shape = (sum(map(len, parts)), CHANNELS[self.alike], size, size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        paths, before = [], 0
        for part in self.parts:
            paths += part.paths(max(start - before, 0), min(stop - before, len(part)))
            before += len(part)
        out = np.empty((len(paths), *self.shape[1:]), np.uint8)

        def fill(row: int) -> SpecError | None:
            try:
                out[row] = self._decoded(paths[row])
            except SpecError as error:
                return error
            return None

        # Decoding leaves Python's lock alone. Which thread is first changes nothing: each has rows of its own.
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            bad = list(filter(None, pool.map(fill, range(len(paths)))))
        if bad:
            more = f" (and {len(bad) - 1} more of the {len(paths)} images read with it are bad)" if bad[1:] else ""
            raise SpecError(bad[0].key, bad[0].value, bad[0].expected + more)
        return out

    def _decoded(self, path: str) -> np.ndarray:
        """One image, uint8 (C, size, size)."""
        with _opened(path) as image:
            _check_depth(image, path)
            if self.mode is None and image.mode != self.alike:
                expected = (
                    f"L or RGB, to convert all images to: {self.first} is {self.alike}, {path} is {image.mode}, and"
                    " without a mode all must be alike"
                )
                raise SpecError("mode", self.mode, expected)
            try:
                pixels = square(image.convert(self.alike), self.size)
            except Exception as error:  # of a damaged file, decoders raise what they like
                raise _unreadable(path, error) from None
        return np.asarray(pixels).reshape(self.size, self.size, -1).transpose(2, 0, 1)


def square(image: Image.Image, size: int) -> Image.Image:
    """An image resized to a shorter side of `size` pixels and cut to the square in its middle, as torchvision does."""
    width, height = image.size
    shorter = min(width, height)
    if shorter != size:
        image = image.resize((int(size * width / shorter), int(size * height / shorter)), Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def _mode_of(path: str) -> str:
    """The mode that all images are to have, from the head of the first."""
    with _opened(path) as image:
        _check_depth(image, path)
        expected = (
            f"L or RGB, to convert all images to: {path} is {image.mode}, and without a mode all must be L or RGB"
        )
        require(image.mode in CHANNELS, "mode", None, expected)
        return image.mode


def _check_depth(image: Image.Image, path: str) -> None:
    """Refuse levels that 8 bits can't hold: converting would clip them."""
    if image.mode.startswith(("I", "F")):
        raise SpecError(path, f"mode {image.mode}", "an image of 8 bits a channel")


def _opened(path: str) -> Image.Image:
    """An image, of which the head has been read."""
    try:
        return Image.open(path)
    except Exception as error:  # as above
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> SpecError:
    return SpecError(path, told(error), "an image that can be read: replace it or move it away")
