"""Load crops of four photographs that packages ship; each photograph shows one of ImageNet's 1,000 classes.

This source is for models whose weights were trained on ImageNet, if ImageNet itself isn't available. The crops of a
photograph are much alike, so the source consists of four scenes rather than 144 independent samples. Photographs to
which several classes apply (scikit-image's cat, motorcycle and rocket) or none (its astronaut) aren't used. Sources:
scikit-image's ``camera.png`` and ``coffee.png``; scikit-learn's ``china.jpg``, a
photograph of the Summer Palace; and matplotlib's ``grace_hopper.jpg``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from halobench.core.errors import refuse, require
from halobench.core.specs.codec import convert_number
from halobench.data.sources import Description, Images

TITLE = "ImageNet photographs"
ORDER = 10
FROM_DISK = True  # from a package that may not be installed

CLASSES = 1000
# The package, the path in it, and the class in ImageNet's order: tripod, espresso, palace and military uniform.
PHOTOGRAPHS = (
    ("skimage", "data/camera.png", 872),
    ("skimage", "data/coffee.png", 967),
    ("sklearn", "datasets/images/china.jpg", 698),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", 652),
)
SHARES = (0.9, 0.8)  # sides of the crops, as shares of the photograph's shorter side
PLACES = (0.0, 0.5, 1.0)  # positions of a crop within the photograph, along both axes
CROPS = 2 * len(SHARES) * len(PLACES) ** 2  # each is also mirrored


def describe(*, side: int = 240) -> Description:
    """Return a sample's shape and the numbers of classes and samples; raise SpecError if a photograph is missing."""
    require(32 <= convert_number(int, "side", side) <= 400, "side", side, "32 to 400 pixels")
    for package, path, _ in PHOTOGRAPHS:
        _find(package, path)
    return Description((3, side, side), CLASSES, CROPS * len(PHOTOGRAPHS))


def load(*, side: int = 240) -> Images:
    """Load square crops of each photograph, scaled to `side` x `side` pixels."""
    from PIL import Image

    pixels = []
    for package, path, _ in PHOTOGRAPHS:
        with Image.open(_find(package, path)) as image:
            photograph = image.convert("RGB")
        for share in SHARES:
            width = share * min(photograph.size)
            for left, top in ((x, y) for y in PLACES for x in PLACES):
                corner = left * (photograph.width - width), top * (photograph.height - width)
                box = (*corner, corner[0] + width, corner[1] + width)
                crop = np.asarray(photograph.resize((side, side), Image.Resampling.BICUBIC, box))
                pixels += [crop, crop[:, ::-1]]
    labels = np.repeat([label for _, _, label in PHOTOGRAPHS], CROPS)
    return Images(np.stack(pixels).transpose(0, 3, 1, 2), labels, CLASSES)


def _find(package: str, path: str) -> Path:
    """Return the path of a photograph, without importing the package that ships it."""
    spec = importlib.util.find_spec(package)
    folder = Path(str(spec.origin)).parent if spec else Path(package)
    what = "install the packages with these photographs: pip install scikit-image scikit-learn matplotlib"
    refuse(not (folder / path).is_file(), "loader", f"the photograph {folder / path} is missing; {what}")
    return folder / path
