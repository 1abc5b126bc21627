"""Square patches of three colour photographs that scikit-learn and matplotlib ship: which one is a patch from?

The small stand-in for a colour data set where nothing can be fetched. Smooth patches, such as of sky or a blurred
background, look alike in all three. Sources: ``china.jpg`` and ``flower.jpg`` of scikit-learn's sample images;
``grace_hopper.jpg`` of matplotlib's sample data.
"""

from __future__ import annotations

import numpy as np

from halobench.data.sources import Description, Images
from halobench.specs import convert_number, require

SIZES = {"china": (427, 640), "flower": (427, 640), "grace_hopper": (600, 512)}  # height and width in pixels


def describe(*, side: int = 16) -> Description:
    """Shape, classes and size.

    Raises
    ------
    SpecError
        If a patch's side is less than 4 pixels or more than 100.
    """
    require(4 <= convert_number(int, "side", side) <= 100, "side", side, "4 to 100 pixels")
    return Description(
        (3, side, side), len(SIZES), sum((high // side) * (wide // side) for high, wide in SIZES.values())
    )


def load(*, side: int = 16) -> Images:
    """The patches of each photograph in rows from its upper left corner, none overlapping."""
    from matplotlib.cbook import get_sample_data
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photographs = [load_sample_image(f"{name}.jpg") for name in ("china", "flower")]
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        photographs.append(np.asarray(image.convert("RGB")))
    parts = [patches(photograph, side) for photograph in photographs]
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Images(np.concatenate(parts), labels, len(parts))


def patches(photograph: np.ndarray, side: int) -> np.ndarray:
    """A photograph (H, W, C) cut into patches (n, C, side, side), less what is left at its right and lower border."""
    down, right = photograph.shape[0] // side, photograph.shape[1] // side
    kept = photograph[: down * side, : right * side].reshape(down, side, right, side, -1)
    return np.ascontiguousarray(kept.transpose(0, 2, 4, 1, 3).reshape(down * right, -1, side, side))
