"""Any folder of images with one subfolder per class, as for torchvision's ImageFolder and ImageNet.

Each image is decoded once, resized so that its shorter side has `size` pixels (bilinear, antialiased) and cropped to
the square in its middle, like torchvision's ``Resize(size)`` and ``CenterCrop(size)``. This happens block by block, so
memory grows only with the list of files. Camera orientation tags are ignored, as in torchvision. Only the first image
of animations and multi-page files is read.

ImageFolder itself isn't used, because it follows circular links endlessly and loads torch at the start of each run,
which takes more time and memory than the rest of the work.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
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

TITLE = "Image folder"
ORDER = 10
# The data sets of the experiments that use it.
VARIANTS = {
    "imagenet-val": {"TITLE": "ImageNet"},
}

FROM_DISK = True
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
CHANNELS = {"L": 1, "RGB": 3}  # by mode
THREADS = 8  # maximum number of decoding threads
LARGEST = 2**14  # pixels per side
HOLDER = "a folder with a subfolder of images for each class"


def describe(
    *, folder: str | None = None, size: int | None = None, mode: str | None = None, test_folder: str | None = None
) -> Description:
    """Return the shape, classes, sizes and parts, from file names, file sizes and, if needed, the first image's header.

    The parameters and errors are as for `load`.
    """
    size, parts = _checked(folder, size, mode, test_folder)
    shape = (CHANNELS[mode or _first_mode(parts[0])], size, size)
    return Description(shape, len(parts[0].names), sum(map(len, parts)), _official(parts), parts[0].names)


def load(
    *, folder: str | None = None, size: int | None = None, mode: str | None = None, test_folder: str | None = None
) -> Images:
    """Return the images, class by class, ordered by name.

    Parameters
    ----------
    folder : str
        A folder with at least two subfolders, one per class, each with images at any depth. The path is absolute or
        relative to the data root. Links to folders and files elsewhere are followed.
    size : int
        Side of the images, in pixels.
    mode : str, optional
        ``RGB`` or ``L`` (grey), to which all images are converted. By default, all images must have the same one of
        these two modes, and keep it.
    test_folder : str, optional
        Like `folder`, with the same classes but no image in common. Its images become the official test part, and those
        of `folder` the train part.

    Raises
    ------
    SpecError
        If an option is invalid, a folder doesn't have two classes of images, a file that is named like an image can't
        be one, or a link would make images count twice. Also, while images are read, if one can't be decoded or has a
        different mode from the first.
    """
    size, parts = _checked(folder, size, mode, test_folder)
    labels = np.concatenate([part.labels for part in parts])
    return Images(FolderImages(parts, size, mode), labels, len(parts[0].names), _official(parts), parts[0].names)


@dataclass(frozen=True)
class Listing:
    """The images under a folder, in torchvision's order.

    `key` and `folder` are the option that specifies the folder and its value, for messages; `names` are the classes,
    and `labels` (n,) the class of each of `paths`.
    """

    key: str
    folder: str
    names: tuple[str, ...]
    paths: list[str]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)


def _official(parts: list[Listing]) -> dict[str, tuple[int, int]]:
    train, total = len(parts[0]), sum(map(len, parts))
    return {"train": (0, train), "test": (train, total)} if len(parts) == 2 else {}


def _checked(
    folder: str | None, size: int | None, mode: str | None, test_folder: str | None
) -> tuple[int, list[Listing]]:
    """Return the size and the folders' listings after checking all options."""
    side: int = convert_number(int, "size", size)
    require(1 <= side <= LARGEST, "size", side, f"a side of 1 to {LARGEST} pixels")
    fine = mode is None or (isinstance(mode, str) and mode in CHANNELS)
    require(fine, "mode", mode, f"{one_of(CHANNELS, mode)}, or null")
    listed: dict[str, str] = {}  # for both folders, since a test image must not be a training image
    parts = [list_folder("folder", folder, listed)]
    if test_folder is not None:
        one, other = _root("folder", folder).resolve(), _root("test_folder", test_folder).resolve()
        expected = f"a folder that neither contains folder = {folder!r} nor is inside it"
        apart = not (one.is_relative_to(other) or other.is_relative_to(one))
        require(apart, "test_folder", test_folder, f"{expected}, so no test image is also a training image")
        parts.append(list_folder("test_folder", test_folder, listed))
        differ = sorted(set(parts[0].names) ^ set(parts[1].names))
        require(not differ, "test_folder", test_folder, f"the same classes as folder, but only one has {differ[:1]}")
    return side, parts


def list_folder(key: str, folder: str | None, listed: dict[str, str] | None = None) -> Listing:
    """List the images under a folder of classes without opening them.

    Parameters
    ----------
    key : str
        The option that specifies the folder, for messages.
    listed : dict, optional
        Maps the real path of each folder that counts as already listed to the path that led there. The folders listed
        now are added.

    Raises
    ------
    SpecError
        If the folder is missing or doesn't hold two classes, each with an image; if it has a link to a folder that
        contains the link or is itself listed; or if something named like an image is an empty file or not a file.
    """
    root, listed, problems = _root(key, folder), {} if listed is None else listed, list[str]()
    for place in (root.resolve(), *root.resolve().parents):
        listed.setdefault(str(place), str(place))
    try:
        classes = _walk(str(root), listed, problems)
    except OSError as error:
        raise SpecError(key, folder, f"{HOLDER}, but {root} can't be read ({describe_error(error)})") from None
    if problems:
        more = f" (and {len(problems) - 1} more to fix)" if problems[1:] else ""
        raise SpecError(key, folder, problems[0] + more)
    names = tuple(classes)
    least = f"at least 2 subfolders of images, one per class, but {root} has {list(names)}"
    require(len(names) >= 2, key, folder, least)
    for name, paths in classes.items():
        require(paths, key, folder, f"images in each class, but {root / name} has no {', '.join(SUFFIXES)} files")
    labels = np.repeat(np.arange(len(names)), [len(paths) for paths in classes.values()])
    return Listing(key, str(folder), names, [path for paths in classes.values() for path in paths], labels)


def _root(key: str, folder: Any) -> Path:
    """Return the path of the folder that an option specifies; raise SpecError if nothing is there."""
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
    except (OSError, ValueError, RuntimeError) as error:  # not a path at all, or the home of an unknown user
        raise SpecError(key, folder, f"{HOLDER}, but {root} can't be read ({describe_error(error)})") from None
    return root


def _walk(root: str, listed: dict[str, str], problems: list[str]) -> dict[str, list[str]]:
    """Return the paths of each class's images, both sorted; links are followed, and problems added to `problems`."""

    def fail(error: OSError) -> None:
        raise error

    images: dict[str, list[str]] = {}  # the images in each folder
    for place, folders, files in os.walk(root, followlinks=True, onerror=fail):
        folders[:] = [name for name in sorted(folders) if _first_time(os.path.join(place, name), listed, problems)]
        paths = [os.path.join(place, name) for name in sorted(files)]
        images[place] = [path for path in paths if _is_image(path, problems)]
        if place == root:
            classes: dict[str, list[str]] = {name: [] for name in folders}
    del images[root]
    for place in sorted(images):
        classes[os.path.relpath(place, root).split(os.sep)[0]] += images[place]
    return classes


def _first_time(path: str, listed: dict[str, str], problems: list[str]) -> bool:
    """Return whether a folder is listed for the first time, and add it to `listed`."""
    before = listed.setdefault(os.path.realpath(path), path)
    if before != path:
        same = f"{path} is the same folder as {before}, which contains it or is also listed"
        problems.append(f"each image only once, but {same}: remove the link")
    return before == path


def _is_image(path: str, problems: list[str]) -> bool:
    """Return whether a file is named like an image; broken links are problems, as they might be missing classes."""
    image = path.lower().endswith(SUFFIXES)
    kind = unfit(path) if image or (os.path.islink(path) and not os.path.exists(path)) else None
    if kind:
        problems.append(f"only images and folders of images, but {path} is {kind}: replace it or move it elsewhere")
    return image


class FolderImages:
    """The images of several listings, one listing after another, decoded when a slice is read.

    Attributes
    ----------
    shape : (n, C, size, size)
    dtype : uint8
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, parts: list[Listing], size: int, mode: str | None):
        self.parts, self.size, self.mode = parts, size, mode
        self.alike = mode or _first_mode(parts[0])
        self.shape = (sum(map(len, parts)), CHANNELS[self.alike], size, size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        wanted = range(*rows.indices(len(self)))
        out = np.empty((len(wanted), *self.shape[1:]), np.uint8)

        def fill(place: int) -> SpecError | None:
            try:
                out[place] = self._decoded(wanted[place])
            except SpecError as error:
                return error
            return None

        # Decoding releases Python's lock. The order of the threads doesn't matter, because each writes its own rows.
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            bad = list(filter(None, pool.map(fill, range(len(wanted)))))
        if bad:
            more = f" (the first of {len(bad)} bad images in this block of {len(wanted)})" if bad[1:] else ""
            raise SpecError(bad[0].key, bad[0].value, bad[0].expected + more)
        return out

    def _decoded(self, row: int) -> np.ndarray:
        """Return one image, uint8 (C, size, size)."""
        part, row = (self.parts[0], row) if row < len(self.parts[0]) else (self.parts[1], row - len(self.parts[0]))
        with _opened(part, part.paths[row]) as image:
            if self.mode is None and image.mode != self.alike:
                modes = f"{self.parts[0].paths[0]} is {self.alike}, but {part.paths[row]} is {image.mode}"
                raise SpecError("mode", None, f"{_to_convert(part)}: {modes}; without a mode, all must match")
            pixels = square(image.convert(self.alike), self.size)
        return np.asarray(pixels).reshape(self.size, self.size, -1).transpose(2, 0, 1)


def square(image: Image.Image, size: int) -> Image.Image:
    """Resize an image to a shorter side of `size` pixels and crop it to the square in its middle, like torchvision."""
    width, height = image.size
    shorter = min(width, height)
    if shorter != size:
        image = image.resize((int(size * width / shorter), int(size * height / shorter)), Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def _first_mode(part: Listing) -> str:
    """Return the mode that all images must have, from the header of the first."""
    with _opened(part, part.paths[0]) as image:
        expected = f"{_to_convert(part)}: {part.paths[0]} is {image.mode}, but without a mode, all must be L or RGB"
        require(image.mode in CHANNELS, "mode", None, expected)
        return image.mode


def _to_convert(part: Listing) -> str:
    return f"L or RGB, the mode for converting all images in {part.key} = {part.folder!r}"


@contextlib.contextmanager
def _opened(part: Listing, path: str) -> Iterator[Image.Image]:
    """Open an image, reading only its header; errors mention the option of its folder, which users can look up.

    Raises
    ------
    SpecError
        If it can't be opened or decoded, or has levels that 8 bits can't hold, which conversion would clip.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                deep = (
                    f"images with 8 bits per channel, but {path} has mode {image.mode}: convert it or move it elsewhere"
                )
                raise SpecError(part.key, part.folder, deep)
            yield image
    except SpecError:
        raise
    except Exception as error:  # decoders raise all kinds of errors on a damaged file
        expected = (
            f"readable images, but {path} can't be read ({describe_error(error)}): replace it or move it elsewhere"
        )
        raise SpecError(part.key, part.folder, expected) from None
