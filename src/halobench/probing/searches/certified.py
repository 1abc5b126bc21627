"""The largest ball on which the confidence provably meets the threshold; its radius bounds the worst case from below.

For each calibrator, the search returns one ``certainty`` radius per sample. See `halobench.probing.certify`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from halobench.probing.certify.radius import LARGEST, certified
from halobench.probing.rays import Surroundings
from halobench.probing.search import Radii


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
) -> Radii:
    """Certify the samples; a signal stops the search between two balls."""

    def tick() -> None:
        with torch.no_grad():
            model(samples[:1].clone())

    radii: dict[tuple[str, str | None], tuple[np.ndarray, np.ndarray]] = {}
    for name, beta in betas.items():
        radius = certified(model, samples, labels, threshold, beta, tick)[:, None]
        radii["certainty", name] = radius, radius >= LARGEST
    return radii
