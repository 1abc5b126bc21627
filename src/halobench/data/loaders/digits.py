"""Load scikit-learn's digits: 1,797 greyscale images of 8x8 pixels in 10 classes.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (the test
part).
"""

from __future__ import annotations

import numpy as np

from halobench.data.sources import Description, Images

TITLE = "Digits"
SOURCE = "E. Alpaydin and C. Kaynak, UCI repository, 1998; the copy in scikit-learn"
ORDER = 1


def describe() -> Description:
    """Return the shape of a sample and the numbers of classes and samples."""
    return Description((1, 8, 8), 10, 1797)


def load() -> Images:
    """Load the images that scikit-learn ships, with their grey levels rescaled from 0-16 to 0-255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return Images(pixels[:, None], digits.target.astype(np.int64), 10)
