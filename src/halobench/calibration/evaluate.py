"""The ``calibrate`` stage: fit calibrators to a cell's logits, and score them before and after, without torch.

(But for the calibrator ``matrix``, whose library imports it.)

The calibrators, and what each is fitted to:

- ``none``: the logits as they are.
- ``exact``: the optimum of the NLL on the validation labels as drawn (noisy if the data set is), never their posterior.
- ``released``: where the paper's released fit stops, on the same labels.
- ``oracle``: the optimum of the very objective that is reported, on the test split: the bound on what any temperature
  can do. Nothing else sees test labels.
- Plug-ins, those of `halobench.calibration.calibrators` and others: other families of maps, fitted to the labels of
  ``exact``.

`halobench.calibration.targets` says which labels a split is scored against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from halobench.calibration import calibrator as posthoc
from halobench.calibration import region_scores, sample_scores
from halobench.calibration.arrays import check_logits
from halobench.calibration.paper_fit import fit_as_paper
from halobench.calibration.region_scores import SampleRegions
from halobench.calibration.rescaling import rescale, temper
from halobench.calibration.scoring import SplitScores, metrics_row
from halobench.calibration.targets import SPLITS, Targets, read_array, read_targets, reported_labels
from halobench.calibration.temperature_scaling import TemperatureFit, fit_exactly, fit_temperature
from halobench.core.errors import naming, require
from halobench.core.plugins import check_installed
from halobench.core.specs import CalibrateSpec
from halobench.storage.columns import METRICS_COLUMNS, RELIABILITY_COLUMNS


@dataclass(frozen=True)
class Calibrated:
    """The fits of calibrators, and their scores.

    Attributes
    ----------
    fits : list of dict
        calibrator, split and labels (fitted on), T, beta, nll, gradient, converged, separable; numbers that are not
        finite are None: T is None with beta = 0 if T is infinite, and both are None if no optimum is finite, as they
        are for calibrators that have no temperature.
    metrics : DataFrame
        split, labels, calibrator, metric, value, low, high. 95% percentile bootstrap intervals for error, nll, brier
        and kl; NaN for binned metrics, whose bootstrap does not cover, and for means over a part of the samples. All
        NaN if the fit has no finite optimum. If the distribution consists of regions: kl_own, kl_shared and
        kl_per_log_k; of the train split error_own and error_shared; and as calibrator ``none`` on test what
        `halobench.calibration.region_scores.gaps` gives.
    reliability : DataFrame
        split (test), labels, calibrator, bin, lower, upper, count, confidence, accuracy; an empty bin has count 0 and
        NaN means.
    """

    fits: list[dict[str, Any]]
    metrics: pd.DataFrame
    reliability: pd.DataFrame


Fit = TemperatureFit | posthoc.Calibrator
Fits = Mapping[tuple[str, str, str], Fit]
"""Fits by (calibrator, split, labels) fitted on."""
Transform = Callable[[np.ndarray], np.ndarray]


def calibrate(
    arrays: Mapping[str, np.ndarray], spec: CalibrateSpec, seed: int, splits: tuple[str, ...] = SPLITS
) -> Calibrated:
    """Fit the calibrators of `spec` to a cell's logits and score them.

    Parameters
    ----------
    arrays : mapping of name to array
        For each of `splits`: ``{split}.logits`` (n, k), ``{split}.labels`` (n,) as drawn,
        ``{split}.clean`` (n,); and the posterior, if known, as ``{split}.posterior`` (n, k), as ``transition`` (k, k)
        that holds P(label = j | clean = i), or by region, as `halobench.calibration.region_scores.SampleRegions` reads
        it.
    spec : CalibrateSpec
    seed : int
        The cell's seed. Bootstrap resamples depend on it and on the split alone, so cells that differ in model or loss
        share them.
    splits : tuple of str
        Of train, val and test: val and test at least.

    Returns
    -------
    Calibrated

    Raises
    ------
    SpecError
        An array is missing, has another shape than it should, or holds NaN; a validation label falls on a logit of
        -inf; or a calibrator isn't installed.
    """
    check_installed(spec.plugged)
    logits = {split: read_array(arrays, f"{split}.logits") for split in splits}
    require(logits["test"].ndim == 2, "test.logits", f"shape {logits['test'].shape}", "an array (n, k)")
    k = logits["test"].shape[1]
    regions = SampleRegions.read(arrays, splits)
    targets = read_targets(arrays, k, splits, regions)
    for split in splits:
        shape = (len(targets[split]["clean"]), k)
        require(logits[split].shape == shape, f"{split}.logits", f"shape {logits[split].shape}", f"shape {shape}")
        with naming(split):
            logits[split] = check_logits(logits[split], masked=True)
    calibrated = fit_and_score(logits, targets, spec, seed, regions)
    if regions is None or "none" not in spec.names:
        return calibrated
    beta = fit_exactly(logits["val"], targets["val"]["drawn"]).beta
    gaps = region_scores.gaps(logits["test"], beta, regions)
    rows = [metrics_row("test", "noisy", "none", metric, gaps[metric]) for metric in region_scores.GAPS]
    table = pd.concat([calibrated.metrics, pd.DataFrame(rows, columns=list(METRICS_COLUMNS))], ignore_index=True)
    return Calibrated(calibrated.fits, table, calibrated.reliability)


def exact_beta(arrays: Mapping[str, np.ndarray]) -> float | None:
    """Return the inverse of the exact temperature on validation logits and labels; None if these are separable.

    Parameters
    ----------
    arrays : mapping
        ``val.logits`` (n, k) and ``val.labels`` (n,) among them.
    """
    fit = fit_temperature(arrays["val.logits"], arrays["val.labels"])
    return None if fit.separable else fit.beta


def fit_and_score(
    logits: Mapping[str, np.ndarray],
    targets: Targets,
    spec: CalibrateSpec,
    seed: int,
    regions: SampleRegions | None,
    uncalibrated: Mapping[str, np.ndarray] | None = None,
) -> Calibrated:
    """Fit the calibrators of `spec` to logits by split and score the splits of `targets`; arrays are checked before.

    The calibrator ``none`` scores the logits `uncalibrated`, by default those that the others are fitted to.
    """
    fits = _fit(logits, targets, spec)
    rows: list[dict[str, Any]] = []
    bins: list[tuple] = []
    for split in targets:
        scores = SplitScores(split, targets[split], spec, seed, regions)
        for name, transform, reported in _transforms(spec.names, fits, split, reported_labels(targets, split)):
            plain = uncalibrated if name == "none" and uncalibrated is not None else logits
            if transform is None:
                scores.add_missing(name, reported)
            else:
                scores.add(name, transform(plain[split]), reported)
        scores.add_intervals()
        rows += scores.rows
        bins += scores.bins
    return Calibrated(
        [_fit_row(*key, fit) for key, fit in fits.items()],
        pd.DataFrame(rows, columns=list(METRICS_COLUMNS)),
        pd.DataFrame(bins, columns=list(RELIABILITY_COLUMNS)),
    )


def _fit(logits: Mapping[str, np.ndarray], targets: Targets, spec: CalibrateSpec) -> Fits:
    """Return the fits of the calibrators, of which the oracle has one for each of test's labels and ``none`` none."""
    fits: dict[tuple[str, str, str], Fit] = {}
    for name, fit in (("exact", fit_exactly), ("released", fit_as_paper)):
        if name in spec.names:
            with naming("val"):
                fits[name, "val", "drawn"] = fit(logits["val"], targets["val"]["drawn"])
    if "oracle" in spec.names:
        for labels in reported_labels(targets, "test"):
            fits["oracle", "test", labels] = _fit_oracle(logits["test"], targets["test"][labels])
    for name, plugin in spec.plug_ins.items():
        lowest = {split: float(rows.min()) for split, rows in logits.items()}
        bad = next((split for split, value in lowest.items() if math.isinf(value)), "")
        require(not bad, f"{bad}.logits", "-inf", f"finite logits, which the calibrator {name} needs")
        fits[name, "val", "drawn"] = posthoc.fit(plugin.name, logits["val"], targets["val"]["drawn"], **plugin.options)
    return fits


def _fit_oracle(logits: np.ndarray, targets: np.ndarray) -> TemperatureFit:
    """Return the exact fit; one without a temperature if a target has mass where a logit is -inf."""
    if math.isinf(logits.min()) and math.isinf(sample_scores.cross_entropy(logits, targets).max()):
        return TemperatureFit(math.nan, math.nan, math.inf, math.nan, False, False)
    return fit_exactly(logits, targets)


def _transforms(
    calibrators: Iterable[str], fits: Fits, split: str, reported: list[str]
) -> list[tuple[str, Transform | None, list[str]]]:
    """Return what to score on a split: (calibrator, map of its logits, labels); the oracle has a map for each label."""
    transforms: list[tuple[str, Transform | None, list[str]]] = []
    for name in calibrators:
        if name == "none":
            transforms.append((name, lambda logits: rescale(logits, 1.0), reported))
        elif name != "oracle":
            transforms.append((name, _transform(fits[name, "val", "drawn"]), reported))
        elif split == "test":
            transforms += [(name, _transform(fits[name, split, labels]), [labels]) for labels in reported]
    return transforms


def _transform(fit: Fit) -> Transform | None:
    """Return the map from logits to calibrated ones (new arrays, -inf allowed), or None if no optimum is finite.

    Where the paper's fit ends below 0 its user divides by that T all the same: the ranking of the classes is reversed,
    and the result is scored.
    """
    if isinstance(fit, posthoc.Calibrator):
        return fit.transform
    if not math.isfinite(fit.beta):
        return None
    if fit.beta < 0:  # a class that is ruled out stays so
        return lambda logits: temper(np.where(np.isfinite(logits), -logits, -np.inf), -fit.beta)
    return lambda logits: temper(logits, fit.beta)


def _fit_row(calibrator: str, split: str, labels: str, fit: Fit) -> dict[str, Any]:
    """Return a fit as plain data for JSON, which has no NaN and no infinity."""
    numbers = {key: getattr(fit, key) for key in ("T", "beta", "nll", "gradient")}
    return {
        "calibrator": calibrator,
        "split": split,
        "labels": labels,
        **{key: float(value) if math.isfinite(value) else None for key, value in numbers.items()},
        "converged": bool(fit.converged),
        "separable": bool(fit.separable),
    }
