"""Suspect samples that depend on each other although no groups were passed: copies of samples, and rows of one subject.

A sample's residual is its label, as a one-hot row, minus its probabilities under temperature scaling (TS), minus the
mean of this difference over the samples with the same prediction. Two residuals agree if their inner product is large.
If samples are independent draws, residuals agree only to the extent that TS is wrong at both samples, beyond confusing
whole classes. TS is about as wrong at a sample's nearest neighbour among the logits as at farther ones: the 21st to
40th, if there are so many. `find_dependence` therefore compares how well a sample's residual agrees with its nearest
neighbour's and with those of farther neighbours. Copies, such as augmented versions of an image, share a label and have
similar logits, so their residuals agree far better with the nearest neighbour's than with those of farther ones. Copies
also share labels that are rare among samples with the same prediction. Votes reveal where TS is wrong so precisely that
this comparison fails, so copies of samples with votes are recognised by equal votes.

Independent samples agree with their nearest neighbours, too, if TS is wrong in patches of the logits' space, as it is
for a network that is used on other data. `near_groups` therefore puts near neighbours into small groups: a map that is
fitted without a sample's copies no longer knows its label, but hardly misses a few samples of a patch.

Rows of one subject, such as images of a patient, usually follow each other in a file. The means of their residuals, or
of their scores (d NLL / d log beta at TS's beta), then vary more between successive batches of rows than by chance. In
a file that is sorted by class, these means always vary, so such a file isn't tested in this way.

The tests show only that samples depend on each other, not which ones. `Dependence.factor` estimates how many samples
count as one: the factor by which dependence multiplies the variance of a mean. Subjects whose rows are shuffled, and
copies whose logits are as far apart as those of other samples, can't be detected.

References
----------
T. Conley, "GMM Estimation with Cross Sectional Dependence", Journal of Econometrics 92, 1999: variances if samples that
are close in a space depend on each other. J. Flegal, G. Jones, "Batch means and spectral variance estimators in Markov
chain Monte Carlo", Annals of Statistics 38, 2010: the variance of a mean from the means of batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halobench.calibration.arrays import unweighted
from halobench.calibration.scores.sample_scores import mass_of, softmax
from halobench.calibration.temperature.rescaling import power_of_two, rescale
from halobench.calibration.temperature.search import solve
from halobench.core.seeding import generator

FEWEST = 20  # with fewer samples, nothing can be noticed
NEIGHBOURS = 40  # the nearer half may be copies; the other half shows how far residuals agree anyway
AGREEING = 0.15  # the smallest agreement, as a share of the largest
CLEAR = 3.5  # its smallest size in standard errors
DIMENSIONS = 10  # logits of more classes are projected at random, which hardly changes who is near
BATCHES, CHANCE = (5, 10, 20, 40), 1e-3  # numbers of batches of rows, and the largest chance of the largest ratio
SHARED, PAIRS = 0.5, 3  # the smallest share of pairs that share an unusual label, and the fewest such pairs
REPEATED = 0.3  # the smallest excess share of equal votes
SORTED = 0.6  # the largest variance of the places of rows with the same label, in units of that of all rows
JITTER = 1e-9  # of the logits' standard deviation; it puts equal logits in a random order
SMALL, TWICE = 10, 2  # groups of near neighbours have at most `SMALL` samples, or `TWICE` as many as count as one
LARGEST = 20_000  # of more samples, as many successive ones are examined


@dataclass(frozen=True)
class Dependence:
    """The way in which samples depend on each other.

    Attributes
    ----------
    kind : str
        ``copies`` (samples with similar logits share labels, as copies do and errors in patches) or ``order``
        (successive rows err alike).
    factor : float
        About how many samples count as one, at least 1.
    """

    kind: str
    factor: float


def find_dependence(logits: np.ndarray, targets: np.ndarray) -> Dependence | None:
    """Return how samples depend on each other, or None if no dependence was detected.

    `logits` (n, k) must be finite; `targets` are labels (n,) or shares of votes (n, k); weights are ignored. Only the
    first `LARGEST` samples are examined.
    """
    logits, targets = logits[:LARGEST], unweighted(targets[:LARGEST])
    n, k = logits.shape
    if n < FEWEST:
        return None
    ts = solve(logits, targets)
    scaled = rescale(logits, 1.0 if ts.separable else ts.beta)  # without errors, TS's own residuals would be nearly 0
    p, mass = softmax(scaled), mass_of(targets, k)
    residuals = mass - p
    scores = np.einsum("ij,ij->i", -residuals, np.where(p > 0, scaled, 0.0))
    near = _nearest(logits)[1]
    half, top = near.shape[1] // 2, logits.argmax(axis=1)
    residuals, scores = residuals - _mean_by(top, residuals, k), scores - _mean_by(top, scores[:, None], k)[:, 0]
    most = float((residuals**2).sum(axis=1).mean())
    far, labels = [residuals[near[:, rank]] for rank in range(half, near.shape[1])], mass.argmax(axis=1)
    if (mass.max(axis=1) < 1).any():
        copies = _repeated(mass, near)
    else:
        copies = _agree(residuals, residuals[near[:, 0]], far, most)
        copies = copies and _share_unusual_labels(labels, top, near[:, 0], k)
    of_rows, chance = 1.0, 1.0
    if not _is_sorted(labels, k):
        tests = [_batches(each) for each in (scores[:, None], residuals)]
        of_rows, chance = max(ratio for ratio, _ in tests), min(chance for _, chance in tests)
    if copies:
        return Dependence("copies", max(_factor_of_copies(scores, near), of_rows if chance < CHANCE else 1.0))
    return Dependence("order", of_rows) if chance < CHANCE else None


def near_groups(logits: np.ndarray, factor: float) -> np.ndarray:
    """Return groups (n,) of near neighbours that hold all copies of most samples if `factor` of them count as one.

    Pairs of neighbours are joined, the nearest first, unless their group would be larger than `SMALL` and `TWICE` as
    many as count as one.
    """
    distances, near = (each[:, : NEIGHBOURS // 2] for each in _nearest(logits))
    most = max(SMALL, round(TWICE * factor))
    leader, size = list(range(len(near))), [1] * len(near)

    def first(sample: int) -> int:
        while leader[sample] != sample:
            leader[sample] = sample = leader[leader[sample]]
        return sample

    for pair in np.argsort(distances, axis=None, kind="stable").tolist():
        row, rank = divmod(pair, near.shape[1])
        one, other = first(row), first(int(near[row, rank]))
        if one != other and size[one] + size[other] <= most:
            leader[other] = one
            size[one] += size[other]
    return np.unique([first(sample) for sample in range(len(near))], return_inverse=True)[1]


def _share_unusual_labels(labels: np.ndarray, top: np.ndarray, nearest: np.ndarray, k: int) -> bool:
    """Return whether at least half of the pairs of nearest neighbours with an unusual label share their label.

    A label is unusual if it isn't the most frequent one for its prediction. If samples are independent and a fifth of
    labels are unusual, at most a ninth of such pairs agree on average. Fewer than `PAIRS` such pairs don't count.
    """
    counts = np.zeros((k, k))
    np.add.at(counts, (top, labels), 1)
    unusual = labels != counts.argmax(axis=1)[top]
    pairs = unusual | unusual[nearest]
    return bool(pairs.sum() >= PAIRS and (labels == labels[nearest])[pairs].mean() >= SHARED)


def _is_sorted(labels: np.ndarray, k: int) -> bool:
    """Return whether rows with the same label are much closer together in the file than rows in general."""
    places = np.arange(len(labels), dtype=np.float64)
    within = places - _mean_by(labels, places[:, None], k)[:, 0]
    return bool((within**2).mean() < SORTED * places.var())


def _agree(residuals: np.ndarray, near: np.ndarray, far: list[np.ndarray], most: float) -> bool:
    """Return whether residuals (n, k) agree clearly more with the `near` ones than, on average, with the `far` ones.

    `most` is the mean agreement of residuals with themselves.
    """
    excess = np.einsum("ij,ij->i", residuals, near)
    for each in far:
        excess = excess - np.einsum("ij,ij->i", residuals, each) / len(far)
    error = np.sqrt((excess**2).sum()) / len(excess)
    return bool(excess.mean() > max(AGREEING * most, CLEAR * error))


def _repeated(votes: np.ndarray, near: np.ndarray) -> bool:
    """Return whether split votes (n, k) equal the nearest neighbour's clearly more often than a farther neighbour's."""
    split = np.flatnonzero(votes.max(axis=1) < 1)
    same = (votes[split, None] == votes[near[split]]).all(axis=2)
    excess = same[:, 0] - same[:, near.shape[1] // 2 :].mean(axis=1)
    error = np.sqrt((excess**2).sum()) / len(excess)
    return bool(excess.mean() > max(REPEATED, CLEAR * error))


def _mean_by(classes: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """Return, for each sample, the mean of values (n, d) over the samples of the same class."""
    sums = np.zeros((k, values.shape[1]))
    np.add.at(sums, classes, values)
    return sums[classes] / np.bincount(classes, minlength=k)[classes][:, None]


def _nearest(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances and row numbers of each sample's nearest neighbours among the logits, nearest first."""
    from scipy.spatial import KDTree

    points = logits / power_of_two(logits)
    points = points - points.mean(axis=1, keepdims=True)  # a constant per row doesn't change probabilities
    rng = generator(0, "dependence")
    if points.shape[1] > DIMENSIONS:
        points = points @ rng.normal(size=(points.shape[1], DIMENSIONS))
    points = points + JITTER * (points.std() or 1.0) * rng.normal(size=points.shape)
    distances, near = KDTree(points).query(points, 1 + min(NEIGHBOURS, len(points) - 1))
    return distances[:, 1:], near[:, 1:]


def _factor_of_copies(scores: np.ndarray, near: np.ndarray) -> float:
    """Return the factor, at least 1, by which copies multiply the variance of the scores' mean.

    The factor is 1 plus the sum of the scores' correlations with nearer neighbours, after subtracting the mean
    correlation with farther ones from each.
    """
    products = (scores[:, None] * scores[near]).mean(axis=0)
    half = near.shape[1] // 2
    return _at_least_one((products[:half] - products[half:].mean()).sum(), scores)


def _batches(values: np.ndarray) -> tuple[float, float]:
    """Return the ratio of the variance of batch means to its expectation for independent rows, and a p-value.

    The ratio, at least 1, is the largest over the numbers of batches. The p-value, of the hypothesis that rows (n, d)
    are independent, is the smallest of all, after Bonferroni's correction. The variances are summed over the d columns,
    whose covariance matrix determines how many independent columns they count as.
    """
    from scipy.stats import chi2

    values = values - values.mean(axis=0)
    covariance = values.T @ values / len(values)
    total = float(np.trace(covariance))
    if total <= 0:
        return 1.0, 1.0
    columns = total**2 / float((covariance**2).sum())
    ratios, chances = [1.0], [1.0]
    for number in BATCHES:
        size = len(values) // number
        if size < 2:
            break
        means = values[: size * number].reshape(number, size, -1).mean(axis=1)
        ratio = size * float(means.var(axis=0, ddof=1).sum()) / total
        freedom = columns * (number - 1)
        ratios.append(ratio)
        chances.append(2 * len(BATCHES) * float(chi2.sf(freedom * ratio, freedom)))
    return max(ratios), min(chances)


def _at_least_one(excess: float, scores: np.ndarray) -> float:
    variance = float((scores**2).mean())
    return 1 + max(0.0, float(excess) / variance) if variance > 0 else 1.0
