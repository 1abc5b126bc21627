"""Compute the metrics of `halobench.calibration.metrics` from your own arrays.

``halobench.NAME(predictions, targets, **options)`` computes the metric NAME. `nll` and `kl` take logits; all others
take probabilities. Targets are integer labels (n,) or rows of probabilities (n, k), which weight the classes; `kl`
takes only rows. These functions raise `halobench.core.errors.SpecError` if an array has the wrong shape or contains
NaN, a label is out of range, or a row isn't a distribution.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from halobench.calibration.arrays import check_logits, check_probabilities, check_targets, check_unscaled, check_whole
from halobench.calibration.scores import binning, sample_scores
from halobench.calibration.scores.binning import Reliability
from halobench.core import plugins
from halobench.core.errors import Found, one_of, require
from halobench.core.specs.metric import OF_PROBABILITIES, parameters

ACE_KINDS = ("average", "equal_mass")


@dataclass(frozen=True)
class Metric:
    """A metric, identified by its plug-in's name, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def takes(self) -> list[str]:
        """Return the names of the arrays that the metric takes, as listed in `halobench.calibration.metrics`."""
        return parameters(self.name)

    def fits(self, targets: Mapping[str, np.ndarray]) -> bool:
        """Return whether the metric can be computed against `targets`, which `by_kind` has named."""
        return {"labels", "posterior"}.intersection(self.takes) <= targets.keys()

    def applies_to(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Return whether `arrays` includes every array that the metric takes."""
        return set(self.takes) <= arrays.keys()

    def with_bins(self, bins: int) -> Metric:
        """Return the metric with `bins` bins, or unchanged if it has no bins or their number is already set."""
        has_bins = "bins" in (plugins.find("metrics", self.name).options or {}) and "bins" not in self.options
        return Metric(self.name, {**self.options, "bins": bins}) if has_bins else self

    def compute(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray | float:
        """Return the metric's value, or a value per sample (n,), for arrays that have already been checked."""
        key, plugin = f"metrics.{self.name}", plugins.find("metrics", self.name)
        arguments = [arrays[name].copy() if plugin.is_outside else arrays[name] for name in self.takes]
        with plugins.calling(key) if plugin.is_outside else contextlib.nullcontext():
            value = np.asarray(plugin.load()(*arguments, **self.options), dtype=np.float64)
        n = len(arguments[0])
        require(
            value.shape in ((), (n,)),
            key,
            Found(f"a result of shape {value.shape}"),
            f"a number, or one per sample, ({n},)",
        )
        bad = np.isnan(value).any() or (value == -np.inf).any()
        require(not bad, key, Found("a result of NaN or -inf"), "finite numbers or inf")
        return value if value.ndim else float(value)

    def __call__(self, predictions: np.ndarray, targets: np.ndarray) -> float:
        """Check predictions (logits or probabilities) and targets; return the metric, or its mean over samples."""
        if "logits" in self.takes:
            predictions = check_logits(predictions, masked=True)
            check_unscaled(predictions)
            arrays = {"logits": predictions}
        else:
            predictions = check_probabilities(predictions)
            arrays = {"probabilities": predictions}
        arrays |= by_kind(check_targets(targets, predictions.shape))
        if set(self.takes) & set(OF_PROBABILITIES[1:]):
            predicted, arrays["confidence"] = sample_scores.predictions(predictions)
            arrays["correct"] = sample_scores.correctness(predicted, arrays["targets"])
        needed = "rows of probabilities" if "posterior" in self.takes else "labels"
        require(
            self.fits(arrays),
            "targets",
            Found(f"shape {arrays['targets'].shape}"),
            f"{needed}, which {self.name} needs",
        )
        return float(np.mean(self.compute(arrays)))


def by_kind(targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return targets under the names that metrics use: ``targets``, and ``labels`` or ``posterior``."""
    return {"targets": targets, "labels" if targets.ndim == 1 else "posterior": targets}


def __getattr__(name: str) -> Callable[..., float]:
    """Return the function that computes the metric `name` with options."""
    if name.startswith("_") or name not in plugins.names("metrics"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def metric(predictions: np.ndarray, targets: np.ndarray, **options: Any) -> float:
        if "bins" in options:
            check_whole("bins", options["bins"], 1)
        return Metric(name, plugins.find("metrics", name).without_defaults(options))(predictions, targets)

    metric.__name__ = metric.__qualname__ = name
    metric.__doc__ = plugins.load("metrics", name).__doc__
    return metric


def ace(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15, kind: str = "average") -> float:
    """Return the calibration error of this `kind`, in [0, 1]; two kinds are abbreviated as ACE.

    Parameters
    ----------
    kind : {"average", "equal_mass"}
        ``average``: *average* calibration error (netcal's ACE, which the paper reports). ``equal_mass``: *adaptive*
        calibration error of the predicted class.
    """
    require(kind in ACE_KINDS, "kind", kind, one_of(ACE_KINDS, kind))
    return __getattr__(f"ace_{kind}")(probabilities, targets, bins=bins)


def softmax(logits: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return the softmax, float64 (n, k), of logits (n, k) that are finite or, for a probability of 0, -inf.

    The result is written to `out` if provided, which may be `logits` itself.
    """
    return sample_scores.softmax(check_logits(logits, masked=True), out)


def reliability(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> Reliability:
    """Return the count, mean confidence and (expected) accuracy of the predicted class in each equal-width bin."""
    check_whole("bins", bins, 1)
    probabilities = check_probabilities(probabilities)
    predicted, confidence = sample_scores.predictions(probabilities)
    correct = sample_scores.correctness(predicted, check_targets(targets, probabilities.shape))
    return binning.bin_by_confidence(confidence, correct, bins)
