"""Load KMNIST: greyscale images of cursive Japanese characters, 28x28 pixels, 60,000 to train and 10,000 to test on."""

from __future__ import annotations

from halobench.data.sources import Description, Images
from halobench.data.torchvision_files import idx_set

TITLE = "KMNIST"
SOURCE = "T. Clanuwat et al., [arXiv 1812.01718](https://arxiv.org/abs/1812.01718)"
ORDER = 5

FROM_DISK = True
SET = idx_set("KMNIST", "KMNIST")


def describe() -> Description:
    return SET.describe()


def load() -> Images:
    return SET.load()
