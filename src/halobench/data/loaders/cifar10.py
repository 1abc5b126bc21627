"""CIFAR-10: 50,000 colour images of 32x32 pixels to train on and 10,000 to test on, in 10 classes.

Source: A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

from __future__ import annotations

from halobench.data.sources import Description, Images
from halobench.data.torchvision_files import BatchesSet

FROM_DISK = True
SET = BatchesSet(
    "CIFAR-10",
    "CIFAR10",
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    files=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
)


def describe() -> Description:
    """Return shape, classes, sizes and parts."""
    return SET.describe()


def load() -> Images:
    """Load the images, train part first, from the data root."""
    return SET.load()
