"""Baselines for the calibration benchmarks: thin adapters for other libraries, and plain reference code.

Each returns a plain number or array, which can be compared with ours before anything is timed.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp


def sklearn_beta(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return 1 / T from scikit-learn's temperature scaling, the core of CalibratedClassifierCV(method="temperature").

    It is a bounded Brent search on log beta, in the precision of the logits.
    """
    from sklearn.calibration import _TemperatureScaling

    return float(_TemperatureScaling().fit(logits, labels).beta_)


class Probmetrics:
    """probmetrics' TemperatureScalingCalibrator(opt="bisection"), which takes 30 steps on the gradient, in torch.

    Its core is called directly, since it accepts logits as they are. They are converted only once, so that isn't timed.
    """

    def __init__(self, logits: np.ndarray, labels: np.ndarray):
        import torch
        from probmetrics.calibrators import TemperatureScalingCalibrator

        torch.set_num_threads(1)
        self.calibrator = TemperatureScalingCalibrator(opt="bisection")
        self.arrays = torch.from_numpy(logits), torch.from_numpy(labels)

    def beta(self) -> float:
        """Return 1 / T."""
        self.calibrator._fit_bisection(*self.arrays)
        return float(self.calibrator.invtemp_)


def netcal_errors(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> dict[str, float]:
    """Return netcal's ECE, ACE and MCE."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from netcal.metrics import ACE, ECE, MCE

        kinds = {"ece": ECE, "ace_average": ACE, "mce": MCE}
        return {name: float(kind(bins).measure(probabilities, labels)) for name, kind in kinds.items()}


def torch_uncertainty_classwise(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return torch_uncertainty's ClasswiseCalibrationError (norm l1, mean over classes).

    Like ours, it uses bins of equal width, closed on the left, with weights count / n, and takes the mean over all k
    classes. Unlike ours, it puts probabilities of exactly 1 in a separate bin, and sums in the precision of its input.
    """
    import torch
    from torch_uncertainty.metrics.classification import ClasswiseCalibrationError

    torch.set_num_threads(1)
    metric = ClasswiseCalibrationError(probabilities.shape[1], bins)
    metric.update(torch.from_numpy(probabilities), torch.from_numpy(labels))
    return float(metric.compute())


def mean_nll(logits: np.ndarray, labels: np.ndarray, beta: float) -> float:
    """Return the mean NLL at beta, in nats, from plain float64 code, a few rows at a time."""
    total = 0.0
    for start in range(0, len(logits), 4096):
        z = beta * logits[start : start + 4096].astype(np.float64)
        total += (logsumexp(z, axis=1) - z[np.arange(len(z)), labels[start : start + 4096]]).sum()
    return total / len(logits)


def least_nll(logits: np.ndarray, labels: np.ndarray, near: float) -> float:
    """Return the minimum of the mean NLL, in nats, by Brent's method around `near`."""
    bracket = (0.99 * near, near, 1.01 * near)
    return float(minimize_scalar(lambda beta: mean_nll(logits, labels, beta), bracket=bracket).fun)


def plain_bootstrap(
    logits: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return 95% percentile intervals for the error, NLL and Brier score, scoring the points again for each draw."""
    from halobench.calibration.scores import metric

    means = np.empty((draws, 3))
    for row in means:
        picks = rng.integers(len(labels), size=len(labels))
        z, p, y = logits[picks], probabilities[picks], labels[picks]
        row[...] = metric.error(p, y), metric.nll(z, y), metric.brier(p, y)
    means.sort(axis=0)
    low, high = (math.ceil(round(draws * tail, 6)) - 1 for tail in (0.025, 0.975))
    return means[low], means[high]


def made(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 logits (n, k) with standard deviation 2, and labels drawn at a temperature of 1 / 0.6."""
    rng = np.random.default_rng(seed)
    logits = np.empty((n, k), dtype=np.float32)
    labels = np.empty(n, dtype=np.int64)
    for start in range(0, n, 4096):
        part = slice(start, min(start + 4096, n))
        logits[part] = 2 * rng.standard_normal((part.stop - start, k), dtype=np.float32)
        labels[part] = (0.6 * logits[part] + rng.gumbel(size=(part.stop - start, k))).argmax(axis=1)
    return logits, labels


def agree(what: str, ours: float, theirs: float, relative: float) -> None:
    """Exit the program if two values aren't equal within a relative tolerance."""
    if not abs(ours - theirs) <= relative * abs(theirs):
        raise SystemExit(f"{what}: ours is {ours!r}, theirs {theirs!r}: no ratio of unequal results")
