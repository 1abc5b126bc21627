import numpy as np

from halobench import Description, Images


def describe(*, size=300):
    return Description(shape=(1, 8, 8), classes=2, size=size)


def load(*, size=300):
    """Noise with stripes, across or down."""
    rng = np.random.default_rng(0)
    labels = np.arange(size) % 2
    images = rng.integers(0, 128, size=(size, 1, 8, 8), dtype=np.uint8)
    images[labels == 0, :, ::2, :] += 96
    images[labels == 1, :, :, ::2] += 96
    return Images(images, labels, classes=2)
