import numpy as np

from halobench import Description, Images

PARTS = {"train": (0, 120), "val": (120, 180), "test": (180, 240)}


def describe():
    return Description(shape=(5,), classes=3, size=240, parts=PARTS)


def load():
    """Five measurements of each sample, and what its raters called it most often."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(240, 5))
    odds = np.exp(2 * features[:, :3])
    votes = rng.multinomial(20, odds / odds.sum(axis=1, keepdims=True))
    return Images(features, votes.argmax(axis=1), classes=3, parts=PARTS, posterior=votes / 20)
