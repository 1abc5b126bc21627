"""Attack samples: the distance to any point at which certainty has ended is an upper bound on the radius.

For each calibrator, the search returns one ``certainty`` and one ``half_level`` radius per sample; the ``decision``
radius, at which another class overtakes the label, depends on no temperature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from halobench.probing.attack import DECISION, Effort, Goal, attack
from halobench.probing.rays import TrainingPoints
from halobench.probing.run_search import Radii

TITLE = "Attacked"
ABOUT = "to the nearest point at which an attack ends certainty, or changes the decision"
SOURCE = (
    "M. Pintor et al., *Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints* (FMN), NeurIPS "
    "2021, [arXiv 2102.12827](https://arxiv.org/abs/2102.12827); based on J. Rony et al., *Decoupling Direction "
    "and Norm for Efficient Gradient-Based L2 Adversarial Attacks and Defenses* (DDN), CVPR 2019, [arXiv "
    "1811.09600](https://arxiv.org/abs/1811.09600)"
)
ORDER = 5
STYLE = ("#A8182D", "v")


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
    norm: Literal["l2", "inf"],
    restarts: int,
    steps: int,
) -> Radii:
    """Return attacked radii; an attack's second start, if any, is the nearest training sample with another label."""
    rows, _ = training_points.nearest(samples.flatten(1), labels)
    goals: dict[tuple[str, str | None], Goal] = {}
    for quantity, level in (("certainty", threshold), ("half_level", None)):
        goals |= {(quantity, name): Goal(beta, level) for name, beta in betas.items()}
    goals["decision", None] = DECISION
    options: Any = {"goals": list(goals.values()), "rng": rng, "others": training_points.take(rows)}
    attacks = attack(model, samples, labels, effort=Effort(norm, restarts, steps, batch), **options)
    return {key: (each.radius[:, None], each.censored[:, None]) for key, each in zip(goals, attacks, strict=True)}
