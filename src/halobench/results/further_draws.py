"""Draw further samples from a trained cell's distribution, which neither its training nor its calibration has seen."""

from __future__ import annotations

import numpy as np

from halobench.data.distribution import sample_generator
from halobench.data.mapped_rows import normalise
from halobench.results.trained_cell import TrainedCell
from halobench.training.cell import predict

FURTHER = 2  # number of further draws, as a multiple of the number of test samples


def further_draws(cell: TrainedCell) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the model's logits (n, k) and the posterior (n, k) for further draws; None without a distribution."""
    data, distribution = cell.data, cell.data.distribution
    if distribution is None:
        return None
    count = FURTHER * len(cell.logits["test.logits"])
    drawn = distribution.sample(count, sample_generator(distribution, cell.seed, "sample", "repair"))
    logits = predict(cell.model, normalise(drawn.inputs, data.mean, data.std), cell.recipe)
    if distribution.regions is not None and drawn.region is not None:
        posterior = distribution.regions.posterior[drawn.region]
    else:
        posterior = distribution.posterior(drawn.inputs)
    return logits, posterior @ data.transition
