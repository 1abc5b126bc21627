"""Compute parts of a diagnosis: a temperature with its sampling error, confusions, a shift and a repair ladder."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import numpy as np

from halobench.calibration.arrays import weights_of
from halobench.calibration.calibrators.exact import TemperatureFit, fit_exactly
from halobench.calibration.calibrators.paper import fit_as_paper
from halobench.calibration.ladder import RepairLadder, ladder
from halobench.calibration.repair.families import FAMILIES
from halobench.calibration.repair.groups import Groups
from halobench.calibration.repair.trials import BINS, NORMAL
from halobench.calibration.scores import resampling
from halobench.calibration.scores.binning import bin_by_confidence
from halobench.calibration.scores.sample_scores import correctness, cross_entropy, mass_of, predictions, softmax
from halobench.calibration.temperature.rescaling import rescale
from halobench.core.errors import SpecError
from halobench.core.seeding import generator
from halobench.core.specs.data import LADDER_SAMPLES

log = logging.getLogger(__name__)

POINTS, FEW_POINTS, MANY_LOGITS = 40, 10, 1e7  # numbers of points on the NLL's curve, the latter for many logits
WIDE = 20.0  # half the width of the interval of log T from which nothing is known of T
WIDEST = 64  # others beyond this multiple or fraction of the optimal temperature are left out of the curve
PAIRS = 5  # number of confusions to list
LEVEL = 0.01  # joint level of the two tests for a shift
EXPECTED = 5  # the smallest expected count of a class in the test of class counts; rarer classes are pooled
FEWEST = 20  # with fewer samples, nothing is said of their order
ROUNDING = 1e-14  # differences of probabilities, as a share of them, that may be rounding
FLOOR_DRAWS = 200  # draws of labels for the floor of an ECE
LADDER_LEAST = 3  # samples a class on average; with fewer, maps learn next to nothing
LADDER_MOST = 2000  # if there are more samples than this, the ladder is computed from as many drawn at random

# Families of maps that the ladder leaves out if the number of samples times classes^2 is larger, since they would take
# most of the time, and have few samples per weight.
WORK = {"regression": 2e6, "network": 5e4, "trees": 5e4}

# The initial T and the number of LBFGS iterations in gpleiss/temperature_scaling, of which there are many copies.
COPIED = 1.5, 50


@dataclass(frozen=True)
class Temperature:
    """The optimal temperature, its sampling error, and the temperatures that other programs fit to the same samples.

    Attributes
    ----------
    exact : TemperatureFit
        The optimum on the validation samples.
    low, high : float
        The 95% interval of the optimal temperature; NaN if there is no finite optimum.
    cost : float
        The average increase in the NLL of new samples due to the sampling error, in nats.
    nll : float
        NLL of the validation samples at T = 1.
    others : dict of str to TemperatureFit
        The fits of other programs: ``paper``, the paper's code, and ``copied``, the often copied code of Guo et al.;
        for votes, also ``majority``, the best temperature for the samples' most frequent labels.
    curve : tuple of (float, float)
        Pairs of a temperature and the validation samples' NLL at that temperature, over a range around 1 and the fitted
        temperatures within a factor of 64 of the optimum; empty if there is no finite optimum.
    """

    exact: TemperatureFit
    low: float
    high: float
    cost: float
    nll: float
    others: dict[str, TemperatureFit]
    curve: tuple[tuple[float, float], ...]

    @classmethod
    def of(
        cls, logits: np.ndarray, targets: np.ndarray, groups: Groups | None = None, votes: float | None = None
    ) -> Temperature:
        """Fit the temperature, both exactly and as other programs do, and estimate its sampling error.

        Targets are labels (n,), or rows (n, k) of shares of votes, multiplied by any weights; `votes` is the mean
        number of votes per sample. The sampling error accounts for any `groups`.
        """
        groups = Groups.single(len(targets)) if groups is None else groups
        exact = fit_exactly(logits, targets)
        log.info("the temperatures of other programs")
        others = {"paper": fit_as_paper(logits, targets), "copied": fit_as_paper(logits, targets, *COPIED)}
        if votes is not None:
            others["majority"] = _fitted_to_majorities(logits, targets)
        log.info("the interval of the best temperature")
        low = high = cost = math.nan
        if 0 < exact.beta < math.inf:
            variance, curvature = _log_variance(rescale(logits, exact.beta), targets, groups, votes or 1.0)
            half = _quantile(groups.count, len(targets)) * math.sqrt(variance)
            low, high = (exact.T * math.exp(sign * half) for sign in (-1, 1)) if half < WIDE else (0.0, math.inf)
            cost = variance * curvature / (2 * len(targets))
        log.info("the NLL by temperature")
        nll = float(cross_entropy(logits, targets).mean())
        curve: tuple[tuple[float, float], ...] = ()
        if math.isfinite(exact.T) and math.isfinite(nll):
            near = [fit.T for fit in others.values() if 1 / WIDEST < fit.T / exact.T < WIDEST]
            shown = [1.0, exact.T, *near]
            points = POINTS if logits.size <= MANY_LOGITS else FEW_POINTS
            grid = np.geomspace(min(shown) / 1.5, max(shown) * 1.5, points)
            curve = tuple((float(T), float(cross_entropy(rescale(logits, 1 / T), targets).mean())) for T in grid)
        return cls(exact, low, high, cost, nll, others, curve)


def _fitted_to_majorities(logits: np.ndarray, shares: np.ndarray) -> TemperatureFit:
    """Return the best temperature for the samples' most frequent labels, with its NLL under the shares of all votes."""
    fit = fit_exactly(logits, shares.argmax(axis=1))
    if not math.isfinite(fit.beta):
        return fit
    return replace(fit, nll=float(cross_entropy(rescale(logits, fit.beta), shares).mean()))


def _quantile(groups: int, samples: int) -> float:
    """Return half the width of a 95% interval in standard errors, from the normal or, with groups, Student's t."""
    if groups == samples:
        return NORMAL
    from scipy.special import stdtrit

    return float(stdtrit(groups - 1, 0.975)) * math.sqrt(groups / (groups - 1))


def _log_variance(u: np.ndarray, targets: np.ndarray, groups: Groups, votes: float) -> tuple[float, float]:
    """Return the variance of log T and the summed NLL's curvature in log T at the optimum.

    The variance is a sandwich estimate. Without given groups, it is at least the variance expected if `votes` labels
    per sample were drawn from the model's probabilities.
    """
    p = softmax(u)
    u = np.where(p > 0, u, 0.0)
    mean, weights = np.einsum("ij,ij->i", p, u), weights_of(targets)
    slopes = groups.sums(weights * mean - np.einsum("ij,ij->i", mass_of(targets, u.shape[1]), u))
    curvatures = weights * (np.einsum("ij,ij,ij->i", p, u, u) - mean**2)
    curvature = float(curvatures.sum())
    # The variance of the slope if labels were drawn from p; few errors may vary less by chance.
    drawn = float((weights * curvatures).sum()) / votes
    variance = max(float(slopes @ slopes), drawn if groups.kind != "given" else 0.0)
    return groups.factor * variance / curvature / curvature if curvature > 0 else math.inf, curvature


@dataclass(frozen=True)
class Confusion:
    """The number of samples with a given prediction and a certain other label, and the number that TS expects.

    A sample with votes counts as the share of its votes that the label has.

    `chance` is the p-value, after Bonferroni's correction for all pairs of classes, of a count at least this large if
    wrong predictions were spread evenly over all pairs.
    """

    predicted: int
    label: int
    count: float
    of: int
    expected: float
    chance: float = 0.0


def confusions(p: np.ndarray, top: np.ndarray, mass: np.ndarray) -> tuple[Confusion, ...]:
    """Return up to `PAIRS` confusions of a predicted class with a label, the most frequent first.

    p (n, k) are TS's probabilities, `top` (n,) the predictions, and `mass` (n, k) one-hot labels or shares of votes.
    """
    from scipy.stats import poisson

    k = p.shape[1]
    counts, expected = np.zeros((k, k)), np.zeros((k, k))
    np.add.at(counts, top, mass)
    np.add.at(expected, top, p)
    sizes = np.bincount(top, minlength=k)
    wrong = np.where(np.eye(k, dtype=bool), 0, counts)
    pairs = [divmod(int(index), k) for index in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]]
    others = k * (k - 1)

    def chance(count: float) -> float:
        return min(1.0, others * float(poisson.sf(count - 1, wrong.sum() / others)))

    return tuple(
        Confusion(a, j, float(wrong[a, j]), int(sizes[a]), float(expected[a, j]), chance(wrong[a, j]))
        for a, j in pairs
        if wrong[a, j] > 0
    )


@dataclass(frozen=True)
class Diagram:
    """A reliability diagram with its ECE.

    Attributes
    ----------
    bins : tuple of (float, float, float)
        The mean confidence, the accuracy and the share of all samples of each bin that isn't empty.
    ece, floor : float
        The ECE, and the mean ECE that calibrated probabilities would show (`halobench.ece_floor`).
    """

    bins: tuple[tuple[float, float, float], ...]
    ece: float
    floor: float

    @classmethod
    def of(cls, p: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> Diagram:
        """Return the diagram of probabilities p (n, k) for labels or shares of votes."""
        top, confidence = predictions(p)
        binned = bin_by_confidence(confidence, correctness(top, targets), BINS)
        (counts, gaps), held = binned.gaps(), binned.count > 0
        shares = counts / len(p)
        bins = zip(binned.confidence[held].tolist(), binned.accuracy[held].tolist(), shares.tolist(), strict=True)
        return cls(tuple(bins), float((shares * gaps).sum()), resampling.floor(confidence, BINS, FLOOR_DRAWS, rng))


@dataclass(frozen=True)
class Shift:
    """A comparison of test logits with validation logits.

    Attributes
    ----------
    confidence : (float, float, float)
        Mean confidence after TS on validation and on test samples, and the p-value of the Kolmogorov-Smirnov test.
    classes : (float, float, float)
        The share of predictions of class `changed` on validation and on test samples, and the p-value of the
        chi-squared test of the counts of all predicted classes.
    changed : int
        The class whose share of predictions differs most.
    nll : (float, float, float) or None
        NLL after TS on validation and on test samples, and the p-value of Welch's test; None without test labels.
    """

    confidence: tuple[float, float, float]
    classes: tuple[float, float, float]
    changed: int
    nll: tuple[float, float, float] | None

    @property
    def seen(self) -> bool:
        """Return whether either test of the logits is significant after Bonferroni's correction."""
        return min(self.confidence[2], self.classes[2]) < LEVEL / 2

    @classmethod
    def of(cls, val: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray | None) -> Shift:
        """Compare logits after TS by confidence and predicted class, and also by NLL if there are test labels."""
        from scipy import stats

        predicted, confidences = zip(*(predictions(softmax(logits)) for logits in (val, test)), strict=True)
        p_confidence = float(stats.ks_2samp(*confidences).pvalue)
        means = [float(confidence.mean()) for confidence in confidences]
        counts = np.stack([np.bincount(classes, minlength=val.shape[1]) for classes in predicted])
        shares = counts / counts.sum(axis=1, keepdims=True)
        changed = int(np.abs(shares[0] - shares[1]).argmax())
        nll = None
        if test_labels is not None:
            losses = cross_entropy(val, labels), cross_entropy(test, test_labels)
            comparable = min(map(len, losses)) > 1 and all(np.isfinite(loss).all() for loss in losses)
            p_nll = float(stats.ttest_ind(*losses, equal_var=False).pvalue) if comparable else math.nan
            nll = float(losses[0].mean()), float(losses[1].mean()), p_nll
        of_class = float(shares[0, changed]), float(shares[1, changed])
        return cls((means[0], means[1], p_confidence), (*of_class, _same_classes(counts)), changed, nll)


def unrelated(p: np.ndarray, mass: np.ndarray) -> float:
    """Return the p-value of the hypothesis that labels fit probabilities (n, k) no better than in random order.

    The one-sided permutation test compares the labels' mean probability with its distribution over all orders of the
    targets `mass` (n, k). The distribution's mean and variance are exact (W. Hoeffding, *A Combinatorial Central Limit
    Theorem*, 1951); its shape is taken as normal. The p-value is NaN if there are fewer than `FEWEST` samples, or if
    all rows of `p` or of `mass` are equal.
    """
    if len(p) < FEWEST:
        return math.nan
    rounding = ROUNDING**2 * float((p**2).sum() * (mass**2).sum())
    p, mass = p - p.mean(axis=0), mass - mass.mean(axis=0)
    total = float(((p.T @ p) * (mass.T @ mass)).sum())
    if total <= rounding:
        return math.nan
    return math.erfc(float((p * mass).sum()) / math.sqrt(2 * total / (len(p) - 1))) / 2


def _same_classes(counts: np.ndarray) -> float:
    """Return the p-value of the chi-squared test of counts (2, k), after pooling rare classes."""
    from scipy import stats

    rare = counts.sum(axis=0) * counts.sum(axis=1).min() < EXPECTED * counts.sum()
    table = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    return float(stats.chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0


def quick_ladder(
    logits: np.ndarray, targets: np.ndarray, seed: int, votes: bool = False
) -> tuple[RepairLadder | None, str]:
    """Return samples' repair ladder and "", or None and the reason why there is no ladder.

    Targets are labels (n,), or rows (n, k): the known posterior or, with `votes`, shares of votes. Families of maps
    beyond their limits in `WORK` are left out.
    """
    if not np.isfinite(logits).all():
        return None, "it needs finite logits"
    if len(logits) < LADDER_SAMPLES:
        return None, f"it needs at least {LADDER_SAMPLES} independent samples, and there are {len(logits)}"
    if targets.ndim == 1 and len(np.unique(targets)) < 2:
        return None, "there is only one label"
    if targets.ndim == 1 and fit_exactly(logits, targets).separable:
        return None, "every label has the largest logit of its sample"
    per_class = min(len(logits), LADDER_MOST) / logits.shape[1]
    if per_class < LADDER_LEAST:
        sentence = (
            f"it needs {LADDER_LEAST} samples a class on average, of at most {LADDER_MOST:,}, not {per_class:.2g}"
        )
        return None, sentence
    some = np.arange(len(logits))
    if len(logits) > LADDER_MOST:
        some = np.sort(generator(seed, "diagnose", "ladder").permutation(len(logits))[:LADDER_MOST])
    work = len(some) * logits.shape[1] ** 2
    families = [name for name in FAMILIES if work <= WORK.get(name, math.inf)]
    try:
        return ladder(logits[some], targets[some], seed=seed, families=families, votes=votes), ""
    except SpecError as error:
        return None, f"its fits fail ({error})"
