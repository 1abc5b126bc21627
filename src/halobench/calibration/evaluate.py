"""The ``calibrate`` stage: temperatures fitted to a cell's logits, and metrics before and after, without torch.

(But for the calibrator ``matrix``, whose library imports it.)

What is fitted where, and what it is judged by:

- ``none``: the logits as they are.
- ``exact``: the optimum of the NLL on the validation labels as drawn (noisy where the data set is).
- ``released``: where the paper's released fit stops, on the same labels.
- ``oracle``: the optimum of the very objective that is reported, on the test split: the bound on what any temperature
  can do. Nothing else sees test labels.
- Those of `halobench.calibration.calibrator`, where asked for, and plug-ins: what other families of maps do, fitted to
  the labels of ``exact``.

Labels to judge by: ``drawn`` (one label a point, as trained on), ``clean`` (before label noise), ``noisy`` (the
expectation under the known posterior P(y | x), without a draw of labels).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from halobench.calibration import calibrator as posthoc
from halobench.calibration import metrics, region_scores
from halobench.calibration.arrays import check_logits
from halobench.calibration.paper_fit import fit_released
from halobench.calibration.region_scores import Located
from halobench.calibration.temperature_scaling import TemperatureFit, fit_temperature, scale, tempered
from halobench.core.errors import SpecError, require
from halobench.core.plugins import check_installed
from halobench.core.seeding import generator
from halobench.core.specs import CALIBRATORS, CalibrateSpec
from halobench.storage.columns import METRICS_COLUMNS, RELIABILITY_COLUMNS

SPLITS = ("train", "val", "test")
LABELS = {"train": ("drawn", "clean"), "val": ("drawn", "noisy", "clean"), "test": ("noisy", "clean")}
SCORES = ("error", "nll", "brier", "kl")
# Beside these, where the distribution consists of regions: the same on own and shared regions apart, KL / log k, and on
# the test split, of the logits as they are, what describes them as two-level logits.
APART = ("kl_own", "kl_shared", "kl_per_log_k")
BINNED = ("ece", "ace_average", "ace_equal_mass", "mce", "classwise_ece", "ece_floor")


@dataclass(frozen=True)
class Calibrated:
    """What the stage found.

    Attributes
    ----------
    fits : list of dict
        calibrator, split and labels (fitted on), T, beta, nll, gradient, converged, separable; numbers that are not
        finite are None: T is None beside beta = 0 where T is infinite, and both are None where no optimum is finite, as
        they are for calibrators that have no temperature.
    metrics : DataFrame
        split, labels, calibrator, metric, value, low, high. 95% percentile bootstrap intervals for error, nll, brier
        and kl; NaN for binned metrics, whose bootstrap does not cover, and for means over a part of the points. All NaN
        where the fit has no finite optimum. Where the distribution consists of regions: kl_own, kl_shared and
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
Transform = Callable[[np.ndarray], np.ndarray]
Targets = Mapping[str, Mapping[str, np.ndarray]]
"""Targets by split, then by labels: integers (n,) for drawn and clean, rows (n, k) for noisy."""


def calibrate(
    arrays: Mapping[str, np.ndarray], spec: CalibrateSpec, seed: int, splits: tuple[str, ...] = SPLITS
) -> Calibrated:
    """Fit the calibrators of `spec` to a cell's logits and score them.

    Parameters
    ----------
    arrays : mapping of name to array
        For each of `splits`: ``{split}.logits`` (n, k), ``{split}.labels`` (n,) as drawn,
        ``{split}.clean`` (n,); and the posterior, if known, as ``{split}.posterior`` (n, k), as ``transition`` (k, k)
        that holds P(label = j | clean = i), or by region, as `halobench.calibration.region_scores.Located` reads it.
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
        An array is missing, has another shape than it should, or holds NaN; or a calibrator isn't installed.
    """
    check_installed(spec.calibrators)
    logits = {split: _get(arrays, f"{split}.logits") for split in splits}
    require(logits["test"].ndim == 2, "test.logits", f"shape {logits['test'].shape}", "an array (n, k)")
    targets = _targets(arrays, logits["test"].shape[1], splits)
    for split in splits:
        shape = (len(targets[split]["clean"]), logits["test"].shape[1])
        require(logits[split].shape == shape, f"{split}.logits", f"shape {logits[split].shape}", f"shape {shape}")
        try:
            check_logits(logits[split])
        except SpecError as bad:
            raise bad.within(split) from None
    located = Located.of(arrays, splits)
    found = _calibrated(logits, logits, targets, spec.calibrators, spec, seed, located)
    if located is None or "none" not in spec.calibrators:
        return found
    beta = fit_temperature(logits["val"], targets["val"]["drawn"]).beta
    gaps = region_scores.gaps(logits["test"], beta, located)
    rows = [_row("test", "noisy", "none", metric, gaps[metric]) for metric in region_scores.GAPS]
    table = pd.concat([found.metrics, pd.DataFrame(rows, columns=list(METRICS_COLUMNS))], ignore_index=True)
    return Calibrated(found.fits, table, found.reliability)


def exact_beta(arrays: Mapping[str, np.ndarray]) -> float | None:
    """Return the inverse of the exact temperature on validation logits and labels; None if these are separable.

    Parameters
    ----------
    arrays : mapping
        ``val.logits`` (n, k) and ``val.labels`` (n,) among them.
    """
    fit = fit_temperature(arrays["val.logits"], arrays["val.labels"])
    return None if fit.separable else fit.beta


def _get(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """An array that must be there."""
    _require(arrays, name)
    return np.asarray(arrays[name])


def _require(arrays: Mapping[str, Any], name: str) -> None:
    """Raise SpecError if there is no such array."""
    if name not in arrays:
        raise SpecError(name, None, f"an array of this name beside {', '.join(sorted(arrays)) or 'none'}")


def _posterior(arrays: Mapping[str, np.ndarray], split: str, k: int) -> np.ndarray | None:
    """P(y | x) of a split's points, float64 (n, k), or None where it is unknown."""
    clean = _get(arrays, f"{split}.clean")
    if f"{split}.posterior" in arrays:
        rows = _get(arrays, f"{split}.posterior")
        shape = (len(clean), k)
        require(rows.shape == shape, f"{split}.posterior", f"shape {rows.shape}", f"shape {shape}")
        return rows.astype(np.float64)
    if "transition" in arrays:
        transition = _get(arrays, "transition")
        require(transition.shape == (k, k), "transition", f"shape {transition.shape}", f"shape {(k, k)}")
        return transition.astype(np.float64)[clean]
    if located := Located.of(arrays, (split,)):
        rows = located.rows(split)
        require(rows.shape == (len(clean), k), f"{split}.region", f"posterior {rows.shape}", f"{(len(clean), k)}")
        return rows
    return None


def _targets(arrays: Mapping[str, np.ndarray], k: int, splits: tuple[str, ...] = SPLITS) -> Targets:
    """What each split is judged by; ``noisy`` only where the posterior is known."""
    targets: dict[str, dict[str, np.ndarray]] = {}
    for split in splits:
        known = {"drawn": _get(arrays, f"{split}.labels"), "clean": _get(arrays, f"{split}.clean")}
        n = len(known["clean"])
        for name, labels in (("labels", known["drawn"]), ("clean", known["clean"])):
            require(
                labels.shape == (n,), f"{split}.{name}", f"shape {labels.shape}", f"one label a point, shape {(n,)}"
            )
            require(labels.dtype.kind in "iu", f"{split}.{name}", f"dtype {labels.dtype}", "integer labels")
            inside = n > 0 and labels.min() >= 0 and labels.max() < k
            require(inside, f"{split}.{name}", "labels", f"at least one, and all from 0 to {k - 1}")
        posterior = _posterior(arrays, split, k) if "noisy" in LABELS[split] else None
        if posterior is not None:
            known["noisy"] = posterior
        targets[split] = {name: known[name] for name in LABELS[split] if name in known}
        # The nearest-neighbour reference and the fits read drawn labels, which need not be among those reported.
        targets[split].setdefault("drawn", known["drawn"])
    return targets


def _judged(targets: Targets, split: str) -> list[str]:
    """The labels that a split is reported by."""
    return [labels for labels in LABELS[split] if labels in targets[split]]


def _fit(
    logits: Mapping[str, np.ndarray], targets: Targets, calibrators: Iterable[str]
) -> dict[tuple[str, str, str], Fit]:
    """The fits by (calibrator, split, labels) fitted on."""
    fits: dict[tuple[str, str, str], Fit] = {}
    for name, fit in (("exact", fit_temperature), ("released", fit_released)):
        if name in calibrators:
            fits[name, "val", "drawn"] = fit(logits["val"], targets["val"]["drawn"])
    if "oracle" in calibrators:
        for labels in _judged(targets, "test"):
            fits["oracle", "test", labels] = fit_temperature(logits["test"], targets["test"][labels])
    for name in (name for name in calibrators if name not in CALIBRATORS):
        fits[name, "val", "drawn"] = posthoc.fit(name, logits["val"], targets["val"]["drawn"])
    return fits


def _calibrated(
    logits: Mapping[str, np.ndarray],
    raw: Mapping[str, np.ndarray],
    targets: Targets,
    calibrators: tuple[str, ...],
    spec: CalibrateSpec,
    seed: int,
    located: Located | None,
) -> Calibrated:
    """Fit `calibrators` to `logits` and score the splits of `targets`; the calibrator ``none`` scores `raw` instead."""
    fits = _fit(logits, targets, calibrators)
    scored, diagrams = [], []
    for split in targets:
        rows, columns = [], []
        for name, transform, judged in _plan(calibrators, fits, split, _judged(targets, split)):
            if transform is None:
                rows += [_row(split, labels, name, metric, math.nan) for labels, metric in _wanted(judged)]
                if located and "noisy" in judged:
                    rows += [_row(split, "noisy", name, metric, math.nan) for metric in APART]
                continue
            scaled = transform((raw if name == "none" else logits)[split])
            surprise = {labels: _logit_scores(scaled, targets[split][labels], labels) for labels in judged}
            probabilities = metrics.softmax(scaled, out=scaled)
            floor = metrics.ece_floor(probabilities, spec.bins, spec.floor_draws, generator(seed, "floor", split))
            for labels in judged:
                points = surprise[labels] | _probability_scores(probabilities, targets[split][labels])
                diagram = metrics.reliability(probabilities, targets[split][labels], spec.bins)
                bins = _binned_scores(probabilities, targets[split][labels], diagram) | {"ece_floor": floor}
                for metric in (metric for wanted, metric in _wanted(judged) if wanted == labels):
                    value = float(points[metric].mean()) if metric in points else bins[metric]
                    if metric in points:
                        columns.append((len(rows), points[metric]))
                    rows.append(_row(split, labels, name, metric, value))
                if located:
                    for metric, values in region_scores.scores(points, located, split, labels).items():
                        if isinstance(values, np.ndarray):
                            columns.append((len(rows), values))
                        rows.append(_row(split, labels, name, metric, float(np.mean(values))))
                if split == "test":
                    diagrams += _diagram(diagram, (split, labels, name))
        _add_intervals(rows, columns, spec.draws, generator(seed, "bootstrap", split))
        scored += rows
    return Calibrated(
        [_fit_row(*key, fit) for key, fit in fits.items()],
        pd.DataFrame(scored, columns=list(METRICS_COLUMNS)),
        pd.DataFrame(diagrams, columns=list(RELIABILITY_COLUMNS)),
    )


def _plan(
    calibrators: tuple[str, ...], fits: Mapping[tuple[str, str, str], Fit], split: str, judged: list[str]
) -> list[tuple[str, Transform | None, list[str]]]:
    """What to score on a split: (calibrator, map of its logits, labels to judge by); the oracle has a map for each."""
    plan: list[tuple[str, Transform | None, list[str]]] = []
    for name in calibrators:
        if name == "none":
            plan.append((name, lambda logits: scale(logits, 1.0), judged))
        elif name != "oracle":
            plan.append((name, _transform(fits[name, "val", "drawn"]), judged))
        elif split == "test":
            plan += [(name, _transform(fits[name, split, labels]), [labels]) for labels in judged]
    return plan


def _transform(fit: Fit) -> Transform | None:
    """The map from logits to calibrated ones (new arrays, -inf allowed), or None where no optimum is finite."""
    if isinstance(fit, posthoc.Calibrator):
        return fit.logits if fit.transform else None
    if not 0 <= fit.beta < math.inf:
        return None
    return lambda logits: tempered(logits, fit.beta)


def _wanted(judged: list[str]) -> list[tuple[str, str]]:
    """The (labels, metric) reported; KL needs a posterior."""
    return [(labels, m) for labels in judged for m in SCORES + BINNED if m != "kl" or labels == "noisy"]


def _row(split: str, labels: str, calibrator: str, metric: str, value: float) -> dict[str, Any]:
    """A row of the metrics table, its interval still open."""
    return dict(zip(METRICS_COLUMNS, (split, labels, calibrator, metric, value, math.nan, math.nan), strict=True))


def _logit_scores(logits: np.ndarray, targets: np.ndarray, labels: str) -> dict[str, np.ndarray]:
    """Per-point scores that need logits; KL where the targets are posteriors."""
    scores = {"nll": metrics.nll_per_point(logits, targets)}
    return scores | ({"kl": metrics.kl_per_point(logits, targets)} if labels == "noisy" else {})


def _probability_scores(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Per-point scores that need probabilities."""
    return {
        "error": metrics.error_per_point(probabilities, targets),
        "brier": metrics.brier_per_point(probabilities, targets),
    }


def _binned_scores(probabilities: np.ndarray, targets: np.ndarray, diagram: metrics.Reliability) -> dict[str, float]:
    """Binned calibration errors, with as many bins as the reliability diagram has."""
    bins = len(diagram.count)
    return metrics.gap_errors(diagram) | {
        "ace_equal_mass": metrics.ace(probabilities, targets, bins, kind="equal_mass"),
        "classwise_ece": metrics.classwise_ece(probabilities, targets, bins),
    }


def _diagram(found: metrics.Reliability, lead: tuple[str, ...]) -> list[tuple]:
    """Rows of a reliability diagram, empty bins included."""
    columns = (found.lower, found.upper, found.count, found.confidence, found.accuracy)
    return [(*lead, index, *row) for index, row in enumerate(zip(*columns, strict=True))]


def _add_intervals(
    rows: list[dict[str, Any]], columns: list[tuple[int, np.ndarray]], draws: int, rng: np.random.Generator
) -> None:
    """Fill low and high of the rows that have per-point values, all from the same resamples."""
    if not columns:
        return
    low, high = metrics.bootstrap_intervals(np.stack([values for _, values in columns], axis=1), draws, rng)
    for (index, _), lower, upper in zip(columns, low, high, strict=True):
        rows[index] |= {"low": float(lower), "high": float(upper)}


def _fit_row(calibrator: str, split: str, labels: str, fit: Fit) -> dict[str, Any]:
    """A fit as plain data for JSON, which has no NaN and no infinity."""
    numbers = {key: getattr(fit, key) for key in ("T", "beta", "nll", "gradient")}
    return {
        "calibrator": calibrator,
        "split": split,
        "labels": labels,
        **{key: float(value) if math.isfinite(value) else None for key, value in numbers.items()},
        "converged": bool(fit.converged),
        "separable": bool(fit.separable),
    }


def _named(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables one on the other, led by a column ``model``."""
    parts = [table.assign(model=model)[["model", *table.columns]] for model, table in tables.items() if len(table)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["model", *METRICS_COLUMNS])
