"""Resample labels for the floor of ECE, and samples for bootstrap intervals."""

from __future__ import annotations

import numpy as np

from halobench.calibration.arrays import check_probabilities, check_whole
from halobench.calibration.scores.binning import bin_edges, bin_index
from halobench.calibration.scores.sample_scores import predictions
from halobench.core.errors import Found, require


def ece_floor(probabilities: np.ndarray, bins: int, draws: int, rng: np.random.Generator) -> float:
    """Return the mean ECE that a perfectly calibrated predictor with these confidences would show on n samples.

    Correctness is drawn from Bernoulli(confidence), `draws` times. An observed ECE near the floor is not evidence
    against calibration. The floor of an ECE against rows of probabilities is at most this value, since no labels are
    drawn.

    `probabilities` are (n, k); `bins` and `draws` are whole numbers of at least 1.
    """
    check_whole("draws", draws, 1)
    check_whole("bins", bins, 1)
    return floor(predictions(check_probabilities(probabilities))[1], bins, draws, rng)


def floor(confidence: np.ndarray, bins: int, draws: int, rng: np.random.Generator) -> float:
    """Compute `ece_floor` from confidences (n,)."""
    confidence = np.sort(confidence)
    n = len(confidence)
    # Sorted by confidence, each bin is a run of consecutive samples.
    starts = np.unique(bin_index(confidence, bin_edges(bins)), return_index=True)[1]
    expected = np.add.reduceat(confidence, starts)
    errors = []
    for size in _draw_sizes(draws, n):
        correct = rng.random((size, n)) < confidence
        hits = np.add.reduceat(correct, starts, axis=1, dtype=np.float64)
        errors.append(np.abs(hits - expected).sum(axis=1) / n)
    return float(np.concatenate(errors).mean())


def bootstrap_intervals(
    values: np.ndarray, draws: int, rng: np.random.Generator, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return percentile bootstrap intervals for the mean of each column of values; all columns share the resamples.

    Parameters
    ----------
    values : (n, m) array
        One column per statistic. inf is allowed; a resample that contains an inf has mean inf.
    draws : int
        Number of resamples.
    rng : numpy.random.Generator
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    low, high : (m,) arrays
        Order statistics of the resampled means. Shared resamples pair the columns, so the difference between two
        columns can be bootstrapped as a third.

    References
    ----------
    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    check_whole("draws", draws, 1)
    require(0 < level < 1, "level", level, "a coverage in (0, 1)")
    values = np.asarray(values, dtype=np.float64)
    require(
        values.ndim == 2 and len(values) >= 1, "values", Found(f"shape {values.shape}"), "an array (n, m) with n >= 1"
    )
    n, endless = len(values), np.isinf(values)
    bad = np.isnan(values).any() or (values == -np.inf).any()
    require(not bad, "values", Found("NaN or -inf"), "finite numbers or inf")
    finite = np.where(endless, 0, values)
    touched = endless.any(axis=0)
    means = []
    for size in _draw_sizes(draws, n):
        # The samples' counts in a resample are multinomial, so one matrix product resamples all columns.
        counts = np.empty((size, n))
        for row, picks in zip(counts, rng.integers(n, size=(size, n)), strict=True):
            row[...] = np.bincount(picks, minlength=n)
        resampled = counts @ finite / n
        if touched.any():
            resampled[:, touched] = np.where(counts @ endless[:, touched] > 0, np.inf, resampled[:, touched])
        means.append(resampled)
    # (1 - .95) / 2 is slightly above .025, which would select the 26th of 1,000 means instead of the 25th.
    tails = [round((1 - level) / 2, 12), round((1 + level) / 2, 12)]
    low, high = np.quantile(np.concatenate(means), tails, axis=0, method="inverted_cdf")
    return low, high


def _draw_sizes(draws: int, n: int) -> list[int]:
    """Split `draws` of n numbers into parts of at most 2**16 numbers (half a MiB), or of one draw if n is larger."""
    size = max(1, (1 << 16) // n)
    return [min(size, draws - start) for start in range(0, draws, size)]
