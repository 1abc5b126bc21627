"""KMNIST: 28x28-pixel greyscale images of ten cursive Japanese characters, 60,000 for training and 10,000 for testing.

Source: T. Clanuwat et al., Deep learning for classical Japanese literature, arXiv 1812.01718.
"""

from __future__ import annotations

from halobench.data.sources import Description, Images
from halobench.data.torchvision_files import idx_set

TITLE = "KMNIST"
SOURCE = "T. Clanuwat et al., [arXiv 1812.01718](https://arxiv.org/abs/1812.01718)"
ORDER = 5

FROM_DISK = True
SET = idx_set("KMNIST", "KMNIST")


def describe() -> Description:
    """Return the shape, classes, sizes and parts."""
    return SET.describe()


def load() -> Images:
    """Load the images from the data root, train part first."""
    return SET.load()
