"""Load SVHN: colour images of house-number digits, 32x32 pixels, 73,257 for training and 26,032 for testing.

The additional, easier images of SVHN ("extra") are left out.
"""

from __future__ import annotations

from halobench.data.sources import Description, Images
from halobench.data.torchvision_files import VisionSet

TITLE = "SVHN"
SOURCE = "Y. Netzer et al., *Reading Digits in Natural Images with Unsupervised Feature Learning*, NIPS workshop 2011"
ORDER = 8

FROM_DISK = True
SET = VisionSet("SVHN", "SVHN", 73_257, 26_032, (3, 32, 32), ("train_32x32.mat", "test_32x32.mat"))


def describe() -> Description:
    return SET.describe()


def load() -> Images:
    return SET.load()
