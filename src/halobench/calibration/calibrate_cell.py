"""Run the ``calibrate`` stage: fit calibrators to a cell's logits, and score the logits before and after calibration.

The calibrators, and the data to which each is fitted, are:

- ``none``: the logits as they are.
- ``exact``: the temperature with the lowest NLL on the drawn validation labels, with any noise, even if the posterior
  is known.
- ``paper``: the temperature at which the paper's fit stops, on the same labels as ``exact``.
- ``oracle``: the temperature with the lowest NLL on the test split, fitted separately to each kind of test labels. No
  other calibrator sees test labels.
- Other plug-ins (from `halobench.calibration.calibrators` or elsewhere): their own maps, fitted to the same labels as
  ``exact``. If a calibrator of probmetrics or netcal fails, its scores are NaN, and its fit states the ``reason``.

`halobench.calibration.scores.targets` documents which labels each split is scored against.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from halobench.calibration.arrays import check_logits
from halobench.calibration.calibrator import Calibrator, LibraryError, fit_checked
from halobench.calibration.calibrators.exact import TemperatureFit, fit_exactly, scaling
from halobench.calibration.scores import region_scores
from halobench.calibration.scores.region_scores import SampleRegions
from halobench.calibration.scores.sample_scores import cross_entropy
from halobench.calibration.scores.scoring import SplitScores, metrics_row
from halobench.calibration.scores.targets import SPLITS, Targets, read_array, read_targets, reported_labels
from halobench.calibration.temperature.rescaling import rescale
from halobench.core.errors import Found, SpecError, naming, refuse, require
from halobench.core.plugins import check_installed, find
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.calibrator import CalibratorSpec
from halobench.storage.columns import METRICS_COLUMNS, RELIABILITY_COLUMNS


@dataclass(frozen=True)
class Calibrated:
    """Fitted calibrators and their scores.

    Attributes
    ----------
    fits : list of dict
        Keys are calibrator, split and labels (used for fitting), T, beta, nll, gradient, converged, separable, and, if
        the fit failed, reason. Numbers that aren't finite become None. If T is infinite, T is None and beta = 0; both
        are None if no optimum is finite, and for calibrators without a temperature.
    metrics : DataFrame
        Columns are split, labels, calibrator, metric, value, low, high. Metrics that are means over all samples have
        95% percentile bootstrap intervals. Bounds are NaN for binned metrics, whose bootstrap intervals don't have the
        right coverage. If a calibrator's fit failed or has no finite optimum, all its values are NaN. If the
        distribution consists of regions, `halobench.calibration.scores.region_scores.scores` are added and, for
        ``none`` on test, `halobench.calibration.scores.region_scores.gaps`. Intervals on test are then too wide, since
        they ignore that each region has a fixed share of the test samples.
    reliability : DataFrame
        Columns are split (test), labels, calibrator, bin, lower, upper, count, confidence, accuracy. An empty bin has
        count 0 and NaN means.
    """

    fits: list[dict[str, Any]]
    metrics: pd.DataFrame
    reliability: pd.DataFrame


# Fits by (calibrator, split, labels), where split and labels are those that the calibrator was fitted to.
Key = tuple[str, str, str]
Fits = dict[Key, Calibrator]


def calibrate(
    arrays: Mapping[str, np.ndarray], spec: CalibrateSpec, seed: int, splits: tuple[str, ...] = SPLITS
) -> Calibrated:
    """Fit the calibrators of `spec` to a cell's logits, and return the fits with the scores of the calibrated logits.

    Parameters
    ----------
    arrays : mapping of name to array
        For each of `splits`, ``{split}.logits`` (n, k), ``{split}.labels`` (n,) as drawn, and ``{split}.clean`` (n,).
        The posterior, if known, is ``{split}.posterior`` (n, k), ``transition`` (k, k) with P(label = j | clean = i),
        or given by region, as read by `halobench.calibration.scores.region_scores.SampleRegions`.
    spec : CalibrateSpec
    seed : int
        The cell's seed. Cells that differ only in model or loss share their bootstrap resamples.
    splits : tuple of str
        The splits to use: val and test, and optionally train.

    Raises
    ------
    SpecError
        If an array is missing, has the wrong shape, or contains NaN; a logit is -inf, but a plug-in of `spec` takes
        only finite logits; or a calibrator isn't installed.
    """
    check_installed(spec.plugged)
    logits = {split: read_array(arrays, f"{split}.logits") for split in splits}
    require(logits["test"].ndim == 2, "test.logits", Found(f"shape {logits['test'].shape}"), "an array (n, k)")
    k = logits["test"].shape[1]
    regions = SampleRegions.read(arrays, splits)
    targets = read_targets(arrays, k, splits, regions)
    for split in splits:
        shape = (len(targets[split]["clean"]), k)
        require(
            logits[split].shape == shape, f"{split}.logits", Found(f"shape {logits[split].shape}"), f"shape {shape}"
        )
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


def fit_and_score(
    logits: Mapping[str, np.ndarray],
    targets: Targets,
    spec: CalibrateSpec,
    seed: int,
    regions: SampleRegions | None,
    uncalibrated: Mapping[str, np.ndarray] | None = None,
) -> Calibrated:
    """Fit the calibrators of `spec` and score the splits of `targets`; all arrays must already have been checked.

    For the calibrator ``none``, `uncalibrated` logits are scored or, by default, `logits`.
    """
    fits = _fit(logits, targets, spec)
    rows: list[dict[str, Any]] = []
    bins: list[tuple] = []
    for split in targets:
        scores, reported = SplitScores(split, targets[split], spec, seed, regions), reported_labels(targets, split)
        for name in spec.names:
            for key, labels in _fits_to_score(name, split, reported):
                plain = logits if uncalibrated is None else uncalibrated
                calibrated = _calibrated(fits, key, logits[split]) if key else rescale(plain[split], 1.0)
                scores.add(name, calibrated, labels)
        scores.add_intervals()
        rows += scores.rows
        bins += scores.bins
    return Calibrated(
        [_fit_row(*key, fit) for key, fit in fits.items()],
        pd.DataFrame(rows, columns=list(METRICS_COLUMNS)),
        pd.DataFrame(bins, columns=list(RELIABILITY_COLUMNS)),
    )


def _fit(logits: Mapping[str, np.ndarray], targets: Targets, spec: CalibrateSpec) -> Fits:
    """Fit the calibrators: the oracle once for each kind of test labels, ``none`` not at all."""
    fits: Fits = {}
    for name in spec.names:
        if name == "oracle":
            for labels in reported_labels(targets, "test"):
                fits[name, "test", labels] = scaling(_fit_oracle(logits["test"], targets["test"][labels]))
        elif name != "none":
            fits[name, "val", "drawn"] = _fit_plugin(spec.plug_ins[name], name, logits, targets["val"]["drawn"])
    return fits


def _fit_plugin(spec: CalibratorSpec, name: str, logits: Mapping[str, np.ndarray], labels: np.ndarray) -> Calibrator:
    """Fit a calibrator to validation logits; raise SpecError if it can't map a split's logits."""
    if not find("calibrators", spec.name).constants.get("MASKED"):
        for split, rows in logits.items():
            endless = not math.isfinite(rows.min())
            refuse(
                endless,
                f"{split}.logits",
                f"a logit is -inf; leave out the calibrator {name}, which requires finite logits",
            )
    try:
        return fit_checked(spec.name, logits["val"], labels, spec.options)
    except SpecError as error:
        raise error.within("val") if error.key.startswith(("logits", "targets")) else error from None


def _fit_oracle(logits: np.ndarray, targets: np.ndarray) -> TemperatureFit:
    """Return the exact fit, or a fit without a temperature if a target has mass where a logit is -inf."""
    if math.isinf(logits.min()) and math.isinf(cross_entropy(logits, targets).max()):
        return TemperatureFit(math.nan, math.nan, math.inf, math.nan, False, False)
    return fit_exactly(logits, targets)


def _fits_to_score(calibrator: str, split: str, reported: list[str]) -> list[tuple[Key | None, list[str]]]:
    """List the keys of a calibrator's fits that are scored on a split, each with the labels to score it against."""
    if calibrator == "none":
        return [(None, reported)]
    if calibrator == "oracle":
        return [((calibrator, split, labels), [labels]) for labels in reported if split == "test"]
    return [((calibrator, "val", "drawn"), reported)]


def _calibrated(fits: Fits, key: Key, logits: np.ndarray) -> np.ndarray | None:
    """Return calibrated logits; None if the fit has no map, or if a library's map fails (the fit then says why)."""
    fit = fits[key]
    try:
        return None if fit.transform is None else fit.transform(logits)
    except LibraryError as error:
        fits[key] = replace(fit, transform=None, converged=False, reason=error.sentence)
        return None


def _fit_row(calibrator: str, split: str, labels: str, fit: Calibrator) -> dict[str, Any]:
    """Convert a fit to plain data for JSON, which has no NaN or infinity."""
    numbers = {"T": fit.T, "beta": fit.beta, "nll": fit.nll, "gradient": fit.gradient}
    return {
        "calibrator": calibrator,
        "split": split,
        "labels": labels,
        **{key: float(value) if math.isfinite(value) else None for key, value in numbers.items()},
        "converged": bool(fit.converged),
        "separable": bool(fit.separable),
        **({"reason": fit.reason} if fit.reason else {}),
    }
