"""Find the distances from which a model is certain, at each calibrator's temperature, in random directions.

For each ray, the search returns ``last_kink``, the distance beyond which the logits are affine (only for piecewise
affine models). For each calibrator, the search also returns ``certain_from`` and ``label_from``. The winning class is
the one with the largest logit far away. ``certain_from`` is the distance from which the confidence in this class is
always at or above the threshold, and ``label_from`` is the same distance if this class is the label. Both distances are
censored if the confidence doesn't tend to 1; ``label_from`` is also censored if another class wins. See
`halobench.probing.far_field`.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Mapping

import numpy as np
import torch

from halobench.probing.far_field import DISTANCES, describe, tails
from halobench.probing.rays import TrainingPoints
from halobench.probing.run_search import Radii

TITLE = "Far field"
ABOUT = "infinitely far away in a random direction"
SOURCE = (
    "M. Hein, M. Andriushchenko and J. Bitterwolf, *Why ReLU Networks Yield High-Confidence Predictions Far Away "
    "From the Training Data and How to Mitigate the Problem*, CVPR 2019, [arXiv "
    "1812.05720](https://arxiv.org/abs/1812.05720)"
)
ORDER = 7


def search(
    model: torch.nn.Module,
    samples: torch.Tensor,
    labels: np.ndarray,
    training_points: TrainingPoints,
    *,
    betas: Mapping[str, float],
    rng: np.random.Generator,
    batch: int,
    threshold: float,
    directions: int,
) -> Radii:
    """Return the distances along `directions` rays from each sample, in uniformly random directions."""
    normal = rng.standard_normal((len(samples), directions, samples[0].numel()), dtype=np.float32)
    ends = tails(model, samples, torch.from_numpy(normal).to(samples.device), batch)
    radii: dict[tuple[str, str | None], tuple[np.ndarray, np.ndarray]] = {}
    for name, beta in betas.items():
        field = describe(ends, directions, threshold, beta)
        far = np.nan_to_num(field.last_kink, nan=DISTANCES[-1])  # the largest distance examined
        for quantity, ends_so in (("certain_from", True), ("label_from", field.classes == labels[:, None])):
            counts = field.tends_to_one & ends_so
            radii[quantity, name] = np.where(counts, field.certain_from, far), ~counts
        if field.exact:
            radii["last_kink", None] = field.last_kink, np.zeros(far.shape, dtype=bool)
        else:
            _say(field.reason)
    return radii


@functools.cache
def _say(reason: str) -> None:
    """Print, once per reason, why a model is evaluated at fixed distances instead of on its last affine piece."""
    distances = ", ".join(f"{far:g}" for far in DISTANCES)
    print(f"far field: evaluated only at distances of {distances} ({textwrap.shorten(reason, 200)})")
