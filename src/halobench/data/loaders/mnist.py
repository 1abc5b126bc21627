"""Load MNIST: greyscale images of handwritten digits, 28x28 pixels, 60,000 for training and 10,000 for testing."""

from __future__ import annotations

from halobench.data.sources import Description, Images
from halobench.data.torchvision_files import idx_set

TITLE = "MNIST"
SOURCE = "Y. LeCun et al., *Gradient-Based Learning Applied to Document Recognition*, 1998"
ORDER = 2

FROM_DISK = True
SET = idx_set("MNIST", "MNIST")


def describe() -> Description:
    return SET.describe()


def load() -> Images:
    return SET.load()
