"""Fashion-MNIST: articles of clothing, 60,000 grey images of 28x28 pixels to train on and 10,000 to test on.

Source: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms, arXiv 1708.07747.
"""

from __future__ import annotations

from halobench.data.sources import Description, Images
from halobench.data.torchvision_files import IdxSet

FROM_DISK = True
SET = IdxSet("Fashion-MNIST", "FashionMNIST")


def describe() -> Description:
    """Return shape, classes, sizes and parts."""
    return SET.describe()


def load() -> Images:
    """Load the images, train part first, from the data root."""
    return SET.load()
