"""Baselines for the calibration benchmarks: thin adapters for other libraries, and plain reference code.

Each returns a plain number or array, which can be compared with ours before anything is timed.
"""

from __future__ import annotations

import math
import warnings

import numpy as np


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


def objective(logits: np.ndarray, labels: np.ndarray, beta: float) -> tuple[float, float, float]:
    """Return the mean NLL at beta and its first two derivatives, from plain float64 code, a few rows at a time."""
    sums = np.zeros(3)
    for start in range(0, len(logits), 4096):
        z = logits[start : start + 4096].astype(np.float64)
        points = np.arange(len(z))
        z -= z[points, labels[start : start + 4096]][:, None]  # the target's logit becomes 0
        top = (beta * z).max(axis=1)
        weights = np.exp(beta * z - top[:, None])
        total = weights.sum(axis=1)
        first = (weights * z).sum(axis=1) / total
        second = (weights * z * z).sum(axis=1) / total
        sums += (np.log(total) + top).sum(), first.sum(), (second - first**2).sum()
    return tuple(sums / len(logits))


def true_optimum(logits: np.ndarray, labels: np.ndarray, near: float) -> float:
    """Return the minimum of the mean NLL, in nats: Newton's method from `near` until its step is lost in rounding."""
    beta = near
    for _ in range(20):
        value, slope, curvature = objective(logits, labels, beta)
        step = -slope / curvature
        if abs(step) <= 1e-14 * beta:
            break
        beta += step
    return value


def plain_bootstrap(
    logits: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    draws: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Return percentile intervals for the error, NLL and Brier score, scoring the points again for each draw."""
    from halobench.calibration.scores import metric

    means = np.empty((draws, 3))
    for row in means:
        picks = rng.integers(len(labels), size=len(labels))
        z, p, y = logits[picks], probabilities[picks], labels[picks]
        row[...] = metric.error(p, y), metric.nll(z, y), metric.brier(p, y)
    return ends(means, level)


def ends(means: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the order statistics of resampled means (draws, m) at which an interval of this level ends."""
    ranks = (math.ceil(round(len(means) * tail, 6)) for tail in ((1 - level) / 2, (1 + level) / 2))
    found = np.sort(means, axis=0)
    return tuple(found[rank - 1] for rank in ranks)


def pointwise_bootstrap(
    values: np.ndarray, draws: int, rng: np.random.Generator, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same intervals by resampling each point's scores."""
    means = np.stack([values[rng.integers(len(values), size=len(values))].mean(axis=0) for _ in range(draws)])
    return ends(means, level)


def plain_classwise(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Compute classwise ECE, one class and one bin at a time."""
    edges = np.linspace(0, 1, bins + 1)
    n, k = probabilities.shape
    gaps = 0.0
    for c in range(k):
        p, hit = probabilities[:, c].astype(np.float64), labels == c
        where = np.minimum(np.searchsorted(edges, p, side="right") - 1, bins - 1)
        gaps += sum(abs(p[where == b].sum() - hit[where == b].sum()) for b in np.unique(where))
    return gaps / (n * k)


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
