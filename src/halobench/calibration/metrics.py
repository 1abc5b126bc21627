"""Proper scores and binned calibration errors, in numpy.

`nll` and `kl` take logits; all others take probabilities. Targets are integer labels (n,) or rows of probabilities
(n, k): then a metric is its expectation under them, without a draw of labels. Means of per-point scores have a
``_per_point`` version for the bootstrap. Every function raises `halobench.core.errors.SpecError` on arrays of a wrong
shape, labels out of range, rows that are no distributions, and NaN.

Confidence is a row's largest probability; of classes that tie for it the first is the one predicted. Bins are of equal
width and closed on the left, as netcal's, and the last holds 1.0 too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halobench.calibration.arrays import adds_up, as_array, blocks, check_block, check_logits, check_rows, check_targets
from halobench.core.errors import one_of, require

ACE_KINDS = ("average", "equal_mass")
WORDS = {np.dtype(np.float32): np.uint32, np.dtype(np.float64): np.uint64}


def softmax(logits: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Probabilities of logits (n, k), float64; -inf gives 0.

    Parameters
    ----------
    logits : (n, k) array
        Finite, or -inf beside a finite one.
    out : (n, k) float64 array, optional
        Where to write; may be `logits` itself, which saves a copy.
    """
    logits = check_logits(logits, masked=True)
    out = np.empty(logits.shape) if out is None else out
    for rows in blocks(*logits.shape):
        block = out[rows]
        block[...] = logits[rows]
        block -= block.max(axis=1, keepdims=True)
        np.exp(block, out=block)
        block /= block.sum(axis=1, keepdims=True)
    return out


def nll_per_point(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each target in nats, (n,): sum over k of -t_k log softmax(logits)_k.

    A logit of -inf counts where the target has mass (then inf) and not elsewhere.
    """
    logits = check_logits(logits, masked=True)
    return _cross_entropy(logits, check_targets(targets, logits.shape))


def nll(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean negative log-likelihood in nats; see `nll_per_point`.

    Examples
    --------
    >>> nll(np.array([[1000.0, 0.0]]), np.array([1]))
    1000.0
    """
    return float(nll_per_point(logits, targets).mean())


def kl_per_point(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """KL(target || softmax(logits)) of each point in nats, (n,); equals the NLL where the target is a label."""
    logits = check_logits(logits, masked=True)
    targets = check_targets(targets, logits.shape)
    values = _cross_entropy(logits, targets)
    if targets.ndim == 2:
        for rows in blocks(*targets.shape):
            mass = targets[rows].astype(np.float64)
            values[rows] += np.einsum("ij,ij->i", mass, np.log(np.where(mass > 0, mass, 1)))
        # The divergence is at least 0; rounding may leave a negative 1e-16.
        np.maximum(values, 0, out=values)
    return values


def kl(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean KL(target || softmax(logits)) in nats; see `kl_per_point`."""
    return float(kl_per_point(logits, targets).mean())


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-sum over k of t_k log softmax(logits)_k, (n,), of checked arrays."""
    values = np.empty(len(logits))
    for rows in blocks(*logits.shape):
        shifted = logits[rows].astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(shifted).sum(axis=1))
        if targets.ndim == 1:
            values[rows] = log_total - shifted[np.arange(len(shifted)), targets[rows]]
        else:
            mass = targets[rows]
            expected = np.einsum("ij,ij->i", mass, np.where(mass > 0, shifted, 0), dtype=np.float64)
            values[rows] = log_total - expected
    return values


def error_per_point(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Probability that the predicted class is wrong, (n,): 0 or 1 for labels, 1 - t_argmax for rows."""
    return 1.0 - _top(probabilities, targets)[1]


def error(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean misclassification error, in [0, 1]."""
    return float(error_per_point(probabilities, targets).mean())


def brier_per_point(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Expected Brier score of each point, (n,), in [0, 2]: sum over k of E (p_k - 1{y = k})^2 = p.p - 2 p.t + 1.

    Under a target row t its least value is 1 - t.t, reached at p = t: the noise of the label counts.
    """
    probabilities = _checked(probabilities)
    targets = check_targets(targets, probabilities.shape)
    values = np.empty(len(probabilities))
    for rows in blocks(*probabilities.shape):
        block = probabilities[rows].astype(np.float64, copy=False)
        if targets.ndim == 1:
            agreement = block[np.arange(len(block)), targets[rows]]
        else:
            agreement = np.einsum("ij,ij->i", block, targets[rows])
        values[rows] = np.einsum("ij,ij->i", block, block) - 2 * agreement + 1
    return np.maximum(values, 0, out=values)


def brier(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean Brier score (the sum over classes), in [0, 2]; see `brier_per_point`."""
    return float(brier_per_point(probabilities, targets).mean())


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram; arrays (bins,).

    Attributes
    ----------
    lower, upper : edges in confidence.
    count : how many points; 0 in an empty bin.
    confidence, accuracy : their means; NaN in an empty bin.
    """

    lower: np.ndarray
    upper: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> Reliability:
    """Count, mean confidence and (expected) accuracy of the predicted class in each bin of equal width."""
    _check_bins(bins)
    confidence, correct = _top(probabilities, targets)
    return _binned(confidence, correct, bins)


def gap_errors(found: Reliability) -> dict[str, float]:
    """What the gaps of one reliability diagram tell: `ece`, `ace_average` (of kind ``average``) and `mce`.

    Each is what the function of its name gives; a single pass over the probabilities, `reliability`, serves all three.

    Examples
    --------
    >>> found = reliability(np.array([[0.95, 0.05], [0.4, 0.6], [0.4, 0.6]]), np.array([0, 1, 0]))
    >>> {name: round(value, 12) for name, value in gap_errors(found).items()}
    {'ece': 0.083333333333, 'ace_average': 0.075, 'mce': 0.1}
    """
    held = found.count > 0
    count, gap = found.count[held], np.abs(found.accuracy - found.confidence)[held]
    return {"ece": float(count @ gap / count.sum()), "ace_average": float(gap.mean()), "mce": float(gap.max())}


def ece(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean over points of abs(accuracy - confidence) of their bin, in [0, 1].

    Examples
    --------
    A confidence of exactly 1 lies in the last bin.

    >>> round(ece(np.array([[0.95, 0.05], [1.0, 0.0]]), np.array([0, 1])), 12)
    0.475
    """
    return gap_errors(reliability(probabilities, targets, bins))["ece"]


def mce(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Maximum calibration error: the largest abs(accuracy - confidence) of the bins that hold points."""
    return gap_errors(reliability(probabilities, targets, bins))["mce"]


def ace(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15, kind: str = "average") -> float:
    """Two errors that share an acronym; `kind` says which.

    Parameters
    ----------
    kind : {"average", "equal_mass"}
        ``average``: *average* calibration error, the unweighted mean of abs(accuracy - confidence) over the non-empty
        bins of equal width (netcal's ACE, which the paper reports). ``equal_mass``: *adaptive* calibration error of
        the predicted class, the same mean over `bins` groups of consecutive confidences of equal size (to within one
        point). Points of equal confidence share their mean correctness, so that their order is of no account.

    References
    ----------
    Neumann et al., "Relaxed Softmax", NIPS Workshop MLITS 2018 (average); Nixon et al., "Measuring Calibration in Deep
    Learning", CVPR Workshops 2019 (adaptive; theirs averages over classes too).
    """
    require(kind in ACE_KINDS, "kind", kind, one_of(ACE_KINDS, kind))
    if kind == "average":
        return gap_errors(reliability(probabilities, targets, bins))["ace_average"]
    _check_bins(bins)
    confidence, correct = _top(probabilities, targets)
    levels, group, size = np.unique(confidence, return_inverse=True, return_counts=True)
    confidence = np.repeat(levels, size)
    correct = np.repeat(np.bincount(group, weights=correct) / size, size)
    parts = np.array_split(confidence - correct, min(bins, len(confidence)))
    return float(np.mean([abs(part.mean()) for part in parts]))


@np.errstate(invalid="ignore", over="ignore")  # of sums of infinities, which are told
def classwise_ece(probabilities: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Mean over classes of the ECE of "is it class k?" with confidence p_k, in bins of equal width.

    References
    ----------
    Kull et al., "Beyond temperature scaling", NeurIPS 2019.
    """
    probabilities = _shaped(probabilities)
    edges = _edges(bins)
    n, k = probabilities.shape
    targets = check_targets(targets, (n, k))
    # Signed sums of p - t by bin and class. At most `bins` entries of a row lie above the first bin, so these alone are
    # sorted into bins one by one, and the first bin is what they leave of each class's total.
    sums = np.zeros((bins, k))
    total = np.zeros(k)
    for rows in blocks(n, k):
        check_block(probabilities[rows], "probabilities", rows.start)
        block = probabilities[rows].astype(np.float64, copy=False)
        total += block.sum(axis=0)
        flat = np.flatnonzero(block >= edges[1])
        row, column = np.divmod(flat, k)
        value = block.ravel()[flat]
        if targets.ndim == 1:
            value = value - (targets[rows][row] == column)
        else:
            total -= targets[rows].sum(axis=0, dtype=np.float64)
            value = value - targets[rows][row, column]
        where = _bin_of(block.ravel()[flat], edges) * k + column
        sums += np.bincount(where, weights=value, minlength=bins * k).reshape(bins, k)
    if targets.ndim == 1:
        total -= np.bincount(targets, minlength=k)
    if bins > 1:
        sums[0] = total - sums[1:].sum(axis=0)
    else:
        sums[0] = total
    return float(np.abs(sums).sum() / (n * k))


def ece_floor(probabilities: np.ndarray, bins: int, draws: int, rng: np.random.Generator) -> float:
    """Mean ECE that a perfectly calibrated predictor with these confidences would show at this n.

    Correctness is drawn as Bernoulli(confidence), `draws` times. An observed ECE near the floor tells nothing against
    calibration. For expected metrics (target rows that are posteriors) no label is drawn, so this is an upper bound of
    their floor, which is 0 for the posterior itself.

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
    edges = _edges(bins)
    confidence = np.sort(_checked(probabilities).max(axis=1).astype(np.float64))
    n = len(confidence)
    # Sorted by confidence, each bin is a run of consecutive points.
    starts = np.unique(_bin_of(confidence, edges), return_index=True)[1]
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
    """Percentile bootstrap intervals of the means of per-point columns, on shared resamples of the points.

    Parameters
    ----------
    values : (n, m) array
        A column a statistic. inf is allowed: a resample that holds such a point has mean inf.
    draws : int
        Number of resamples.
    rng : numpy.random.Generator
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    low, high : (m,) arrays
        Order statistics of the resampled means. Sharing resamples pairs the columns: differences may be bootstrapped as
        columns of their own.

    References
    ----------
    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    require(draws >= 1, "draws", draws, "at least 1")
    require(0 < level < 1, "level", level, "a coverage in (0, 1)")
    values = np.asarray(values, dtype=np.float64)
    require(values.ndim == 2 and len(values) >= 1, "values", f"shape {values.shape}", "per-point columns (n, m)")
    require(not np.isnan(values).any() and not (values == -np.inf).any(), "values", "NaN or -inf", "numbers or inf")
    n = len(values)
    endless = np.isinf(values)
    finite = np.where(endless, 0, values)
    touched = endless.any(axis=0)
    means = []
    for size in _draw_sizes(draws, n):
        # How often each point is drawn is multinomial; one product then resamples all columns.
        counts = np.empty((size, n))
        for row, picks in zip(counts, rng.integers(n, size=(size, n)), strict=True):
            row[...] = np.bincount(picks, minlength=n)
        resampled = counts @ finite / n
        if touched.any():
            resampled[:, touched] = np.where(counts @ endless[:, touched] > 0, np.inf, resampled[:, touched])
        means.append(resampled)
    # (1 - .95) / 2 is a little above .025, which would make the 26th of 1,000 means of the 25th.
    tails = [round((1 - level) / 2, 12), round((1 + level) / 2, 12)]
    low, high = np.quantile(np.concatenate(means), tails, axis=0, method="inverted_cdf")
    return low, high


def _draw_sizes(draws: int, n: int) -> list[int]:
    """`draws` cut into parts of about 2**16 drawn numbers: half a MiB, to stay in a core's cache with their counts."""
    size = max(1, (1 << 16) // n)
    return [min(size, draws - start) for start in range(0, draws, size)]


def _shaped(probabilities: np.ndarray) -> np.ndarray:
    """`probabilities` as an array (n, k) of real numbers; SpecError where they are none."""
    probabilities = as_array(probabilities)
    shaped = probabilities.ndim == 2 and probabilities.shape[0] >= 1 and probabilities.shape[1] >= 2
    shape = f"shape {probabilities.shape}"
    require(shaped, "probabilities", shape, "an array (n, k) of at least one row and two classes")
    require(probabilities.dtype.kind in "fiu", "probabilities", f"dtype {probabilities.dtype}", "real numbers")
    return probabilities


def _checked(probabilities: np.ndarray) -> np.ndarray:
    """The array if it is what it should be; SpecError otherwise (logits in place of probabilities, say)."""
    return check_rows(_shaped(probabilities), "probabilities")


@np.errstate(invalid="ignore", over="ignore")  # of sums of infinities, which are told
def _top(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and (expected) correctness of the predicted class, float64 (n,) each; checks both arrays."""
    probabilities = _shaped(probabilities)
    predicted = np.empty(len(probabilities), dtype=np.intp)
    confidence = np.empty(len(probabilities))
    for rows in blocks(*probabilities.shape):
        predicted[rows], confidence[rows] = _largest(probabilities[rows], rows.start)
    targets = check_targets(targets, probabilities.shape)
    correct = predicted == targets if targets.ndim == 1 else targets[np.arange(len(predicted)), predicted]
    return confidence, correct.astype(np.float64)


def _largest(block: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Index and value of each row's first largest number; checks the rows, of which the first is row `start`.

    Numbers of at least 0 are ordered as their bits are, read as whole numbers; those of a negative one are larger than
    all, so that it comes out as the largest and is seen. That saves a pass, and numpy finds whole numbers quicker.
    """
    words = WORDS.get(block.dtype)
    if words and adds_up(block):
        top = block.view(words).argmax(axis=1)
        value = block[np.arange(len(block)), top]
        if not np.signbit(value).any():
            return top, value
    check_block(block, "probabilities", start)
    top = block.argmax(axis=1)
    return top, block[np.arange(len(block)), top]


def _check_bins(bins: int) -> None:
    require(isinstance(bins, int | np.integer) and bins >= 1, "bins", bins, "a whole number of at least 1")


def _edges(bins: int) -> np.ndarray:
    """Edges (bins + 1,) of bins of equal width on [0, 1]."""
    _check_bins(bins)
    return np.linspace(0, 1, bins + 1)


def _bin_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Index of the bin [edge, next edge) of each value; 1.0 (and what rounding puts above it) in the last bin."""
    return np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2)


def _binned(confidence: np.ndarray, correct: np.ndarray, bins: int) -> Reliability:
    """Sort points into bins by confidence."""
    edges = _edges(bins)
    index = _bin_of(confidence, edges)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = (np.bincount(index, weights=part, minlength=bins) / count for part in (confidence, correct))
        return Reliability(edges[:-1], edges[1:], count, *means)
