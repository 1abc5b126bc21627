"""Logits with known properties, shared by the tests of this wing."""

from __future__ import annotations

import numpy as np


def drawn(n: int = 300, k: int = 4, seed: int = 0, flips: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are three times too large, and their labels, some turned into the next class."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, k))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return 3 * z, np.where(rng.random(n) < flips, (labels + 1) % k, labels)
