"""Find a ball around each sample on which certainty is proved; its radius bounds the radii of all rays from below.

The search returns one ``certainty`` radius per sample and calibrator, and one ``decision`` radius per sample, within
which the label's logit is proved to be the largest, whatever the temperature. See `halobench.probing.certify`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from halobench.probing.certify.radius import LARGEST_RADIUS, certified
from halobench.probing.rays import TrainingPoints
from halobench.probing.run_search import Radii

TITLE = "Certified"
ABOUT = "as far as certainty is proved to reach in every direction"
SOURCE = (
    "H. Zhang et al., *Efficient Neural Network Robustness Certification with General Activation Functions* (CROWN), "
    "NeurIPS 2018, [arXiv 1811.00866](https://arxiv.org/abs/1811.00866); affine forms as in G. Singh et al., *Fast "
    "and Effective Robustness Certification* (DeepZ), NeurIPS 2018; rounding errors as in N. J. Higham, "
    "*Accuracy and Stability of Numerical Algorithms*, SIAM 2002"
)
ORDER = 6
STYLE = ("#1F4E9C", "^")


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
) -> Radii:
    """Return certified radii; a signal stops the search before it tries the next balls."""

    def tick() -> None:
        with torch.no_grad():
            model(samples[:1].clone())

    radii: dict[tuple[str, str | None], tuple[np.ndarray, np.ndarray]] = {}
    kinds: dict[tuple[str, str | None], float] = {("certainty", name): beta for name, beta in betas.items()}
    for kind, beta in (kinds | {("decision", None): math.inf}).items():
        radius = certified(model, samples, labels, threshold, beta, tick)[:, None]
        radii[kind] = radius, radius >= LARGEST_RADIUS
    return radii
