"""Time a few steps of a model on random samples, for an estimate before anything has been trained."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import TrainSpec
from halobench.losses.cross_entropy import CrossEntropy
from halobench.models import builder
from halobench.training.cell import predict
from halobench.training.device import place, resolve_device, set_kernels
from halobench.training.loop import TrainingSet, fit

CHANGES_NUMBERS = False
FEW, GROWTH = 2, 5  # samples in the first trial, and by how much each trial is larger than the one before
LONGEST = 0.5  # seconds that a trial's step should take at most


def seconds_per_sample(
    model: ModelSpec, spec: TrainSpec, shape: Sequence[int], classes: int
) -> tuple[float, float] | None:
    """Return the seconds per sample of a training step and of an evaluation, or None for a model built around data.

    Samples have the given shape, and the loss is cross-entropy, since losses take little of the time. The recipe's
    device and batch sizes are used, but nothing is compiled.
    """
    set_kernels(spec)
    built = builder.build(model, tuple(shape), classes)
    if hasattr(built, "start"):
        return None
    network = place(built, spec, resolve_device(spec.device))
    rng = np.random.default_rng(0)

    def samples(count: int) -> np.ndarray:
        return rng.standard_normal((count, *shape), dtype=np.float32)

    def step(count: int) -> float:
        brief = dataclasses.replace(spec, epochs=2, batch=count, micro_batch=None, compile=False)
        ends = [time.perf_counter()]
        data = TrainingSet(samples(count), np.arange(count) % classes, classes)
        fit(network, data, CrossEntropy(), brief, 0, lambda _: ends.append(time.perf_counter()))
        return (ends[-1] - ends[-2]) / count if len(ends) > 2 else 0.0  # the first step also sets up

    def evaluation(count: int) -> float:
        inputs = samples(count)
        predict(network, inputs[:FEW], spec)
        began = time.perf_counter()
        predict(network, inputs, spec)
        return (time.perf_counter() - began) / count

    return _of_full(step, spec.batch), _of_full(evaluation, spec.eval_batch)


def _of_full(timed: Callable[[int], float], batch: int) -> float:
    """Return the seconds per sample in the largest batch, up to a full one, that takes no longer than `LONGEST`.

    Small batches take longer per sample, so batches grow until the next one would take too long.
    """
    size = min(FEW, batch)
    pace = timed(size)
    while size < batch and pace * size < LONGEST / GROWTH:
        size = min(GROWTH * size, batch)
        pace = timed(size)
    return pace
