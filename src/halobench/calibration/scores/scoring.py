"""Score calibrated logits on one split, as rows of the metrics table and bins of reliability diagrams.

Arrays must already have been checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from halobench.calibration.scores import binning, metric, region_scores, resampling, sample_scores
from halobench.calibration.scores.metric import Metric
from halobench.calibration.scores.region_scores import SampleRegions
from halobench.core.seeding import generator
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.storage.columns import METRICS_COLUMNS

# For distributions made of regions, the KL on own and on shared regions and KL / log k are also reported.
APART = ("kl_own", "kl_shared", "kl_per_log_k")


def metrics_row(split: str, labels: str, calibrator: str, name: str, value: float) -> dict[str, Any]:
    """Return a row of the metrics table without an interval."""
    return dict(zip(METRICS_COLUMNS, (split, labels, calibrator, name, value, math.nan, math.nan), strict=True))


class SplitScores:
    """Rows of the metrics table for one split and, for test, bins of reliability diagrams, calibrator by calibrator."""

    def __init__(
        self,
        split: str,
        targets: Mapping[str, np.ndarray],
        spec: CalibrateSpec,
        seed: int,
        regions: SampleRegions | None,
    ):
        self.split, self.targets, self.spec, self.seed, self.regions = split, targets, spec, seed, regions
        self.metrics = {
            name: Metric(score.name, score.options).with_bins(spec.bins) for name, score in spec.scores.items()
        }
        self.rows: list[dict[str, Any]] = []
        self.bins: list[tuple] = []
        self._columns: list[tuple[int, np.ndarray]] = []  # row numbers, and the values whose mean each row contains

    def add(self, calibrator: str, calibrated: np.ndarray | None, reported: Sequence[str]) -> None:
        """Score the float64 logits `calibrated` (n, k), overwriting them, against each kind of labels in `reported`.

        If `calibrated` is None, because the fit failed or has no finite optimum, all values are NaN.
        """
        if calibrated is None:
            missing = [(labels, name) for labels in reported for name in (*self._reported(labels), "ece_floor")]
            if self.regions is not None and "noisy" in reported:
                missing += [("noisy", name) for name in APART]
            for labels, name in missing:
                self._add_row(labels, calibrator, name, math.nan)
            return
        by_labels = {
            labels: self._compute({"logits": calibrated} | metric.by_kind(self.targets[labels])) for labels in reported
        }
        probabilities = sample_scores.softmax(calibrated, out=calibrated)
        predicted, confidence = sample_scores.predictions(probabilities)
        rng = generator(self.seed, "floor", self.split)
        floor = resampling.floor(confidence, self.spec.bins, self.spec.floor_draws, rng)
        for labels, values in by_labels.items():
            targets = self.targets[labels]
            correct = sample_scores.correctness(predicted, targets)
            arrays = {"probabilities": probabilities, "confidence": confidence, "correct": correct}
            values |= self._compute(arrays | metric.by_kind(targets))
            for name in self._reported(labels):
                self._add_row(labels, calibrator, name, values[name])
            self._add_row(labels, calibrator, "ece_floor", floor)
            if self.regions is not None:
                for name, value in region_scores.scores(values, self.regions, self.split, labels).items():
                    self._add_row(labels, calibrator, name, value)
            if self.split == "test":
                diagram = binning.bin_by_confidence(confidence, correct, self.spec.bins)
                columns = (diagram.lower, diagram.upper, diagram.count, diagram.confidence, diagram.accuracy)
                self.bins += [
                    (self.split, labels, calibrator, index, *bin_)
                    for index, bin_ in enumerate(zip(*columns, strict=True))
                ]

    def add_intervals(self) -> None:
        """Fill in the intervals of rows that are means over samples, using the same resamples for all."""
        if not self._columns:
            return
        values = np.stack([column for _, column in self._columns], axis=1)
        rng = generator(self.seed, "bootstrap", self.split)
        low, high = resampling.bootstrap_intervals(values, self.spec.draws, rng)
        for (index, _), lower, upper in zip(self._columns, low, high, strict=True):
            self.rows[index] |= {"low": float(lower), "high": float(upper)}

    def _reported(self, labels: str) -> list[str]:
        """List the names of the metrics reported against `labels`; some metrics require a posterior, others labels."""
        kind = metric.by_kind(self.targets[labels])
        return [name for name, score in self.metrics.items() if score.fits(kind)]

    def _compute(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Compute the metrics that need no arrays other than `arrays`."""
        return {name: score.compute(arrays) for name, score in self.metrics.items() if score.applies_to(arrays)}

    def _add_row(self, labels: str, calibrator: str, name: str, value: np.ndarray | float) -> None:
        """Add a row; if `value` is an array (n,), the row contains its mean over samples."""
        if isinstance(value, np.ndarray):
            self._columns.append((len(self.rows), value))
        self.rows.append(metrics_row(self.split, labels, calibrator, name, float(np.mean(value))))
