"""Calibrator-free predictors that trained models are compared with: Bayes, uniform, nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from halobench.calibration.evaluate import (
    SPLITS,
    Calibrated,
    Targets,
    _calibrated,
    _get,
    _named,
    _posterior,
    _require,
    _targets,
)
from halobench.calibration.region_scores import Located
from halobench.core.errors import require
from halobench.core.specs import CalibrateSpec


def references(
    inputs: Mapping[str, Any], arrays: Mapping[str, np.ndarray], spec: CalibrateSpec, seed: int
) -> Calibrated:
    """Score predictors that are not trained, on the same data: ``bayes``, ``uniform`` and ``nearest``.

    ``bayes`` predicts the posterior (no rows where it is unknown), ``uniform`` 1/k; both as calibrator ``none`` alone.
    ``nearest`` gives all mass to the drawn label of the nearest training point: ``none`` as it is (one miss makes its
    NLL infinite), ``exact`` and ``oracle`` after temperature scaling of the one-hot vector as logits. ``released`` has
    no meaning there, since that fit depends on the scale of the logits and a one-hot vector has none of its own; those
    of `halobench.calibration.calibrator` are left to trained models.

    Parameters
    ----------
    inputs : mapping of split to (n, D) array
        Normalised pixels; or what has shape, length and slices as an array.
    arrays : mapping of name to array
        As for `calibrate`, without logits.
    spec : CalibrateSpec
    seed : int

    Returns
    -------
    Calibrated
        As from `calibrate`; a leading column ``model`` (in `fits` a key) names the predictor.

    Raises
    ------
    SpecError
    """
    k = _classes(arrays)
    targets = _targets(arrays, k)
    located = Located.of(arrays, SPLITS)
    plain = ("none",)  # whatever calibrators are asked for: these two have nothing to calibrate
    zeros = {split: np.zeros((len(targets[split]["clean"]), k)) for split in SPLITS}
    found = {"uniform": _calibrated(zeros, zeros, targets, plain, spec, seed, located)}
    posteriors = {split: _posterior(arrays, split, k) for split in SPLITS}
    known = {split: rows for split, rows in posteriors.items() if rows is not None}
    if len(known) == len(posteriors):
        with np.errstate(divide="ignore"):
            bayes = {split: np.log(rows) for split, rows in known.items()}
        found = {"bayes": _calibrated(bayes, bayes, targets, plain, spec, seed, located)} | found
    votes = _nearest_votes(inputs, targets, k)
    with np.errstate(divide="ignore"):
        certain = {split: np.log(rows) for split, rows in votes.items()}
    calibrators = tuple(name for name in spec.calibrators if name in ("none", "exact", "oracle"))
    found["nearest"] = _calibrated(votes, certain, targets, calibrators, spec, seed, located)
    return Calibrated(
        [{"model": model} | fit for model, part in found.items() for fit in part.fits],
        _named({model: part.metrics for model, part in found.items()}),
        _named({model: part.reliability for model, part in found.items()}),
    )


def nearest(queries: np.ndarray, points: np.ndarray, block: int = 256, room: int = 2**28) -> np.ndarray:
    """Index of the nearest of `points` (n, D) to each of `queries` (m, D) in Euclidean distance, int64 (m,).

    Distances come from products, abs(q - p)^2 / 2 = abs(q)^2 / 2 - q.p + abs(p)^2 / 2, whose first term is the same for
    all points; both sets are centred first, which keeps the cancellation small. Of equal distances the first wins. Both
    may be anything with a length, a shape and slices; of points, `room` bytes are looked at together.
    """
    step = max(block, room // (4 * points.shape[1]))
    parts = [slice(start, start + step) for start in range(0, len(points), step)]
    sums = (points[part].sum(axis=0, dtype=np.float64) for part in parts)
    centre = sum(sums, start=np.zeros(points.shape[1])) / len(points)
    best, found = np.full(len(queries), -np.inf), np.zeros(len(queries), dtype=np.int64)
    for part in parts:
        some = points[part]
        middle = centre.astype(some.dtype)
        some = some - middle
        half = np.einsum("ij,ij->i", some, some) / 2
        for start in range(0, len(queries), block):
            here = slice(start, start + block)
            nearness = (queries[here] - middle) @ some.T - half
            row = nearness.argmax(axis=1)
            value = nearness[np.arange(len(row)), row]
            nearer = value > best[here]
            found[here] = np.where(nearer, row + part.start, found[here])
            best[here] = np.where(nearer, value, best[here])
    return found


def _classes(arrays: Mapping[str, np.ndarray]) -> int:
    """The number of classes where no logits tell: from the posterior, else from the largest label."""
    for name in ("transition", "test.posterior", "regions.posterior"):
        if name in arrays:
            return _get(arrays, name).shape[-1]
    return 1 + max(int(_get(arrays, f"{split}.{name}").max()) for split in SPLITS for name in ("labels", "clean"))


def _nearest_votes(inputs: Mapping[str, Any], targets: Targets, k: int) -> dict[str, np.ndarray]:
    """One-hot drawn label of the nearest training point, float64 (n, k) by split; a training point is its own."""
    votes, memory = {}, targets["train"]["drawn"]
    for split in SPLITS:
        _require(inputs, split)
        train, points = inputs["train"], inputs[split]
        shape = (len(targets[split]["clean"]), train.shape[-1])
        require(points.shape == shape, f"inputs.{split}", f"shape {points.shape}", f"shape {shape}")
        chosen = np.arange(len(train)) if split == "train" else nearest(points, train)
        votes[split] = np.eye(k)[memory[chosen]]
    return votes
