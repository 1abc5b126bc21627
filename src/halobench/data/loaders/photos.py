"""Load square patches of three colour photographs from scikit-learn and matplotlib, one class per photograph.

The source is a small stand-in for a colour data set if nothing can be downloaded. Smooth patches, e.g. of sky or a
blurred background, look alike in all three photographs. Sources: ``china.jpg`` and ``flower.jpg`` from scikit-learn's
sample images, and ``grace_hopper.jpg`` from matplotlib's sample data.
"""

from __future__ import annotations

from typing import IO, cast

import numpy as np

from halobench.core.errors import require
from halobench.core.specs.codec import convert_number
from halobench.data.sources import Description, Images

TITLE = "Photographs"
ORDER = 9

CLASSES = ("china", "flower", "grace_hopper")


def describe(*, side: int = 16, contrast: float = 0.0) -> Description:
    """Return the shape of a sample and the numbers of classes and samples."""
    patches = load(side=side, contrast=contrast)
    return Description(patches.images.shape[1:], patches.classes, len(patches.images))


def load(*, side: int = 16, contrast: float = 0.0) -> Images:
    """Load the patches of each photograph, row by row from the upper left corner, without overlap.

    `side` is the side of a patch, 4 to 100 pixels. Patches whose standard deviation over pixels, averaged over colours,
    is below `contrast` (0 to 255) are left out, because patches without structure are so alike that networks can hardly
    fit wrong labels for them.
    """
    from matplotlib.cbook import get_sample_data
    from PIL import Image
    from sklearn.datasets import load_sample_image

    require(4 <= convert_number(int, "side", side) <= 100, "side", side, "4 to 100 pixels")
    require(0 <= convert_number(float, "contrast", contrast) <= 255, "contrast", contrast, "0 to 255")
    photographs = [load_sample_image(f"{name}.jpg") for name in CLASSES[:2]]
    with cast("IO[bytes]", get_sample_data(f"{CLASSES[2]}.jpg")) as file, Image.open(file) as image:
        photographs.append(np.asarray(image.convert("RGB")))
    parts = [cut_patches(photograph, side) for photograph in photographs]
    parts = [part[part.std(axis=(2, 3)).mean(axis=1) >= contrast] for part in parts]
    least = min(map(len, parts))
    require(
        least >= 50,
        "contrast",
        contrast,
        f"a lower value, since only {least} patches of a photograph reach it, and at least 50 must",
    )
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Images(np.concatenate(parts), labels, len(parts))


def cut_patches(photograph: np.ndarray, side: int) -> np.ndarray:
    """Cut a photograph (H, W, C) into patches (n, C, side, side), dropping incomplete ones at the right and bottom."""
    down, right = photograph.shape[0] // side, photograph.shape[1] // side
    kept = photograph[: down * side, : right * side].reshape(down, side, right, side, -1)
    return np.ascontiguousarray(kept.transpose(0, 2, 4, 1, 3).reshape(down * right, -1, side, side))
