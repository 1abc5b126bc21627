"""Score calibrated logits on one split, as rows of the metrics table and bins of reliability diagrams.

Arrays must already have been checked; only kernels are called here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from halobench.calibration import binning, region_scores, resampling, sample_scores
from halobench.calibration.region_scores import SampleRegions
from halobench.core.seeding import generator
from halobench.core.specs import CalibrateSpec
from halobench.storage.columns import METRICS_COLUMNS

SCORES = ("error", "nll", "brier", "kl")
BINNED = ("ece", "ace_average", "ace_equal_mass", "mce", "classwise_ece", "ece_floor")
# For distributions that consist of regions, KL on own regions, KL on shared regions and KL / log k are also reported.
APART = ("kl_own", "kl_shared", "kl_per_log_k")


def metrics_row(split: str, labels: str, calibrator: str, metric: str, value: float) -> dict[str, Any]:
    """Return a row of the metrics table without an interval."""
    return dict(zip(METRICS_COLUMNS, (split, labels, calibrator, metric, value, math.nan, math.nan), strict=True))


class SplitScores:
    """The scores of one split, collected one calibrator at a time.

    Parameters
    ----------
    split : str
    targets : mapping of labels to array
        Labels (n,), or rows of probabilities (n, k) for ``noisy``.
    spec : CalibrateSpec
        Only its bins and draws are used.
    seed : int
    regions : SampleRegions or None

    Attributes
    ----------
    rows : list of dict
        Rows of the metrics table.
    bins : list of tuple
        Rows of the reliability diagram table, only for the test split.
    """

    def __init__(
        self,
        split: str,
        targets: Mapping[str, np.ndarray],
        spec: CalibrateSpec,
        seed: int,
        regions: SampleRegions | None,
    ):
        self.split, self.targets, self.spec, self.seed, self.regions = split, targets, spec, seed, regions
        self.rows: list[dict[str, Any]] = []
        self.bins: list[tuple] = []
        self._columns: list[tuple[int, np.ndarray]] = []  # row numbers, and the values whose mean each row contains

    def add(self, calibrator: str, calibrated: np.ndarray, reported: Sequence[str]) -> None:
        """Score the float64 logits `calibrated` (n, k), which are overwritten, against the labels `reported`."""
        by_logits = {labels: _logit_scores(calibrated, self.targets[labels], labels) for labels in reported}
        probabilities = sample_scores.softmax(calibrated, out=calibrated)
        predicted, confidence = sample_scores.predictions(probabilities)
        rng = generator(self.seed, "floor", self.split)
        floor = resampling.ece_floor(confidence, self.spec.bins, self.spec.floor_draws, rng)
        for labels, samples in by_logits.items():
            targets = self.targets[labels]
            correct = sample_scores.correctness(predicted, targets)
            samples |= {"error": 1.0 - correct, "brier": sample_scores.brier(probabilities, targets)}
            diagram = binning.bin_by_confidence(confidence, correct, self.spec.bins)
            values = samples | binning.gap_errors(diagram)
            values["ace_equal_mass"] = binning.equal_mass_error(confidence, correct, self.spec.bins)
            values["classwise_ece"] = binning.classwise_error(probabilities, targets, self.spec.bins)
            values["ece_floor"] = floor
            for metric in _reported_metrics(labels):
                self._add_row(labels, calibrator, metric, values[metric])
            if self.regions is not None:
                apart = region_scores.scores(samples, self.regions, self.split, labels)
                for metric, value in apart.items():
                    self._add_row(labels, calibrator, metric, value)
            if self.split == "test":
                self.bins += _bin_rows(diagram, (self.split, labels, calibrator))

    def add_missing(self, calibrator: str, reported: Sequence[str]) -> None:
        """Add rows of NaN for a calibrator whose fit has no finite optimum."""
        pairs = [(labels, metric) for labels in reported for metric in _reported_metrics(labels)]
        if self.regions is not None and "noisy" in reported:
            pairs += [("noisy", metric) for metric in APART]
        self.rows += [metrics_row(self.split, labels, calibrator, metric, math.nan) for labels, metric in pairs]

    def add_intervals(self) -> None:
        """Fill in the intervals of rows that are means over samples, all from the same resamples."""
        if not self._columns:
            return
        values = np.stack([column for _, column in self._columns], axis=1)
        rng = generator(self.seed, "bootstrap", self.split)
        low, high = resampling.bootstrap_intervals(values, self.spec.draws, rng)
        for (index, _), lower, upper in zip(self._columns, low, high, strict=True):
            self.rows[index] |= {"low": float(lower), "high": float(upper)}

    def _add_row(self, labels: str, calibrator: str, metric: str, value: np.ndarray | float) -> None:
        """Add a row; if `value` is an array (n,), the row contains its mean over samples."""
        if isinstance(value, np.ndarray):
            self._columns.append((len(self.rows), value))
        self.rows.append(metrics_row(self.split, labels, calibrator, metric, float(np.mean(value))))


def _reported_metrics(labels: str) -> list[str]:
    """List the metrics that are reported against `labels`; KL requires a posterior."""
    return [metric for metric in SCORES + BINNED if metric != "kl" or labels == "noisy"]


def _logit_scores(logits: np.ndarray, targets: np.ndarray, labels: str) -> dict[str, Any]:
    """Compute the per-sample scores that need logits, (n,) each, including KL if the targets are posteriors."""
    scores = {"nll": sample_scores.cross_entropy(logits, targets)}
    return scores | ({"kl": sample_scores.divergence(logits, targets)} if labels == "noisy" else {})


def _bin_rows(diagram: binning.Reliability, lead: tuple[str, ...]) -> list[tuple]:
    """Return the rows of a reliability diagram, each starting with `lead`; empty bins are included."""
    columns = (diagram.lower, diagram.upper, diagram.count, diagram.confidence, diagram.accuracy)
    return [(*lead, index, *row) for index, row in enumerate(zip(*columns, strict=True))]
