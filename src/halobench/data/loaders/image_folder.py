"""Any folder of images with one subfolder per class, as for torchvision's ImageFolder and ImageNet.

Each image is decoded once, resized so that its shorter side has `size` pixels (bilinear, antialiased) and cut to the
square in its middle, as by torchvision's ``Resize(size)`` and ``CenterCrop(size)``; block by block, so that memory
doesn't grow with the folder. Orientation tags of cameras are ignored, as by torchvision. Of animations and files with
several pages the first image is read.
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from halobench.core.errors import SpecError, describe_error, one_of, require
from halobench.core.spec_codec import convert_number
from halobench.data.data_root import check_root, data_root, unfit
from halobench.data.sources import Description, Images

FROM_DISK = True
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
CHANNELS = {"L": 1, "RGB": 3}  # by mode
THREADS = 8  # at most, that decode
LARGEST = 2**14  # pixels of a side
HOLDER = "a folder that holds a folder of images for each class"


def describe(
    *, folder: str | None = None, size: int | None = None, mode: str | None = None, test_folder: str | None = None
) -> Description:
    """Return shape, classes, sizes and parts, from names and sizes of files and at most the head of the first image.

    Parameters and errors are as for `load`.
    """
    size, parts = _checked(folder, size, mode, test_folder)
    counts = [len(part) for part in parts]
    shape = (CHANNELS[mode or _mode_of(parts[0])], size, size)
    return Description(shape, len(parts[0].names), sum(counts), _official(counts))


def load(
    *, folder: str | None = None, size: int | None = None, mode: str | None = None, test_folder: str | None = None
) -> Images:
    """Return the images, class by class, in the order of their names.

    Parameters
    ----------
    folder : str
        Holds one folder per class, at least two, each with images at any depth; relative to the data root, or absolute.
        Links to folders and files elsewhere are followed.
    size : int
        Side of the images, in pixels.
    mode : str, optional
        ``RGB`` or ``L`` (grey), to which all are converted. Without it all must have the same of these two modes, which
        they keep.
    test_folder : str, optional
        As `folder`, with the same classes but no image in common: its images become the official test part, those of
        `folder` the train part.

    Raises
    ------
    SpecError
        On a bad option, a folder without two classes of images, a file with the name of an image that can't be one, a
        link through which images would count twice, and, as images are read, on one that can't be decoded or has
        another mode than the first.
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
    """Return size and listings of the folders, after checks of all options."""
    side: int = convert_number(int, "size", size)
    require(1 <= side <= LARGEST, "size", side, f"a side in pixels, from 1 to {LARGEST}")
    require(
        mode is None or (isinstance(mode, str) and mode in CHANNELS), "mode", mode, f"{one_of(CHANNELS, mode)}, or null"
    )
    seen: dict[Identity, str] = {}  # of both folders together: a test image must not be a training image
    parts = [list_folder("folder", folder, seen)]
    if test_folder is not None:
        one, other = _ancestry(_root("folder", folder)), _ancestry(_root("test_folder", test_folder))
        apart = next(iter(one)) not in other and next(iter(other)) not in one
        expected = f"a folder apart from folder = {folder!r}, neither it nor inside it nor around it"
        require(apart, "test_folder", test_folder, f"{expected}: test images would be training images")
        parts.append(list_folder("test_folder", test_folder, seen))
        differ = sorted(set(parts[0].names) ^ set(parts[1].names))
        require(not differ, "test_folder", test_folder, f"the classes of folder, but {differ[:1]} is in one alone")
    return side, parts


Identity = tuple[int, int]  # device and inode of a folder, the same for all paths to it


@dataclass(frozen=True)
class Listing:
    """The images under a folder, in torchvision's order.

    Attributes
    ----------
    key, folder : str
        The option that names the folder, and its value, for messages.
    names : tuple of str
        The classes.
    places : list of (str, int, str)
        Each folder that holds images, with its class and its images' names, joined by ``/``: as separate strings a
        million names would take some 100 MB.
    stops : int64 array
        Number of images up to the end of each folder.
    """

    key: str
    folder: str
    names: tuple[str, ...]
    places: list[tuple[str, int, str]]
    stops: np.ndarray

    def __len__(self) -> int:
        return int(self.stops[-1])

    def labels(self) -> np.ndarray:
        """Return the class of each image, int64 (n,)."""
        return np.repeat([label for _, label, _ in self.places], np.diff(self.stops, prepend=0)).astype(np.int64)

    def paths(self, start: int, stop: int) -> list[str]:
        """Return the paths of the images from `start` to `stop`."""
        paths: list[str] = []
        at = int(np.searchsorted(self.stops, start, side="right"))
        while start + len(paths) < stop:
            place, _, joined = self.places[at]
            before = int(self.stops[at - 1]) if at else 0
            wanted = joined.split("/")[start + len(paths) - before : stop - before]
            paths += [os.path.join(place, name) for name in wanted]
            at += 1
        return paths

    def path(self, row: int) -> str:
        """Return the path of one image."""
        return self.paths(row, row + 1)[0]


def list_folder(key: str, folder: str | None, seen: dict[Identity, str] | None = None) -> Listing:
    """List the images under a folder of classes; none of them is opened.

    Parameters
    ----------
    key : str
        The option that names it, for messages.
    seen : dict, optional
        Folders that count as listed already, with a path to each; those that are listed now are added.

    Raises
    ------
    SpecError
        If it is missing, doesn't hold two classes, each with an image, has a link to a folder that holds the link or is
        listed as well, or if something with the name of an image is no file or an empty one.
    """
    root, seen = _root(key, folder), {} if seen is None else seen
    bad: list[str] = []
    # A link to a parent of the root would lead into the root again, after all of its siblings.
    seen |= {identity: place for identity, place in _ancestry(root).items() if identity not in seen}
    try:
        names = [entry.name for entry in _entries(str(root)) if _is_folder(entry, seen, bad)]
        classes = [_images_under(str(root / name), seen, bad) for name in names]
    except OSError as error:
        raise SpecError(key, folder, f"{HOLDER}, at {root} ({describe_error(error)})") from None
    if bad:
        more = f" (and {len(bad) - 1} more are to be mended)" if bad[1:] else ""
        raise SpecError(key, folder, bad[0] + more)
    require(len(names) >= 2, key, folder, f"at least 2 folders of images, one for each class, and {root} has {names}")
    for name, holders in zip(names, classes, strict=True):
        require(holders, key, folder, f"images in each class, and {root / name} has none ({', '.join(SUFFIXES)})")
    places = [(place, label, joined) for label, holders in enumerate(classes) for place, joined in holders]
    stops = np.cumsum([joined.count("/") + 1 for _, _, joined in places])
    return Listing(key, str(folder), tuple(names), places, stops)


def _root(key: str, folder: Any) -> Path:
    """Return the path of the folder that an option names; raise SpecError if nothing is there."""
    require(isinstance(folder, str) and folder, key, folder, HOLDER)
    root: Path | str = folder
    try:
        root = Path(folder).expanduser()
        if not root.is_absolute():
            check_root()
            root = data_root() / root
        root.stat()
    except SpecError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # no path at all, or the home of an unknown user
        at = f", at {root}" if isinstance(error, OSError) else ""
        raise SpecError(key, folder, f"{HOLDER}{at} ({describe_error(error)})") from None
    return root


def _ancestry(root: Path) -> dict[Identity, str]:
    """Return a folder and its parents, from it upwards."""
    real = root.resolve()
    return {_identity(place.stat()): str(place) for place in (real, *real.parents)}


def _identity(info: os.stat_result) -> Identity:
    return info.st_dev, info.st_ino


def _entries(place: str) -> list[os.DirEntry]:
    """Return the entries of a folder, by name."""
    with os.scandir(place) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _images_under(folder: str, seen: dict[Identity, str], bad: list[str]) -> list[tuple[str, str]]:
    """Return the folders in and under a class's that hold images, with the names of these; sorted, links followed.

    Problems are added to `bad`.
    """
    places, waiting = [], [folder]
    while waiting:
        place, names = waiting.pop(), []
        for entry in _entries(place):
            if entry.name.lower().endswith(SUFFIXES):
                names.append(entry.name)
                if kind := unfit(entry.path):
                    bad.append(f"images alone under such names, and {entry.path} is {kind}: replace it or move it away")
            elif _is_folder(entry, seen, bad):
                waiting.append(entry.path)
        if names:
            places.append((place, "/".join(names)))
    return sorted(places)


def _is_folder(entry: os.DirEntry, seen: dict[Identity, str], bad: list[str]) -> bool:
    """Return whether an entry is a folder to be listed, which is then added to `seen`. Problems are added to `bad`."""
    if not entry.is_symlink() and not entry.is_dir():
        return False
    try:
        info = entry.stat()
    except OSError as error:  # a class, or a part of one, might be missing
        bad.append(f"links that lead somewhere, and {entry.path} doesn't ({describe_error(error)}): mend or remove it")
        return False
    if not stat.S_ISDIR(info.st_mode):
        return False
    before = seen.setdefault(_identity(info), entry.path)
    if before == entry.path:
        return True
    link = next((path for path in (entry.path, before) if os.path.islink(path)), None)
    if link is None:  # a file system that gives two folders one number
        return True
    other = before if link == entry.path else entry.path
    bad.append(f"each image once, and the link {link} leads to {other}, which holds it or is listed as well: remove it")
    return False


class FolderImages:
    """The images of listings, one after the other, decoded for each slice that is read.

    Attributes
    ----------
    shape : (n, C, size, size)
    dtype : uint8
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, parts: list[Listing], size: int, mode: str | None):
        self.parts, self.size, self.mode = parts, size, mode
        self.first = parts[0].path(0)
        self.alike = mode or _mode_of(parts[0])
        self.shape = (sum(map(len, parts)), CHANNELS[self.alike], size, size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        wanted, before = [], 0
        for part in self.parts:
            wanted += [(part, path) for path in part.paths(max(start - before, 0), min(stop - before, len(part)))]
            before += len(part)
        out = np.empty((len(wanted), *self.shape[1:]), np.uint8)

        def fill(row: int) -> SpecError | None:
            try:
                out[row] = self._decoded(*wanted[row])
            except SpecError as error:
                return error
            return None

        # Decoding releases Python's lock. The order of the threads changes nothing: each writes its own rows.
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            bad = list(filter(None, pool.map(fill, range(len(wanted)))))
        if bad:
            more = f" (and {len(bad) - 1} more of the {len(wanted)} images read with it are bad)" if bad[1:] else ""
            raise SpecError(bad[0].key, bad[0].value, bad[0].expected + more)
        return out

    def _decoded(self, part: Listing, path: str) -> np.ndarray:
        """Return one image, uint8 (C, size, size)."""
        with _opened(part, path) as image:
            _check_depth(image, part, path)
            if self.mode is None and image.mode != self.alike:
                modes = f"{self.first} is {self.alike}, {path} is {image.mode}"
                raise SpecError("mode", None, f"{_to_convert(part)}: {modes}, and without a mode all must be alike")
            try:
                pixels = square(image.convert(self.alike), self.size)
            except Exception as error:  # decoders raise errors of any kind on a damaged file
                raise _unreadable(part, path, error) from None
        return np.asarray(pixels).reshape(self.size, self.size, -1).transpose(2, 0, 1)


def square(image: Image.Image, size: int) -> Image.Image:
    """Resize an image to a shorter side of `size` pixels and cut it to the square in its middle, like torchvision."""
    width, height = image.size
    shorter = min(width, height)
    if shorter != size:
        image = image.resize((int(size * width / shorter), int(size * height / shorter)), Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def _mode_of(part: Listing) -> str:
    """Return the mode that all images are to have, from the head of the first."""
    path = part.path(0)
    with _opened(part, path) as image:
        _check_depth(image, part, path)
        expected = f"{_to_convert(part)}: {path} is {image.mode}, and without a mode all must be L or RGB"
        require(image.mode in CHANNELS, "mode", None, expected)
        return image.mode


def _to_convert(part: Listing) -> str:
    return f"L or RGB, to convert all images of {part.key} = {part.folder!r} to"


def _check_depth(image: Image.Image, part: Listing, path: str) -> None:
    """Raise SpecError on levels that 8 bits can't hold: converting would clip them."""
    if image.mode.startswith(("I", "F")):
        expected = f"images of 8 bits a channel, and {path} has mode {image.mode}: convert it or move it away"
        raise SpecError(part.key, part.folder, expected)


def _opened(part: Listing, path: str) -> Image.Image:
    """Open an image, of which only the head is read."""
    try:
        return Image.open(path)
    except Exception as error:  # as above
        raise _unreadable(part, path, error) from None


def _unreadable(part: Listing, path: str, error: Exception) -> SpecError:
    """Return the error for an image that can't be read: it names the option of its folder, which a user can look up."""
    if isinstance(error, Image.DecompressionBombError):
        most = f"at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"  # as Pillow has it
        expected = f"images of {most}, and {path} has more ({describe_error(error)}): scale it down or move it away"
    else:
        expected = f"images that can be read, and {path} can't ({describe_error(error)}): replace it or move it away"
    return SpecError(part.key, part.folder, expected)
