"""Score untrained reference predictors to compare models with: Bayes, uniform and nearest neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from halobench.calibration.calibrate_cell import Calibrated, fit_and_score
from halobench.calibration.scores.region_scores import SampleRegions
from halobench.calibration.scores.sample_scores import logarithm
from halobench.calibration.scores.targets import (
    SPLITS,
    Targets,
    read_array,
    read_posterior,
    read_targets,
    require_array,
)
from halobench.core.errors import Found, require
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.storage.columns import METRICS_COLUMNS


def references(
    inputs: Mapping[str, Any], arrays: Mapping[str, np.ndarray], spec: CalibrateSpec, seed: int
) -> Calibrated:
    """Return the fits and scores of the untrained predictors ``bayes``, ``uniform`` and ``nearest`` on a data set.

    ``bayes`` predicts the posterior, and has no rows if the posterior is unknown. ``uniform`` predicts 1/k. Both are
    scored only with the calibrator ``none``. ``nearest`` puts all mass on the drawn label of the nearest training
    sample. For ``none``, the prediction of ``nearest`` is scored as is, so one miss makes its NLL infinite. For
    ``exact`` and ``oracle``, the one-hot vector is used as logits, which are divided by the fitted temperature. The
    calibrator ``paper`` isn't applied to ``nearest``, since the paper's fit depends on the scale of the logits and a
    one-hot vector has no inherent scale. All other calibrators are fitted only to trained models.
    """
    k = _classes(arrays)
    regions = SampleRegions.read(arrays, SPLITS)
    targets = read_targets(arrays, k, SPLITS, regions)
    plain = dataclasses.replace(spec, calibrators=("none",))  # there is nothing to calibrate in bayes and uniform
    results = {}
    posteriors = {split: read_posterior(arrays, split, k, regions) for split in SPLITS}
    bayes = {split: logarithm(rows) for split, rows in posteriors.items() if rows is not None}
    if len(bayes) == len(SPLITS):
        results["bayes"] = fit_and_score(bayes, targets, plain, seed, regions)
    zeros = {split: np.zeros((len(targets[split]["clean"]), k)) for split in SPLITS}
    results["uniform"] = fit_and_score(zeros, targets, plain, seed, regions)
    votes = _nearest_votes(inputs, targets, k)
    tempered = tuple(name for name in spec.names if name in ("none", "exact", "oracle"))
    if tempered:
        scaled = dataclasses.replace(spec, calibrators=tempered)
        plain_votes = {split: logarithm(rows) for split, rows in votes.items()}
        results["nearest"] = fit_and_score(votes, targets, scaled, seed, regions, uncalibrated=plain_votes)
    return Calibrated(
        [{"model": model} | fit for model, result in results.items() for fit in result.fits],
        _joined({model: result.metrics for model, result in results.items()}),
        _joined({model: result.reliability for model, result in results.items()}),
    )


def _joined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Join the tables, adding a leading column ``model``."""
    parts = [table.assign(model=model)[["model", *table.columns]] for model, table in tables.items() if len(table)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["model", *METRICS_COLUMNS])


def nearest(queries: np.ndarray, samples: np.ndarray, block: int = 256, room: int = 2**28) -> np.ndarray:
    """Return the index of the nearest of `samples` (n, D) to each of `queries` (m, D), int64 (m,).

    Distances are Euclidean and computed from products, abs(q - p)^2 / 2 = abs(q)^2 / 2 - q.p + abs(p)^2 / 2. The term
    abs(q)^2 / 2 is the same for all samples and is left out. Queries and samples are centred first to keep
    cancellation small. If several samples are equally near, the first is chosen. Queries and samples may be any objects
    with a length and a shape that support slicing; samples are read about `room` bytes at a time.
    """
    step = max(block, room // (4 * samples.shape[1]))
    parts = [slice(start, start + step) for start in range(0, len(samples), step)]
    sums = (samples[part].sum(axis=0, dtype=np.float64) for part in parts)
    centre = sum(sums, start=np.zeros(samples.shape[1])) / len(samples)
    best, index = np.full(len(queries), -np.inf), np.zeros(len(queries), dtype=np.int64)
    for part in parts:
        some = samples[part]
        middle = centre.astype(some.dtype)
        some = some - middle
        half = np.einsum("ij,ij->i", some, some) / 2
        for start in range(0, len(queries), block):
            rows = slice(start, start + block)
            nearness = (queries[rows] - middle) @ some.T - half
            top = nearness.argmax(axis=1)
            value = nearness[np.arange(len(top)), top]
            nearer = value > best[rows]
            index[rows] = np.where(nearer, top + part.start, index[rows])
            best[rows] = np.where(nearer, value, best[rows])
    return index


def _classes(arrays: Mapping[str, np.ndarray]) -> int:
    """Return the number of classes, determined from the posterior or, if unknown, from the largest label."""
    for name in ("transition", "test.posterior", "regions.posterior"):
        if name in arrays:
            return read_array(arrays, name).shape[-1]
    return 1 + max(int(read_array(arrays, f"{split}.{name}").max()) for split in SPLITS for name in ("labels", "clean"))


def _nearest_votes(inputs: Mapping[str, Any], targets: Targets, k: int) -> dict[str, np.ndarray]:
    """Return the drawn labels of the nearest training samples as one-hot vectors, float64 (n, k) for each split.

    A training sample is its own nearest neighbour.
    """
    votes, labels = {}, targets["train"]["drawn"]
    for split in SPLITS:
        require_array(inputs, split)
        train, queries = inputs["train"], inputs[split]
        shape = (len(targets[split]["clean"]), train.shape[-1])
        require(queries.shape == shape, f"inputs.{split}", Found(f"shape {queries.shape}"), f"shape {shape}")
        index = np.arange(len(train)) if split == "train" else nearest(queries, train)
        votes[split] = np.eye(k)[labels[index]]
    return votes
