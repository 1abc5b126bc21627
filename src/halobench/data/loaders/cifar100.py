"""Load CIFAR-100: colour images of 32x32 pixels in 100 (fine) classes, 50,000 for training and 10,000 for testing."""

from __future__ import annotations

from halobench.data.sources import Description, Images
from halobench.data.torchvision_files import VisionSet

TITLE = "CIFAR-100"
SOURCE = "A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009"
ORDER = 7

FROM_DISK = True
SET = VisionSet("CIFAR-100", "CIFAR100", 50_000, 10_000, (3, 32, 32), ("cifar-100-python.tar.gz",), classes=100)


def describe() -> Description:
    return SET.describe()


def load() -> Images:
    return SET.load()
