"""Run searches, the kinds of probe that find distances themselves, on one part of the samples at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from halobench.core import plugins
from halobench.core.specs.probe import ProbeSpec
from halobench.probing.progress import Progress
from halobench.probing.radii import radii_table
from halobench.probing.ray_walk import ProbeOptions
from halobench.probing.rays import TrainingPoints
from halobench.training.device import name_out_of_memory

SAMPLES = 32  # samples per part; a killed probe repeats its last part
# (quantity, calibrator) -> radii (m, R), and whether they are censored; calibrator is None if temperature is
# irrelevant.
Radii = Mapping[tuple[str, Any], tuple[np.ndarray, np.ndarray]]


def search_radii(
    model: torch.nn.Module,
    samples: torch.Tensor,
    labels: np.ndarray,
    spec: ProbeSpec,
    training_points: TrainingPoints,
    *,
    rng: np.random.Generator,
    options: ProbeOptions,
) -> pd.DataFrame:
    """Search around samples (n, ...), resuming from the options' chunks; return the radii as in `Neighbourhood`."""
    search = plugins.load("searches", spec.kind)
    keys = (plugins.find("searches", spec.kind).options or {}).keys() & vars(spec).keys()
    keywords: dict[str, Any] = {key: getattr(spec, key) for key in sorted(keys)}
    keywords |= {"betas": options.betas, "batch": options.batch, "rng": rng}
    labels, chunks = labels.astype(np.int64), options.chunks or Progress().chunks(spec.kind)
    _, other_distance = training_points.nearest(samples.flatten(1), labels)
    start, tick = chunks.resume(rng), chunks.progress.save_if_signalled
    with as_function(model, tick), name_out_of_memory("eval_batch", options.batch, "a batch that fits in memory"):
        while start < len(labels):
            part = slice(start, min(start + SAMPLES, len(labels)))
            radii = search(model, samples[part], labels[part], training_points, **keywords)
            chunks.add(_flat(radii), rng)
            start = part.stop
    return _table(chunks.arrays, other_distance, spec.threshold)


@contextlib.contextmanager
def as_function(model: torch.nn.Module, tick: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let a model's gradients flow only to its inputs, and call `tick` before each of its forward passes."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    hook = model.register_forward_pre_hook(lambda *_: tick())
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        hook.remove()
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _flat(radii: Radii) -> dict[str, np.ndarray]:
    """Return the results of a search as arrays, under names that a checkpoint can store."""
    arrays = {}
    for (quantity, calibrator), (radius, censored) in radii.items():
        arrays[f"{quantity}:{calibrator or ''}:radius"] = np.asarray(radius, dtype=np.float64)
        arrays[f"{quantity}:{calibrator or ''}:censored"] = np.asarray(censored, dtype=bool)
    return arrays


def _table(arrays: Mapping[str, np.ndarray], other_distance: np.ndarray, threshold: float) -> pd.DataFrame:
    """Return a table of radii with one row per sample, ray, quantity and calibrator."""
    # Sorted, since a checkpoint may store the arrays in a different order.
    names = [name.split(":")[:2] for name in sorted(arrays) if name.endswith(":radius")]
    stacked = {
        key: np.stack([arrays[f"{quantity}:{calibrator}:{key}"] for quantity, calibrator in names], axis=1)
        for key in ("radius", "censored")
    }
    count, _, rays = stacked["radius"].shape
    stacked["length"] = np.full((count, rays), np.nan)
    kinds = [
        (quantity, calibrator or "none", threshold if calibrator and quantity != "half_level" else np.nan)
        for quantity, calibrator in names
    ]
    return radii_table(kinds, stacked, other_distance)
