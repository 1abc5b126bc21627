"""Infinitely far in random directions: from where on a model is certain, whatever its temperature.

For each ray it gives ``last_kink``, beyond which logits are affine (not of a model that isn't piecewise affine); and
for each calibrator ``certain_from``, from where on the confidence in the class that wins stays at the threshold or
above, and ``label_from``, the same if that class is the label. These two are censored if the confidence doesn't tend to
1, or if another class wins. See `halobench.probing.far_field`.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Mapping

import numpy as np
import torch

from halobench.probing.far_field import DISTANCES, describe, tails
from halobench.probing.rays import Surroundings
from halobench.probing.search import Found


def search(
    model: torch.nn.Module,
    samples: torch.Tensor,
    labels: np.ndarray,
    surroundings: Surroundings,
    *,
    betas: Mapping[str, float],
    rng: np.random.Generator,
    batch: int,
    threshold: float,
    directions: int,
) -> Found:
    """Follow `directions` rays from each sample, uniform on the sphere."""
    normal = rng.standard_normal((len(samples), directions, samples[0].numel()), dtype=np.float32)
    ends = tails(model, samples, torch.from_numpy(normal).to(samples.device), batch)
    found: dict[tuple[str, str | None], tuple[np.ndarray, np.ndarray]] = {}
    for name, beta in betas.items():
        field = describe(ends, directions, threshold, beta)
        far = np.nan_to_num(field.last_kink, nan=DISTANCES[-1])  # as far as was looked
        for quantity, ends_so in (("certain_from", True), ("label_from", field.classes == labels[:, None])):
            counts = field.tends_to_one & ends_so
            found[quantity, name] = np.where(counts, field.certain_from, far), ~counts
        if field.exact:
            found["last_kink", None] = field.last_kink, np.zeros(far.shape, dtype=bool)
        else:
            _say(field.reason)
    return found


@functools.cache
def _say(reason: str) -> None:
    """Print once why a model is read at distances instead."""
    distances = ", ".join(f"{far:g}" for far in DISTANCES)
    print(f"far field: read at distances of {distances}, since {textwrap.shorten(reason, 200)}")
