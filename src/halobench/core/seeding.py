"""Derive independent random streams, each named after its use, from one seed; a new stream doesn't change others."""

from __future__ import annotations

import hashlib
import random

import numpy as np

CHANGES_NUMBERS = True  # see `halobench.experiment.code_version`


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a generator for one purpose, e.g. ``generator(seed, "split")``; each purpose has its own stream.

    The same seed and purpose give the same stream whatever the model or loss, so cells that differ only in model or
    loss share random numbers.
    """
    digest = hashlib.sha256("/".join(map(str, purpose)).encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=words))


def torch_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed for torch's global generator (initialisation, dropout), below 2**63."""
    return int(generator(seed, *purpose).integers(2**63))


def seed_libraries(seed: int) -> None:
    """Seed torch's, Python's and numpy's global generators, since third-party models and losses may draw from them.

    Of torch's generators, only those for CPU and CUDA are seeded, because torch.manual_seed also looks for four other
    kinds of device, which takes a millisecond per epoch.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
