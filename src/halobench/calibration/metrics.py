"""Proper scores and binned calibration errors, in numpy.

`nll` and `kl` take logits; all others take probabilities. Targets are integer labels (n,) or rows of probabilities
(n, k); for the latter, a metric is its expectation under them, with no labels drawn. Means of per-sample scores have a
``_per_point`` version for the bootstrap. Every function checks its arguments and raises
`halobench.core.errors.SpecError` on arrays of the wrong shape, labels out of range, rows that aren't distributions, and
NaN. It then calls a kernel in `halobench.calibration.sample_scores`, `binning` or `resampling`; callers whose arrays
have already been checked can call the kernels directly.

Confidence is a row's largest probability; if classes tie for it, the first is predicted. Bins have equal width and are
closed on the left, as in netcal, and the last one also includes 1.0.
"""

from __future__ import annotations

import numpy as np

from halobench.calibration import binning, resampling, sample_scores
from halobench.calibration.arrays import (
    check_logits,
    check_matrix,
    check_probabilities,
    check_targets,
    check_whole,
    checked_blocks,
)
from halobench.calibration.binning import Reliability, gap_errors
from halobench.core.errors import one_of, require

ACE_KINDS = ("average", "equal_mass")
KEY = "probabilities"  # the array's name in errors about bad rows


def softmax(logits: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Compute the softmax of logits (n, k) in float64; a logit of -inf becomes a probability of 0.

    Parameters
    ----------
    logits : (n, k) array
        Finite, or -inf in a row that also has a finite logit.
    out : (n, k) float64 array, optional
        Where to write the result; may be `logits` itself, which saves a copy.
    """
    return sample_scores.softmax(check_logits(logits, masked=True), out)


def nll_per_point(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the negative log-likelihood of each target in nats, (n,): -sum over k of t_k log softmax(logits)_k.

    A logit of -inf contributes inf if the target has mass on it, and nothing otherwise.
    """
    logits = check_logits(logits, masked=True)
    return sample_scores.cross_entropy(logits, check_targets(targets, logits.shape))


def nll(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean negative log-likelihood in nats; see `nll_per_point`.

    Examples
    --------
    >>> nll(np.array([[1000.0, 0.0]]), np.array([1]))
    1000.0
    """
    return float(nll_per_point(logits, targets).mean())


def kl_per_point(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return KL(target || softmax(logits)) of each sample in nats, (n,); for labels, this equals the NLL."""
    logits = check_logits(logits, masked=True)
    return sample_scores.divergence(logits, check_targets(targets, logits.shape))


def kl(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean KL(target || softmax(logits)) in nats; see `kl_per_point`."""
    return float(kl_per_point(logits, targets).mean())


def error_per_point(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the probability that the predicted class is wrong, (n,): 0 or 1 for labels, 1 - t_argmax for rows."""
    return 1.0 - _confidence_and_correctness(probabilities, targets)[1]


def error(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean misclassification error, in [0, 1]."""
    return float(error_per_point(probabilities, targets).mean())


def brier_per_point(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the expected Brier score of each sample, (n,), in [0, 2]: sum over k of E (p_k - 1{y = k})^2.

    It equals p.p - 2 p.t + 1. Under a target row t its minimum is 1 - t.t, at p = t, so the score includes label noise.
    """
    probabilities = check_probabilities(probabilities)
    return sample_scores.brier(probabilities, check_targets(targets, probabilities.shape))


def brier(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean Brier score (the sum over classes), in [0, 2]; see `brier_per_point`."""
    return float(brier_per_point(probabilities, targets).mean())


def reliability(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> Reliability:
    """Return the count, mean confidence and (expected) accuracy of the predicted class in each equal-width bin."""
    check_whole("bins", bins, 1)
    return binning.bin_by_confidence(*_confidence_and_correctness(probabilities, targets), bins)


def ece(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error in [0, 1]: the mean over samples of their bin's abs(accuracy - confidence).

    Examples
    --------
    A confidence of exactly 1 lies in the last bin.

    >>> round(ece(np.array([[0.95, 0.05], [1.0, 0.0]]), np.array([0, 1])), 12)
    0.475
    """
    return gap_errors(reliability(probabilities, targets, bins))["ece"]


def mce(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Return the maximum calibration error, in [0, 1]: the largest abs(accuracy - confidence) of any non-empty bin."""
    return gap_errors(reliability(probabilities, targets, bins))["mce"]


def ace(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15, kind: str = "average") -> float:
    """Return one of the two calibration errors, in [0, 1], that are abbreviated as ACE.

    Parameters
    ----------
    kind : {"average", "equal_mass"}
        ``average``: *average* calibration error, the unweighted mean of abs(accuracy - confidence) over the non-empty
        bins of equal width (netcal's ACE, which the paper reports). ``equal_mass``: *adaptive* calibration error of the
        predicted class, the same mean over `bins` equal-sized groups (to within one sample) of consecutive confidences.
        Samples with equal confidence are all assigned their mean correctness, so their order doesn't matter.

    References
    ----------
    Neumann et al., "Relaxed Softmax", NIPS Workshop MLITS 2018 (average); Nixon et al., "Measuring Calibration in Deep
    Learning", CVPR Workshops 2019 (adaptive; theirs averages over classes too).
    """
    require(kind in ACE_KINDS, "kind", kind, one_of(ACE_KINDS, kind))
    if kind == "average":
        return gap_errors(reliability(probabilities, targets, bins))["ace_average"]
    check_whole("bins", bins, 1)
    return binning.equal_mass_error(*_confidence_and_correctness(probabilities, targets), bins)


def classwise_ece(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Return the ECE of "is it class k?" with confidence p_k in equal-width bins, averaged over the classes.

    References
    ----------
    Kull et al., "Beyond temperature scaling", NeurIPS 2019.
    """
    probabilities = check_matrix(probabilities, KEY)
    check_whole("bins", bins, 1)
    targets = check_targets(targets, probabilities.shape)
    return binning.classwise_error(probabilities, targets, bins, checked_blocks(probabilities, KEY))


def ece_floor(probabilities: np.ndarray, bins: int, draws: int, rng: np.random.Generator) -> float:
    """Return the mean ECE that a perfectly calibrated predictor with these confidences would show on n samples.

    Correctness is drawn as Bernoulli(confidence), `draws` times. An observed ECE near the floor is not evidence against
    calibration. For expected metrics (whose target rows are posteriors), no labels are drawn, so this is an upper bound
    on their floor, which is 0 for the posterior itself.

    Parameters
    ----------
    probabilities : (n, k) array
    bins, draws : int
    rng : numpy.random.Generator

    Returns
    -------
    float
    """
    require(draws >= 1, "draws", draws, "at least 1")
    check_whole("bins", bins, 1)
    confidence = sample_scores.predictions(check_probabilities(probabilities))[1]
    return resampling.ece_floor(confidence, bins, draws, rng)


def bootstrap_intervals(
    values: np.ndarray, draws: int, rng: np.random.Generator, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Compute percentile bootstrap intervals for the means of columns of per-sample values, from shared resamples.

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
        Order statistics of the resampled means. Sharing resamples pairs the columns, so a difference between two can be
        bootstrapped as a column of its own.

    References
    ----------
    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    require(draws >= 1, "draws", draws, "at least 1")
    require(0 < level < 1, "level", level, "a coverage in (0, 1)")
    values = np.asarray(values, dtype=np.float64)
    require(values.ndim == 2 and len(values) >= 1, "values", f"shape {values.shape}", "an array (n, m) with n >= 1")
    require(
        not np.isnan(values).any() and not (values == -np.inf).any(), "values", "NaN or -inf", "finite numbers or inf"
    )
    return resampling.bootstrap_intervals(values, draws, rng, level)


def _confidence_and_correctness(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check both arrays; return the confidence and (expected) correctness of the predicted class, float64 (n,) each."""
    probabilities = check_matrix(probabilities, KEY)
    predicted, confidence = sample_scores.predictions(probabilities, checked_blocks(probabilities, KEY))
    targets = check_targets(targets, probabilities.shape)
    return confidence, sample_scores.correctness(predicted, targets)
